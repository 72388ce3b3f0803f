"""Kills, signals and failing system calls, against a training that was left alone."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from nmt.preparation import PreparationOptions, prepare
from nmt.training.progress import Progress
from nmt.training.state import RunDirectory
from nmt.training.trainer import Trainer
from tests.torture.harness import Budget, Findings
from tests.torture.processes import Process, start, warm

SETTINGS = [
    *("model_size=16", "ffn_size=16", "num_heads=2", "num_encoder_layers=1", "num_decoder_layers=1"),
    *("max_updates=40", "eval_every=10", "save_every=3", "log_every=2", "batch_tokens=200", "threads=1"),
    "precision=fp32",
]
INTERVAL = 3
"""Updates between saves: so many can be lost."""
SHORT = ["max_updates=3", "eval_every=3", "save_every=1", "keep_last=1"]
SOON = 10.0
"""Seconds within which a signal must have saved and ended the training."""
WAYS_ON = ("--resume --out", "the same command begins again")
"""What a training that was stopped says once there is a checkpoint, and before."""


@dataclass(frozen=True)
class Reference:
    """A run that was left alone."""

    data: Path
    out: Path
    seconds: float
    arguments: tuple[str, ...]


def command(data: Path, settings: list[str]) -> tuple[str, ...]:
    words = [word for setting in settings for word in ("--set", setting)]
    return ("train", str(data), "--arch", "transformer", "--preset", "tiny", *words)


@cache
def reference(folder: Path, *more: str) -> Reference:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.exists():
        lines = [f"Voici le mot numéro {i}.\tHere is word number {i}.\n" for i in range(60)]
        for name, part in (("train", lines[:50]), ("valid", lines[50:])):
            (folder / f"{name}.tsv").write_text("".join(part), encoding="utf-8")
        options = PreparationOptions(vocab_size=300, model_type="bpe")
        prepare([str(folder / "train.tsv")], [str(folder / "valid.tsv")], [], data, options)
    arguments = command(data, [*SETTINGS, *more])
    out = folder / f"whole-{len(more)}"
    process = warm([*arguments, "--out", folder / "first"], folder)
    assert process.wait() == 0, process.said()
    begun = time.monotonic()
    process = start([*arguments, "--out", out], err=folder / "whole.err")
    assert process.wait() == 0, process.said()
    return Reference(data, out, time.monotonic() - begun, arguments)


def begin(known: Reference, out: Path, **how: Any) -> Process:
    """Start a run, or go on with it if it has begun: what a user does, or a script, without looking closer."""
    begun = (out / "training" / "run.json").exists()
    arguments = ["train", "--resume"] if begun else list(known.arguments)
    return start([*arguments, "--out", out], err=out.with_suffix(".err"), **how)


def log(out: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = (out / "training" / "log.jsonl").read_text(encoding="utf-8").split("\n")
    timing = {"seconds", "validation_seconds", "tokens_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in timing} for line in lines if line]


def is_finished(out: Path) -> bool:
    """Whether the run has nothing left to do: a signal came when it was about to leave."""
    states = out.glob("training/checkpoints/update-*/progress.json")
    return any(json.loads(state.read_text(encoding="utf-8"))["progress"]["finished"] for state in states)


def compare(known: Reference, out: Path, found: Findings, what: str) -> None:
    """A finished run must equal the one that was left alone."""
    for name in ("model.safetensors", "config.json", "tokenizer.model"):
        same = (out / name).read_bytes() == (known.out / name).read_bytes()
        found.check(same, f"{what}: {name} differs from the uninterrupted run's")
    found.check(log(out) == log(known.out), f"{what}: the loss log differs")
    found.counts["finished runs compared"] += 1


def saved_and_done(out: Path) -> tuple[int, int]:
    """The newest update that is saved, and the newest that the log tells of."""
    saved = [int(path.name[7:]) for path in out.glob("training/checkpoints/update-*")]
    try:
        lines = (out / "training" / "log.jsonl").read_bytes().split(b"\n")[:-1]  # the last may be cut
    except FileNotFoundError:
        lines = []
    return max(saved, default=0), max((json.loads(line)["update"] for line in lines), default=0)


def look(process: Process, out: Path, found: Findings, what: str) -> None:
    """Nothing may have been passed over as damaged, and nobody may see a traceback."""
    said = process.said()
    found.check("Traceback" not in said, f"{what}: {said[-400:]}")
    unusable = "damaged" in said or any(out.glob("training/checkpoints/damaged-*"))
    found.counts["unusable checkpoints"] += unusable
    found.check(not unusable, f"{what}: an unusable checkpoint: {said[-300:]}")


def stop_at_random(budget: Budget, folder: Path, number: signal.Signals, code: int, wanted: int) -> Findings:
    """One run after another, stopped again and again until it comes through; `wanted` signals that struck."""
    known, rng, found = reference(folder / "reference"), random.Random(number), Findings()
    out = folder / f"run-{number}"
    process, before = begin(known, out), 0
    for _ in budget:
        if found.counts[number.name] == wanted:
            break
        deadline = time.monotonic() + rng.uniform(0, known.seconds)
        while time.monotonic() < deadline and not process.poll():
            time.sleep(0.001)
        sent = time.monotonic()
        process.kill(number)
        ended = process.wait(60)
        look(process, out, found, f"signal {number}")
        restarted = "starting from the beginning" in process.said()
        found.check(not (restarted and before), f"signal {number}: a run with checkpoints began anew")
        before, done = saved_and_done(out)
        found.check(done - before <= INTERVAL, f"signal {number}: {done} updates were done and {before} saved")
        if ended == code and (code < 0 or process.said()):
            found.counts[number.name] += 1
            took = time.monotonic() - sent
            found.counts["slowest in ms"] = max(found.counts["slowest in ms"], int(1000 * took))
            found.check(code < 0 or took < SOON, f"{number.name} took {took:.1f} s")
            said = process.said()
            way_on = any(words in said for words in WAYS_ON) or "parameters" not in said or is_finished(out)
            found.check(code < 0 or way_on, f"{number.name}: no way on in {said!r}")
        elif ended in (code, -number) and not process.said():
            found.counts["before it could catch it"] += 1
        else:
            found.check(ended == 0, f"{number.name}: exit {ended}: {process.said()[-300:]}")
        if ended == 0:
            compare(known, out, found, number.name)
            shutil.rmtree(out)
            before = 0
        process = begin(known, out)
    ended = process.wait()
    found.check(ended == 0, f"the last run: exit {ended}: {process.said()[-300:]}")
    look(process, out, found, "the last run")
    if ended == 0:
        compare(known, out, found, "the last run")
    return found


def kills(budget: Budget, folder: Path) -> Findings:
    return stop_at_random(budget, folder, signal.SIGKILL, -signal.SIGKILL, 200)


def terminations(budget: Budget, folder: Path) -> Findings:
    return stop_at_random(budget, folder, signal.SIGTERM, 143, 50)


# -- system calls --------------------------------------------------------------------------------------------

CALLS = ("write", "fsync", "rename", "openat", "mkdir", "unlink", "unlinkat", "close", "fchmodat", "chmod")
FAILURES = {"write": "ENOSPC", "fsync": "EIO", "rename": "EIO", "openat": "ENOSPC", "mkdir": "ENOSPC"}
ALWAYS = ("fsync", "rename")
"""An error from these ends the run. Others may be of a message, or of a folder that is there or is to be deleted."""
_CALL = re.compile(r"^\d+ +(\w+)\(")
_SAVED = re.compile(r'rename\(.*"[^"]*/update-(\d+)"\) += 0')


def traced(known: Reference, out: Path, calls: Sequence[str], *options: str) -> tuple[int, str]:
    """A run under strace from its first to its last line of Python; the exit code, and the calls."""
    process = begin(known, out, stopped=True)
    os.waitpid(process.pid, os.WUNTRACED)
    written = out.with_suffix(".strace")
    words = ["strace", "-f", "-qq", "-y", "-o", str(written), "-e", f"trace={','.join(calls)}", *options]
    tracer = subprocess.Popen([*words, "-p", str(process.pid)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text():
        assert time.monotonic() < deadline, "strace does not attach"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGCONT)
    code = process.wait(60)
    tracer.wait(20)
    return code, written.read_text(errors="replace")


def numbered(calls: str, out: Path) -> Iterator[tuple[str, int, int]]:
    """Each call on the run's own files, as strace counts them (of its kind, from 1), and the update saved by then."""
    seen: dict[str, int] = {}
    saved = 0
    for line in calls.split("\n"):
        if match := _CALL.match(line):
            seen[match[1]] = number = seen.get(match[1], 0) + 1
            if str(out) in line:
                yield match[1], number, saved
        if match := _SAVED.search(line):
            saved = int(match[1])


def system_calls(budget: Budget, folder: Path) -> Findings:
    """SIGKILL at, or an error from, every call that a short run makes on its files."""
    found = Findings()
    if not shutil.which("strace"):
        found.counts["tried: skipped, as strace is not installed"] = 0
        return found
    known = reference(folder / "reference", *SHORT)
    out = folder / "traced"
    _, calls = traced(known, out, CALLS)
    shutil.rmtree(out)
    cases = [(call, number, saved, None) for call, number, saved in numbered(calls, out)]
    cases += [(call, number, saved, FAILURES[call]) for call, number, saved, _ in cases if call in FAILURES]
    found.counts["calls there are"] = len(cases)
    random.Random(1).shuffle(cases)
    for case in budget:
        if case >= len(cases):
            break
        call, number, saved, error = cases[case]
        how = "signal=KILL" if error is None else f"error={error}"
        code, _ = traced(known, out, [call], "-e", f"inject={call}:{how}:when={number}")
        said, what = out.with_suffix(".err").read_text(errors="replace"), f"{call} {number} {how}"
        reached = error is not None or code == -signal.SIGKILL
        found.counts[("killed at" if error is None else "failed at") if reached else "not reached"] += 1
        found.check("Traceback" not in said, f"{what}: {said[-300:]}")
        if error is not None:
            errors = [line for line in said.split("\n") if line.startswith("nmt: error: ")]
            found.check(code == 1 or (code == 0 and call not in ALWAYS), f"{what}: exit {code}: {said[-300:]}")
            found.counts["exits with 1"] += code == 1
            found.check(code == 0 or len(errors) == 1, f"{what}: {said[-300:]}")
        whole = max((update for update, trouble in RunDirectory(out).examine() if trouble is None), default=0)
        found.check(whole >= saved, f"{what}: update {saved} was saved, {whole} is whole")
        found.counts["times an older checkpoint was there and whole"] += saved > 0
        process = begin(known, out)
        found.check(process.wait() == 0, f"{what}, gone on: exit {process.code}: {process.said()[-300:]}")
        look(process, out, found, what)
        if process.code == 0:
            compare(known, out, found, what)
        left = [path.name for path in out.rglob("*") if path.name.endswith(".tmp") or ".old." in path.name]
        found.check(not left, f"{what}: left behind: {left}")
        shutil.rmtree(out, ignore_errors=True)
    return found


# -- planted bugs --------------------------------------------------------------------------------------------


@contextmanager
def forgets_its_place() -> Iterator[None]:
    """A resumed run begins the epoch anew."""
    real = Progress.from_dict

    def forgetful(document: dict[str, Any]) -> Progress:
        return real({**document, "batch": 0})

    with mock.patch.object(Progress, "from_dict", forgetful):
        yield


@contextmanager
def stops_unsaved() -> Iterator[None]:
    """A signal ends the run without a checkpoint, and with the wrong code."""

    def loop(self: Trainer) -> object:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
        return real(self)

    real = Trainer._loop
    with mock.patch.object(Trainer, "_loop", loop):
        yield


@contextmanager
def writes_in_place() -> Iterator[None]:
    """Checkpoints appear under their name before they are whole."""

    @contextmanager
    def direct(path: Path, *, replace: bool = False) -> Iterator[Path]:
        path.mkdir(parents=True, exist_ok=True)
        yield path

    with mock.patch("nmt.training.state.atomic_directory", direct):
        yield
