"""The model directory: all that translation needs, and nothing that runs code."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
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
from nmt.manifest import CARD, CONFIG, FORMAT, FORMAT_VERSION, MANIFEST, WEIGHTS, model_card, read_manifest, verify_file
from nmt.models.factory import build_model, count_parameters
from nmt.models.interface import Seq2Seq
from nmt.settings import restore
from nmt.tokenizer import TokenizerPair

_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be stored as."""


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


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file, whole or not at all; the SHA-256 of what was to be written.

    Raises:
        NMTError: it cannot be written, or a weight is not finite.
    """
    _require_finite(tensors, path)
    data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with atomic_file(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NMTError(f"{path} is not written: '{name}' holds a number that is not finite")


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file whose bytes have the hash `sha256`, if one is given.

    Raises:
        ModelError: it is missing, no file, or damaged.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a FIFO would be waited for
        raise ModelError(f"{path} is not a plain file: copy the model again")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} is damaged: its checksum is not the one in the manifest")
    try:
        tensors = load_tensors(data)
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_refuse_duplicates)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return tensors


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """Of two tensors of one name, safetensors takes the last."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in its header")


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
        if new.shape != parameter.shape or new.dtype not in _DTYPES:
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
    _require_finite(weights, directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = tokenizers.save(directory)
    except OSError as error:
        raise NMTError(f"cannot write {directory}: {error.strerror}") from error
    write_tensors(directory / WEIGHTS, {name: weight.to(dtype) for name, weight in weights.items()})
    write_json(directory / CONFIG, config.as_dict())
    manifest = {
        "format": FORMAT,
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


def load_model(directory: Path, *, device: torch.device | None = None) -> LoadedModel:
    """Load a model directory for inference, in float32, on `device` (the CPU if not given).

    Raises:
        ModelError: it is missing, not a model directory, damaged, or of another format version.
    """
    manifest = read_manifest(directory)
    _verify_small_files(directory, manifest)
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
    _verify_small_files(directory, manifest)  # once more: what was read is what was verified
    return LoadedModel(model.eval().to(device or torch.device("cpu")), config, tokenizers, manifest, directory)


def _verify_small_files(directory: Path, manifest: dict[str, Any]) -> None:
    """All but the weights, which are checked as they are read, and the card, which decides no translation."""
    for name, expected in manifest["sha256"].items():
        if name not in (WEIGHTS, CARD):
            verify_file(directory, name, expected)


def _refuse_oversized(config: ModelConfig, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise `ModelError` for a width or a number of layers that the weights cannot have, before building it."""
    largest = max((size for weight in weights.values() for size in weight.shape), default=0)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        most = len(weights) if field.name.endswith("layers") else largest  # every layer has weights of its own
        sizes = field.name not in config.without_effect and field.name != "window"  # which sizes nothing
        if isinstance(value, int) and value > most and sizes:
            raise ModelError(f"{path}: {field.name} = {value} does not fit the weights")


def _read_config(path: Path) -> RunConfig:
    try:
        return restore(read_json(path))
    except (OSError, ValueError, AttributeError, TypeError, UsageError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
