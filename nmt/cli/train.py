"""`nmt train`: parse, resolve the configuration, train, show how it goes."""

import contextlib
import os
import re
import shlex
import signal
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli import console
from nmt.errors import DataError, UsageError

if TYPE_CHECKING:
    from nmt.config import RunConfig
    from nmt.training.ranks import Ranks
    from nmt.training.trainer import Outcome

_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?|(?P<bare>\d{1,9})")


def train(
    data: Annotated[
        Path | None, typer.Argument(help="Directory made by `nmt data prepare`; may be left out with --resume.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="gru, attention or transformer.")] = None,
    out: Annotated[Path | None, typer.Option(help="Model directory to write.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="tiny, small (if not given), base; fast, big (transformer only).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with tables [model] and [training].")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; see --dry-run for all.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start anew: delete the model in --out, keep anything else as OUT.old.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings and the parameter count, then stop.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initialisation, dropout and batch order.")] = None,
    max_updates: Annotated[int | None, typer.Option(help="Optimiser updates to train for.")] = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Save and stop after this long: 90s, 10m, 1h30m.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events too (needs the extra of that name).")
    ] = False,
) -> None:
    """Train a model.

    Examples:
        nmt train data/demo --arch transformer --preset tiny --out checkpoints/demo
        nmt train data/demo --arch attention --set dropout=0.3 --max-time 30m --out checkpoints/rnn
        nmt train --resume --out checkpoints/rnn
        torchrun --nproc-per-node 2 -m nmt train data/demo --arch transformer --out checkpoints/two

    Under torchrun every process takes its share of each update, as if each were one more `accumulation`; the first
    one writes. To resume on several machines, all of them must see --out.

    Ctrl-C and SIGTERM save first; the command that goes on is printed.
    """
    if out is None and not dry_run:
        raise UsageError("say where the model goes: --out DIR")
    if resume and force:
        raise UsageError("--resume and --force exclude each other")
    seconds = _seconds(max_time)
    flags = {"device": device, "precision": precision, "seed": seed, "max_updates": max_updates}
    with _stop_signal() as stop:
        from nmt.dataset import DataDirectory
        from nmt.training.identity import check_resumable, find_place
        from nmt.training.state import RunDirectory

        identity = RunDirectory(out).identity() if resume and out is not None else None
        if data is None:
            if identity is None:
                raise UsageError("name the data directory: nmt train DATA --arch ... --out DIR")
            assert out is not None
            data = Path(os.path.normpath(find_place(identity.data_path, seen_from=out)))
            if not data.exists():
                raise DataError(
                    f"the data of this run, {data}, is gone: say where it is now: "
                    f"nmt train DATA --resume --out {shlex.quote(str(out))}"
                )
        resolved = _resolve(arch, preset, config, overrides or [], flags, identity.config if identity else None)
        if identity:
            check_resumable(identity.config, resolved.as_dict())
        directory = DataDirectory.open(data)
        if dry_run:
            from nmt.training.ranks import Ranks

            if Ranks.from_environment().leads:
                _print_settings(resolved, directory)
            return
        assert out is not None
        _train(directory, resolved, out, stop, resume=resume, force=force, seconds=seconds, tensorboard=tensorboard)


def _resolve(
    arch: str | None,
    preset: str | None,
    file: Path | None,
    overrides: list[str],
    flags: dict[str, Any],
    stored: dict[str, Any] | None,
) -> "RunConfig":
    from nmt.settings import resolve

    if stored is None and arch is None:
        raise UsageError("choose an architecture: --arch gru, attention or transformer")
    before = str(stored.get("arch")) if stored else None
    if before is not None and arch not in (None, before):
        raise UsageError(f"cannot resume with --arch {arch}: the run was started with {before}")
    arch = arch or before
    assert arch is not None
    config = resolve(arch, preset=preset, file=file, overrides=overrides, flags=flags, stored=stored)
    usual = resolve(arch, preset=config.preset, environment={}).model if stored is None else config.model
    for name in sorted(config.model.without_effect):
        if (value := getattr(config.model, name)) != getattr(usual, name):
            console.warn(f"{name} = {value} has no effect: the other settings leave it nothing to do")
    return config


def _train(
    data: Any,
    config: "RunConfig",
    out: Path,
    stop: "_Stop",
    *,
    resume: bool,
    force: bool,
    seconds: float,
    tensorboard: bool,
) -> None:
    from nmt.files import refuse_non_empty
    from nmt.training.ranks import Ranks
    from nmt.training.state import RunDirectory
    from nmt.training.trainer import Trainer

    if tensorboard:
        _require_tensorboard()
    ranks = Ranks.from_environment()
    if not ranks.leads:
        console.set_verbosity(console.QUIET)
    elif force:
        _check_replaceable(out, data.path)
    elif not resume and not RunDirectory(out).is_unbegun():
        try:
            refuse_non_empty(out)
        except UsageError as error:
            hint = ", or --resume to go on with it" if out.is_dir() else ""
            raise UsageError(f"{error}{hint}") from error
    with _display(config, alone=ranks.size == 1) as show:
        trainer = Trainer(
            data,
            config,
            out,
            report=show,
            should_stop=lambda: stop.signal is not None,
            max_seconds=seconds,
            tensorboard=tensorboard,
            ranks=ranks,
        )
        trainer.report({"type": "start", "trainer": trainer})
        stop.training = True
        outcome = trainer.run(resume=resume, clear=force)
    _conclude(outcome, out, stop, ranks)


def _check_replaceable(out: Path, data: Path) -> None:
    """Refuse to delete what is in use; keep what is neither a model nor a run, under another name."""
    from nmt.files import follow_links, refuse_non_empty

    refuse_non_empty(out, replace=True)
    for used in (data.resolve(), Path.cwd()):
        if used.is_relative_to(follow_links(out)):
            raise UsageError(f"{out} holds {used}: choose another directory")
    _set_aside(out)


def _set_aside(out: Path) -> None:
    from nmt.files import spare_name
    from nmt.manifest import is_model_directory
    from nmt.training.state import RunDirectory

    if is_model_directory(out) or RunDirectory(out).is_unbegun() or not out.is_dir() or not any(out.iterdir()):
        return
    spare = spare_name(out)
    try:
        out.rename(spare)
    except OSError as error:
        raise UsageError(f"{out} is no model directory and cannot be renamed ({error.strerror})") from error
    console.warn_if_kept(out, spare)


def _conclude(outcome: "Outcome", out: Path, stop: "_Stop", ranks: "Ranks") -> None:
    """Say how it ended, and how to go on."""
    progress = outcome.progress
    if not outcome.begun and outcome.reason != "stopped":
        console.note(f"already complete at update {progress.update}: nothing was done")
    elif not outcome.begun:
        console.note("stopped before anything was done: the same command begins again")
    elif outcome.reason in ("stopped", "time"):
        again = shlex.join(["train", "--resume", "--out", str(out)])
        if ranks.size == 1:
            how = f"nmt {again}"
        elif ranks.size == ranks.local_size:
            how = f"torchrun --nproc-per-node {ranks.size} -m nmt {again}"
        else:
            how = f"torchrun as before, on every machine, -m nmt {again}"
        where = f"saved at update {progress.update}" if progress.update else "stopped before the first update"
        console.note(f"{where}; go on with: {how}")
    if progress.exported >= 0:
        console.note(f"model in {out}: validation BLEU {progress.exported:.2f}")
    if stop.signal is not None and outcome.reason == "stopped":
        raise typer.Exit(128 + stop.signal)


def _seconds(text: str | None) -> float:
    """Seconds of `90s`, `10m`, `1h30m`; a bare number is seconds."""
    if text is None:
        return float("inf")
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None or not any(match.groups()):
        raise UsageError(f"--max-time {text[:20]}: write 90s, 10m or 1h30m")
    if match["bare"]:
        return float(match["bare"])
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    return 3600.0 * hours + 60.0 * minutes + seconds


def _require_tensorboard() -> None:
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the package tensorboard: pip install 'nmt[tensorboard]'")


class _Stop:
    """Which signal asked for a stop; a second one, or one before there is anything to save, stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.training = False

    def handle(self, number: int, frame: types.FrameType | None) -> None:
        """Remember the first; let the second act."""
        if self.signal is not None or not self.training:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = number
        if console.verbosity() > console.QUIET:
            with contextlib.suppress(OSError):  # print() may be at work already: it cannot be entered twice
                os.write(2, b"stopping: finishing this update and saving (again to stop at once)\n")


class _stop_signal(AbstractContextManager[_Stop]):
    """Catch SIGINT and SIGTERM for the block."""

    def __enter__(self) -> _Stop:
        stop = _Stop()
        self.before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return stop

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _print_settings(config: "RunConfig", data: Any) -> None:
    from nmt.models.factory import parameters_of
    from nmt.settings import describe

    tokenizers = data.tokenizers
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    parameters = parameters_of(config.model, *sizes, joint=tokenizers.joint)
    console.say(f"# arch {config.arch}, preset {config.preset}: {parameters:,} parameters")
    section = ""
    for part, key, value, help_ in describe(config):
        if part != section:
            console.say()
            console.say(f"[{part}]")
            section = part
        text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else value
        console.say(f"{f'{key} = {text}':32} # {help_}")


def _display(config: "RunConfig", *, alone: bool) -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
    """Show records as a live line with a bar on a terminal, as plain lines elsewhere, not at all with -q."""
    if console.wants_progress():
        from nmt.cli.training_display import TrainingDisplay

        return TrainingDisplay(config.training.max_updates, at_once=alone)
    return nullcontext(_plain)


def _plain(record: dict[str, Any]) -> None:
    from nmt.cli.training_display import describe_record

    if record["type"] == "warning":
        console.warn(record["message"])
        return
    line = describe_record(record)
    if line:
        console.note(line)
    sys.stderr.flush()
