"""Sentences without their padding: the real tokens of a batch, one after the other.

What is done to each position by itself (products with weights, norms, dropout) is then done to real tokens only; where
positions meet, in the heads of attention, rows go to their places among the padded sentences and back. Those heads
would be copied there anyway, as products of many matrices want them one after the other.

Letters in shapes: M real tokens, R rows (more than M, the others are spare), P parts side by side in a row, as keys and
values are; B, H, T and d as everywhere.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

TOKENS_MULTIPLE: Final = 64
"""Rows, one a token, are filled up to a multiple of these, so that few shapes arise."""


class Packing:
    """Where the M real tokens of B sentences stand, padded to (B, T) and packed into R > M rows.

    Rows M and later are spare, and hold what is finite. Padded places read the first of them.

    Args:
        mask: True at real tokens.
    """

    def __init__(self, mask: Bool[Tensor, "B T"]) -> None:
        self.batch, self.length = mask.shape
        self._places = mask.flatten().nonzero().squeeze(1)
        self.tokens = len(self._places)
        self.rows = self.tokens + TOKENS_MULTIPLE - self.tokens % TOKENS_MULTIPLE
        row_of_place = self._places.new_full((mask.numel(),), self.tokens)
        row_of_place[self._places] = torch.arange(self.tokens, device=mask.device)
        self._row_of_place = row_of_place
        self._indices: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def pack(self, values: Shaped[Tensor, "B T"], spare: int) -> Shaped[Tensor, " R"]:
        """One value a token, and `spare` in the rows that are."""
        packed = values.new_full((self.rows,), spare)
        packed[: self.tokens] = values.flatten()[self._places]
        return packed

    def positions(self) -> Int[Tensor, " R"]:
        """Position of each row in its sentence, 0 in spare rows."""
        return self.pack(torch.arange(self.length, device=self._places.device).expand(self.batch, -1), 0)

    def split(self, x: Float[Tensor, "R PHd"], parts: int, num_heads: int) -> tuple[Float[Tensor, "B H T d"], ...]:
        """The heads of each of P parts, at their padded places; no gradient comes from those that are padding."""
        heads: tuple[Tensor, ...] = _Split.apply(x, self, parts, num_heads)  # type: ignore[no-untyped-call]
        return heads

    def join(self, heads: Float[Tensor, "B H T d"]) -> Float[Tensor, "R Hd"]:
        """Rows made of what all heads have at their places; zeros in spare rows, which nothing may be made of."""
        rows: Tensor = _Join.apply(heads, self)  # type: ignore[no-untyped-call]
        return rows

    def to_places(self, x: Float[Tensor, "R PHd"], parts: int, num_heads: int) -> Float[Tensor, "P B H T d"]:
        """As `split`, without a gradient."""
        index = self._index(parts, num_heads)[0]
        size = x.shape[1] // (parts * num_heads)
        heads = x.reshape(-1, size).index_select(0, index)
        return heads.view(parts, self.batch, num_heads, self.length, size)

    def to_rows(self, heads: Float[Tensor, "P B H T d"]) -> Float[Tensor, "R PHd"]:
        """The way back: zeros in spare rows."""
        parts, _, num_heads, _, size = heads.shape
        index = self._index(parts, num_heads)[1]
        rows = heads.new_empty(self.rows * parts * num_heads, size)
        torch.index_select(heads.reshape(-1, size), 0, index, out=rows[: len(index)])
        rows[len(index) :] = 0
        return rows.view(self.rows, -1)

    def _index(self, parts: int, num_heads: int) -> tuple[Tensor, Tensor]:
        """Row of (R, P, H) for each place of (P, B, H, T); and place for each row that is real."""
        if (parts, num_heads) not in self._indices:
            device = self._places.device
            part, head = torch.arange(parts, device=device), torch.arange(num_heads, device=device)
            rows = self._row_of_place.view(1, self.batch, 1, self.length) * (parts * num_heads)
            rows = rows + part.view(-1, 1, 1, 1) * num_heads + head.view(-1, 1)
            sentence, position = self._places // self.length, self._places % self.length
            before = (part[:, None] * (self.batch * num_heads) + head).flatten()  # heads of all parts, (P*H)
            places = ((sentence * num_heads)[:, None] + before) * self.length + position[:, None]
            self._indices[parts, num_heads] = rows.flatten(), places.flatten()
        return self._indices[parts, num_heads]


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing, parts: int, num_heads: int) -> tuple[Tensor, ...]:
        ctx.packing = packing
        return packing.to_places(x, parts, num_heads).unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.packing.to_rows(_stack(grads)), None, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, packing: Packing) -> Tensor:
        ctx.packing, ctx.num_heads = packing, heads.shape[1]
        return packing.to_rows(heads[None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # What padded places get is that of the first spare row: zero, as nothing was made of it.
        return ctx.packing.to_places(grad, 1, ctx.num_heads)[0], None


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """`torch.stack(parts)`, without a copy where they stand in memory one after the other already."""
    first, places = parts[0], parts[0].untyped_storage().data_ptr()
    if all(
        part.is_contiguous()
        and part.untyped_storage().data_ptr() == places
        and part.storage_offset() == first.storage_offset() + index * first.numel()
        for index, part in enumerate(parts)
    ):
        return first.as_strided((len(parts), *first.shape), (first.numel(), *first.stride()))
    return torch.stack(list(parts))
