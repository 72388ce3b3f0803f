"""What every architecture offers and every search uses: encode once, then step.

Letters in shapes: B sentences, K rows of one sentence (beam size), N = B*K rows, S source length, T target
length, V vocabulary, D model width. Batch first, always.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nmt.nn.embedding import OutputLayer


def per_sentence() -> Any:
    """Declare a `DecoderState` field that has one entry a sentence (B), not one a row (N = B*K).

    The rows of one sentence share such a field, so that a beam never copies the encoder's output.
    """
    return field(metadata={"per_sentence": True})


StateT = TypeVar("StateT", bound="DecoderState")


@dataclass(frozen=True)
class DecoderState:
    """Everything `step` needs to continue: tensors, tuples of tensors (nested), states, or what is no tensor.

    Dim 0 is the row (one partial hypothesis), or the sentence in fields made by `per_sentence`. Rows lie
    grouped by sentence: rows b*K to b*K+K-1 belong to sentence b, with the same K for all. K is not stored:
    it is the number of rows over the number of sentences.
    """

    def reorder(self: StateT, rows: Int[Tensor, " M"], sentences: Int[Tensor, " C"] | None = None) -> StateT:
        """Row i of the result is row `rows[i]` of self; sentence c of the result is `sentences[c]`.

        The one operation for all three uses: widen to a beam (`arange(B).repeat_interleave(K)`), follow
        back-pointers (rows stay within their sentence), drop finished sentences (`sentences` names those that
        stay). Without `sentences` all stay in place and what they share is not touched.
        """
        changes: dict[str, Any] = {}
        for item in fields(self):
            index, value = sentences if item.metadata.get("per_sentence") else rows, getattr(self, item.name)
            if isinstance(value, DecoderState):
                changes[item.name] = value.reorder(rows, sentences)
            elif index is not None:
                changes[item.name] = _select(value, index)
        return replace(self, **changes)


def _select(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, index)
    if isinstance(value, tuple):
        return tuple(_select(item, index) for item in value)
    return value


@dataclass(frozen=True)
class StepOutput(Generic[StateT]):
    """What one decoding step gives."""

    logits: Float[Tensor, "N V"]
    """The search's own: it writes over them."""
    state: StateT
    attention: Float[Tensor, "N S"] | None
    """Weights over source positions that sum to 1, or `None` for a model without attention."""


@dataclass(frozen=True)
class AttentionMaps:
    """All weights that a model computes for given pairs; `None` for a kind of attention that it has not."""

    cross: Float[Tensor, "L B H T S"] | None
    """Of each target position over the source, by decoder layer and head."""
    encoder: Float[Tensor, "E B H S S"] | None = None
    """Of each source position over the source, by encoder layer (E) and head."""
    decoder: Float[Tensor, "L B H T T"] | None = None
    """Of each target position over what was read until then: BOS, and the positions before it."""
    alignment_layer: int = 0
    """Of `cross`: the one that `step` reports, mean over its heads."""


class Seq2Seq(nn.Module, ABC, Generic[StateT]):
    """An encoder–decoder: source token ids to a distribution over the next target token.

    `src` ends each sentence with EOS; `src_mask` is True at real tokens.
    """

    output: OutputLayer
    """Maps features (..., D) to logits (..., V)."""

    @abstractmethod
    def encode(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"]) -> StateT:
        """State before the first step, one row a sentence; all work done once a sentence is done here."""

    @abstractmethod
    def step(self, tokens: Int[Tensor, " N"], state: StateT) -> StepOutput[StateT]:
        """Read one token a row (BOS first) and predict the next."""

    @abstractmethod
    def features(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """What the output layer reads, at every position under teacher forcing."""

    def real_features(
        self,
        src: Int[Tensor, "B S"],
        src_mask: Bool[Tensor, "B S"],
        tgt_in: Int[Tensor, "B T"],
        tgt_mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "M D"]:
        """`features` at the real target positions only, sentence after sentence.

        The loss applies the output layer to them itself, in pieces.
        """
        return self.features(src, src_mask, tgt_in)[tgt_mask]

    def forward(
        self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T V"]:
        """Logits at every position under teacher forcing; equal to unrolling `step`."""
        logits: Tensor = self.output(self.features(src, src_mask, tgt_in))
        return logits

    def maps(self, src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]) -> AttentionMaps:
        """The weights under teacher forcing: of one layer and head, unless an architecture has more."""
        attention = unroll(self, src, src_mask, tgt_in)[1]
        return AttentionMaps(None if attention is None else attention[None, :, None])


def unroll(
    model: Seq2Seq[StateT], src: Int[Tensor, "B S"], src_mask: Bool[Tensor, "B S"], tgt_in: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "B T V"], Float[Tensor, "B T S"] | None]:
    """Logits and attention of `step` forced along `tgt_in`: the definition that `forward` must equal."""
    state = model.encode(src, src_mask)
    logits, attention = [], []
    for tokens in tgt_in.unbind(1):
        output = model.step(tokens, state)
        state = output.state
        logits.append(output.logits)
        attention.append(output.attention)
    rows = [weights for weights in attention if weights is not None]
    return torch.stack(logits, 1), torch.stack(rows, 1) if rows else None
