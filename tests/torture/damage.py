"""Damaged and hostile files: every byte flipped, and files that were mutated on purpose."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from nmt.checkpoint import load_model, read_tensors
from nmt.config import DecodingOptions
from nmt.engines.pytorch import TorchEngine
from nmt.errors import ModelError, UsageError
from nmt.files import sha256_file
from nmt.manifest import read_manifest
from nmt.tokenizer import Tokenizer
from nmt.translator import Translator
from tests.tiny import SENTENCES, tiny_model
from tests.torture.harness import Budget, Findings, Harness
from tests.torture.processes import start

OPTIONS = DecodingOptions(beam_size=1, max_length_ratio=0.5, max_length_extra=2)


def translations(model: Path) -> list[str]:
    loaded = load_model(model)
    engine = TorchEngine(loaded.model)
    return [t.text for t in Translator(engine, loaded.tokenizers, OPTIONS).translate(SENTENCES[:3])]


def flips(budget: Budget, folder: Path) -> Findings:
    """A bit of every byte of a model directory, one at a time: a clean error, or the same translations."""
    found, rng = Findings(), random.Random(1)
    model = tiny_model(folder / "model")
    expected = translations(model)
    places = [(path, i) for path in sorted(model.iterdir()) for i in range(path.stat().st_size)]
    rng.shuffle(places)
    found.counts["bytes there are"] = len(places)
    for case in budget:
        if case >= len(places):
            break
        path, i = places[case]
        with path.open("r+b") as file:
            file.seek(i)
            [byte] = file.read(1)
            file.seek(i)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))
        try:
            same = translations(model) == expected
            found.counts["same translations"] += same
            found.check(same, f"{path.name}, byte {i}: other translations")
        except ModelError as error:
            found.counts["clean errors"] += 1
            found.check("\n" not in str(error), f"{path.name}, byte {i}: {error}")
        except Exception as error:
            found.check(False, f"{path.name}, byte {i}: {error!r}")
        if case % 500 == 0:
            _on_the_command_line(model, folder, found)
        with path.open("r+b") as file:
            file.seek(i)
            file.write(bytes([byte]))
    found.check(translations(model) == expected, "the harness did not restore the model")
    _verification(folder, found)
    return found


def _on_the_command_line(model: Path, folder: Path, found: Findings) -> None:
    (folder / "in").write_text("La gare.\n")
    process = start(["translate", "-m", model, folder / "in"], err=folder / "err")
    found.counts["through the command line"] += 1
    found.check(process.wait() in (0, 4), f"exit {process.code}: {process.said()[-300:]}")
    errors = process.said().count("nmt: error: ")
    found.check(errors == (process.code == 4) and "Traceback" not in process.said(), process.said()[-300:])


def _verification(folder: Path, found: Findings) -> None:
    """What it costs to verify 250 MB."""
    path = folder / "large"
    path.write_bytes(os.urandom(1 << 20) * 250)
    sha256_file(path)
    begun = time.monotonic()
    sha256_file(path)
    found.counts["ms to verify 250 MiB"] = int(1000 * (time.monotonic() - begun))


# -- mutations -----------------------------------------------------------------------------------------------

INTERESTING = [
    b"0",
    b"-1",
    b"9" * 25,
    b"1e400",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[" * 2000,
    b'"\\ud800"',
]
LARGEST = 1 << 30
LONGEST = 1.0


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few of: flips, cuts, repetitions, numbers and brackets put in."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.choice([1, 2, 8, 64])]
            case 2:
                out[at:at] = out[at : at + rng.choice([1, 8, 64])]
            case 3:
                out[at:at] = rng.choice(INTERESTING)
            case 4 if at < len(out):
                out[at] = rng.randrange(256)
            case _:
                digits = [i for i, byte in enumerate(out) if 48 <= byte <= 57]
                if digits:
                    out[rng.choice(digits)] = 48 + rng.randrange(10)
    return bytes(out)


def mutations(budget: Budget, folder: Path) -> Findings:
    """Headers, configurations and manifests that nobody wrote: no crash, no hang, no flood of memory."""
    model = tiny_model(folder / "model")
    weights = (model / "model.safetensors").read_bytes()
    header = int.from_bytes(weights[:8], "little")
    scratch = folder / "scratch"
    scratch.mkdir()

    def tensors(rng: random.Random) -> None:
        changed = mutated(weights[8 : 8 + header], rng)
        length = len(changed).to_bytes(8, "little") if rng.random() < 0.8 else os.urandom(8)
        (scratch / "w").write_bytes(length + changed + weights[8 + header :])
        read_tensors(scratch / "w")

    config, manifest = (model / "config.json").read_bytes(), (model / "manifest.json").read_bytes()

    def configuration(rng: random.Random) -> None:
        (scratch / "config.json").write_bytes(mutated(config, rng))
        from nmt.checkpoint import _read_config

        _read_config(scratch / "config.json")

    def stated(rng: random.Random) -> None:
        (scratch / "manifest.json").write_bytes(mutated(manifest, rng))
        read_manifest(scratch)

    kinds = {"headers": tensors, "configurations": configuration, "manifests": stated}
    return _in_children(budget, kinds, batch=2000)


def tokenizers(budget: Budget, folder: Path) -> Findings:
    """SentencePiece files that nobody wrote."""
    data = (tiny_model(folder / "model") / "tokenizer.model").read_bytes()

    def tokenizer(rng: random.Random) -> None:
        made = Tokenizer(mutated(data, rng))
        made.decode(made.encode("La gare, où ?"))

    return _in_children(budget, {"tokenizers": tokenizer}, batch=200)


def _in_children(budget: Budget, kinds: dict[str, Callable[[random.Random], None]], batch: int) -> Findings:
    """Cases in batches, each batch in a process with a limit on its memory, each case with one on its time."""
    found = Findings()
    names = list(kinds)
    for case in budget:
        name = names[case % len(names)]
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            _child(kinds[name], case, batch, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        lines = said.split("\n")
        found.check(
            code == 0, f"{name}, seed {case}: the process ended with {code} at case {lines[-1] or lines[-2:-1]}"
        )
        result = json.loads(lines[-2]) if code == 0 else {"failures": []}
        found.failures += [f"{name}, seed {case}: {failure}" for failure in result["failures"]]
        found.counts[name] += batch
        found.counts[f"of these refused {name}"] += result.get("refused", 0)
    return found


def _child(attempt: Callable[[random.Random], None], seed: int, batch: int, pipe: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + LARGEST, used + LARGEST))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    refused, failures = 0, []
    for number in range(batch):
        os.write(pipe, f"{number}\n".encode()) if number % 50 == 0 else None
        signal.setitimer(signal.ITIMER_REAL, 20 * LONGEST)  # kills: a hang
        begun = time.process_time()
        try:
            attempt(random.Random(seed * 1_000_003 + number))
        except (ModelError, UsageError):
            refused += 1
        except BaseException as error:
            failures.append(f"case {number}: {error!r}")
        if (took := time.process_time() - begun) > LONGEST:
            failures.append(f"case {number} took {took:.1f} s")
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.write(pipe, (json.dumps({"refused": refused, "failures": failures[:5]}) + "\n").encode())
    os._exit(0)


# -- planted bugs --------------------------------------------------------------------------------------------


@contextmanager
def verifies_nothing() -> Iterator[None]:
    """Hashes are not looked at."""

    def unverified(path: Path, *, sha256: str | None = None) -> dict[str, torch.Tensor]:
        return read_tensors(path)

    with mock.patch("nmt.checkpoint.verify_file"), mock.patch("nmt.checkpoint.read_tensors", unverified):
        yield


@contextmanager
def believes_the_manifest() -> Iterator[None]:
    """A manifest is taken for a dictionary of the right shape."""

    def trusting(directory: Path) -> dict[str, object]:
        document: dict[str, object] = json.loads((directory / "manifest.json").read_text())
        assert document["sha256"]
        return document

    with mock.patch("tests.torture.damage.read_manifest", trusting):
        yield


@contextmanager
def trusts_tokenizers() -> Iterator[None]:
    """What SentencePiece raises is not caught."""
    import sentencepiece

    def trusting(self: Tokenizer, data: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        self.data, self.vocab_size = data, self._processor.vocab_size()

    with mock.patch.object(Tokenizer, "__init__", trusting):
        yield


HARNESSES = [
    Harness(
        "flip",
        "a bit of every byte of a model directory flipped: a clean error, or the same translations",
        flips,
        verifies_nothing,
        share=2,
    ),
    Harness(
        "mutate",
        "mutated headers, configurations and manifests: no crash, nothing over 1 s or 1 GiB",
        mutations,
        believes_the_manifest,
        cases=500,
    ),
    Harness(
        "tokenizer",
        "mutated tokenizer files: no crash, nothing over 1 s or 1 GiB",
        tokenizers,
        trusts_tokenizers,
        cases=500,
    ),
]
