"""Positions of tokens: added to their embeddings, or turning queries and keys."""

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
        end, table = offset + length, self.table
        if end > len(table):
            grown = sinusoids(max(end, 2 * len(table)), self.size)
            self.table = table = grown.to(device=table.device, dtype=table.dtype)
        return table[offset:end]  # not self.table: another thread may have put a shorter one there


class LearnedPositions(nn.Module):
    """One learned vector a position (Gehring et al. 2017; Vaswani et al. 2017, section 3.5, last paragraph).

    https://arxiv.org/abs/1705.03122. Positions beyond the table are taken for its last.
    """

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(length, size)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, length: int, offset: int = 0) -> Float[Tensor, "T D"]:
        """Vectors of positions `offset` to `offset + length - 1`."""
        table = self.embedding.weight
        position = torch.arange(offset, offset + length, device=table.device).clamp_max(len(table) - 1)
        vectors: Tensor = self.embedding(position)
        return vectors


def rotate(x: Float[Tensor, "*B T d"], offset: int = 0) -> Float[Tensor, "*B T d"]:
    """Turn each pair (x_2i, x_2i+1) of a head by the angle pos / 10000^(2i/d); pos counts from `offset`.

    Su et al. 2021, equation 34, https://arxiv.org/abs/2104.09864. The product of a query and a key so turned depends
    on their positions only by the difference.
    """
    length, size = x.shape[-2:]
    sin, cos = sinusoids(length, size, offset).to(x.device).view(length, size // 2, 2).unbind(-1)
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], size // 2, 2))
    # x_2i + j x_2i+1 times e^(j angle): one kernel, where products of the halves are four
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
