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
from torch import Tensor, nn

from nmt.averaging import mean_weights
from nmt.batching import Batch, batch_stream, length_batches, make_batch
from nmt.checkpoint import named_weights, read_tensors, save_model, set_weights
from nmt.config import DecodingOptions, RunConfig
from nmt.dataset import DataDirectory, EncodedSplit
from nmt.errors import DataError, ModelError, NMTError, UsageError
from nmt.metrics import bleu
from nmt.metrics.base import Score
from nmt.models.factory import build_model
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast, reuse_memory, select_device, select_precision, set_threads
from nmt.training.log import RunLog
from nmt.training.loss import Losses, smoothed_cross_entropy
from nmt.training.schedule import learning_rate
from nmt.training.state import Candidate, Progress, RunDirectory, RunIdentity, check_resumable
from nmt.training.subwords import sampled_split
from nmt.translator import Translator

MAX_SKIPPED_IN_A_ROW: Final = 20
"""Updates refused one after the other before training is given up as diverged."""
VALIDATION_LINES: Final = 256
"""Lines translated between two looks at the stop signal."""

Reporter = Callable[[dict[str, Any]], None]
"""Gets every record of the log as it is written."""


class StoppedError(NMTError):
    """A stop was asked for while something ran that can be run again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How training ended."""

    reason: str
    """`complete`, `patience`, `time` or `stopped`."""
    progress: Progress
    best: Candidate | None


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
    ) -> None:
        self.data, self.config, self.out, self.options = data, config, out, config.training
        self.report, self.should_stop, self.max_seconds = report, should_stop, max_seconds
        self.device = select_device(self.options.device)
        self.precision = select_precision(self.options.precision, self.device)
        # A run keeps the precision it began with, also where `auto` would now choose another.
        self.options = replace(self.options, precision=self.precision)
        self.config = config = replace(config, training=self.options)
        self.threads = set_threads(self.options.threads)
        reuse_memory()
        self.directory = RunDirectory(out)
        self.tensorboard = self.directory.path / "tensorboard" if tensorboard else None
        self.train_split, self.valid_split = data.split("train"), data.split("valid")
        if not len(self.train_split) or not len(self.valid_split):
            raise DataError(f"{data.path} has no {'validation' if len(self.train_split) else 'training'} pairs")
        if self.options.subword_alpha and data.manifest["tokenizer"].get("model_type") != "unigram":
            raise UsageError("subword_alpha needs a unigram vocabulary: this one is of another kind; leave it at 0")
        data.verify()
        self.valid_sources, self.valid_refs = data.text("valid")
        torch.manual_seed(self.options.seed)
        sizes = data.tokenizers.source.vocab_size, data.tokenizers.target.vocab_size
        self.model = build_model(config.model, *sizes, joint=data.tokenizers.joint).to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.progress = Progress()
        self.started = self.session = time.monotonic()

    def run(self, *, resume: bool = False, clear: bool = False) -> Outcome:
        """Train to the end, or until stopped; the model directory then holds the best model so far.

        Args:
            resume: go on from the newest checkpoint.
            clear: delete what an earlier run left here.
        """
        with self.directory.lock():
            if self.should_stop():
                return Outcome(reason="stopped", progress=self.progress, best=None)
            if clear:
                self.directory.clear()
            if resume:
                self._resume()
                if self.progress.finished and (reason := self._reason_to_end()) in ("complete", "patience"):
                    return Outcome(reason=reason, progress=self.progress, best=self.progress.best)
            else:
                self._write_identity()
            self.log = RunLog(self.directory.log, keep_bytes=self.progress.log_bytes, tensorboard=self.tensorboard)
            try:
                return self._loop()
            finally:
                self.log.close()

    def _loop(self) -> Outcome:
        progress, options = self.progress, self.options
        progress.finished = False
        self.stream = batch_stream(
            self._train_pairs, options.batch_tokens, seed=options.seed, epoch=progress.epoch, skip=progress.batch
        )
        self.window = Window.restore(progress.window)
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

    def _train_pairs(self, epoch: int) -> EncodedSplit:
        """The training pairs as they are segmented in an epoch."""
        split, alpha = self.train_split, self.options.subword_alpha
        if not alpha:
            return split
        return sampled_split(split, self.data.tokenizers, alpha=alpha, seed=self.options.seed, epoch=epoch)

    def _reason_to_end(self) -> str:
        if self.should_stop():
            return "stopped"
        if self.progress.update >= self.options.max_updates:
            return "complete"
        if self.options.patience and self.progress.misses >= self.options.patience:
            return "patience"
        return "time" if time.monotonic() - self.session >= self.max_seconds else ""

    def _train_step(self, update: int) -> None:
        """One optimiser update: the gradient of the mean loss a token over all its batches."""
        options, progress = self.options, self.progress
        batches: list[Batch] = []
        for _ in range(options.accumulation):
            progress.epoch, index, batch = next(self.stream)
            progress.batch = index + 1
            batches.append(batch.to(self.device))
        tokens = sum(batch.target_tokens for batch in batches)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            losses = batch_loss(self.model, batch, options.label_smoothing, self.precision)
            (losses.smoothed / tokens).backward()  # type: ignore[no-untyped-call]
            self.window.add(losses, batch.target_tokens)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), options.clip_norm or math.inf)
        rate = learning_rate(
            update,
            peak=options.lr,
            schedule=options.schedule,
            warmup_updates=options.warmup_updates,
            max_updates=options.max_updates,
        )
        if bool(torch.isfinite(norm)):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            progress.skipped_in_a_row = 0
        else:
            self._skip(update, batches)
        self.window.rate, self.window.norm = rate, norm
        progress.update = update
        progress.target_tokens += tokens

    def _skip(self, update: int, batches: list[Batch]) -> None:
        self.progress.skipped += 1
        self.progress.skipped_in_a_row += 1
        if self.progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            lines = sorted(sample + 1 for batch in batches for sample in batch.samples)[:5]
            raise NMTError(
                f"training diverged: {MAX_SKIPPED_IN_A_ROW} updates in a row had a gradient that is not finite, the "
                f"last at update {update} (training pairs {', '.join(map(str, lines))} ...): lower lr"
            )

    def _log_training(self) -> None:
        record = {"type": "train", "update": self.progress.update, "epoch": self.progress.epoch}
        record |= self.window.record() | {"skipped": self.progress.skipped}
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
        nll, tokens = self._validation_loss()
        score = self._validation_bleu()
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
        if best:
            self._export(score)

    def _validation_loss(self) -> tuple[float, int]:
        """Sum of negative log-likelihoods over the set, nats, and its target tokens."""
        split, total, tokens = self.valid_split, 0.0, 0
        self.model.eval()
        lengths = 1 + torch.maximum(torch.as_tensor(split.src_lengths), torch.as_tensor(split.tgt_lengths)).numpy()
        with torch.inference_mode():
            for samples in length_batches(lengths, self.options.batch_tokens):
                self._poll()
                batch = make_batch(split, samples.tolist()).to(self.device)
                total += float(batch_loss(self.model, batch, 0.0, self.precision).nll)
                tokens += batch.target_tokens
        return total, tokens

    def _validation_bleu(self) -> Score:
        """BLEU of greedy translations, by the same path as `nmt eval`."""
        self.model.eval()
        translator = Translator(self.model, self.data.tokenizers, DecodingOptions(beam_size=1), device=self.device)
        order = sorted(range(len(self.valid_sources)), key=lambda i: len(self.valid_sources[i]))
        hyps = [""] * len(order)
        for start in range(0, len(order), VALIDATION_LINES):
            self._poll()
            piece = order[start : start + VALIDATION_LINES]
            translations = translator.translate([self.valid_sources[i] for i in piece])
            for i, translation in zip(piece, translations, strict=True):
                hyps[i] = translation.text
        return bleu.corpus_score(hyps, self.valid_refs)

    def _poll(self) -> None:
        if self.should_stop():
            raise StoppedError("stopped")

    def _save(self) -> None:
        self.progress.seconds = time.monotonic() - self.started
        self.progress.window = self.window.sums()
        self.directory.save(self.progress, self.model, self.optimizer, keep=self.options.keep_last)
        self.directory.prune_candidates()

    def _finish(self, reason: str) -> Outcome:
        if reason != "stopped" and self.progress.update:
            try:
                self._export_last() if reason == "time" else self._export_average()
            except StoppedError:
                reason = "stopped"
        if reason in ("complete", "patience"):
            self.progress.finished = True
        if reason != "stopped" and self.progress.update:
            self.directory.save_progress(self.progress)  # also what was exported: a worse model must not replace it
        return Outcome(reason=reason, progress=self.progress, best=self.progress.best)

    def _export_last(self) -> None:
        """Where time ran out before a validation was due: export the last weights if they translate better.

        The run's own progress does not count this validation, so that it can go on as if never stopped.
        """
        if self.progress.validated == self.progress.update:
            return
        score = self._validation_bleu()
        better = score.value > self.progress.exported
        self._write({"type": "last", "update": self.progress.update, "bleu": score.value, "best": better})
        if better:
            self._export(score)

    def _export_average(self) -> None:
        """Replace the exported model by the mean of the best candidates if that translates better."""
        if self.options.average_best < 2:
            return
        whole = self._whole_candidates()
        if len(whole) < 2:
            return
        current = {name: weight.clone() for name, weight in named_weights(self.model).items()}
        set_weights(self.model, mean_weights(whole.values()), self.directory.candidates)
        try:
            score = self._validation_bleu()
            better = score.value >= self.progress.exported
            updates = list(whole)
            record = {"type": "average", "update": self.progress.update, "bleu": score.value, "best": better}
            self._write(record | {"updates": updates, "signature": score.signature})
            if better:
                self._export(score, averaged=updates)
        finally:
            set_weights(self.model, current, self.directory.path)

    def _whole_candidates(self) -> dict[int, dict[str, Tensor]]:
        """Weights of the candidates by update; a damaged one is passed over with a warning."""
        whole = {}
        for candidate in self.progress.candidates:
            try:
                path = self.directory.candidate_path(candidate)
                whole[candidate.update] = read_tensors(path, sha256=candidate.sha256)
            except ModelError as error:
                self.report({"type": "warning", "message": f"{error}: averaging without it"})
        return whole

    def _export(self, score: Score, *, averaged: Sequence[int] = ()) -> None:
        """Write the model directory; `averaged` names the updates whose weights were averaged, if they were."""
        progress = self.progress
        progress.exported = score.value
        facts = {
            "direction": {"source": self.data.source_lang, "target": self.data.target_lang},
            "data": {"fingerprint": self.data.fingerprint, "corpora": training_corpora(self.data)},
            "training": {
                "updates": progress.update,
                "epochs": progress.epoch,
                "target_tokens": progress.target_tokens,
                "seconds": round(progress.seconds, 1),
                "device": self.device.type,
                "precision": self.precision,
                "threads": self.threads,
                "seed": self.options.seed,
            },
            "scores": [{"set": "valid, greedy", **dataclasses.asdict(score)}],
        }
        if averaged:
            facts["averaged"] = [f"update {update}" for update in averaged]
        save_model(self.out, self.model, self.config, self.data.tokenizers, facts)

    def _write_identity(self) -> None:
        where = os.path.relpath(self.data.path.resolve(), self.out.resolve())
        self.directory.write_identity(RunIdentity(self.config.as_dict(), self.data.fingerprint, where))

    def _resume(self) -> None:
        identity = self.directory.identity()
        if identity.data != self.data.fingerprint:
            raise UsageError(f"{self.data.path} is not the data this run was started with ({identity.data_path})")
        check_resumable(identity.config, self.config.as_dict())
        progress, troubles = self.directory.load(self.model, self.optimizer)
        for trouble in troubles:
            self.report({"type": "warning", "message": trouble})
        self.progress = progress or Progress()
        self._write_identity()


def training_corpora(data: DataDirectory) -> list[dict[str, Any]]:
    """Spec, licence and pairs of every training corpus, for manifest and model card."""
    corpora = data.manifest.get("corpora", {}).get("train", [])
    return [{key: corpus.get(key) for key in ("spec", "licence", "kept")} for corpus in corpora]


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2); vectors (biases, norms) do not decay.

    As in torch, the decay is scaled by the learning rate, where the paper scales it by the schedule alone.
    """
    options = config.training
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.lr, betas=(options.beta1, options.beta2), eps=1e-9, fused=True)


def batch_loss(model: Seq2Seq[Any], batch: Batch, label_smoothing: float, precision: str) -> Losses:
    """Losses of a batch, summed over its real target tokens."""
    with autocast(batch.src.device, precision):
        features = model.features(batch.src, batch.src_mask, batch.tgt_in)
        output = model.output.linear
        real, targets = features[batch.tgt_mask], batch.tgt_out[batch.tgt_mask]
        return smoothed_cross_entropy(real, output.weight, output.bias, targets, label_smoothing)


def perplexity(loss: float) -> float:
    """exp(loss), as large as a float can hold."""
    return math.exp(min(loss, 700.0))


class Window:
    """Sums since the last line of the log; nothing is fetched from the device before then."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.tokens = 0
        self.smoothed: Tensor | float = 0.0
        self.nll: Tensor | float = 0.0
        self.rate = 0.0
        self.norm: Tensor | float = 0.0

    def add(self, losses: Losses, tokens: int) -> None:
        """Count a batch."""
        self.smoothed = self.smoothed + losses.smoothed.detach()
        self.nll = self.nll + losses.nll
        self.tokens += tokens

    @staticmethod
    def restore(sums: dict[str, Any]) -> "Window":
        """A window that continues from `sums`."""
        window = Window()
        window.tokens = sums.get("tokens", 0)
        for key in ("smoothed", "nll"):
            value = sums.get(key, 0.0)
            setattr(window, key, math.nan if value is None else value)
        return window

    def sums(self) -> dict[str, Any]:
        """What `restore` needs; `None` for a sum that is not finite."""
        sums = {key: float(getattr(self, key)) for key in ("smoothed", "nll")}
        return {"tokens": self.tokens} | {key: v if math.isfinite(v) else None for key, v in sums.items()}

    def record(self) -> dict[str, Any]:
        """Loss and perplexity a token, and speed, over the window; losses that are not finite are left out."""
        tokens = max(1, self.tokens)
        loss, nll, norm = float(self.smoothed) / tokens, float(self.nll) / tokens, float(self.norm)
        figures = {"loss": loss, "nll": nll, "perplexity": perplexity(nll), "lr": self.rate, "grad_norm": norm}
        elapsed = max(1e-9, time.monotonic() - self.begun)
        finite = {key: value for key, value in figures.items() if math.isfinite(value)}
        return finite | {"target_tokens": self.tokens, "tokens_per_second": round(self.tokens / elapsed, 1)}
