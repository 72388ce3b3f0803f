"""How training looks on a terminal, and as plain lines."""

import math
import time
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nmt.cli import console


def describe_record(record: dict[str, Any]) -> str:
    """One line for a record of the log; empty for one that has nothing to say."""
    match record["type"]:
        case "start":
            return _describe_start(record["trainer"])
        case "train":
            loss = f"loss {record.get('loss', math.nan):.3f}  ppl {record.get('perplexity', math.nan):.1f}"
            speed = f"{record['tokens_per_second']:,.0f} tok/s"
            place = f"update {record['update']:>6}  epoch {record['epoch']:>2}"
            return f"{place}  {loss}  {speed}  {_clock(record['seconds'])}"
        case "valid":
            scores = f"BLEU {record['bleu']:.2f}  loss {record['loss']:.3f}  ppl {record['perplexity']:.1f}"
            best = "  best" if record["best"] else ""
            return f"valid  {record['update']:>6}  {scores}  {_clock(record['seconds'])}{best}"
        case "average":
            kept = "kept" if record["best"] else "not kept"
            return f"average of {len(record['updates'])} checkpoints: BLEU {record['bleu']:.2f}, {kept}"
        case "last":
            kept = "kept" if record["best"] else "not kept"
            return f"time is up: BLEU {record['bleu']:.2f} at update {record['update']}, {kept}"
        case "resumed":
            settings = (f"{key} = {now} (was {before})" for key, (before, now) in record["changed"].items())
            text = f"resuming at update {record['update']}"
            return f"{text} with other settings: {', '.join(settings)}" if record["changed"] else text
        case _:
            return ""


def _describe_start(trainer: Any) -> str:
    from nmt.models.factory import count_parameters

    pairs, parameters = len(trainer.train_split), count_parameters(trainer.model)
    threads = f"{trainer.threads} thread{'s' if trainer.threads != 1 else ''}"
    machine = f"{trainer.device} ({trainer.precision}, {threads})"
    return f"{trainer.config.arch}: {parameters:,} parameters, {pairs:,} training pairs, on {machine}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class TrainingDisplay:
    """A live bar with loss, perplexity, speed and time left; validations stay above it."""

    def __init__(self, max_updates: int, *, at_once: bool = True) -> None:
        """`at_once` False where others are waited for first: a signal may end the process there, bar and all."""
        self.console = console.progress_console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
        )
        self.task = self.bar.add_task("starting", total=max_updates, left="")
        self.max_updates, self.at_once = max_updates, at_once
        self.first: tuple[float, int] | None = None

    def __enter__(self) -> "TrainingDisplay":
        if self.at_once:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """Take one record."""
        line = describe_record(record)
        if record["type"] != "start":
            self.bar.start()
        if record["type"] == "train":
            loss = f"loss {record.get('loss', math.nan):.3f}  ppl {record.get('perplexity', math.nan):.1f}"
            text = f"{loss}  {record['tokens_per_second']:,.0f} tok/s"
            self.bar.update(self.task, completed=record["update"], description=text, left=self._left(record["update"]))
        elif record["type"] == "warning":
            self.console.print(f"nmt: warning: {console.visible(record['message'])}")
        elif line:
            self.console.print(console.visible(line))
            if "update" in record:
                self.bar.update(self.task, completed=record["update"])

    def _left(self, update: int) -> str:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, update)
            return ""
        begun, before = self.first
        rate = (now - begun) / max(1, update - before)
        return f"{_clock(rate * (self.max_updates - update))} left"
