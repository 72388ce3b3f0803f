"""Recurrent encoder–decoder without attention.

Cho et al. 2014, https://arxiv.org/abs/1406.1078, and Sutskever et al. 2014, https://arxiv.org/abs/1409.3215.
All the decoder knows of the source is one vector, however long the sentence: what attention was invented to mend.

Departures: the summary c is the decoder's first state itself, tanh(V h_S) (Cho et al. have one more map between
them; Sutskever et al. pass the encoder's state on as it is), and enters the cell as input beside the embedding; GRU
as in torch (see `nn/recurrent.py`); a bidirectional encoder by default; a source that is turned round is turned with
its EOS, which then comes first; embeddings scaled by sqrt(D) and shared with the output layer by default; dropout.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.config import GRUConfig
from nmt.models.encoders import Bridge, RecurrentEncoder
from nmt.models.interface import DecoderState, Seq2Seq, StepOutput, per_sentence
from nmt.nn.dropout import Dropout
from nmt.nn.embedding import OutputLayer, embedding_scale, source_and_target_embeddings
from nmt.nn.readout import MaxoutReadout
from nmt.nn.recurrent import Cell, make_cell, reverse_within_length, run_cell
from nmt.nn.stack import Stack


@dataclass(frozen=True)
class GRUState(DecoderState):
    """The recurrent state of every layer, and the summary of the source."""

    layers: tuple[Float[Tensor, "N state"], ...]
    summary: Float[Tensor, "B C"] = per_sentence()


class GRUSeq2Seq(Seq2Seq[GRUState]):
    """The summary c starts the decoder and, with `summary_every_step`, is seen at each step (Cho 2014, 2.2)."""

    def __init__(self, config: GRUConfig, source_vocab_size: int, target_vocab_size: int) -> None:
        super().__init__()
        size, hidden = config.embedding_size, config.hidden_size
        self.src_embedding, self.tgt_embedding = source_and_target_embeddings(
            source_vocab_size, target_vocab_size, size, config.tie_embeddings
        )
        self.scale = embedding_scale(size)
        self.dropout = Dropout(config.dropout)
        self.reverse_source = config.reverse_source
        self.encoder = RecurrentEncoder(
            config.cell,
            size,
            hidden,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.summary_size = hidden if config.summary_every_step else 0
        inputs = [size + self.summary_size] + [hidden] * (config.num_layers - 1)
        self.cells: Stack[Cell] = Stack(make_cell(config.cell, width, hidden) for width in inputs)
        self.bridge = Bridge(self.encoder.final_size, self.cells[0].state_size, config.num_layers)
        self.readout = MaxoutReadout([hidden, size, self.summary_size], size)
        tied = None if config.tie_embeddings == "none" else self.tgt_embedding
        self.output = OutputLayer(size, target_vocab_size, tied)

    def encode(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"]) -> GRUState:
        """Read the source; c is the decoder's first h, tanh(V h_S) (Cho et al. 2014, appendix)."""
        if self.reverse_source:
            src = reverse_within_length(src, src_mask)
        x = self.dropout(self.src_embedding(src) * self.scale)
        layers = self.bridge(self.encoder(x, src_mask).final)
        summary = layers[-1][:, : self.summary_size]
        return GRUState(layers, summary)

    def step(self, tokens: Int[Tensor, " N"], state: GRUState) -> StepOutput[GRUState]:
        """One step of every layer; there is no attention."""
        embedded = self.dropout(self.tgt_embedding(tokens) * self.scale)
        rows_per_sentence = len(tokens) // max(1, len(state.summary))
        summary = state.summary.repeat_interleave(rows_per_sentence, 0).to(embedded.dtype)
        x = torch.cat([embedded, summary], -1)
        layers = []
        for index, (cell, previous) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(x) if index else x, previous))
            x = cell.output(layers[-1])
        features = self.dropout(self.readout(x, embedded, summary))
        return StepOutput(self.output(features), GRUState(tuple(layers), state.summary), None)

    def features(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """A layer at a time over all steps: no step needs what the model predicted."""
        state = self.encode(src, src_mask)
        embedded = self.dropout(self.tgt_embedding(tgt_in) * self.scale)
        summary = state.summary[:, None].expand(-1, tgt_in.shape[1], -1).to(embedded.dtype)
        everywhere = torch.ones_like(tgt_in, dtype=torch.bool)
        x = torch.cat([embedded, summary], -1)
        for index, (cell, first) in enumerate(zip(self.cells, state.layers, strict=True)):
            x = cell.output(run_cell(cell, self.dropout(x) if index else x, everywhere, first))
        features: Tensor = self.dropout(self.readout(x, embedded, summary))
        return features
