"""The book that a search keeps on the way."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.decoding.hypothesis import Hypothesis
from nmt.decoding.length_penalty import normalise
from nmt.special import EOS


class _Ended(NamedTuple):
    tokens: list[int]
    score: float
    places: Int[Tensor, " T"] | None


class Paths:
    """The tokens of every live row, and every hypothesis that has ended.

    Attention is not moved along with the rows: each step's weights are stored as they came, and a path keeps
    the place of its own row in them, to be gathered once, at the end, for the hypotheses that are returned.
    """

    def __init__(self, src_mask: Bool[Tensor, "B S"]) -> None:
        self._source_lengths: list[int] = src_mask.sum(1).tolist()
        self.tokens = torch.empty(len(src_mask), 0, dtype=torch.int64, device=src_mask.device)
        """(N, t): what each live row has produced."""
        self._places = self.tokens
        self._attention: list[Tensor] = []
        self._stored = 0
        self._ended: list[list[_Ended]] = [[] for _ in src_mask]

    def observe(self, attention: Float[Tensor, "N S"] | None) -> None:
        """Store the weights of the step that the next `extend` and `end` refer to."""
        if attention is not None:
            self._stored += sum(len(weights) for weights in self._attention[-1:])
            self._attention.append(attention)

    def end(
        self,
        sentences: Sequence[int],
        rows: Int[Tensor, " M"],
        tokens: Int[Tensor, " M"],
        scores: Float[Tensor, " M"],
    ) -> None:
        """Keep the paths of live rows `rows`, each with a last token, as hypotheses of `sentences`."""
        ended, places = self._followed(rows, tokens)
        kept: Sequence[Tensor | None] = places.unbind() if self._attention else [None] * len(rows)
        for sentence, path, score, place in zip(sentences, ended.tolist(), scores.tolist(), kept, strict=True):
            self._ended[sentence].append(_Ended(path, score, place))

    def extend(self, rows: Int[Tensor, " M"], tokens: Int[Tensor, " M"]) -> None:
        """Live row i becomes what row `rows[i]` was, and one more token."""
        self.tokens, self._places = self._followed(rows, tokens)

    def _followed(self, rows: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        produced = torch.cat([self.tokens.index_select(0, rows), tokens[:, None]], 1)
        if not self._attention:
            return produced, self._places
        place = (rows + self._stored)[:, None]
        return produced, torch.cat([self._places.index_select(0, rows), place], 1)

    def hypotheses(self, *, n_best: int = 1, length_penalty: float = 0.0) -> list[list[Hypothesis]]:
        """The best of every sentence: finished ones first, then by normalised score."""
        weights = torch.cat(self._attention) if self._attention else None

        def hypothesis(ended: _Ended, source_length: int) -> Hypothesis:
            attention = None
            if weights is not None and ended.places is not None:
                attention = weights.index_select(0, ended.places)[:, :source_length].float()
            return Hypothesis(tuple(ended.tokens), ended.score, attention)

        def rank(ended: _Ended) -> tuple[bool, float]:
            return ended.tokens[-1] == EOS, normalise(ended.score, len(ended.tokens), length_penalty)

        return [
            [hypothesis(e, length) for e in sorted(ended, key=rank, reverse=True)[:n_best]]
            for ended, length in zip(self._ended, self._source_lengths, strict=True)
        ]
