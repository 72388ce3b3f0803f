"""Several processes train as one does that accumulates."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from nmt import host
from nmt.dataset import DataDirectory
from nmt.errors import UsageError
from nmt.settings import resolve
from nmt.training.ranks import Ranks
from nmt.training.trainer import Trainer

SETTINGS = [
    *("batch_tokens=60", "precision=fp32", "threads=1"),
    *("eval_every=4", "save_every=4", "log_every=1", "average_best=2"),
]


SIZES = {
    "transformer": ["model_size=16", "ffn_size=32", "num_heads=2"],
    "gru": ["embedding_size=8", "hidden_size=8"],
    "attention": ["embedding_size=8", "hidden_size=8", "attention_size=8"],
}


def command(
    data: Path, out: Path, *, ranks: int, updates: int, settings: list[str], arch: str = "transformer"
) -> list[str]:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    words = [sys.executable, *start, "-m", "nmt", "train", str(data), "--arch", arch, "--preset", "tiny"]
    words += ["--max-updates", str(updates), "--out", str(out)]
    return words + [word for setting in [*SETTINGS, *SIZES[arch], *settings] for word in ("--set", setting)]


def train(
    data: DataDirectory,
    out: Path,
    *,
    ranks: int,
    accumulation: int,
    updates: int = 8,
    arch: str = "transformer",
    settings: Sequence[str] = (),
    more: list[str],
) -> None:
    settings = [f"accumulation={accumulation}", *settings]
    words = command(data.path, out, ranks=ranks, updates=updates, settings=settings, arch=arch)
    if ranks == 1:  # without a process of its own
        run = resolve(arch, preset="tiny", environment={}, overrides=[*SETTINGS, *SIZES[arch], *settings])
        run = replace(run, training=replace(run.training, max_updates=updates))
        trainer = Trainer(data, run, out, report=lambda record: None, should_stop=lambda: False)
        assert trainer.run(resume="--resume" in more).reason == "complete"
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, *more], capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def log(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == kind]


def assert_alike(ours: Path, theirs: Path, *, updates: int = 8) -> None:
    """The same losses, validation scores and weights, to rounding; dropout is on."""
    assert len(log(ours, "train")) == len(log(theirs, "train")) == updates
    for mine, other in zip(log(ours, "train"), log(theirs, "train"), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert (mine["epoch"], mine["target_tokens"]) == (other["epoch"], other["target_tokens"])
    for mine, other in zip(log(ours, "valid"), log(theirs, "valid"), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert mine["bleu"] == pytest.approx(other["bleu"], abs=1e-6)
    mine, other = (load_file(out / "model.safetensors") for out in (ours, theirs))
    for name, weight in mine.items():
        assert weight == pytest.approx(other[name], abs=2e-4), name


def test_two_ranks_equal_one_that_accumulates_and_can_go_on_as_one(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "one", ranks=1, accumulation=2, more=[])
    train(data, tmp_path / "two", ranks=2, accumulation=1, updates=4, more=[])
    train(data, tmp_path / "two", ranks=1, accumulation=2, more=["--resume"])
    assert_alike(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_ranks_equal_one_that_accumulates_for_200_updates(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "one", ranks=1, accumulation=2, updates=200, more=[])
    train(data, tmp_path / "two", ranks=2, accumulation=1, updates=200, more=[])
    assert_alike(tmp_path / "two", tmp_path / "one", updates=200)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gru", "attention"])
def test_recurrent_models_train_together_too(data: DataDirectory, tmp_path: Path, arch: str) -> None:
    train(data, tmp_path / "one", ranks=1, accumulation=2, arch=arch, more=[])
    train(data, tmp_path / "two", ranks=2, accumulation=1, arch=arch, more=[])
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_ranks_agree_on_sampled_segmentations(unigram_data: DataDirectory, tmp_path: Path) -> None:
    train(unigram_data, tmp_path / "one", ranks=1, accumulation=2, more=[], settings=("subword_alpha=0.3",))
    train(unigram_data, tmp_path / "two", ranks=2, accumulation=1, more=[], settings=("subword_alpha=0.3",))
    assert_alike(tmp_path / "two", tmp_path / "one")


@contextmanager
def endless(data: DataDirectory, out: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Two ranks that train without end and have begun: torchrun's process, and theirs. Nothing outlives the block."""
    words = command(data.path, out, ranks=2, updates=100_000, settings=[])
    with out.with_name("stderr").open("wb") as said:
        agent = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list((out / "training").glob("checkpoints/update-*")):
            assert agent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield agent, children(agent.pid)
    finally:
        for pid in (*children(agent.pid), agent.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        agent.wait()


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def newest_update(out: Path) -> int:
    return max(int(path.name[7:]) for path in (out / "training").glob("checkpoints/update-*"))


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["torchrun", "a rank"])
def test_whoever_is_asked_to_stop_all_stop_and_have_saved(data: DataDirectory, tmp_path: Path, asked: str) -> None:
    with endless(data, tmp_path / "out") as (agent, ranks):
        os.kill(agent.pid if asked == "torchrun" else ranks[-1], signal.SIGTERM)
        assert agent.wait(timeout=30) != 0
        saved = newest_update(tmp_path / "out")
        assert len(log(tmp_path / "out", "train")) == saved  # of every update: nothing was done after the save
    assert saved % 4 or saved > 4  # not only what is saved every 4 updates
    train(data, tmp_path / "out", ranks=2, accumulation=1, updates=8, more=["--resume"])


@pytest.mark.slow
def test_four_ranks_equal_two_that_accumulate(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "two", ranks=2, accumulation=2, more=[])
    train(data, tmp_path / "four", ranks=4, accumulation=1, more=[])
    assert_alike(tmp_path / "four", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_rank_leaves_nothing_hanging(data: DataDirectory, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with endless(data, tmp_path / "out") as (agent, ranks):
        time.sleep(rng.uniform(0, 3))
        killed = rng.choice(ranks)
        variables = Path(f"/proc/{killed}/environ").read_bytes().split(b"\0")
        rank = next(int(variable[5:]) for variable in variables if variable.startswith(b"RANK="))
        os.kill(killed, signal.SIGKILL)
        assert agent.wait(timeout=60) == 1
        said = (tmp_path / "stderr").read_text()
        assert re.search(rf"rank\s*: {rank} .*\n\s*exitcode\s*: -9 ", said), said
        left = subprocess.run(["pgrep", "-f", str(tmp_path / "out")], capture_output=True, text=True, check=False)
        assert left.stdout == ""
        saved = newest_update(tmp_path / "out")
    train(data, tmp_path / "out", ranks=2, accumulation=1, updates=saved + 4, more=["--resume"])


@pytest.mark.slow
def test_what_the_first_cannot_write_ends_all(data: DataDirectory, tmp_path: Path) -> None:
    with endless(data, tmp_path / "out") as (agent, ranks):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert agent.wait(timeout=60) == 1
        assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
        said = (tmp_path / "stderr").read_text()
        assert re.search("nmt: error: .*(was deleted while training|cannot write)", said), said


def test_what_the_leader_refuses_ends_all_at_once(data: DataDirectory, tmp_path: Path) -> None:
    """The others wait for it by then, deaf to what torchrun asks, until it kills them after half a minute."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    words = command(data.path, tmp_path / "out", ranks=2, updates=1, settings=[])
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "thesis.tex" in done.stderr or "not empty" in done.stderr, done.stderr
    assert done.returncode == 1
    assert "SIGKILL" not in done.stderr


def test_alone_everything_is_its_own() -> None:
    alone = Ranks()
    assert alone.leads
    assert alone.any(True, False) == (True, False)
    assert alone.sum(1.5, 2.0) == (1.5, 2.0)
    assert alone.gather({"a": [1]}) == [{"a": [1]}]


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "two")])
def test_impossible_ranks_are_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UsageError, match="RANK"):
        Ranks.from_environment()


def test_torchrun_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks.from_environment()
    assert (ranks.rank, ranks.size, ranks.local, ranks.local_size) == (3, 4, 1, 2)
    assert not ranks.leads


def test_gloo_meets_no_interpreter_that_is_half_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank may abort as it ends otherwise: https://github.com/pytorch/pytorch/issues/190489."""
    monkeypatch.setattr(host._Ending, "at_once", False)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with Ranks().together(torch.device("cpu")):
        assert not host.ends_at_once()
    with Ranks(0, 2).together(torch.device("cpu")):
        assert host.ends_at_once()


def test_processes_that_were_started_differently_are_refused(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolve("transformer", preset="tiny", environment={}, overrides=[*SETTINGS, *SIZES["transformer"]])
    trainer = Trainer(data, run, tmp_path / "out", report=lambda record: None, should_stop=lambda: False)
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [value, value | {"lr": 9.0, "torch": "1.0"}])
    with pytest.raises(UsageError, match="differ: lr, torch"):
        trainer.run()
    assert not (tmp_path / "out" / "training" / "run.json").exists()
