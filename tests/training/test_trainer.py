"""Training that is stopped and resumed ends as if it had never been stopped; what cannot go on says why."""

import errno
import functools
import json
import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmt.batching import Batch, Planned
from nmt.checkpoint import load_model
from nmt.config import DecodingOptions, RunConfig
from nmt.dataset import DataDirectory
from nmt.errors import DataError, DeviceError, ModelError, NMTError, UsageError
from nmt.models.factory import build_model
from nmt.settings import resolve
from nmt.training import state as state_module
from nmt.training import step as step_module
from nmt.training.identity import find_place, place_of
from nmt.training.progress import Candidate, Progress
from nmt.training.schedule import learning_rate
from nmt.training.state import RunDirectory
from nmt.training.trainer import MAX_SKIPPED_IN_A_ROW, Outcome, Trainer
from tests.canary import pickled_canary
from tests.training.conftest import copying_data

SIZES = {
    "gru": ["embedding_size=8", "hidden_size=8"],
    "attention": ["embedding_size=8", "hidden_size=8", "attention_size=8"],
    "transformer": ["model_size=8", "ffn_size=16", "num_heads=2", "num_encoder_layers=1", "num_decoder_layers=1"],
}
QUICK = ["max_updates=12", "eval_every=6", "save_every=3", "log_every=2", "batch_tokens=200", "threads=1"]


def config(arch: str = "transformer", *overrides: str) -> RunConfig:
    return resolve(arch, preset="tiny", environment={}, overrides=[*SIZES[arch], *QUICK, *overrides])


def train(
    data: DataDirectory,
    out: Path,
    run: RunConfig,
    *,
    resume: bool = False,
    stop_at: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Outcome:
    """Train, asking for a stop once update `stop_at` is done."""
    trainer = Trainer(
        data, run, out, report=report, should_stop=lambda: stop_at is not None and trainer.progress.update >= stop_at
    )
    return trainer.run(resume=resume)


def log(out: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = (out / "training" / "log.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    timing = {"seconds", "validation_seconds", "tokens_per_second"}
    return [{key: value for key, value in record.items() if key not in timing} for record in records]


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(autouse=True, scope="module")
def short_translations() -> Iterator[None]:
    """Validations of models that never learned to end stop soon."""
    short = functools.partial(DecodingOptions, max_length_ratio=1.0, max_length_extra=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nmt.training.validation.DecodingOptions", short)
        yield


@pytest.fixture(scope="module")
def whole(data: DataDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `config()` that was never stopped; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(data, out, config())
    return out


@pytest.mark.parametrize(
    ("arch", "stop_at", "extra"),
    [
        ("gru", 5, []),
        ("attention", 6, []),
        ("transformer", 1, []),
        ("transformer", 6, []),  # at a validation
        ("transformer", 7, ["accumulation=3"]),
        ("transformer", 11, ["batch_tokens=2000"]),  # an epoch is one or two batches
        ("transformer", 5, ["precision=bf16", "average_best=0"]),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    data: DataDirectory, tmp_path: Path, arch: str, stop_at: int, extra: list[str]
) -> None:
    run = config(arch, *extra)
    train(data, tmp_path / "whole", run)
    assert train(data, tmp_path / "parts", run, stop_at=stop_at).reason == "stopped"
    assert train(data, tmp_path / "parts", run, resume=True).reason == "complete"
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert log(tmp_path / "parts") == log(tmp_path / "whole")


def test_sampled_segmentations_are_resumed_in_the_middle_of_an_epoch(
    unigram_data: DataDirectory, tmp_path: Path
) -> None:
    run = config("transformer", "subword_alpha=0.2", "batch_tokens=800")
    train(unigram_data, tmp_path / "whole", run)
    outcome = train(unigram_data, tmp_path / "parts", run, stop_at=7)
    assert outcome.progress.epoch > 0
    assert outcome.progress.batch > 0
    train(unigram_data, tmp_path / "parts", run, resume=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_segmentations_cannot_be_sampled_from_bpe(data: DataDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="subword_alpha needs a unigram vocabulary"):
        train(data, tmp_path / "out", config("transformer", "subword_alpha=0.2"))


def test_lines_logged_after_the_last_checkpoint_are_cut(data: DataDirectory, whole: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "parts", config(), stop_at=6)
    with (tmp_path / "parts" / "training" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"type": "train", "update": 8}\n{"type": "tr')  # as kill -9 leaves it
    train(data, tmp_path / "parts", config(), resume=True)
    assert log(tmp_path / "parts") == log(whole)


def test_stop_during_validation_saves_and_validates_later(
    data: DataDirectory, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validating: list[bool] = []
    trainer = Trainer(data, config(), tmp_path / "parts", report=lambda r: None, should_stop=lambda: bool(validating))
    loss = trainer.validation.loss
    monkeypatch.setattr(trainer.validation, "loss", lambda: validating.append(True) or loss())
    assert trainer.run().reason == "stopped"
    assert validating
    assert trainer.progress.validated == 0
    train(data, tmp_path / "parts", config(), resume=True)
    assert weights(tmp_path / "parts") == weights(whole)


def test_same_seed_same_bytes_and_another_seed_others(data: DataDirectory, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(data, tmp_path / name, config("gru", f"seed={seed}"))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_resuming_a_finished_run_changes_nothing(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config())
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    assert train(data, tmp_path / "run", config(), resume=True).reason == "complete"
    after = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    lock = tmp_path / "run" / "training" / "lock"
    assert before.keys() == after.keys()
    assert all(before[path] == after[path] for path in before if path != lock)


def test_a_finished_run_stays_as_it_is_where_less_is_asked_for(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config())
    before = (tmp_path / "run" / "training" / "run.json").read_bytes()
    outcome = train(data, tmp_path / "run", config("transformer", "max_updates=3"), resume=True)
    assert (outcome.reason, outcome.begun) == ("complete", False)
    assert (tmp_path / "run" / "training" / "run.json").read_bytes() == before


def test_a_finished_run_can_be_prolonged(data: DataDirectory, tmp_path: Path) -> None:
    constant = "schedule=constant"
    train(data, tmp_path / "whole", config("transformer", constant, "max_updates=16"))
    train(data, tmp_path / "parts", config("transformer", constant))
    train(data, tmp_path / "parts", config("transformer", constant, "max_updates=16"), resume=True)
    models = [load_model(tmp_path / name) for name in ("whole", "parts")]
    for one, other in zip(models[0].model.parameters(), models[1].model.parameters(), strict=True):
        assert one.equal(other)


def test_other_settings_are_refused_by_name(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    with pytest.raises(UsageError, match="other settings.*: dropout, lr"):
        train(data, tmp_path / "run", config("transformer", "lr=0.5", "dropout=0.4"), resume=True)


def test_harmless_settings_that_changed_are_listed(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    records: list[dict[str, Any]] = []
    train(data, tmp_path / "run", config("transformer", "log_every=1"), resume=True, report=records.append, stop_at=4)
    assert records[0] == {"type": "resumed", "update": 3, "changed": {"log_every": (2, 1)}}
    train(data, tmp_path / "run", config("transformer", "log_every=1"), resume=True, report=records.append, stop_at=5)
    assert [record["changed"] for record in records if record["type"] == "resumed"] == [{"log_every": (2, 1)}, {}]


def test_other_data_is_refused(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="is not the data"):
        train(copying_data(tmp_path / "other", seed=9), tmp_path / "run", config(), resume=True)


def test_nothing_to_resume_is_said(data: DataDirectory, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no training to resume"):
        train(data, tmp_path / "run", config(), resume=True)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "progress.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    data: DataDirectory, whole: Path, tmp_path: Path, file: str
) -> None:
    train(data, tmp_path / "parts", config(), stop_at=7)
    newest = tmp_path / "parts" / "training" / "checkpoints" / "update-00000007"
    damage(newest / file)
    records: list[dict[str, Any]] = []
    train(data, tmp_path / "parts", config(), resume=True, report=records.append)
    assert ["update-00000007" in r["message"] for r in records if r["type"] == "warning"] == [True]
    assert weights(tmp_path / "parts") == weights(whole)
    assert not newest.exists()
    assert len(list(newest.parent.glob("damaged-update-00000007*"))) == 1  # kept aside


@pytest.mark.parametrize("closed", ["update-00000007", "optimizer.safetensors"])
def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    train(data, tmp_path / "parts", config(), stop_at=7)
    newest = tmp_path / "parts" / "training" / "checkpoints" / "update-00000007"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != closed)  # root may all
    with pytest.raises(NMTError, match=f"cannot read .*{closed}: Permission denied"):
        train(data, tmp_path / "parts", config(), resume=True)
    assert newest.is_dir()
    troubles = [trouble for _, trouble in RunDirectory(tmp_path / "parts").examine()]
    assert "Permission denied" in str(troubles[0])


def test_only_damaged_checkpoints_never_start_from_nothing(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=7)
    for path in (tmp_path / "run" / "training" / "checkpoints").glob("*/weights.safetensors"):
        damage(path)
    with pytest.raises(ModelError, match="no checkpoint .* is whole: begin anew with --force .*is damaged") as caught:
        train(data, tmp_path / "run", config(), resume=True)
    assert "going on" not in str(caught.value)


def test_a_training_that_began_before_the_lock_was_held_is_left_alone(data: DataDirectory, tmp_path: Path) -> None:
    """Data are verified first, which takes its time where they are many."""
    late = Trainer(data, config(), tmp_path / "run", report=lambda r: None, should_stop=lambda: False)
    train(data, tmp_path / "run", config())
    before = weights(tmp_path / "run")
    with pytest.raises(UsageError, match="not empty: another training has begun"):
        late.run()
    assert weights(tmp_path / "run") == before


def test_two_trainers_exclude_each_other(data: DataDirectory, tmp_path: Path) -> None:
    def second() -> bool:
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on {socket.gethostname()}: "):
            train(data, tmp_path / "run", config())
        return True

    trainer = Trainer(data, config(), tmp_path / "run", report=lambda r: None, should_stop=second)
    trainer.run()
    assert (tmp_path / "run" / "training" / "lock").read_bytes() == b""  # no name stays behind


def gradients(data: DataDirectory, out: Path, accumulation: int) -> dict[str, torch.Tensor]:
    """Gradients of one update of the trainer on the first pairs, in as many batches as asked for."""
    settings = [f"accumulation={accumulation}", "dropout=0.0", "clip_norm=0", "precision=fp32"]
    trainer = Trainer(data, config("transformer", *settings), out, report=lambda r: None, should_stop=lambda: False)
    split = data.split("train")
    pairs = np.array_split(np.arange(12), accumulation)
    trainer.stream = iter([Planned(0, index, split, samples, 1) for index, samples in enumerate(pairs)])
    trainer.window = step_module.Window()
    trainer.step = step_module.UpdateStep(trainer.model, trainer.options, trainer.precision)
    trainer._train_step(1)
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def test_the_trainer_weighs_accumulated_batches_by_their_tokens(data: DataDirectory, tmp_path: Path) -> None:
    one, three = (gradients(data, tmp_path / str(n), n) for n in (1, 3))
    for name, gradient in one.items():
        torch.testing.assert_close(three[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("most", [1, 3, 7])
def test_a_batch_too_large_for_the_memory_is_halved_and_the_gradient_is_the_same(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    whole = gradients(data, tmp_path / "whole", 1)
    real = step_module.batch_loss

    def scarce(model: Any, batch: Batch, *args: Any) -> Any:
        losses = real(model, batch, *args)
        if len(batch.samples) > most:
            losses.smoothed.backward()  # half of the work is done when it fails
            raise MemoryError
        return losses

    monkeypatch.setattr(step_module, "batch_loss", scarce)
    parts = gradients(data, tmp_path / "parts", 1)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-6)


def test_halved_updates_are_counted_and_one_pair_too_large_is_named(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, most = step_module.batch_loss, 5

    def scarce(model: Any, batch: Batch, *args: Any) -> Any:
        if model.training and len(batch.samples) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(model, batch, *args)

    monkeypatch.setattr(step_module, "batch_loss", scarce)
    records: list[dict[str, Any]] = []
    outcome = train(data, tmp_path / "run", config("transformer", "max_updates=2"), report=records.append)
    assert outcome.progress.halved == 2
    assert sum("computed in" in r["message"] for r in records if r["type"] == "warning") == 2
    most = 0
    with pytest.raises(DeviceError, match=r"out of memory training on 1 x \d+ source .*training pairs \d+\)"):
        train(data, tmp_path / "other", config())


def poison(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Make the loss of chosen batches NaN."""
    real, count = step_module.batch_loss, iter(range(10**9))

    def poisoned(model: Any, *args: Any) -> Any:
        losses = real(model, *args)
        return losses._replace(smoothed=losses.smoothed * torch.nan) if model.training and bad(next(count)) else losses

    monkeypatch.setattr(step_module, "batch_loss", poisoned)


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, lambda batch: batch == 3)
    outcome = train(data, tmp_path / "run", config())
    assert outcome.progress.skipped == 1
    assert all(p.isfinite().all() for p in load_model(tmp_path / "run").model.parameters())


def test_divergence_ends_training_with_the_pairs_named(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, lambda batch: batch >= 3)
    with pytest.raises(NMTError, match=rf"diverged.*update {3 + MAX_SKIPPED_IN_A_ROW} \(training pairs \d"):
        train(data, tmp_path / "run", config("transformer", "max_updates=100"))


def test_patience_ends_a_run_that_no_longer_improves(data: DataDirectory, tmp_path: Path) -> None:
    run = config("gru", "max_updates=1000", "eval_every=1", "save_every=1000", "patience=3", "lr=1e-9")
    assert train(data, tmp_path / "run", run).reason == "patience"


def test_time_limit_ends_a_run_with_a_model(data: DataDirectory, tmp_path: Path) -> None:
    def watch() -> bool:
        trainer.max_seconds = 0.0 if trainer.progress.update == 5 else 1e9
        return False

    records: list[dict[str, Any]] = []
    run = config("gru", "eval_every=2")
    trainer = Trainer(data, run, tmp_path / "run", report=records.append, should_stop=watch)
    assert trainer.run().reason == "time"
    assert trainer.progress.update == 5
    assert [record["type"] for record in records[-2:]] == ["last", "average"]  # the better of both is exported
    assert records[-1]["updates"]
    assert trainer.progress.exported >= 0
    assert load_model(tmp_path / "run").config.arch == "gru"
    # What was exported is remembered: a worse model must not replace it.
    assert RunDirectory(tmp_path / "run").load(trainer.model, trainer.step.optimizer)[0] == trainer.progress
    trainer.progress.exported = 1000.0  # as if the mean of some had been very good
    trainer.directory.save_progress(trainer.progress)
    before = weights(tmp_path / "run")
    assert train(data, tmp_path / "run", run, resume=True).reason == "complete"
    assert weights(tmp_path / "run") == before


def test_a_stop_during_the_final_averaging_is_made_good(
    data: DataDirectory, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(
        data,
        config(),
        tmp_path / "parts",
        report=lambda r: None,
        should_stop=lambda: trainer.progress.validated == 12 and trainer.averaging,
    )
    trainer.averaging = False
    real = trainer._export_average

    def export() -> None:
        trainer.averaging = True
        real()

    monkeypatch.setattr(trainer, "_export_average", export)
    assert trainer.run().reason == "stopped"
    assert train(data, tmp_path / "parts", config(), resume=True).reason == "complete"
    assert weights(tmp_path / "parts") == weights(whole)
    assert log(tmp_path / "parts") == log(whole)


def test_settings_of_a_resumed_run_are_remembered(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    train(data, tmp_path / "run", config("transformer", "max_updates=14"), resume=True, stop_at=5)
    stored = json.loads((tmp_path / "run" / "training" / "run.json").read_text(encoding="utf-8"))
    assert stored["config"]["training"]["max_updates"] == 14


def test_the_best_candidates_are_kept_best_first_and_the_earlier_of_equals(tmp_path: Path) -> None:
    run, progress = RunDirectory(tmp_path), Progress()
    model = build_model(config().model, 9, 9, joint=True)
    kept = []
    with run.lock():
        for update, bleu in enumerate([1.0, 3.0, 2.0, 3.0], 1):
            best = run.keep_candidate(progress, Candidate(update, bleu), model, most=2)
            kept.append((best, [candidate.update for candidate in progress.candidates]))
    assert kept == [(True, [1]), (True, [2, 1]), (False, [2, 3]), (False, [2, 4])]


def test_the_rate_of_an_update_is_that_of_its_number(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path, config("transformer", "warmup_updates=5", "log_every=1"))
    options = config("transformer", "warmup_updates=5").training
    expected = [
        learning_rate(
            update,
            peak=options.lr,
            schedule=options.schedule,
            warmup_updates=options.warmup_updates,
            max_updates=options.max_updates,
        )
        for update in range(1, 13)
    ]
    assert [record["lr"] for record in log(tmp_path) if "lr" in record] == pytest.approx(expected)


def test_a_candidate_that_is_damaged_is_left_out_of_the_average(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=11)
    damage(tmp_path / "run" / "training" / "candidates" / "update-00000006.safetensors")
    records: list[dict[str, Any]] = []
    assert train(data, tmp_path / "run", config(), resume=True, report=records.append).reason == "complete"
    assert ["averaging without it" in r["message"] for r in records if r["type"] == "warning"] == [True]


def test_an_update_keeps_its_number_of_batches(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    with pytest.raises(UsageError, match="started with 1 batches an update, now it would be 2"):
        train(data, tmp_path / "run", config("transformer", "accumulation=2"), resume=True)


def test_a_run_killed_before_it_wrote_anything_is_unbegun(data: DataDirectory, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert not run.is_unbegun()
    with run.lock():
        (run.path / ".run.json.x.tmp").touch()
        assert run.is_unbegun()
        (tmp_path / "run" / "thesis.txt").touch()
        assert not run.is_unbegun()


def test_what_a_killed_process_left_is_swept(data: DataDirectory, tmp_path: Path) -> None:
    train(data, tmp_path / "run", config(), stop_at=5)
    left = tmp_path / "run" / "training" / "checkpoints" / ".update-00000006.x.tmp"
    left.mkdir()
    train(data, tmp_path / "run", config(), resume=True)
    assert not left.exists()


def test_damaged_data_is_refused_before_training(tmp_path: Path) -> None:
    data = copying_data(tmp_path)
    damage(data.path / "train.target.tokens.bin")
    with pytest.raises(DataError):
        train(data, tmp_path / "run", config())


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gru", "attention", "transformer"])
def test_learns_to_copy(arch: str, tmp_path: Path) -> None:
    """The whole chain: what goes wrong anywhere keeps this from working."""
    sizes = {"transformer": ["model_size=64", "ffn_size=128", "num_heads=4"]}
    sizes |= {name: ["embedding_size=64", "hidden_size=128"] for name in ("gru", "attention")}
    settings = ["max_updates=1500", "eval_every=500", "batch_tokens=600", "lr=3e-3", "warmup_updates=100"]
    data = copying_data(tmp_path, pairs=3000)
    run = resolve(arch, preset="tiny", environment={}, overrides=[*sizes[arch], *settings, "dropout=0.0", "threads=1"])
    outcome = train(data, tmp_path / "run", run)
    assert outcome.progress.best is not None
    assert outcome.progress.best.bleu > 95


def test_the_newest_checkpoint_that_is_left_is_the_one_of_the_highest_update(
    data: DataDirectory, whole: Path, tmp_path: Path
) -> None:
    """Deleted ones are no trouble, and the clock decides nothing."""
    train(data, tmp_path / "parts", config(), stop_at=7)
    left = sorted((tmp_path / "parts" / "training" / "checkpoints").iterdir())
    assert [path.name for path in left] == ["update-00000006", "update-00000007"]
    for age, path in enumerate(left):
        os.utime(path, (1000 - 100 * age, 1000 - 100 * age))  # the newer one from before the older
    records: list[dict[str, Any]] = []

    def trained() -> list[int]:
        return [record["update"] for record in records if record["type"] == "train"]

    each = config("transformer", "log_every=1")
    train(data, tmp_path / "parts", each, resume=True, stop_at=8, report=records.append)
    assert trained() == [8]
    shutil.rmtree(tmp_path / "parts" / "training" / "checkpoints" / "update-00000008")
    train(data, tmp_path / "parts", each, resume=True, report=records.append)
    assert trained() == [8, 8, 9, 10, 11, 12]
    assert weights(tmp_path / "parts") == weights(whole)


def test_a_run_that_is_deleted_meanwhile_ends_with_one_line(data: DataDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(NMTError, match="was deleted while training"):
        train(data, out, config(), report=lambda record: shutil.rmtree(out, ignore_errors=True))
    assert not (out / "training" / "checkpoints").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_says_what_it_takes_and_can_be_gone_on_from(
    data: DataDirectory, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    train(data, tmp_path / "run", config(), stop_at=4)

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            NMTError, match=rf"{os.strerror(number)} \(a checkpoint takes 0\.\d MiB\): make room, then --resume"
        ):
            train(data, tmp_path / "run", config(), resume=True)
    assert RunDirectory(tmp_path / "run").examine() == [(4, None), (3, None)]
    assert not list((tmp_path / "run").rglob("*.tmp"))
    train(data, tmp_path / "run", config(), resume=True)
    assert weights(tmp_path / "run") == weights(whole)


def test_a_disk_too_small_is_known_before_the_first_update(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NMTError, match=r"no space left .* takes about [1-9]\S* MiB, 0 MiB are free"):
        train(data, tmp_path / "run", config("transformer", "model_size=64"))
    assert not (tmp_path / "run" / "training" / "run.json").exists()
    usage = usage._replace(free=2**30)
    train(data, tmp_path / "run", config("transformer", "model_size=64"), stop_at=1)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "progress.json", "run.json"])
def test_a_pickle_in_a_run_is_never_run(data: DataDirectory, tmp_path: Path, file: str, protocol: int) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    training = tmp_path / "run" / "training"
    for path in training.rglob(file):
        path.write_bytes(pickled_canary(tmp_path / "canary", protocol))
    with pytest.raises(ModelError, match="damaged"):
        train(data, tmp_path / "run", config(), resume=True)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("place", ['"lr": 0.', '"seed": ', '"self": "', '"data": "'])
def test_settings_that_are_not_what_was_written_are_damaged(data: DataDirectory, tmp_path: Path, place: str) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    path = tmp_path / "run" / "training" / "run.json"
    text = path.read_text(encoding="utf-8")
    at = text.index(place) + len(place)
    path.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :], encoding="utf-8")
    with pytest.raises(ModelError, match=r"run\.json is damaged"):
        train(data, tmp_path / "run", config(), resume=True)


@pytest.mark.parametrize("file", ["lock", "log.jsonl"])
@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_nothing_is_written_through_a_link_in_a_run(data: DataDirectory, tmp_path: Path, file: str, kind: str) -> None:
    train(data, tmp_path / "run", config(), stop_at=3)
    path = tmp_path / "run" / "training" / file
    path.unlink()
    (tmp_path / "precious").write_text("text")
    path.symlink_to(tmp_path / "precious") if kind == "link" else os.mkfifo(path)
    with pytest.raises(NMTError, match=f"cannot write .*{file if file != 'lock' else 'training'}"):
        train(data, tmp_path / "run", config(), resume=True)
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_checkpoint_of_another_version_is_not_taken_for_damaged(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(state_module, "FORMAT_VERSION", version)
        train(data, tmp_path / "run", config(), stop_at=4)
    with pytest.raises(ModelError, match=f"format version {version}, nmt .* goes on from 3: go on with the nmt that"):
        train(data, tmp_path / "run", config(), resume=True)
    checkpoints = tmp_path / "run" / "training" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["update-00000003", "update-00000004"]


def test_where_the_data_lay_names_no_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "alice"))
    data = tmp_path / "alice" / "corpora" / "x"
    assert place_of(data, seen_from=tmp_path / "models" / "m") == "~/corpora/x"
    assert place_of(data, seen_from=tmp_path / "alice" / "models" / "m") == "../../corpora/x"
    assert place_of(tmp_path / "data" / "x", seen_from=tmp_path / "models" / "m") == "../../data/x"
    for out in (tmp_path / "models" / "m", tmp_path / "alice" / "models" / "m"):
        assert find_place(place_of(data, seen_from=out), seen_from=out).resolve() == data


def test_a_user_without_home_directory_can_train(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # an unknown user
    train(data, tmp_path / "run", config(), stop_at=1)
    where = RunDirectory(tmp_path / "run").identity().data_path
    assert find_place(where, seen_from=tmp_path / "run").resolve() == data.path.resolve()
