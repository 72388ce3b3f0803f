"""The mean of several models' weights, often a little better than any of them.

Vaswani et al. 2017, section 6.1, https://arxiv.org/abs/1706.03762.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmt.checkpoint import LoadedModel, load_model, named_weights, save_model, set_weights
from nmt.errors import ModelError, UsageError
from nmt.files import atomic_directory, refuse_non_empty
from nmt.manifest import WEIGHTS, is_model_directory


def average_models(
    directories: Sequence[Path], out: Path, *, replace: bool = False, dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Write the model whose every weight is the mean over the models in `directories`.

    One model is in memory at a time, beside the sum, which is kept in float64.

    Args:
        directories: model directories of one configuration and one tokenizer.
        out: the new model directory.
        replace: whether `out` may be replaced if it is not empty.
        dtype: of the stored weights.

    Raises:
        ModelError: one is damaged, or differs from the first in more than its weights.
        UsageError: nothing to average, or `out` is not empty.
    """
    if not directories:
        raise UsageError("name at least one model directory")
    refuse_non_empty(out, replace=replace)
    first = load_model(directories[0])
    origins = [_origin(first)]

    def each() -> Iterator[Mapping[str, Tensor]]:
        yield named_weights(first.model)
        for directory in directories[1:]:
            other = load_model(directory)
            _require_alike(first, other)
            origins.append(_origin(other))
            yield named_weights(other.model)

    write_mean(first, mean_weights(each()), origins, out, replace=replace, dtype=dtype)
    return first


def write_mean(
    of: LoadedModel,
    weights: Mapping[str, Tensor],
    origins: Sequence[Any],
    out: Path,
    *,
    replace: bool,
    dtype: torch.dtype,
) -> None:
    """Write a model like `of`, which takes on the mean weights; `origins` says what they are the mean of.

    Raises:
        ModelError: the weights are of another shape.
    """
    set_weights(of.model, weights, out / WEIGHTS)
    facts = _facts(of.manifest) | {"averaged": origins}
    with atomic_directory(out, replace=replace, keep=not is_model_directory(out)) as temporary:
        save_model(temporary, of.model, of.config, of.tokenizers, facts, dtype=dtype)


def mean_weights(models: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each weight over models of one shape, in float32; summed in float64, one model at a time."""
    total: dict[str, Tensor] = {}
    count = 0
    for weights in models:
        count += 1
        for name, weight in weights.items():
            total[name] = total[name] + weight if name in total else weight.to(torch.float64)
    return {name: (value / count).float() for name, value in total.items()}


def _origin(loaded: LoadedModel) -> dict[str, str]:
    """Name and weights of a model that went into the mean; no path of this machine."""
    return {"name": loaded.path.resolve().name, "sha256": str(loaded.manifest["sha256"][WEIGHTS])}


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the first model's manifest says that is true of the mean as well; scores are not."""
    return {key: manifest[key] for key in ("direction", "data", "training") if key in manifest}


def _require_alike(first: LoadedModel, other: LoadedModel) -> None:
    """Raise `ModelError`, naming the difference, unless only the weights may differ."""
    pair = f"{first.path} and {other.path} cannot be averaged"
    if first.config.arch != other.config.arch:
        raise ModelError(f"{pair}: one is of architecture {first.config.arch}, the other {other.config.arch}")
    for field in dataclasses.fields(first.config.model):
        values = [getattr(loaded.config.model, field.name) for loaded in (first, other)]
        if values[0] != values[1]:
            raise ModelError(f"{pair}: {field.name} is {values[0]} in one, {values[1]} in the other")
    directions = [f"{loaded.source_lang}-{loaded.target_lang}" for loaded in (first, other)]
    if directions[0] != directions[1]:
        raise ModelError(f"{pair}: one translates {directions[0]}, the other {directions[1]}")
    for side in ("source", "target"):
        if getattr(first.tokenizers, side).data != getattr(other.tokenizers, side).data:
            raise ModelError(f"{pair}: their {side} tokenizers differ")
