"""What this machine can do at best, measured: the roof that training and translation are compared with."""

import time
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nmt.models.interface import Seq2Seq
from nmt.nn.device import has_fast_bf16
from nmt.special import BOS, EOS

_SECONDS: Final = 0.5
_SIZES: Final = {"cpu": (4096, 1024, 1024), "cuda": (8192, 8192, 8192)}


@dataclass(frozen=True)
class Peak:
    """Matrix products of a size that suits the device, GFLOP/s."""

    fp32: float
    bf16: float | None
    """`None` where the device has no units for it."""

    def of(self, precision: str) -> float:
        """The roof under a precision."""
        return self.bf16 if precision == "bf16" and self.bf16 else self.fp32

    def or_better(self, other: "Peak") -> "Peak":
        """The better of two measurements of one device."""
        bf16 = None if self.bf16 is None or other.bf16 is None else max(self.bf16, other.bf16)
        return Peak(max(self.fp32, other.fp32), bf16)


class MatrixProduct:
    """A product of two matrices of a size that suits the device, to be timed."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        m, k, n = _SIZES[device.type]
        self._device = device
        self._left = torch.randn(m, k, device=device).to(dtype)
        self._right = torch.randn(k, n, device=device).to(dtype)
        self.flop = 2 * m * k * n

    def seconds(self) -> float:
        """How long it takes now."""
        synchronise(self._device)
        start = time.perf_counter()
        torch.mm(self._left, self._right)
        synchronise(self._device)
        return time.perf_counter() - start


def measure_peak(device: torch.device) -> Peak:
    """The best rate of a large matrix product in half a second of them, on the threads torch now uses."""
    bf16 = _best_rate(MatrixProduct(device, torch.bfloat16)) if has_fast_bf16(device) else None
    return Peak(_best_rate(MatrixProduct(device, torch.float32)), bf16)


def _best_rate(product: MatrixProduct) -> float:
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        best = min(best, product.seconds())
    return product.flop / best / 1e9


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Work:
    """Multiplications and additions that the matrices of a model take, forward."""

    source: float
    """FLOP a source token."""
    target: float
    """FLOP a target token, output layer included."""

    def training(self, source_tokens: int, target_tokens: int) -> float:
        """FLOP of an update: the gradient takes twice as much as the way forward."""
        return 3 * (self.source * source_tokens + self.target * target_tokens)


@torch.inference_mode()
def count_work(model: Seq2Seq[Any]) -> Work:
    """FLOP a token, counted over sentences of one token.

    Attention over many tokens, a few percent at the lengths of sentences, is left out, as is usual; so is padding.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    src, tgt_in = torch.tensor([[EOS]], device=device), torch.tensor([[BOS]], device=device)
    mask: Tensor = src == EOS
    with FlopCounterMode(display=False) as encoder:
        model.encode(src, mask)
    with FlopCounterMode(display=False) as both:
        model(src, mask, tgt_in)
    model.train(training)
    return Work(float(encoder.get_total_flops()), float(both.get_total_flops() - encoder.get_total_flops()))
