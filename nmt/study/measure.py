"""Train what the plan names and measure it, each step a process of `nmt`; what is done is not done again."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nmt.errors import NMTError, UsageError
from nmt.files import read_json, sha256_file, write_json
from nmt.settings import resolve
from nmt.study.plan import Plan, Run

STUDY: Final = "study.json"
"""What the figures of a directory come from."""
TIMED_ROWS: Final = 64
"""Sentences that are translated at a time, about, where translation is timed."""
Say = Callable[[str], object]


@dataclass(frozen=True)
class ParallelFiles:
    """A test set: two files."""

    name: str
    src: Path
    ref: Path
    links: Path | None = None
    """Gold word alignments."""


@dataclass(frozen=True)
class Study:
    """Where it works, and on what."""

    plan: Plan
    data: Path
    out: Path
    tests: tuple[ParallelFiles, ...]
    gold: tuple[ParallelFiles, ...]
    """Pairs with gold word alignments."""
    workers: int
    say: Say

    def model(self, run: Run) -> Path:
        """Where a model lies."""
        return self.out / "models" / run.name

    def hyps(self, run: Run, test: ParallelFiles, beam: int) -> Path:
        """Where its translations lie."""
        return self.out / "figures" / f"{run.name}.{test.name}.{beam}.txt"

    def figure(self, *name: object) -> Path:
        """Where a measurement lies."""
        return self.out / "figures" / f"{'.'.join(map(str, name))}.json"


def measure(study: Study) -> None:
    """Everything, in the order of its importance; interrupted, it goes on from there when called again.

    Raises:
        UsageError: what is there already belongs to another study.
        NMTError: a step failed.
    """
    check(study)
    (study.out / "figures").mkdir(parents=True, exist_ok=True)
    (study.out / "models").mkdir(exist_ok=True)
    write_json(study.out / STUDY, _identity(study))
    with ThreadPoolExecutor(study.workers) as pool:
        try:
            for done in as_completed([pool.submit(_one, study, run) for run in study.plan.runs]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for run in study.plan.timed:  # alone: these are times
        for length in study.plan.lengths:
            _time(study, run, length)


def check(study: Study) -> None:
    """Refuse to mix figures of different models, data or tests.

    Raises:
        UsageError: what is there already belongs to another study; says what differs.
    """
    path = study.out / STUDY
    known = read_json(path) if path.exists() else {}
    mine = _identity(study)
    for what in mine if known else ():
        if known.get(what) != mine[what]:
            raise UsageError(
                f"{study.out} holds a study with other {what}: go on with the options it began with, or choose "
                "another --out"
            )


def _identity(study: Study) -> dict[str, Any]:
    """What the figures come from: of every file its hash, of every run that of its settings."""
    from nmt.dataset import DataDirectory

    plan = study.plan
    files = [
        (f"{text.name}, {kind}", path)
        for text in (*study.tests, *study.gold)
        for kind, path in (("source", text.src), ("reference", text.ref), ("links", text.links))
        if path is not None
    ]
    return {
        "data": DataDirectory.open(study.data).fingerprint,
        "test sets or gold alignments": {name: sha256_file(path) for name, path in files},
        "models": {run.name: _digest(plan, run) for run in plan.runs},
        "measurements": [plan.beam, list(plan.beams), list(plan.lengths), plan.timed_updates, TIMED_ROWS],
    }


def _digest(plan: Plan, run: Run) -> str:
    own = [f"seed={run.seed}", f"max_updates={run.updates}"]
    config = resolve(run.arch, preset=run.preset, environment={}, overrides=[*plan.settings, *run.settings, *own])
    return hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode()).hexdigest()


def measured(study: Study) -> Study:
    """The same with only those runs of which every figure is there."""
    kept = [run for run in study.plan.runs if all(path.exists() for path in _figures(study, run))]
    return replace(study, plan=replace(study.plan, runs=tuple(kept)))


def _figures(study: Study, run: Run) -> Iterator[Path]:
    yield study.figure(run.name, "training")
    yield from (study.figure(run.name, test.name, beam) for test in study.tests for beam in study.plan.beams_of(run))
    yield from (study.figure(run.name, gold.name, "aer") for gold in study.gold if run.attends)


def _one(study: Study, run: Run) -> None:
    _train(study, run)
    for test in study.tests:
        for beam in study.plan.beams_of(run):
            _evaluate(study, run, test, beam)
    for gold in study.gold if run.attends else ():
        _align(study, run, gold)


def _align(study: Study, run: Run, gold: ParallelFiles) -> None:
    words = ["attend", "-m", study.model(run), "--src", gold.src, "--ref", gold.ref]
    _keep(study.figure(run.name, gold.name, "aer"), lambda: _json(*words, "--gold", gold.links))


def _train(study: Study, run: Run) -> None:
    out = study.model(run)
    facts = study.figure(run.name, "training")
    if facts.exists():
        return
    study.say(f"training {run.name}")
    if (out / "training" / "run.json").exists():
        _run("train", "--resume", "--out", out)
    else:
        settings = [word for setting in (*study.plan.settings, *run.settings) for word in ("--set", setting)]
        start = ["train", study.data, "--arch", run.arch, "--preset", run.preset, "--seed", run.seed]
        _run(*start, *settings, "--max-updates", run.updates, "--out", out)
    manifest = read_json(out / "manifest.json")
    log = [
        json.loads(line) for line in (out / "training" / "log.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    validations = [{key: r[key] for key in ("update", "seconds", "bleu")} for r in log if r["type"] == "valid"]
    speeds = sorted(r["tokens_per_second"] for r in log if r["type"] == "train")
    document = {"parameters": manifest["parameters"], "validations": validations}
    write_json(facts, document | {"seconds": log[-1]["seconds"], "tokens_per_second": speeds[len(speeds) // 2]})


def _evaluate(study: Study, run: Run, test: ParallelFiles, beam: int) -> None:
    def evaluate() -> Any:
        study.say(f"translating {test.name} with {run.name}, beam {beam}")
        words = ["eval", "-m", study.model(run), "--src", test.src, "--ref", test.ref, "--engine", "torch"]
        return _json(*words, "--beam", beam, "--save-hyp", study.hyps(run, test, beam))

    _keep(study.figure(run.name, test.name, beam), evaluate)


def _time(study: Study, run: Run, length: int) -> None:
    def time() -> Any:
        study.say(f"timing {run.variant} at {length} tokens a sentence")
        words = ["bench", "train", "--arch", run.arch, "--preset", run.preset, "--precision", "fp32"]
        timed = ["--updates", study.plan.timed_updates, "--warmup", 2, "--length", length]
        trained = _json(*words, *timed, "--set", "threads=1", "--set", "batch_tokens=2048")
        text = ["bench", "translate", "-m", study.model(run), "--engine", "torch", study.tests[0].src]
        rows = "--batch-tokens", TIMED_ROWS * length  # as many sentences a step, however long they are
        decoded = _json(*text, "--beam", 1, "--length", max(1, length // 2), "--as-long", *rows)
        return {"training": trained, "translation": decoded}

    _keep(study.figure("time", run.variant, length), time)


def _keep(path: Path, compute: Callable[[], Any]) -> None:
    """Write what `compute` gives, unless it is there."""
    if not path.exists():
        write_json(path, compute())


def _json(*words: object) -> Any:
    return json.loads(_run(*words, "--json"))


def _run(*words: object) -> str:
    command = [sys.executable, "-P", "-m", "nmt", *map(str, words)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("NMT_")}
    environment = {**own, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2].removeprefix("nmt: error: ")
        raise NMTError(f"nmt {' '.join(map(str, words[:4]))} ... failed: {last or 'no message'}")
    return done.stdout


def read_figures(study: Study, names: Sequence[object]) -> Any:
    """A measurement, `None` where there is none."""
    path = study.figure(*names)
    return read_json(path) if path.exists() else None
