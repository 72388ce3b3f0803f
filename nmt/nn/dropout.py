"""Dropout whose mask is cut from random bytes.

Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html. On a CPU, torch draws one Bernoulli
number an element on one thread, which took a third of a bf16 training step; here one 64-bit random word
decides eight elements. The probability is rounded to a multiple of 1/256, and the scale uses the rounded one,
so that the expectation is exact.
"""

import torch
from torch import Tensor, nn


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
        return x * byte_mask(x, self.p)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"p={self.p}"


def byte_mask(x: Tensor, p: float) -> Tensor:
    """A mask shaped like `x`, its entries 0 or 1/(1 - p), p rounded to a multiple of 1/256."""
    threshold = min(255, max(1, round(p * 256)))
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
    # random_() without bounds draws 63 bits: the top bit of every eighth byte would be always 0.
    words.random_(torch.iinfo(torch.int64).min, None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return keep.to(x.dtype).mul_(256 / (256 - threshold))
