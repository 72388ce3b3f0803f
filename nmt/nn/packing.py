"""Sentences without their padding: the real tokens of a batch, one after the other.

What is done to each position by itself (products with weights, norms, dropout) is then done to real tokens only; where
positions meet, in the heads of attention, rows go to their places among the padded sentences and back. Those heads
would be copied there anyway, as products of many matrices want them one after the other.
"""

from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_MULTIPLE: Final = 64
"""Rows are filled up to a multiple of these, so that few shapes arise."""


class Packing:
    """Where the M real tokens of B sentences stand, padded to (B, T) and packed into R > M rows.

    Rows M and later are spare. They hold what is finite, and no gradient comes from them: what is computed must read
    the first M rows only. Padded places read the first spare row.

    Args:
        mask: True at real tokens.
        num_heads: of all that is split.
    """

    def __init__(self, mask: Bool[Tensor, "B T"], num_heads: int) -> None:
        self.batch, self.length, self.num_heads = *mask.shape, num_heads
        self._places = mask.flatten().nonzero().squeeze(1)
        self.tokens = len(self._places)
        self.rows = self.tokens + ROWS_MULTIPLE - self.tokens % ROWS_MULTIPLE
        row_of_place = self._places.new_full((mask.numel(),), self.tokens)
        row_of_place[self._places] = torch.arange(self.tokens, device=mask.device)
        self._row_of_place = row_of_place
        self._indices: dict[int, tuple[Tensor, Tensor]] = {}

    def pack(self, values: Shaped[Tensor, "B T"], spare: int) -> Shaped[Tensor, " R"]:
        """One value a token, and `spare` in the rows that are."""
        packed = values.new_full((self.rows,), spare)
        packed[: self.tokens] = values.flatten()[self._places]
        return packed

    def positions(self) -> Int[Tensor, " R"]:
        """Position of each row in its sentence, 0 in spare rows."""
        return self.pack(torch.arange(self.length, device=self._places.device).expand(self.batch, -1), 0)

    def split(self, x: Float[Tensor, "R PHd"], parts: int) -> Float[Tensor, "P B H T d"]:
        """The heads of each of P parts, at their padded places."""
        heads: Tensor = _Split.apply(x, self, parts)  # type: ignore[no-untyped-call]
        return heads

    def join(self, heads: Float[Tensor, "B H T d"]) -> Float[Tensor, "R Hd"]:
        """Rows made of what all heads have at their places; zeros in spare rows."""
        rows: Tensor = _Join.apply(heads, self)  # type: ignore[no-untyped-call]
        return rows

    def to_places(self, x: Tensor, parts: int) -> Tensor:
        """As `split`, without a gradient."""
        index = self._index(parts)[0]
        size = x.shape[1] // (parts * self.num_heads)
        heads = x.reshape(-1, size).index_select(0, index)
        return heads.view(parts, self.batch, self.num_heads, self.length, size)

    def to_rows(self, heads: Float[Tensor, "P B H T d"]) -> Float[Tensor, "R PHd"]:
        """The way back: zeros in spare rows."""
        parts, size = len(heads), heads.shape[-1]
        index = self._index(parts)[1]
        rows = heads.new_empty(self.rows * parts * self.num_heads, size)
        torch.index_select(heads.reshape(-1, size), 0, index, out=rows[: len(index)])
        rows[len(index) :] = 0
        return rows.view(self.rows, -1)

    def _index(self, parts: int) -> tuple[Tensor, Tensor]:
        """Row of (R, P, H) for each place of (P, B, H, T); and place for each row that is real."""
        if parts not in self._indices:
            count, heads = parts * self.num_heads, torch.arange(self.num_heads, device=self._places.device)
            part = torch.arange(parts, device=self._places.device)
            rows = self._row_of_place.view(1, self.batch, 1, self.length) * count
            rows = rows + part.view(-1, 1, 1, 1) * self.num_heads + heads.view(-1, 1)
            sentence, position = self._places // self.length, self._places % self.length
            head = (part[:, None] * self.batch * self.num_heads + heads).flatten()  # of all that lie before, (P * H)
            places = ((sentence * self.num_heads)[:, None] + head) * self.length + position[:, None]
            self._indices[parts] = rows.flatten(), places.flatten()
        return self._indices[parts]


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing, parts: int) -> Tensor:
        ctx.packing = packing
        return packing.to_places(x, parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.packing.to_rows(grad), None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return packing.to_rows(heads[None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.packing.to_places(grad, 1)[0], None
