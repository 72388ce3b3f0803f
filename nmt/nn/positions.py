"""Positions of tokens, added to their embeddings."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sinusoids(length: int, size: int, offset: int = 0) -> Float[Tensor, "T D"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos of the same; pos counts from `offset`.

    Vaswani et al. 2017, section 3.5, https://arxiv.org/abs/1706.03762.
    """
    position = torch.arange(offset, offset + length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, size, 2, dtype=torch.float32) * (-math.log(10000.0) / size))
    angle = position * frequency  # (T, D/2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class SinusoidalPositions(nn.Module):
    """A table of `sinusoids` that grows when a longer sentence comes; no weights, nothing to save."""

    def __init__(self, size: int, length: int = 256) -> None:
        super().__init__()
        self.size = size
        self.table: Tensor
        self.register_buffer("table", sinusoids(length, size), persistent=False)

    def forward(self, length: int, offset: int = 0) -> Float[Tensor, "T D"]:
        """Encodings of positions `offset` to `offset + length - 1`."""
        end = offset + length
        if end > len(self.table):
            grown = sinusoids(max(end, 2 * len(self.table)), self.size)
            self.table = grown.to(device=self.table.device, dtype=self.table.dtype)
        return self.table[offset:end]
