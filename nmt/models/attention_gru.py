"""Recurrent encoder–decoder with attention.

Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, and Luong et al. 2015, https://arxiv.org/abs/1508.04025.

`query` says what looks up: the state as in both papers, the embedding of the previous token, the previous context, that
of the token which stands for the target language (BOS), or several side by side.

`placement = "before"` is Bahdanau's: the old state looks up a context, which enters the recurrence and the readout.
`placement = "after"` is Luong's: the new state looks it up, and both make the attentional vector that is read out and,
with `input_feeding`, enters the next step. Where neither that vector nor the previous context is used again, no step
depends on an earlier look-up: in training all are computed at once.

With `self_attention` the readout also sees what the decoder finds among its own earlier states (Paulus et al. 2018).

Departures: GRU as in torch (see `nn/recurrent.py`); each direction of the encoder is half as wide as the decoder; the
first state is a map of where both of them ended (Luong starts from the encoder's states); Bahdanau's readout sees the
new state s_i where the paper has s_{i-1}; the attentional vector is as wide as the embeddings, and these are scaled and
shared; dropout; the state that queries is the top layer's.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nmt.config import AttentionGRUConfig
from nmt.models.encoders import Bridge, RecurrentEncoder
from nmt.models.interface import DecoderState, Seq2Seq, StepOutput, per_sentence
from nmt.nn.attention import Attended, attend
from nmt.nn.dropout import Dropout
from nmt.nn.embedding import OutputLayer, embedding_scale, source_and_target_embeddings
from nmt.nn.intra_attention import IntraAttention
from nmt.nn.readout import AttentionalVector, MaxoutReadout
from nmt.nn.recurrent import Cell, make_cell, run_cell
from nmt.nn.scopes import build_scope
from nmt.nn.scores import build_score
from nmt.nn.stack import Stack
from nmt.nn.step_linear import StepWeight
from nmt.special import BOS


@dataclass(frozen=True)
class AttentionGRUState(DecoderState):
    """The recurrent state of every layer, and the annotations h_j of the source with their projected keys."""

    layers: tuple[Float[Tensor, "N state"], ...]
    steps: Int[Tensor, " N"]
    """Target tokens read so far."""
    fed: Float[Tensor, "N E"] | None
    """The last attentional vector, with input feeding."""
    context: Float[Tensor, "N D"] | None
    """The last context, where the query holds it."""
    earlier: Float[Tensor, "N t H"] | None
    """The top layer's states so far, the first one too, with self-attention."""
    memory: Float[Tensor, "B S D"] = per_sentence()
    keys: Float[Tensor, "B S A"] = per_sentence()
    src_mask: Bool[Tensor, "B S"] = per_sentence()


class AttentionGRUSeq2Seq(Seq2Seq[AttentionGRUState]):
    """A recurrent decoder that looks back at the source at every step."""

    def __init__(self, config: AttentionGRUConfig, source_vocab_size: int, target_vocab_size: int) -> None:
        super().__init__()
        size, hidden = config.embedding_size, config.hidden_size
        self.after, self.feeding = config.placement == "after", config.input_feeding
        self.query = config.query.split("+")
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
        self.score = build_score(
            config.score,
            config.query_size,
            hidden,
            attention_size=config.attention_size,
            positions=config.attention_positions,
            bandwidth=config.bandwidth,
            learn_bandwidth=config.learn_bandwidth,
        )
        self.scope = build_scope(config.scope, window=config.window, query_size=config.query_size)
        looked_up = hidden if not self.after else size if self.feeding else 0
        inputs = [size + looked_up] + [hidden] * (config.num_layers - 1)
        self.cells: Stack[Cell] = Stack(make_cell(config.cell, width, hidden) for width in inputs)
        self.bridge = Bridge(self.encoder.final_size, self.cells[0].state_size, config.num_layers)
        self.intra_attention = IntraAttention(hidden) if config.self_attention else None
        seen = 2 * hidden if config.self_attention else hidden
        self.readout = (
            AttentionalVector(hidden, seen, size) if self.after else MaxoutReadout([seen, size, hidden], size)
        )
        tied = None if config.tie_embeddings == "none" else self.tgt_embedding
        self.output = OutputLayer(size, target_vocab_size, tied)

    def encode(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"]) -> AttentionGRUState:
        """Annotations of every source position, their keys, and the first decoder state."""
        encoded = self.encoder(self.dropout(self.src_embedding(src) * self.scale), src_mask)
        memory = self.dropout(encoded.memory)
        layers = self.bridge(encoded.final)
        steps = torch.zeros(len(src), dtype=torch.int64, device=src.device)
        fed = layers[0].new_zeros(len(src), self.tgt_embedding.embedding_dim) if self.feeding else None
        context = memory.new_zeros(len(src), memory.shape[-1]) if "context" in self.query else None
        earlier = self.cells[-1].output(layers[-1])[:, None] if self.intra_attention is not None else None
        return AttentionGRUState(
            layers, steps, fed, context, earlier, memory, self.score.project_keys(memory), src_mask
        )

    def step(self, tokens: Int[Tensor, " N"], state: AttentionGRUState) -> StepOutput[AttentionGRUState]:
        """Look up with the old state and advance every layer, or the other way round."""
        embedded = self.dropout(self.tgt_embedding(tokens) * self.scale)
        if not self.after:
            hidden = self.cells[-1].output(state.layers[-1])
            context, weights = self._look_up(self._query(hidden, embedded, state.context), state)
            x = torch.cat([embedded, context.to(embedded.dtype)], -1)
        else:
            x = embedded if state.fed is None else torch.cat([embedded, state.fed.to(embedded.dtype)], -1)
        layers = []
        for index, (cell, previous) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(x) if index else x, previous))
            x = cell.output(layers[-1])
        earlier = state.earlier
        seen = x if earlier is None else self._seen(x[:, None], earlier)[:, 0]
        if not self.after:
            features = self.dropout(self.readout(seen, embedded, context))
        else:
            context, weights = self._look_up(self._query(x, embedded, state.context), state)
            features = self.dropout(self.readout(context, seen))
        fed = features if self.feeding else None
        new = replace(
            state,
            layers=tuple(layers),
            steps=state.steps + 1,
            fed=fed,
            context=None if state.context is None else context.to(state.context.dtype),
            earlier=None if earlier is None else torch.cat([earlier, x[:, None].to(earlier.dtype)], 1),
        )
        return StepOutput(self.output(features), new, weights)

    def _seen(self, states: Float[Tensor, "N T H"], earlier: Float[Tensor, "N E H"] | None) -> Float[Tensor, "N T R"]:
        """What is read out of states: they, and with self-attention what they find among the earlier ones."""
        if self.intra_attention is None or earlier is None:
            return states
        return torch.cat([states, self.intra_attention(states, earlier).to(states.dtype)], -1)

    def _query(
        self, hidden: Float[Tensor, "*N H"], embedded: Float[Tensor, "*N E"], context: Float[Tensor, "*N D"] | None
    ) -> Float[Tensor, "*N Q"]:
        """What looks up, from the state, the embeddings of the last token and of the language, the last context."""
        parts = {"state": hidden, "token": embedded, "context": context}
        if "language" in self.query:
            parts["language"] = (self.tgt_embedding.weight[BOS] * self.scale).expand_as(embedded)
        chosen = [part for name in self.query if (part := parts[name]) is not None]
        return chosen[0] if len(chosen) == 1 else torch.cat([part.to(chosen[0].dtype) for part in chosen], -1)

    def _look_up(self, query: Float[Tensor, "N Q"], state: AttentionGRUState) -> Attended:
        """The K rows of a sentence are K queries over one memory: (B*K, H) -> (B, K, H)."""
        grouped = query.reshape(len(state.memory), -1, query.shape[-1])
        steps = state.steps.view(len(state.memory), -1)
        scores = self.scope(self.score(grouped, state.keys), grouped, steps, state.src_mask)
        context, weights = attend(scores, state.memory, state.src_mask)
        return Attended(context.flatten(0, 1), weights.flatten(0, 1))

    def features(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """All steps at once where none depends on an earlier look-up, else in a loop."""
        state = self.encode(src, src_mask)
        embedded = self.dropout(self.tgt_embedding(tgt_in) * self.scale)
        if self.after and not self.feeding and "context" not in self.query:
            return self._at_once(state, embedded)
        return self._in_a_loop(state, embedded)

    def _at_once(self, state: AttentionGRUState, embedded: Float[Tensor, "B T E"]) -> Float[Tensor, "B T D"]:
        """The recurrence over the whole target, then T look-ups a sentence."""
        x = embedded
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for index, (cell, initial) in enumerate(zip(self.cells, state.layers, strict=True)):
            x = cell.output(run_cell(cell, self.dropout(x) if index else x, everywhere, initial))
        steps = torch.arange(x.shape[1], device=x.device)[None]
        query = self._query(x, embedded, None)
        scores = self.scope(self.score(query, state.keys), query, steps, state.src_mask)
        context = attend(scores, state.memory, state.src_mask).context
        earlier = None if state.earlier is None else torch.cat([state.earlier.to(x.dtype), x[:, :-1]], 1)
        features: Tensor = self.dropout(self.readout(context, self._seen(x, earlier)))
        return features

    def _in_a_loop(self, state: AttentionGRUState, embedded: Float[Tensor, "B T E"]) -> Float[Tensor, "B T D"]:
        """Embeddings before the loop and Bahdanau's readout after it for all steps at once."""
        size = embedded.shape[-1]
        first = self.cells[0].input
        from_token = nn.functional.linear(embedded, first.weight[:, :size], first.bias)
        from_looked_up = StepWeight(first.weight[:, size:], None)
        inputs = [StepWeight(cell.input.weight, cell.input.bias) for cell in list(self.cells)[1:]]
        recurrent = [cell.step_weight() for cell in self.cells]
        mapped = self.score.query_map()
        query_weight = None if mapped is None else StepWeight(*mapped)
        vector = self.readout if isinstance(self.readout, AttentionalVector) else None
        vector_weight = None if vector is None else vector.step_weight()
        layers, fed = list(state.layers), state.fed
        states: list[Tensor] = [self.cells[-1].output(layers[-1])]  # s_0, s_1, ...
        contexts: list[Tensor] = []
        features: list[Tensor] = []
        tokens = embedded.unbind(1)

        def look_up(step: int) -> Tensor:
            last = contexts[-1] if contexts else state.context
            query = self._query(self.cells[-1].output(layers[-1]), tokens[step], last)
            scores = self.score.from_projected(
                (query if query_weight is None else query_weight(query))[:, None], state.keys
            )
            steps = state.steps.new_full((1, 1), step)
            scores = self.scope(scores, query[:, None], steps, state.src_mask)
            return attend(scores, state.memory, state.src_mask).context[:, 0]

        for step, token_part in enumerate(from_token.unbind(1)):
            if vector is None:
                contexts.append(look_up(step))
                fed = contexts[-1]
            x = token_part if fed is None else token_part + from_looked_up(fed)
            for index, cell in enumerate(self.cells):
                if index:
                    x = inputs[index - 1](self.dropout(cell.output(layers[index - 1])))
                from_hidden = recurrent[index](cell.output(layers[index]))
                layers[index] = cell.advance(x, from_hidden, layers[index])
            states.append(self.cells[-1].output(layers[-1]))
            if vector is not None and vector_weight is not None:
                contexts.append(look_up(step))
                earlier = None if state.earlier is None else torch.stack(states[:-1], 1)
                seen = self._seen(states[-1][:, None], earlier)[:, 0]
                features.append(self.dropout(vector.combine(vector_weight, contexts[-1], seen)))
                fed = features[-1] if self.feeding else None
        if vector is not None:
            return torch.stack(features, 1)
        earlier = None if state.earlier is None else torch.stack(states[:-1], 1)
        seen = self._seen(torch.stack(states[1:], 1), earlier)
        together: Tensor = self.dropout(self.readout(seen, embedded, torch.stack(contexts, 1)))
        return together
