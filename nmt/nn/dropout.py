"""Dropout whose mask is cut from random bytes.

Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html. On a CPU, torch draws one Bernoulli
number an element on one thread, which took a third of a bf16 training step; here one 64-bit random word
decides eight elements. The probability is rounded to a multiple of 1/256 (of 1/256 at least), and the scale uses
the rounded one, so that the expectation is exact, as far as the type of the activations holds the scale.

Under `shared_masks` the layers of a model cut their masks, each at a random place, from one stock twice as long as
the longest of them: making them all anew took a tenth of a step. Every element is dropped with the same probability
as before, and from one batch to the next independently; two elements of one batch may now share their fate, at a
distance that differs from layer to layer and from batch to batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor, nn

_Stock = dict[tuple[float, torch.dtype], Tensor]
_stock: Final[ContextVar[_Stock | None]] = ContextVar("_stock", default=None)


class Dropout(nn.Module):
    """Zero each activation with probability `p` and scale the others by 1/(1 - p), in training only."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape, masked element by element."""
        if not self.training or self.p == 0.0:
            return x
        if x.is_cuda:
            return nn.functional.dropout(x, self.p)
        stock = _stock.get()
        return x * (byte_mask(x, self.p) if stock is None else _cut(stock, x, self.p))

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"p={self.p}"


def byte_mask(x: Tensor, p: float) -> Tensor:
    """A mask shaped like `x`, its entries 0 or 1/(1 - p), p rounded to a multiple of 1/256."""
    threshold = min(255, max(1, round(p * 256)))
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
    # random_() without bounds draws 63 bits: the top bit of every eighth byte would be always 0.
    words.random_(torch.iinfo(torch.int64).min, None)
    keep = words.view(torch.uint8)[: x.numel()].ge_(threshold)  # ones and zeros; truth values take ten times as long
    return keep.view(x.shape).to(x.dtype).mul_(256 / (256 - threshold))


@contextmanager
def shared_masks() -> Iterator[None]:
    """Let the forward passes in the block, of one batch, share a stock of masks."""
    token = _stock.set({})
    try:
        yield
    finally:
        _stock.reset(token)


def _cut(stock: _Stock, x: Tensor, p: float) -> Tensor:
    """A mask shaped like `x`, from a random place of the stock, which grows to twice the longest mask."""
    held = stock.get((p, x.dtype))
    if held is None or len(held) < 2 * x.numel():
        held = stock[p, x.dtype] = byte_mask(x.new_empty(2 * x.numel()), p)
    start = int(torch.randint(len(held) - x.numel() + 1, ()))
    return held[start : start + x.numel()].view(x.shape)
