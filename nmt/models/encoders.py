"""Recurrent encoders: source embeddings to a memory and a final state."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nmt.nn.dropout import Dropout
from nmt.nn.recurrent import Cell, make_cell, reverse_within_length, run_cell
from nmt.nn.stack import Stack


class Encoded(NamedTuple):
    """What an encoder gives."""

    memory: Float[Tensor, "B S D"]
    """Top layer's outputs at every position, both directions side by side; 0 at padding."""
    final: Float[Tensor, "B L F"]
    """Last state of every layer, both directions side by side."""


class RecurrentEncoder(nn.Module):
    """Layers of cells over the source, in one direction or both (Schuster and Paliwal 1997).

    A bidirectional encoder has half of `hidden_size` in each direction, so that its memory is as wide as that of
    a unidirectional one. Padding is never read.
    """

    def __init__(
        self,
        kind: Literal["gru", "lstm"],
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers: Stack[Stack[Cell]] = Stack(
            Stack(make_cell(kind, size, hidden_size // directions) for _ in range(directions)) for size in sizes
        )
        self.dropout = Dropout(dropout)
        self.final_size = sum(cell.state_size for cell in self.layers[0])

    def forward(self, x: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"]) -> Encoded:
        """Read `x` where `mask` is True."""
        finals = []
        for index, cells in enumerate(self.layers):
            x = self.dropout(x) if index else x
            outputs, last = [], []
            for backward, cell in enumerate(cells):
                inputs = reverse_within_length(x, mask) if backward else x
                states = run_cell(cell, inputs, mask, x.new_zeros(len(x), cell.state_size, dtype=torch.float32))
                last.append(states[:, -1])
                output = cell.output(states)
                outputs.append(reverse_within_length(output, mask) if backward else output)
            x = torch.cat(outputs, -1)
            finals.append(torch.cat(last, -1))
        return Encoded(x.masked_fill(~mask[..., None], 0.0), torch.stack(finals, 1))


class Bridge(nn.Module):
    """First decoder state of each layer: tanh(W_s final + b) (Bahdanau et al. 2015, section A.2.2).

    The paper reads the backward encoder's last state; this reads both directions'.
    """

    def __init__(self, final_size: int, state_size: int, num_layers: int) -> None:
        super().__init__()
        self.layers: Stack[nn.Linear] = Stack(nn.Linear(final_size, state_size) for _ in range(num_layers))

    def forward(self, final: Float[Tensor, "B L F"]) -> tuple[Float[Tensor, "B state"], ...]:
        """One state a decoder layer."""
        return tuple(layer(final[:, i]).float().tanh() for i, layer in enumerate(self.layers))
