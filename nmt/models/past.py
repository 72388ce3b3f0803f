"""Keys and values of what decoders have produced so far, in tables that all rows of a sentence share.

A beam's rows descend from few: instead of copying the past of a row to each that goes on from it, every entry stays
where it was written, and each row knows which entries it goes back to. Its rows are then so many queries of one table,
as they are of the encoder's output.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.models.interface import DecoderState, per_sentence

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of every head, each (B, H, S, d)."""

LEAST_ROOM: Final = 16
"""Entries of a new table."""


@dataclass
class Tail:
    """How far the tables of a state are written; of several states that continue one, the first may write on."""

    written: int = 0


@dataclass(frozen=True)
class Past(DecoderState):
    """Tables, and which row descends from which entries."""

    descent: Bool[Tensor, "N E"]
    """Which entries a row goes back to; N = B*K."""
    tail: Tail
    tables: tuple[KeysValues, ...] = per_sentence()
    """A layer: keys and values, each (B, H, C, d); the first E of the C entries are in use."""

    def with_room(self) -> "Past":
        """The same with room for one more entry a row.

        Tables that are full are replaced by ones twice as large, in which nothing is that no row descends from; so they
        are where another state has written on, or where gradients will need them as they are.
        """
        filled = self.descent.shape[1]
        sentences, _, capacity, _ = self.tables[0][0].shape
        rows = len(self.descent) // sentences
        if self.tail.written == filled and filled + rows <= capacity and not torch.is_grad_enabled():
            return self
        used = self.descent.view(sentences, rows, filled).any(1)
        count = int(used.sum(1).amax()) if filled else 0
        places = used.to(torch.uint8).argsort(stable=True, dim=1, descending=True)[:, :count]
        room = max(LEAST_ROOM, 2 * (count + rows))
        tables = tuple((_moved(keys, places, room), _moved(values, places, room)) for keys, values in self.tables)
        descent = self.descent.gather(1, places.repeat_interleave(rows, 0))
        return Past(descent, Tail(count), tables)

    def extended(self) -> "Past":
        """As it is when every row has written its entry."""
        sentences, filled = len(self.tables[0][0]), self.descent.shape[1]
        rows = len(self.descent) // sentences
        own = torch.eye(rows, dtype=torch.bool, device=self.descent.device).repeat(sentences, 1)
        self.tail.written = filled + rows
        return Past(torch.cat([self.descent, own], 1), self.tail, self.tables)


def write(table: Float[Tensor, "B H C d"], start: int, entries: Float[Tensor, "N H 1 d"]) -> Float[Tensor, "B H E d"]:
    """Write one entry a row from `start` on; the table up to the last of them."""
    sentences, heads, _, size = table.shape
    rows = len(entries) // sentences
    table[:, :, start : start + rows] = entries.reshape(sentences, rows, heads, size).transpose(1, 2)
    return table[:, :, : start + rows]


def _moved(table: Float[Tensor, "B H C d"], places: Int[Tensor, "B E"], room: int) -> Float[Tensor, "B H R d"]:
    """A table of `room` entries that begins with those at `places`."""
    heads, size = table.shape[1], table.shape[3]
    moved = table.new_zeros(len(table), heads, room, size)
    index = places[:, None, :, None].expand(-1, heads, -1, size)
    moved[:, :, : places.shape[1]] = table.gather(2, index)
    return moved
