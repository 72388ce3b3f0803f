"""Our weights in CTranslate2's form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, assert_never

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from nmt import __version__
from nmt.config import TransformerConfig
from nmt.dataset import DataDirectory
from nmt.engines.ct2 import EXPORT, FOLDER, FORMAT_VERSION, import_ctranslate2
from nmt.errors import ModelError, UsageError, did_you_mean
from nmt.files import atomic_directory, read_json, refuse_non_empty, sha256_file, write_json
from nmt.manifest import CONFIG, WEIGHTS, read_manifest, verify_file
from nmt.nn.positions import sinusoids
from nmt.settings import restore
from nmt.special import EOS
from nmt.tokenizer import TokenizerPair

QUANTIZATIONS: Final = ("float32", "int8", "int16", "float16", "bfloat16")
POSITIONS: Final = 1024
"""Tokens of the longest sentence that an export can read or write."""

Weights = Mapping[str, np.ndarray]


def export_ctranslate2(
    directory: Path, *, quantization: str = "float32", shortlist: Path | None = None, replace: bool = False
) -> Path:
    """Write the model in `directory` as CTranslate2 wants it, into a folder inside.

    Args:
        directory: a model directory with a Transformer.
        quantization: how weights are stored and multiplied, one of `QUANTIZATIONS`.
        shortlist: a data directory with the model's tokenizer: the export produces no pieces but those that the
            targets of its training split consist of. One list for all lines, unlike CTranslate2's own by batch
            (`use_vmap`), with which a translation depends on its neighbours. Scores are then those of the model so
            restricted. `None` for the whole vocabulary.
        replace: whether an export that is there already may be replaced.

    Returns:
        The folder.

    Raises:
        UsageError: not a Transformer, there is an export already, or the shortlist is of another tokenizer or
            direction.
        DataError: the shortlist's data are missing or damaged.
        ModelError: the model is missing or damaged.
    """
    if quantization not in QUANTIZATIONS:
        raise UsageError(
            f"--quantization '{quantization}' is not one of {', '.join(QUANTIZATIONS)}"
            f"{did_you_mean(quantization, QUANTIZATIONS)}"
        )
    manifest = read_manifest(directory)
    for name, digest in manifest["sha256"].items():
        if name in (CONFIG, WEIGHTS) or name.startswith("tokenizer"):
            verify_file(directory, name, digest)
    config = restore(read_json(directory / CONFIG)).model
    if not isinstance(config, TransformerConfig):
        raise UsageError(f"{directory} is no Transformer: CTranslate2 has no recurrent models")
    tokenizers = TokenizerPair.load(directory)
    try:
        arrays = load_arrays((directory / WEIGHTS).read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{directory / WEIGHTS} is damaged: {error}") from error
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    library, folder = import_ctranslate2(), directory / FOLDER
    refuse_non_empty(folder, replace=replace)
    kept: Sequence[int] = range(tokenizers.target.vocab_size)
    if shortlist is not None:
        kept = _target_pieces(shortlist, tokenizers, manifest["direction"])
    spec = _specification(library, config, weights, tokenizers, kept)
    spec.optimize(quantization=quantization)
    with atomic_directory(folder, replace=replace, keep=not (folder / EXPORT).is_file()) as temporary:
        spec.save(str(temporary))
        names = sorted(path.name for path in temporary.iterdir())
        write_json(
            temporary / EXPORT,
            {
                "format_version": FORMAT_VERSION,
                "nmt_version": __version__,
                "engine": "ctranslate2",
                "quantization": quantization,
                "positions": POSITIONS,
                "target_pieces": len(kept),
                "weights": manifest["sha256"][WEIGHTS],
                "sha256": {name: sha256_file(temporary / name) for name in names},
            },
        )
    return folder


def _target_pieces(data: Path, tokenizers: TokenizerPair, direction: Mapping[str, str]) -> Sequence[int]:
    """Ids of the special tokens, and of what the training targets consist of."""
    directory = DataDirectory.open(data)
    if directory.tokenizers.target.vocabulary() != tokenizers.target.vocabulary():
        raise UsageError(f"{data} has another tokenizer than the model: --shortlist needs the model's own")
    if directory.target_lang != direction["target"]:
        raise UsageError(f"{data} has targets in {directory.target_lang}, the model in {direction['target']}")
    directory.verify()
    return sorted({*range(EOS + 1), *directory.split("train").target_ids()})


def _specification(
    library: Any, config: TransformerConfig, weights: Weights, tokenizers: TokenizerPair, kept: Sequence[int]
) -> Any:
    """The model, every array of ours in the place that CTranslate2 has for it; of target pieces, those of `kept`."""
    specs = library.specs
    gated, rotary = config.activation == "swiglu", config.positions == "rotary"
    common = {
        "num_heads": config.num_heads,
        "pre_norm": config.norm == "pre",
        "activation": getattr(specs.Activation, "SWISH" if gated else config.activation.upper()),
        "ffn_glu": gated,
        "rotary_dim": 0 if rotary else None,  # 0 stands for all
    }
    spec = specs.TransformerSpec(
        specs.TransformerEncoderSpec(config.num_encoder_layers, **common),
        specs.TransformerDecoderSpec(
            config.num_decoder_layers,
            alignment_layer=config.alignment_layer,
            alignment_heads=0,  # the mean of all
            **common,
        ),
    )
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = 1e-5
    source, vocabulary = tokenizers.source.vocabulary(), tokenizers.target.vocabulary()
    target = [vocabulary[number] for number in kept]
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = target[1], target[2], target[3]
    spec.config.decoder_start_token = target[2]
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    src_embedding = weights["src_embedding.weight"]
    tgt_embedding = weights.get("tgt_embedding.weight", src_embedding)
    positions = _positions(config, weights)
    spec.encoder.embeddings[0].weight = src_embedding
    spec.decoder.embeddings.weight = tgt_embedding[kept]
    for side, name in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        side.scale_embeddings = True
        if positions is not None:
            side.position_encodings.encodings = positions
        if config.norm == "pre":
            _norm(side.layer_norm, weights, f"{name}_norm")
    for number, layer in enumerate(spec.encoder.layer):
        name = f"encoder.{number}"
        _self_attention(layer.self_attention, weights, f"{name}.attention", f"{name}.residuals.0.norm")
        _feed_forward(layer.ffn, weights, f"{name}.feed_forward", f"{name}.residuals.1.norm")
    for number, layer in enumerate(spec.decoder.layer):
        name = f"decoder.{number}"
        _self_attention(layer.self_attention, weights, f"{name}.self_attention", f"{name}.residuals.0.norm")
        _cross_attention(layer.attention, weights, f"{name}.cross_attention", f"{name}.residuals.1.norm")
        _feed_forward(layer.ffn, weights, f"{name}.feed_forward", f"{name}.residuals.2.norm")
    spec.decoder.projection.weight = weights.get("output.linear.weight", tgt_embedding)[kept]
    spec.decoder.projection.bias = weights["output.linear.bias"][kept]
    spec.validate()
    return spec


def _positions(config: TransformerConfig, weights: Weights) -> Any:
    """What is added to the embeddings of each position; `None` where positions turn queries and keys."""
    match config.positions:
        case "sinusoidal":
            return sinusoids(POSITIONS, config.model_size).numpy()
        case "learned":
            table = weights["positions.embedding.weight"]
            return table[np.arange(POSITIONS).clip(max=len(table) - 1)]
        case "rotary":
            return None
        case _:
            assert_never(config.positions)


def _self_attention(place: Any, weights: Weights, name: str, norm: str) -> None:
    """Queries, keys and values in one matrix; then the heads' output."""
    for kind in ("weight", "bias"):
        joined = np.concatenate([weights[f"{name}.query.{kind}"], weights[f"{name}.key_value.{kind}"]])
        setattr(place.linear[0], kind, joined)
    _linear(place.linear[1], weights, f"{name}.out")
    _norm(place.layer_norm, weights, norm)


def _cross_attention(place: Any, weights: Weights, name: str, norm: str) -> None:
    for linear, part in zip(place.linear, ("query", "key_value", "out"), strict=True):
        _linear(linear, weights, f"{name}.{part}")
    _norm(place.layer_norm, weights, norm)


def _feed_forward(place: Any, weights: Weights, name: str, norm: str) -> None:
    if hasattr(place, "linear_0_noact"):  # gate and value
        for kind in ("weight", "bias"):
            gate, value = np.split(weights[f"{name}.inner.{kind}"], 2)
            setattr(place.linear_0, kind, gate)
            setattr(place.linear_0_noact, kind, value)
    else:
        _linear(place.linear_0, weights, f"{name}.inner")
    _linear(place.linear_1, weights, f"{name}.outer")
    _norm(place.layer_norm, weights, norm)


def _linear(place: Any, weights: Weights, name: str) -> None:
    place.weight, place.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]


def _norm(place: Any, weights: Weights, name: str) -> None:
    place.gamma, place.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
