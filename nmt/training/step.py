"""One optimiser update, and the sums that the log is made of."""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nmt.batching import Batch
from nmt.config import TrainingConfig
from nmt.errors import DeviceError, is_out_of_memory
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast
from nmt.nn.dropout import shared_masks
from nmt.training.loss import Losses, smoothed_cross_entropy
from nmt.training.ranks import Ranks

ALONE: Final = Ranks()


class Update(NamedTuple):
    """What an update did; nothing in it was fetched from the device but `applied`."""

    smoothed: Tensor
    """Label-smoothed loss before the update, summed over target tokens, nats."""
    nll: Tensor
    """Negative log-likelihood, likewise."""
    target_tokens: int
    norm: Tensor
    """Of the gradient, before clipping."""
    rate: float
    """Learning rate."""
    applied: bool
    """False where the gradient was not finite, and the weights were left as they are."""
    parts: int
    """Batches that memory sufficed for; more than were given where some had to be halved."""


class UpdateStep:
    """Gradient of the mean loss a token over some batches, of all ranks together, clipped, then AdamW.

    Args:
        model: to train, on its device.
        options: optimiser, clipping and label smoothing.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        ranks: who trains together; joined already.
    """

    def __init__(self, model: Seq2Seq[Any], options: TrainingConfig, precision: str, ranks: Ranks = ALONE) -> None:
        self.model, self.options, self.precision, self.ranks = model, options, precision, ranks
        self.optimizer = make_optimizer(model, options)
        self.losses: nn.Module = _BatchLoss(model, options.label_smoothing, precision)
        if ranks.size > 1:
            # The table of positions, the one buffer, is the same on all ranks as far as it goes.
            self.losses = DistributedDataParallel(self.losses, broadcast_buffers=False)

    def __call__(self, batches: Sequence[Batch], rate: float, *, tokens: int | None = None) -> Update:
        """Update once from all of `batches`, as if they were one.

        Args:
            batches: of this rank; as many as every other has.
            rate: learning rate.
            tokens: target tokens of all ranks' batches; if not given, of these.
        """
        if tokens is None:
            tokens = sum(batch.target_tokens for batch in batches)
        self.model.train()
        sums = self._gradient(list(batches), tokens)
        smoothed, nll = zip(*sums, strict=True)
        norm, applied = self.apply(rate)
        return Update(torch.stack(smoothed).sum(), torch.stack(nll).sum(), tokens, norm, rate, applied, len(sums))

    def _gradient(self, parts: list[Batch], tokens: int) -> list[tuple[Tensor, Tensor]]:
        """The gradient of all parts; where memory does not suffice for one, anew with its halves.

        That is the same gradient but for the dropout masks, which are drawn for each half.

        Raises:
            DeviceError: it does not suffice for one pair, or other ranks would wait for this one.
        """
        sums: list[tuple[Tensor, Tensor]] = []
        self.optimizer.zero_grad(set_to_none=True)
        while len(sums) < len(parts):
            batch = parts[len(sums)]
            try:
                with self._sending(last=len(sums) == len(parts) - 1):
                    sums.append(self.add_gradient(batch, tokens))
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch.samples) == 1 or self.ranks.size > 1:
                    raise DeviceError(_too_large(batch)) from error
            parts[len(sums) : len(sums) + 1] = batch.halves()
            sums = []
            self.optimizer.zero_grad(set_to_none=True)
        return sums

    def _sending(self, *, last: bool) -> AbstractContextManager[None]:
        """Ranks exchange gradients during the last backward pass of an update."""
        return nullcontext() if last or self.ranks.size == 1 else self.losses.no_sync()  # type: ignore[operator]

    def add_gradient(self, batch: Batch, tokens: int) -> tuple[Tensor, Tensor]:
        """Add the gradient of a batch's summed loss / `tokens`; both losses, detached."""
        torch.manual_seed(batch.seed)  # dropout depends on the batch alone, not on which rank it came to
        with shared_masks():
            smoothed, nll = self.losses(batch)
        (smoothed * (self.ranks.size / tokens)).backward()  # torch takes the mean over ranks
        return smoothed.detach(), nll

    def apply(self, rate: float) -> tuple[Tensor, bool]:
        """Clip the gradient and update the weights, unless it is not finite; its norm, and whether it was."""
        parameters, most = list(self.model.parameters()), self.options.clip_norm or math.inf
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        length = float(norm)  # the one wait for the device in an update
        finite = math.isfinite(length)
        if finite:
            if length > most:
                nn.utils.clip_grads_with_norm_(parameters, most, norm)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        return norm, finite


class _BatchLoss(nn.Module):
    """`batch_loss` as a module, so that torch can watch over its gradients."""

    def __init__(self, model: Seq2Seq[Any], label_smoothing: float, precision: str) -> None:
        super().__init__()
        self.model, self.label_smoothing, self.precision = model, label_smoothing, precision

    def forward(self, batch: Batch) -> Losses:
        return batch_loss(self.model, batch, self.label_smoothing, self.precision)


def _too_large(batch: Batch) -> str:
    pairs = ", ".join(str(sample + 1) for sample in batch.samples[:5]) + (" ..." if len(batch.samples) > 5 else "")
    size = f"{len(batch.samples)} x {batch.src.shape[1]} source and {batch.tgt_in.shape[1]} target tokens"
    return f"out of memory training on {size} (training pairs {pairs}): use a smaller batch_tokens or model"


def make_optimizer(model: nn.Module, options: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2); vectors (biases, norms) do not decay.

    As in torch, the decay is scaled by the learning rate, where the paper scales it by the schedule alone.
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.lr, betas=(options.beta1, options.beta2), eps=1e-9, fused=True)


def batch_loss(model: Seq2Seq[Any], batch: Batch, label_smoothing: float, precision: str) -> Losses:
    """Losses of a batch, summed over its real target tokens."""
    with autocast(batch.src.device, precision):
        features = model.real_features(batch.src, batch.src_mask, batch.tgt_in, batch.tgt_mask)
        output, targets = model.output.linear, batch.tgt_out[batch.tgt_mask]
        return smoothed_cross_entropy(features, output.weight, output.bias, targets, label_smoothing)


def perplexity(loss: float) -> float:
    """exp(loss), as large as a float can hold."""
    return math.exp(min(loss, 700.0))


class Window:
    """Sums since the last line of the log; nothing is fetched from the device before then."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.tokens = 0
        self.earlier = 0
        """Of these tokens, those of before `begun`: a run that was stopped had them."""
        self.smoothed: Tensor | float = 0.0
        self.nll: Tensor | float = 0.0
        self.rate = 0.0
        self.norm: Tensor | float = 0.0

    def add(self, update: Update) -> None:
        """Count an update."""
        self.smoothed = self.smoothed + update.smoothed
        self.nll = self.nll + update.nll
        self.tokens += update.target_tokens
        self.rate, self.norm = update.rate, update.norm

    @staticmethod
    def restore(sums: dict[str, Any], ranks: Ranks) -> "Window":
        """A window that continues from `sums`, which the leader holds."""
        window = Window()
        window.tokens = window.earlier = sums.get("tokens", 0)
        for key in ("smoothed", "nll") if ranks.leads else ():
            value = sums.get(key, 0.0)
            setattr(window, key, math.nan if value is None else value)
        return window

    def pool(self, ranks: Ranks) -> None:
        """Bring the losses of all ranks together at the leader; tokens are counted for all by each."""
        if ranks.size > 1:
            smoothed, nll = ranks.sum(float(self.smoothed), float(self.nll))
            self.smoothed, self.nll = (smoothed, nll) if ranks.leads else (0.0, 0.0)

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
        return finite | {
            "target_tokens": self.tokens,
            "tokens_per_second": round((self.tokens - self.earlier) / elapsed, 1),
        }
