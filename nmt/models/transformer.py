"""The Transformer (Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762).

Departures from the paper: layer normalisation before each sublayer by default, with one more at the end of each
stack (`norm = "post"` gives the paper's order); positions that turn queries and keys in all presets
(`positions = "sinusoidal"` gives the paper's); biases in the projections of queries, keys, values and heads and in
the output layer. Dropout is where the paper has it (section 5.4): on what sublayers give, and on embeddings.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nmt.config import TransformerConfig
from nmt.models.interface import AttentionMaps, DecoderState, Seq2Seq, StepOutput, per_sentence
from nmt.models.past import KeysValues, Past, Tail, write
from nmt.nn.attention import MultiHeadAttention
from nmt.nn.device import in_autocast_type
from nmt.nn.dropout import Dropout
from nmt.nn.embedding import OutputLayer, embedding_scale, source_and_target_embeddings
from nmt.nn.feed_forward import FeedForward
from nmt.nn.packing import Packing
from nmt.nn.positions import LearnedPositions, SinusoidalPositions
from nmt.nn.stack import Stack
from nmt.special import PAD


@dataclass(frozen=True)
class TransformerState(DecoderState):
    """What later steps attend to."""

    length: int
    """Target tokens read so far."""
    past: Past
    """Keys and values of each of them, a layer."""
    memory: tuple[KeysValues, ...] = per_sentence()
    """A layer: keys and values of the source, each (B, H, S, d)."""
    src_mask: Bool[Tensor, "B S"] = per_sentence()


Stream: TypeAlias = Float[Tensor, "N T D"] | Float[Tensor, "R D"]
"""The residual stream: padded sentences, or the rows of a `Packing`."""


class Residual(nn.Module):
    """x + Dropout(Sublayer(LayerNorm(x))), or the paper's LayerNorm(x + Dropout(Sublayer(x))) (section 3.1).

    In two halves, as sublayers differ in what else they take: what the sublayer reads, and what it adds to.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.model_size)
        self.dropout = Dropout(config.dropout)

    def read(self, x: Stream) -> Stream:
        """What the sublayer sees of the residual stream `x`."""
        return self.norm(x) if self.pre else x

    def add(self, x: Stream, y: Stream) -> Stream:
        """The residual stream `x` after the sublayer gave `y`."""
        x = x + self.dropout(y)
        return x if self.pre else self.norm(x)


def _self_attention(config: TransformerConfig) -> MultiHeadAttention:
    rotary = config.positions == "rotary"
    return MultiHeadAttention(config.model_size, config.num_heads, rotary=rotary)


def _positions(config: TransformerConfig) -> nn.Module | None:
    """What is added to the embeddings."""
    match config.positions:
        case "sinusoidal":
            return SinusoidalPositions(config.model_size)
        case "learned":
            return LearnedPositions(config.model_size, config.max_positions)
        case "rotary":
            return None
        case _:
            assert_never(config.positions)


@contextmanager
def _watching(heads: MultiHeadAttention) -> Iterator[list[Tensor]]:
    """Ask for weights wherever `heads` is called in the block, and collect them."""
    seen: list[Tensor] = []

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "need_weights": True}

    asking = heads.register_forward_pre_hook(ask, with_kwargs=True)
    collecting = heads.register_forward_hook(lambda _, __, output: seen.append(output[1].float()))
    try:
        yield seen
    finally:
        asking.remove()
        collecting.remove()


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward sublayers (section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = _self_attention(config)
        self.feed_forward = FeedForward(config.model_size, config.ffn_size, config.activation)
        self.residuals: Stack[Residual] = Stack(Residual(config) for _ in range(2))

    def forward(self, x: Stream, mask: Bool[Tensor, "B 1 1 S"], packing: Packing | None = None) -> Stream:
        """Every source position looks at every real one."""
        attending, feeding = self.residuals
        normed = attending.read(x)
        keys_values = self.attention.project_keys(normed, packing=packing)
        x = attending.add(x, self.attention(normed, keys_values, mask, packing=packing)[0])
        y: Tensor = feeding.add(x, self.feed_forward(feeding.read(x)))
        return y


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the source, and feed-forward sublayers (section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = _self_attention(config)
        self.cross_attention = MultiHeadAttention(config.model_size, config.num_heads)
        self.feed_forward = FeedForward(config.model_size, config.ffn_size, config.activation)
        self.residuals: Stack[Residual] = Stack(Residual(config) for _ in range(3))

    def forward(
        self,
        x: Stream,
        memory: KeysValues,
        *,
        mask: Bool[Tensor, "#B 1 #Q E"],
        src_mask: Bool[Tensor, "B 1 1 S"],
        past: KeysValues | None = None,
        written: int = 0,
        offset: int = 0,
        need_weights: bool = False,
        packing: Packing | None = None,
    ) -> tuple[Stream, Float[Tensor, "N H T S"] | None]:
        """Advance T positions from `offset` on; N = B*K rows share the memory of B sentences.

        Args:
            x: the residual stream.
            memory: keys and values of the source.
            mask: which target positions each may see, those of `past` first, then their own.
            src_mask: which source positions are real.
            past: tables of what came before, in which `written` entries are and these T = 1 are put.
            written: entries.
            offset: position of the first.
            need_weights: whether to return the weights over the source.
            packing: how `x` is packed, if it is.
        """
        reading, looking, feeding = self.residuals
        normed = reading.read(x)
        keys, values = self.self_attention.project_keys(normed, offset, packing)
        if past is not None:
            keys, values = write(past[0], written, keys), write(past[1], written, values)
        x = reading.add(x, self.self_attention(normed, (keys, values), mask, offset=offset, packing=packing)[0])
        context, weights = self.cross_attention(
            looking.read(x), memory, src_mask, need_weights=need_weights, packing=packing
        )
        x = looking.add(x, context)
        return feeding.add(x, self.feed_forward(feeding.read(x))), weights


class TransformerSeq2Seq(Seq2Seq[TransformerState]):
    """Encoder and decoder stacks around shared embeddings (figure 1)."""

    def __init__(self, config: TransformerConfig, source_vocab_size: int, target_vocab_size: int) -> None:
        super().__init__()
        size, tie = config.model_size, config.tie_embeddings
        self.src_embedding, self.tgt_embedding = source_and_target_embeddings(
            source_vocab_size, target_vocab_size, size, tie
        )
        self.scale = embedding_scale(size)
        self.positions = _positions(config)
        self.dropout = Dropout(config.dropout)
        self.encoder: Stack[EncoderLayer] = Stack(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.decoder: Stack[DecoderLayer] = Stack(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        final = nn.LayerNorm if config.norm == "pre" else nn.Identity
        self.encoder_norm, self.decoder_norm = final(size), final(size)
        self.output = OutputLayer(size, target_vocab_size, None if tie == "none" else self.tgt_embedding)
        self.alignment_layer = config.alignment_layer % config.num_decoder_layers

    def encode(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], packing: Packing | None = None
    ) -> TransformerState:
        """Run the encoder, on packed rows if given how, and project its output to every layer's keys and values."""
        x = self._embed(self.src_embedding, src, packing=packing)
        for layer in self.encoder:
            x = layer(x, src_mask[:, None, None], packing)
        x = self.encoder_norm(x)
        memory = tuple(layer.cross_attention.project_keys(x, packing=packing) for layer in self.decoder)
        tables = tuple((keys[:, :, :0], values[:, :, :0]) for keys, values in memory)
        return TransformerState(0, Past(src_mask[:, :0], Tail(), tables), memory, src_mask)

    def step(self, tokens: Int[Tensor, " N"], state: TransformerState) -> StepOutput[TransformerState]:
        """One more position; attention is the mean over heads of decoder layer `alignment_layer`."""
        x = self._embed(self.tgt_embedding, tokens[:, None], offset=state.length)
        past = state.past.with_room()
        extended = past.extended()
        mask = extended.descent.view(len(state.src_mask), 1, -1, extended.descent.shape[1])  # (B, 1, K, E)
        attention = None
        for index, (layer, tables, memory) in enumerate(zip(self.decoder, past.tables, state.memory, strict=True)):
            x, weights = layer(
                x,
                memory,
                mask=mask,
                src_mask=state.src_mask[:, None, None],
                past=tables,
                written=past.descent.shape[1],
                offset=state.length,
                need_weights=index == self.alignment_layer,
            )
            if weights is not None:
                attention = weights[:, :, 0].float().mean(1)
        logits = self.output(self.decoder_norm(x[:, 0]))
        return StepOutput(logits, TransformerState(state.length + 1, extended, state.memory, state.src_mask), attention)

    def features(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """All target positions at once, each seeing only itself and earlier ones."""
        return self._decode(self.encode(src, src_mask), tgt_in, None)

    def real_features(
        self,
        src: Int[Tensor, "B S"],
        src_mask: Bool[Tensor, "B S"],
        tgt_in: Int[Tensor, "B T"],
        tgt_mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "M D"]:
        """`features` at real positions, computed on packed rows; on a GPU, where that has not been measured, padded."""
        if src.is_cuda:
            return super().real_features(src, src_mask, tgt_in, tgt_mask)
        source, target = (Packing(mask) for mask in (src_mask, tgt_mask))
        return self._decode(self.encode(src, src_mask, source), tgt_in, target)[: target.tokens]

    def _decode(self, state: TransformerState, tgt_in: Int[Tensor, "B T"], packing: Packing | None) -> Stream:
        length = tgt_in.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tgt_in.device).tril()[None, None]
        x = self._embed(self.tgt_embedding, tgt_in, packing=packing)
        for layer, memory in zip(self.decoder, state.memory, strict=True):
            x, _ = layer(x, memory, mask=causal, src_mask=state.src_mask[:, None, None], packing=packing)
        features: Tensor = self.decoder_norm(x)
        return features

    def maps(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]) -> AttentionMaps:
        """The weights of every layer and head."""
        stacks = {
            "cross": [layer.cross_attention for layer in self.decoder],
            "encoder": [layer.attention for layer in self.encoder],
            "decoder": [layer.self_attention for layer in self.decoder],
        }
        with ExitStack() as hooks:
            seen = {kind: [hooks.enter_context(_watching(heads)) for heads in stack] for kind, stack in stacks.items()}
            self.features(src, src_mask, tgt_in)
        maps = {kind: torch.stack([weights[0] for weights in stack]) for kind, stack in seen.items()}
        return AttentionMaps(**maps, alignment_layer=self.alignment_layer)

    def _embed(
        self, embedding: nn.Embedding, tokens: Int[Tensor, "B T"], *, offset: int = 0, packing: Packing | None = None
    ) -> Stream:
        x = embedding(tokens if packing is None else packing.pack(tokens, PAD)) * self.scale
        if self.positions is not None:
            added = self.positions(tokens.shape[1], offset)
            x = x + (added if packing is None else nn.functional.embedding(packing.positions(), added)).to(x.dtype)
        embedded: Tensor = self.dropout(in_autocast_type(x))
        return embedded
