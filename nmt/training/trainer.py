"""The training loop."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from nmt import __version__
from nmt.averaging import mean_weights
from nmt.batching import Planned, batch_stream
from nmt.checkpoint import named_weights, save_model, set_weights
from nmt.config import RunConfig
from nmt.dataset import DataDirectory
from nmt.errors import DataError, NMTError, UsageError
from nmt.metrics.base import Score
from nmt.models.factory import build_to_train
from nmt.nn.device import peak_memory, prepare_to_train, select_device, select_precision, set_threads
from nmt.training.identity import RunIdentity, check_resumable, find_place, place_of
from nmt.training.moments import begin_moments, run_tensors
from nmt.training.progress import Candidate, Progress
from nmt.training.ranks import Ranks
from nmt.training.schedule import learning_rate
from nmt.training.state import Bystander, RunDirectory, explained_full_disk
from nmt.training.step import ALONE, UpdateStep, Window, perplexity
from nmt.training.subwords import segmentations
from nmt.training.validation import StoppedError, Validation

MAX_SKIPPED_IN_A_ROW: Final = 20
"""Updates refused one after the other before training is given up as diverged."""
Reporter = Callable[[dict[str, Any]], None]
"""Gets every record of the log as it is written."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How training ended."""

    reason: str
    """`complete`, `patience`, `time` or `stopped`."""
    progress: Progress
    begun: bool = True
    """False if nothing was done: it was complete already, or stopped before anything was read or written."""


class Trainer:
    """One run: a model, its data, its optimiser, and the folder all of it is kept in."""

    def __init__(
        self,
        data: DataDirectory,
        config: RunConfig,
        out: Path,
        *,
        report: Reporter,
        should_stop: Callable[[], bool],
        max_seconds: float = math.inf,
        tensorboard: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.data, self.config, self.out, self.options = data, config, out, config.training
        self.report = report if ranks.leads else _say_nothing
        self.should_stop, self.max_seconds = should_stop, max_seconds
        if ranks.local_size > 1 and ":" in self.options.device:
            raise UsageError(
                f"--device {self.options.device} is one device for all processes: give cuda without a number"
            )
        self.device = select_device(self.options.device, local=ranks.local)
        self.precision = select_precision(self.options.precision, self.device)
        # A run keeps the precision it began with, also where `auto` would now choose another.
        self.options = replace(self.options, precision=self.precision)
        self.config = config = replace(config, training=self.options)
        self.threads = set_threads(self.options.threads, share=ranks.local_size)
        prepare_to_train()
        self.directory = RunDirectory(out) if ranks.leads else Bystander(out)
        self.tensorboard = tensorboard
        self.train_split = data.split("train")
        if not len(self.train_split):
            raise DataError(f"{data.path} has no training pairs")
        self.train_pairs = segmentations(self.train_split, data, self.options)
        data.verify()
        sizes = data.tokenizers.source.vocab_size, data.tokenizers.target.vocab_size
        torch.manual_seed(self.options.seed)
        self.model = build_to_train(config.model, *sizes, joint=data.tokenizers.joint, device=self.device)
        self.validation = Validation(
            self.model,
            data,
            batch_tokens=self.options.batch_tokens,
            precision=self.precision,
            ranks=ranks,
            agreed_to_stop=self._agreed_to_stop,
        )
        self.progress = Progress()
        self.started = self.session = time.monotonic()

    def run(self, *, resume: bool = False, clear: bool = False) -> Outcome:
        """Train to the end, or until stopped; the model directory then holds the best model so far.

        Args:
            resume: go on from the newest checkpoint.
            clear: delete what an earlier run left here.
        """
        with self.ranks.together(self.device), self.directory.lock():
            self._require_agreement({"resume": resume, "force": clear})
            self.step = UpdateStep(self.model, self.options, self.precision, self.ranks)
            if self._agreed_to_stop():
                return Outcome(reason="stopped", progress=self.progress, begun=False)
            if clear:
                self.directory.clear()
            if resume:
                changed = self._resume()
                if self.progress.finished and (reason := self._reason_to_end()) in ("complete", "patience"):
                    return Outcome(reason=reason, progress=self.progress, begun=False)
                if self.ranks.leads:
                    self._write_identity()
                    self.report({"type": "resumed", "update": self.progress.update, "changed": changed})
            else:
                options = self.options
                self.directory.require_unbegun()
                self.directory.require_space(self.model, keep=options.keep_last, candidates=options.average_best)
                self._write_identity()
            self.log = self.directory.open_log(keep_bytes=self.progress.log_bytes, tensorboard=self.tensorboard)
            try:
                with explained_full_disk(self.model):
                    return self._loop()
            finally:
                self.log.close()

    def _loop(self) -> Outcome:
        progress, options = self.progress, self.options
        progress.finished = False
        self.stream = batch_stream(
            self.train_pairs, options.batch_tokens, seed=options.seed, epoch=progress.epoch, skip=progress.batch
        )
        self.window = Window.restore(progress.window, self.ranks)
        self.started = time.monotonic() - progress.seconds
        saved = progress.update  # at the start there is nothing to save, or it was just loaded
        while True:
            reason = self._reason_to_end()
            due = progress.update and (progress.update % options.eval_every == 0 or reason == "complete")
            if due and progress.validated != progress.update and reason != "stopped":
                try:
                    self._validate()
                except StoppedError:
                    reason = "stopped"
                reason = reason or self._reason_to_end()
            if progress.update != saved and (reason or progress.update % options.save_every == 0):
                self._save()
                saved = progress.update
            if reason:
                return self._finish(reason)
            self._train_step(progress.update + 1)
            if progress.update % options.log_every == 0:
                self._log_training()

    def _reason_to_end(self) -> str:
        """Why to end now, the same on all ranks; empty to go on."""
        progress, options = self.progress, self.options
        stopped, late = self.ranks.any(self.should_stop(), time.monotonic() - self.session >= self.max_seconds)
        reasons = {
            "stopped": stopped,
            "complete": progress.update >= options.max_updates,
            "patience": 0 < options.patience <= progress.misses,
            "time": late,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _agreed_to_stop(self) -> bool:
        """Whether any rank was asked to stop."""
        return self.ranks.any(self.should_stop())[0]

    def _train_step(self, update: int) -> None:
        """One optimiser update: the gradient of the mean loss a token over all its batches.

        It takes `accumulation` batches a rank from the one stream; each rank fetches only its own.
        """
        options, progress, ranks = self.options, self.progress, self.ranks
        planned = [next(self.stream) for _ in range(options.accumulation * ranks.size)]
        progress.epoch, progress.batch = planned[-1].epoch, planned[-1].index + 1
        batches = [plan.fetch().to(self.device) for plan in planned[ranks.rank :: ranks.size]]
        rate = learning_rate(
            update,
            peak=options.lr,
            schedule=options.schedule,
            warmup_updates=options.warmup_updates,
            max_updates=options.max_updates,
        )
        done = self.step(batches, rate, tokens=sum(plan.target_tokens for plan in planned))
        self.window.add(done)
        if done.parts > len(batches):
            self.progress.halved += 1
            how = f"computed in {done.parts} parts, with other dropout masks"
            message = f"memory did not suffice for update {update} as planned: {how}"
            self.report({"type": "warning", "message": message})
        if done.applied:
            progress.skipped_in_a_row = 0
        else:
            self._skip(update, planned)
        progress.update = update
        progress.target_tokens += done.target_tokens

    def _skip(self, update: int, planned: list[Planned]) -> None:
        self.progress.skipped += 1
        self.progress.skipped_in_a_row += 1
        if self.progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            lines = sorted(int(sample) + 1 for plan in planned for sample in plan.samples)[:5]
            raise NMTError(
                f"training diverged: {MAX_SKIPPED_IN_A_ROW} updates in a row had a gradient that is not finite, the "
                f"last at update {update} (training pairs {', '.join(map(str, lines))} ...): lower lr"
            )

    def _log_training(self) -> None:
        record = {"type": "train", "update": self.progress.update, "epoch": self.progress.epoch}
        self.window.pool(self.ranks)
        record |= self.window.record() | {"skipped": self.progress.skipped, "halved": self.progress.halved}
        self.window = Window()
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        self.progress.seconds = time.monotonic() - self.started
        record["seconds"] = round(self.progress.seconds, 3)
        self.progress.log_bytes = self.log.write(record)
        self.report(record)

    def _validate(self) -> None:
        """Loss and greedy BLEU on the validation set; keep the weights if they are among the best."""
        begun = time.monotonic()
        nll, tokens = self.validation.loss()
        score = self.validation.bleu()
        progress = self.progress
        if not math.isfinite(nll):
            raise NMTError(
                f"training diverged: the validation loss at update {progress.update} is not finite: lower lr"
            )
        candidate = Candidate(progress.update, score.value)
        most = max(1, self.options.average_best)
        best = self.directory.keep_candidate(progress, candidate, self.model, most=most)
        progress.misses = 0 if best else progress.misses + 1
        progress.validated = progress.update
        self._write(
            {
                "type": "valid",
                "update": progress.update,
                "epoch": progress.epoch,
                "loss": nll / tokens,
                "perplexity": perplexity(nll / tokens),
                "bleu": score.value,
                "signature": score.signature,
                "best": best,
                "validation_seconds": round(time.monotonic() - begun, 3),
            }
        )
        self.window.begun += time.monotonic() - begun  # speed is that of training
        if best and score.value > self.progress.exported:  # what was exported may be a mean of several
            self._export(score)

    def _save(self) -> None:
        self.progress.seconds = time.monotonic() - self.started
        self.window.pool(self.ranks)
        self.progress.window = self.window.sums()
        self.directory.save(self.progress, self.model, self.step.optimizer, keep=self.options.keep_last)
        self.directory.prune_candidates()

    def _finish(self, reason: str) -> Outcome:
        if reason != "stopped" and self.progress.update:
            try:
                if reason == "time":
                    self._export_last()
                self._export_average()
            except StoppedError:
                reason = "stopped"
        if reason in ("complete", "patience"):
            self.progress.finished = True
        if reason != "stopped" and self.progress.update:
            self.directory.save_progress(self.progress)  # also what was exported: a worse model must not replace it
        return Outcome(reason=reason, progress=self.progress)

    def _export_last(self) -> None:
        """Where time ran out before a validation was due: export the last weights if they translate better.

        The run's own progress does not count this validation, so that it can go on as if never stopped.
        """
        if self.progress.validated == self.progress.update:
            return
        score = self.validation.bleu()
        better = score.value > self.progress.exported
        self._write({"type": "last", "update": self.progress.update, "bleu": score.value, "best": better})
        if better:
            self._export(score)

    def _export_average(self) -> None:
        """Replace the exported model by the mean of the best candidates if that translates as well or better."""
        if self.options.average_best < 2:
            return
        whole, troubles = self.directory.read_candidates(self.progress) if self.ranks.leads else ({}, [])
        for trouble in troubles:
            self.report({"type": "warning", "message": trouble})
        updates: list[int] = self.ranks.gather(list(whole))[0]
        if len(updates) < 2:
            return
        current = {name: weight.clone() for name, weight in named_weights(self.model).items()}
        if self.ranks.leads:
            set_weights(self.model, mean_weights(whole.values()), self.directory.candidates)
        self.ranks.share(list(named_weights(self.model).values()))
        try:
            score = self.validation.bleu()
            better = score.value >= self.progress.exported
            record = {"type": "average", "update": self.progress.update, "bleu": score.value, "best": better}
            self._write(record | {"updates": updates, "signature": score.signature})
            if better:
                self._export(score, averaged=updates)
        finally:
            set_weights(self.model, current, self.directory.path)

    def _export(self, score: Score, *, averaged: Sequence[int] = ()) -> None:
        """Write the model directory; `averaged` names the updates whose weights were averaged, if they were."""
        progress = self.progress
        progress.exported = score.value
        facts = {
            "direction": {"source": self.data.source_lang, "target": self.data.target_lang},
            "data": {"fingerprint": self.data.fingerprint, "corpora": training_corpora(self.data)},
            "training": {
                **progress.cost(),
                "device": self.device.type,
                "precision": self.precision,
                "threads": self.threads,
                "peak_memory_mib": round(peak_memory(self.device)),
                "seed": self.options.seed,
            },
            "scores": [{"set": "valid, greedy", **dataclasses.asdict(score)}],
        }
        if averaged:
            facts["averaged"] = [f"update {update}" for update in averaged]
        if self.ranks.leads:
            save_model(self.out, self.model, self.config, self.data.tokenizers, facts)

    @property
    def _batches(self) -> int:
        """Batches of an update, over all ranks."""
        return self.options.accumulation * self.ranks.size

    def _require_agreement(self, flags: dict[str, bool]) -> None:
        """Raise `UsageError` on all ranks, naming what differs, unless all were started to do the same."""
        config = self.config.as_dict()
        mine = {"nmt": __version__, "torch": torch.__version__, "data": self.data.fingerprint, "arch": config["arch"]}
        mine |= config["model"] | config["training"] | flags
        everyone = self.ranks.gather(mine)
        differing = sorted({key for other in everyone for key in mine if other.get(key) != everyone[0].get(key)})
        if differing:
            raise UsageError(f"the processes of this training differ: {', '.join(differing)}")

    def _write_identity(self) -> None:
        where = place_of(self.data.path, seen_from=self.out)
        self.directory.write_identity(RunIdentity(self.config.as_dict(), self.data.fingerprint, where, self._batches))

    def _resume(self) -> dict[str, tuple[Any, Any]]:
        """Go on from the newest checkpoint, which the leader reads; the settings that changed, as it knows them."""
        changed: dict[str, tuple[Any, Any]] = {}
        if self.ranks.leads:
            identity = self.directory.identity()
            if identity.data != self.data.fingerprint:
                begun_with = os.path.normpath(find_place(identity.data_path, seen_from=self.directory.path.parent))
                raise UsageError(f"{self.data.path} is not the data this run was started with ({begun_with})")
            changed = check_resumable(identity.config, self.config.as_dict())
            if identity.batches != self._batches:
                raise UsageError(
                    f"the run was started with {identity.batches} batches an update, now it would be {self._batches}: "
                    "start as many processes with torchrun, or give another --set accumulation=N"
                )
            progress, troubles = self.directory.load(self.model, self.step.optimizer)
            for trouble in troubles:
                self.report({"type": "warning", "message": trouble})
            self.progress = progress or Progress()
        if self.ranks.size > 1:
            self.progress = Progress.from_dict(self.ranks.gather(dataclasses.asdict(self.progress))[0])
            if self.progress.update and not self.ranks.leads:
                begin_moments(self.model, self.step.optimizer)
            self.ranks.share(run_tensors(self.model, self.step.optimizer))
        return changed


def training_corpora(data: DataDirectory) -> list[dict[str, Any]]:
    """Spec, licence and pairs of every training corpus, for manifest and model card."""
    corpora = data.manifest.get("corpora", {}).get("train", [])
    return [{key: corpus.get(key) for key in ("spec", "licence", "kept")} for corpus in corpora]


def _say_nothing(record: dict[str, Any]) -> None:
    """All but the leader are silent."""
