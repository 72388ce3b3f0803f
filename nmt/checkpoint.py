"""The model directory: all that translation needs, and nothing that runs code."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from nmt import __version__
from nmt.config import ModelConfig, RunConfig
from nmt.errors import ModelError, NMTError, UsageError
from nmt.files import atomic_file, read_json, sha256_file, write_if_changed, write_json
from nmt.models.factory import build_model
from nmt.models.interface import Seq2Seq
from nmt.tokenizer import TokenizerPair

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
CARD: Final = "README.md"


@dataclass(frozen=True)
class LoadedModel:
    """A model directory in memory."""

    model: Seq2Seq[Any]
    config: RunConfig
    tokenizers: TokenizerPair
    manifest: dict[str, Any]
    path: Path

    @property
    def source_lang(self) -> str:
        """Code of the language it translates from."""
        return str(self.manifest["direction"]["source"])

    @property
    def target_lang(self) -> str:
        """Code of the language it translates to."""
        return str(self.manifest["direction"]["target"])


def named_weights(model: Seq2Seq[Any]) -> dict[str, Tensor]:
    """Every weight once, tied ones under their first name, detached."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def count_parameters(model: Seq2Seq[Any]) -> int:
    """Weights, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with atomic_file(path) as file:
        file.write(data)


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file whose bytes have the hash `sha256`, if one is given.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} is damaged: its checksum is not the one in the manifest")
    try:
        return load_tensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def set_weights(model: Seq2Seq[Any], weights: Mapping[str, Tensor], origin: Path) -> None:
    """Copy weights into a model of the same shape.

    Raises:
        ModelError: a tensor is missing, unexpected, of another shape, or holds a number that is not finite.
    """
    own = named_weights(model)
    for name in sorted(own.keys() ^ weights.keys()):
        raise ModelError(f"{origin}: tensor '{name}' is {'missing' if name in own else 'unexpected'}")
    for name, parameter in own.items():
        new = weights[name]
        if new.shape != parameter.shape or not new.is_floating_point():
            found = f"{new.dtype} {tuple(new.shape)}"
            raise ModelError(f"{origin}: tensor '{name}' is {found}, expected {tuple(parameter.shape)}")
        if not bool(torch.isfinite(new).all()):
            raise ModelError(f"{origin}: tensor '{name}' holds a number that is not finite")
        parameter.copy_(new)


def save_model(
    directory: Path,
    model: Seq2Seq[Any],
    config: RunConfig,
    tokenizers: TokenizerPair,
    facts: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write or replace the model files in `directory`, the manifest last.

    Args:
        directory: made if missing; other files in it are left alone.
        model: its weights are stored as `dtype`.
        config: the resolved configuration.
        tokenizers: as the data directory has them.
        facts: for manifest and card; must hold `direction` with `source` and `target`.
        dtype: float32, or float16 for half the size.
    """
    weights = named_weights(model)
    if not all(bool(torch.isfinite(w).all()) for w in weights.values()):
        raise NMTError("the weights hold a number that is not finite: not saved")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = tokenizers.save(directory)
    except OSError as error:
        raise NMTError(f"cannot write {directory}: {error.strerror}") from error
    write_tensors(directory / WEIGHTS, {name: weight.to(dtype) for name, weight in weights.items()})
    write_json(directory / CONFIG, config.as_dict())
    manifest = {
        "format": "nmt-model",
        "format_version": FORMAT_VERSION,
        "nmt_version": __version__,
        **facts,
        "architecture": config.arch,
        "parameters": count_parameters(model),
        "vocabulary": {"source": tokenizers.source.vocab_size, "target": tokenizers.target.vocab_size},
    }
    write_if_changed(directory / CARD, model_card(manifest).encode())
    files = [CONFIG, WEIGHTS, CARD, *names]
    manifest["sha256"] = {name: sha256_file(directory / name) for name in sorted(files)}
    write_json(directory / MANIFEST, manifest)


def record_scores(directory: Path, scores: Iterable[Mapping[str, Any]]) -> None:
    """Note scores in the manifest and card of a model; one of the same set and name is replaced.

    Args:
        directory: a model directory.
        scores: each with `set` (what was translated, and how), `name`, `value` and `signature`.
    """
    manifest = read_manifest(directory)
    new = {(score["set"], score["name"]): dict(score) for score in scores}
    kept = [score for score in manifest.get("scores", []) if (score["set"], score["name"]) not in new]
    manifest["scores"] = [*kept, *new.values()]
    write_if_changed(directory / CARD, model_card(manifest).encode())
    manifest["sha256"][CARD] = sha256_file(directory / CARD)
    write_json(directory / MANIFEST, manifest)


def load_model(directory: Path, *, device: torch.device | None = None) -> LoadedModel:
    """Load a model directory for inference, in float32, on `device` (the CPU if not given).

    Raises:
        ModelError: it is missing, not a model directory, damaged, or of another format version.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest["sha256"].items():
        if name in (WEIGHTS, CARD):  # the weights are checked as they are read; the card decides no translation
            continue
        verify_file(directory, name, expected)
    config = _read_config(directory / CONFIG)
    tokenizers = TokenizerPair.load(directory)
    weights = read_tensors(directory / WEIGHTS, sha256=manifest["sha256"].get(WEIGHTS, ""))
    _refuse_oversized(config.model, weights, directory / CONFIG)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    try:
        model = build_model(config.model, *sizes, joint=tokenizers.joint)
    except UsageError as error:
        raise ModelError(f"{directory / CONFIG}: {error}") from error
    set_weights(model, weights, directory / WEIGHTS)
    return LoadedModel(model.eval().to(device or torch.device("cpu")), config, tokenizers, manifest, directory)


def _refuse_oversized(config: ModelConfig, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise `ModelError` for a width or a number of layers that the weights cannot have, before building it."""
    largest = max([len(weights), *(size for weight in weights.values() for size in weight.shape)])
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and value > largest:
            raise ModelError(f"{path}: {field.name} = {value} does not fit the weights")


def verify_file(directory: Path, name: str, expected: str) -> None:
    """Raise `ModelError` unless the file is there and has the hash of the manifest."""
    path = directory / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise ModelError(f"{path} is missing or not a plain file: copy the model again")
    try:
        actual = sha256_file(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if actual != expected:
        raise ModelError(f"{path} is damaged: its checksum is not the one in {MANIFEST}")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a model directory.

    Raises:
        ModelError: no such directory, no manifest in it, or one of another format or version.
    """
    if not directory.is_dir():
        what = "it is no directory" if directory.exists() else "there is no such directory"
        raise ModelError(f"no model at {directory}: {what}")
    path = directory / MANIFEST
    if not path.is_file():
        raise ModelError(f"{directory} is no model directory: it has no {MANIFEST}")
    try:
        manifest = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "nmt-model":
        raise ModelError(f"{directory} is no model directory: {MANIFEST} does not describe one")
    if manifest.get("format_version") != FORMAT_VERSION:
        found = manifest.get("format_version")
        raise ModelError(f"{directory} has format version {found}; nmt {__version__} reads {FORMAT_VERSION}")
    hashes, direction = manifest.get("sha256"), manifest.get("direction")
    if not isinstance(hashes, dict) or not {WEIGHTS, CONFIG} <= hashes.keys() or not isinstance(direction, dict):
        raise ModelError(f"{path} is damaged: it lacks checksums or direction")
    if not all(isinstance(direction.get(side), str) for side in ("source", "target")):
        raise ModelError(f"{path} is damaged: it lacks the direction")
    vocabulary, parameters = manifest.get("vocabulary"), manifest.get("parameters")
    sizes = vocabulary.values() if isinstance(vocabulary, dict) else [None]
    if not all(isinstance(number, int) for number in [parameters, *sizes]):
        raise ModelError(f"{path} is damaged: it lacks the number of parameters or the vocabulary")
    return manifest


def _read_config(path: Path) -> RunConfig:
    try:
        return RunConfig.from_dict(read_json(path))
    except (OSError, ValueError, AttributeError, TypeError, UsageError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def model_card(manifest: Mapping[str, Any]) -> str:
    """README of a model directory, from its manifest."""
    direction = manifest["direction"]
    return "\n".join(
        [
            f"# {direction['source']} → {direction['target']}: {manifest['architecture']}",
            "",
            f"{manifest['parameters']:,} parameters, vocabulary of {manifest['vocabulary']['source']:,} (source) and "
            f"{manifest['vocabulary']['target']:,} (target) pieces, made by nmt {manifest['nmt_version']}.",
            "",
            "```sh",
            "nmt translate -m DIRECTORY < input.txt > output.txt",
            "```",
            "",
            *_card_lines(manifest),
        ]
    )


def _card_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    corpora = manifest.get("data", {}).get("corpora", [])
    if corpora:
        yield from ("## Training data", "")
        for corpus in corpora:
            licence = corpus.get("licence") or "licence not stated"
            yield f"- {corpus['spec']}: {licence}"
        yield ""
    scores = manifest.get("scores", [])
    if scores:
        yield from ("## Quality", "")
        for score in scores:
            yield f"- {score['name']} {score['value']:.2f} on {score['set']} ({score['signature']})"
        yield ""
    training = manifest.get("training", {})
    if training:
        yield from ("## Training", "")
        for key, value in training.items():
            yield f"- {key.replace('_', ' ')}: {value}"
        yield ""
