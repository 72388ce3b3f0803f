"""Hostile text through `nmt translate`: as many lines out as in, neighbours untouched, memory flat, answers at once."""

import os
import random
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from nmt.cli.streams import Arrivals
from nmt.lines import LineReader
from nmt.translator import Translator
from tests.tiny import SENTENCES, tiny_model
from tests.torture.harness import Budget, Findings, Harness
from tests.torture.processes import Process, start

QUICK = ["--beam", "1", "--max-length-ratio", "0.02", "--max-length-extra", "2"]
"""Short translations: what is tried here is everything around them."""
PIECES = [
    *(
        b"\n",
        b"\r\n",
        b"\r",
        b"\x00",
        b"\x0b",
        b"\x0c",
        b"\x1b[31m",
        b"\x1b]52;c;eA==\x07",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
    ),
    *(c.encode() for c in "\u2028\u2029\u0085\ufeff\u200b\u200d\u202e\u2066\u0301\U000e0041\u00ad\u3000"),
    *(
        "👩‍👩‍👧‍👦".encode(),
        "e\u0301\u0302".encode(),
        b"<s>",
        b"</s>",
        b"<0x0A>",
        "▁".encode(),
        b"[/red]",
        b"<script>",
        b" ",
        b"\t",
    ),
    *(sentence.encode() for sentence in SENTENCES),
]
MEMORY = 50 << 20


def hostile_bytes(rng: random.Random, count: int) -> bytes:
    """Noise, and noise made of what is known to be hard."""
    out = bytearray()
    while len(out) < count:
        out += rng.randbytes(rng.randrange(60)) if rng.random() < 0.3 else rng.choice(PIECES)
    return bytes(out)


def hostile_line(rng: random.Random) -> bytes:
    return hostile_bytes(rng, rng.choice([1, 10, 100, 1000])).replace(b"\n", b"")


def translate(model: Path, folder: Path, data: bytes) -> tuple[Process, bytes]:
    (folder / "in").write_bytes(data)
    process = start(["translate", "-m", model, *QUICK], err=folder / "err", stdin=folder / "in", stdout=folder / "out")
    process.wait()
    return process, (folder / "out").read_bytes()


def fuzz(budget: Budget, folder: Path) -> Findings:
    """As many lines out as in, by our count, by `wc -l` and by Python's widest notion of a line."""
    found, model = Findings(), tiny_model(folder / "model")
    for case in budget:
        data = hostile_bytes(random.Random(case), 50_000)
        process, out = translate(model, folder, data)
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        counted = int(subprocess.run(["wc", "-l", folder / "out"], capture_output=True, check=True).stdout.split()[0])
        found.counts["bytes"] += len(data)
        found.counts["lines"] += lines
        said = process.said()
        found.check(process.code == 0, f"seed {case}: exit {process.code}: {said[-300:]}")
        found.check("Traceback" not in said, f"seed {case}: {said[-300:]}")
        found.check(counted == lines, f"seed {case}: {lines} lines in, {counted} out")
        text = out.decode(errors="strict")
        found.check(len(text.splitlines()) == lines, f"seed {case}: a line holds a line end")
        control = [c for c in text + said if (ord(c) < 32 or 127 <= ord(c) < 160) and c != "\n"]
        found.check(not control, f"seed {case}: control characters {control[:5]} on stdout or stderr")
    return found


def neighbours(budget: Budget, folder: Path) -> Findings:
    """Hostile lines among plain ones change none of the plain ones' translations."""
    found, model = Findings(), tiny_model(folder / "model")
    plain = [f"{sentence} {i}".encode() for i in range(100) for sentence in SENTENCES]
    _, out = translate(model, folder, b"".join(line + b"\n" for line in plain))
    expected = out.split(b"\n")[:-1]
    for case in budget:
        rng = random.Random(case)
        mixed = b"".join(line + b"\n" + hostile_line(rng) + b"\n" for line in plain)
        process, out = translate(model, folder, mixed)
        found.counts["plain lines"] += len(plain)
        found.counts["hostile lines"] += len(plain)
        found.check(process.code == 0, f"seed {case}: exit {process.code}: {process.said()[-300:]}")
        changed = sum(a != b for a, b in zip(out.split(b"\n")[:-1:2], expected, strict=False))
        found.check(len(out.split(b"\n")) == 2 * len(plain) + 1, f"seed {case}: lines were lost or added")
        found.check(not changed, f"seed {case}: {changed} plain translations changed")
    return found


def resident(pid: int) -> int:
    """Bytes of memory that belong to a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def descriptors(pid: int) -> int:
    """Files that a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(budget: Budget, folder: Path) -> Findings:
    """A million lines through one process: memory as after the first hundredth."""
    found, model = Findings(), tiny_model(folder / "model")
    source = folder / "in"
    os.mkfifo(source)
    process = start(["translate", "-m", model, *QUICK, source], err=folder / "err", stdout=folder / "out")
    block = b"".join(f"{sentence} {i}\n".encode() for i in range(10) for sentence in SENTENCES) * 10
    early = early_open = 0
    with source.open("wb", buffering=0) as pipe:
        for case in budget:
            pipe.write(block)
            found.counts["lines"] += 1000
            if case == 9:  # a hundredth
                early, early_open = resident(process.pid), descriptors(process.pid)
        late, late_open = resident(process.pid), descriptors(process.pid)
    found.check(process.wait(600) == 0, f"exit {process.code}: {process.said()[-300:]}")
    found.counts["KiB grown"] = (late - early) // 1024 if early else 0
    found.check(early > 0, "no time to see whether memory grows")
    found.check(late - early < MEMORY, f"memory grew by {(late - early) >> 20} MiB")
    found.check(late_open <= early_open, f"{early_open} files were open, then {late_open}")
    lines = (folder / "out").read_bytes().count(b"\n")
    found.check(lines == found.counts["lines"], f"{found.counts['lines']} lines in, {lines} out")
    return found


def pipe(budget: Budget, folder: Path) -> Findings:
    """A line typed into an open pipe is answered before the next is sent."""
    found, model = Findings(), tiny_model(folder / "model")
    reads, sends = os.pipe()
    answers, writes = os.pipe()
    process = start(["translate", "-m", model, *QUICK], err=folder / "err", stdin=reads, stdout=writes)
    os.close(reads)
    os.close(writes)
    rng = random.Random(1)
    for _ in budget:
        line = rng.choice([*SENTENCES, "", "  ", "\u2028", "x" * 2000]).encode() + b"\n"
        begun = time.monotonic()
        os.write(sends, line)
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([answers], [], [], 20)
            if not ready:
                break
            answer += os.read(answers, 65536)
        if answer.count(b"\n") != 1:
            found.failures.append(f"{line[:40]!r} was answered by {answer[:40]!r}")
            break
        found.counts["lines answered"] += 1
        found.counts["slowest in ms"] = max(found.counts["slowest in ms"], int(1000 * (time.monotonic() - begun)))
        time.sleep(0.002)
    os.close(sends)
    found.check(process.wait() == 0, f"exit {process.code}: {process.said()[-300:]}")
    os.close(answers)
    return found


# -- planted bugs --------------------------------------------------------------------------------------------


@contextmanager
def splits_as_python_does() -> Iterator[None]:
    """A lone CR, U+2028 and their like end lines."""

    def read(self: LineReader) -> str | None:
        waiting = vars(self).setdefault("waiting", [])
        if not waiting:
            line = one(self)
            if line is None:
                return None
            waiting += line.splitlines() or [""]
        text: str = waiting.pop(0)
        return text

    one = LineReader.read
    with mock.patch.object(LineReader, "read", read):
        yield


@contextmanager
def sees_its_neighbours() -> Iterator[None]:
    """A line's translation ends in how many were translated with it."""
    real = Translator.translate

    def shared(self: Translator, lines: Any, progress: Any = None) -> Any:
        longest = max(map(len, lines), default=0)
        return real(self, [f"{line} {longest}" if line.strip() else line for line in lines], progress)

    with mock.patch.object(Translator, "translate", shared):
        yield


@contextmanager
def keeps_everything() -> Iterator[None]:
    """Every line is remembered, with some more."""
    real, kept = Translator.translate, []

    def keeping(self: Translator, lines: Any, progress: Any = None) -> Any:
        kept.extend(bytearray(os.urandom(8192)) for _ in lines)
        return real(self, lines, progress)

    with mock.patch.object(Translator, "translate", keeping):
        yield


@contextmanager
def waits_for_the_end() -> Iterator[None]:
    """Input is read to its end before anything is answered."""

    def ready(self: Arrivals) -> bool:
        while not self._ended:
            self._fill()
        return True

    with mock.patch.object(Arrivals, "ready", ready):
        yield


HARNESSES = [
    Harness(
        "fuzz", "hostile bytes through the process: as many lines out as in", fuzz, splits_as_python_does, cases=200
    ),
    Harness(
        "neighbours",
        "1,000 hostile lines among 1,000 plain ones change no plain translation",
        neighbours,
        sees_its_neighbours,
        share=0.5,
        cases=20,
    ),
    Harness(
        "memory", "1,000,000 lines through one process: under 50 MB of growth", memory, keeps_everything, cases=1000
    ),
    Harness("pipe", "a line is answered before the next is sent", pipe, waits_for_the_end, share=0.3, cases=10_000),
]
