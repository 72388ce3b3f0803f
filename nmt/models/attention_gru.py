"""Recurrent encoder–decoder with attention (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473).

Departures: GRU as in torch (see `nn/recurrent.py`); the first state reads both directions of the encoder; the
readout sees the new state s_i where the paper has s_{i-1}; dropout; the state that queries is the top layer's.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nmt.config import AttentionGRUConfig
from nmt.models.encoders import Bridge, RecurrentEncoder
from nmt.models.interface import DecoderState, Seq2Seq, StepOutput, per_sentence
from nmt.nn.attention import AdditiveScore, attend
from nmt.nn.dropout import Dropout
from nmt.nn.embedding import OutputLayer, embedding_scale, source_and_target_embeddings
from nmt.nn.readout import MaxoutReadout
from nmt.nn.recurrent import Cell, make_cell
from nmt.nn.stack import Stack
from nmt.nn.step_linear import StepWeight


@dataclass(frozen=True)
class AttentionGRUState(DecoderState):
    """The recurrent state of every layer, and the annotations h_j of the source with their projected keys."""

    layers: tuple[Float[Tensor, "N state"], ...]
    memory: Float[Tensor, "B S D"] = per_sentence()
    keys: Float[Tensor, "B S A"] = per_sentence()
    src_mask: Bool[Tensor, "B S"] = per_sentence()


class AttentionGRUSeq2Seq(Seq2Seq[AttentionGRUState]):
    """The context c_i, looked up with s_{i-1}, enters the recurrence and the readout (section 3.1)."""

    def __init__(self, config: AttentionGRUConfig, source_vocab_size: int, target_vocab_size: int) -> None:
        super().__init__()
        size, hidden = config.embedding_size, config.hidden_size
        self.src_embedding, self.tgt_embedding = source_and_target_embeddings(
            source_vocab_size, target_vocab_size, size, config.tie_embeddings
        )
        self.scale = embedding_scale(size)
        self.dropout = Dropout(config.dropout)
        self.encoder = RecurrentEncoder(
            config.cell,
            size,
            hidden,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.score = AdditiveScore(hidden, hidden, config.attention_size)
        inputs = [size + hidden] + [hidden] * (config.num_layers - 1)
        self.cells: Stack[Cell] = Stack(make_cell(config.cell, width, hidden) for width in inputs)
        self.bridge = Bridge(self.encoder.final_size, self.cells[0].state_size, config.num_layers)
        self.readout = MaxoutReadout([hidden, size, hidden], size)
        tied = None if config.tie_embeddings == "none" else self.tgt_embedding
        self.output = OutputLayer(size, target_vocab_size, tied)

    def encode(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"]) -> AttentionGRUState:
        """Annotations of every source position, their keys, and the first decoder state."""
        encoded = self.encoder(self.dropout(self.src_embedding(src) * self.scale), src_mask)
        memory = self.dropout(encoded.memory)
        return AttentionGRUState(self.bridge(encoded.final), memory, self.score.project_keys(memory), src_mask)

    def step(self, tokens: Int[Tensor, " N"], state: AttentionGRUState) -> StepOutput[AttentionGRUState]:
        """Look up with the old state, then advance every layer."""
        embedded = self.dropout(self.tgt_embedding(tokens) * self.scale)
        query = self.cells[-1].output(state.layers[-1])
        # The K rows of a sentence are K queries over one memory: (B*K, D) -> (B, K, D).
        grouped = query.reshape(len(state.memory), -1, query.shape[-1])
        context, weights = attend(self.score(grouped, state.keys), state.memory, state.src_mask)
        context = context.flatten(0, 1).to(embedded.dtype)
        x = torch.cat([embedded, context], -1)
        layers = []
        for index, (cell, previous) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(x) if index else x, previous))
            x = cell.output(layers[-1])
        features = self.dropout(self.readout(x, embedded, context))
        new = AttentionGRUState(tuple(layers), state.memory, state.keys, state.src_mask)
        return StepOutput(self.output(features), new, weights.flatten(0, 1))

    def features(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """The recurrence in a loop; embeddings before it and the readout after it for all steps at once."""
        state = self.encode(src, src_mask)
        embedded = self.dropout(self.tgt_embedding(tgt_in) * self.scale)
        size = embedded.shape[-1]
        first = self.cells[0].input
        from_token = nn.functional.linear(embedded, first.weight[:, :size], first.bias)
        from_context = StepWeight(first.weight[:, size:], None)
        inputs = [StepWeight(cell.input.weight, cell.input.bias) for cell in list(self.cells)[1:]]
        recurrent = [cell.step_weight() for cell in self.cells]
        query_weight = StepWeight(self.score.w.weight, self.score.w.bias)
        layers, states, contexts = list(state.layers), [], []
        for token_part in from_token.unbind(1):
            query = query_weight(self.cells[-1].output(layers[-1]))
            scores = self.score.from_projected(query[:, None], state.keys)
            context = attend(scores, state.memory, state.src_mask).context[:, 0]
            x = token_part + from_context(context)
            for index, cell in enumerate(self.cells):
                if index:
                    x = inputs[index - 1](self.dropout(cell.output(layers[index - 1])))
                from_hidden = recurrent[index](cell.output(layers[index]))
                layers[index] = cell.advance(x, from_hidden, layers[index])
            states.append(self.cells[-1].output(layers[-1]))
            contexts.append(context)
        features: Tensor = self.dropout(self.readout(torch.stack(states, 1), embedded, torch.stack(contexts, 1)))
        return features
