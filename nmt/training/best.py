"""The mean of the best checkpoints that one training kept."""

from pathlib import Path

import torch

from nmt.averaging import mean_weights, write_mean
from nmt.checkpoint import load_model
from nmt.errors import ModelError, UsageError
from nmt.files import follow_links, refuse_non_empty
from nmt.manifest import read_manifest
from nmt.training.state import RunDirectory


def average_run(
    directory: Path, out: Path, *, replace: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[list[int], list[str]]:
    """Write the mean of the checkpoints whose translations of the validation set were best.

    Args:
        directory: a model directory, with the training that made it.
        out: the new model directory.
        replace: whether `out` may be replaced if it is not empty.
        dtype: of the stored weights.

    Returns:
        The updates at which they were made, and why others were left out.

    Raises:
        ModelError: `directory` is no model directory, or fewer than two whole checkpoints were kept.
        UsageError: `out` is not empty, or in the training.
    """
    read_manifest(directory)
    run = RunDirectory(directory)
    if follow_links(out).is_relative_to(run.path.resolve()):
        raise UsageError(f"--out {out} is in the training {run.path}: choose another directory")
    refuse_non_empty(out, replace=replace)
    progress, troubles = run.newest()
    whole, damaged = run.read_candidates(progress)
    if len(whole) < 2:
        kept = f"{len(whole) or 'no'} whole checkpoint{'s' if len(whole) != 1 else ''}"
        raise ModelError(f"{directory} kept {kept}: nothing to average (a training keeps average_best=3 if not told)")
    model = load_model(directory)
    model.manifest["training"] = {**model.manifest.get("training", {}), **progress.cost()}  # not up to its best alone
    origins = [f"update {update}" for update in sorted(whole)]
    write_mean(model, mean_weights(whole.values()), origins, out, replace=replace, dtype=dtype)
    return sorted(whole), troubles + damaged
