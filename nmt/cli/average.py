"""`nmt average`: the mean of several models."""

from pathlib import Path
from typing import Annotated

import typer

from nmt.cli import console
from nmt.errors import UsageError


def average(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Model directories to average.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.", show_default=False)],
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Of one model: the best checkpoints that its training kept.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store 16-bit weights: half the size.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model in --out; anything else is kept as OUT.old.")
    ] = False,
) -> None:
    """Average the weights of models of one configuration and one tokenizer.

    Examples:
        nmt average checkpoints/run-1 checkpoints/run-2 --out checkpoints/mean
        nmt average checkpoints/run-1 --checkpoints --out checkpoints/mean
        nmt average checkpoints/demo --half --out checkpoints/demo-small

    The scores in the models' manifests are not carried over: evaluate the mean. With one model and --half,
    that model is stored in half the space.

    `nmt train` itself keeps such a mean only if its validation BLEU (greedy) is as high or higher; --checkpoints
    writes it in any case.
    """
    import torch

    from nmt.averaging import average_models
    from nmt.files import follow_links, spare_name

    if checkpoints and len(models) > 1:
        raise UsageError("--checkpoints takes those of one model: name one")
    for model in models:
        if follow_links(out) in (follow_links(model), *follow_links(model).parents):
            raise UsageError(f"--out {out} holds the model {model}: choose another directory")
    dtype = torch.float16 if half else torch.float32
    spare = spare_name(out)
    if not checkpoints:
        average_models(models, out, replace=force, dtype=dtype)
        console.warn_if_kept(out, spare)
        console.note(f"{out}: the mean of {len(models)} model{'s' if len(models) > 1 else ''}")
        return
    from nmt.training.best import average_run

    updates, troubles = average_run(models[0], out, replace=force, dtype=dtype)
    console.warn_if_kept(out, spare)
    for trouble in troubles:
        console.warn(trouble)
    console.note(f"{out}: the mean of the checkpoints at {', '.join(f'{update:,}' for update in updates)} updates")
