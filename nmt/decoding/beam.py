"""Beam search that gives every hypothesis its due.

Rules, from which the properties below follow:

1. A sentence has K places. A hypothesis that ends keeps its place for good; the others are open.
2. At each step the best candidates (live hypothesis, token) fill the open places. Those that end (EOS, or the
   greatest length is reached) go to the pool; the others live on.
3. A sentence is done when nothing lives, or when no live hypothesis can still come before the last of
   its `n_best` finished ones, whatever follows: `highest_normalised` bounds that from above.
4. Finished hypotheses come before stopped ones, then by normalised score.

So no ended hypothesis is ever evicted; stopping early never changes the n-best list; K = 1 is greedy
search; a beam as wide as the space of translations is exhaustive; and once a sentence has K rows it only
ever needs fewer.

It is the beam of Sutskever et al. 2014 (section 3.2, https://arxiv.org/abs/1409.3215), from which a
hypothesis is removed as soon as EOS is appended to it, with the places of the removed ones closed.
"""

from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.config import DecodingOptions
from nmt.decoding.constraints import constrain, length_limits
from nmt.decoding.hypothesis import Hypothesis, Tick, nothing
from nmt.decoding.length_penalty import highest_normalised, normalise
from nmt.decoding.paths import Paths
from nmt.decoding.selection import best_tokens, log_probabilities
from nmt.models.interface import DecoderState, Seq2Seq
from nmt.special import BOS, EOS

StateT = TypeVar("StateT", bound=DecoderState)


@torch.inference_mode()
def beam_search(
    model: Seq2Seq[StateT],
    src: Int[Tensor, "B S"],
    src_mask: Bool[Tensor, "B S"],
    options: DecodingOptions,
    tick: Tick = nothing,
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses found of every sentence, best first (fewer if the space holds fewer).

    `tick` is called before every step; what it raises ends the search.
    """
    beam = _Beam(model.encode(src, src_mask), src_mask, options)
    while len(beam.sentences):
        tick()
        output = model.step(beam.tokens, beam.state)
        log_probs = log_probabilities(output.logits)
        constrain(log_probs, beam.paths.tokens, beam.shortest.repeat_interleave(beam.width), options)
        beam.paths.observe(output.attention)
        beam.advance(output.state, log_probs)
    return beam.paths.hypotheses(n_best=options.n_best, length_penalty=options.length_penalty)


class _Beam(Generic[StateT]):
    """C sentences that still search, each with `width` live rows, next to each other, best first.

    A row of score -inf is no hypothesis: it fills up a sentence that has fewer than the others.
    """

    def __init__(self, state: StateT, src_mask: Tensor, options: DecodingOptions) -> None:
        device = src_mask.device
        self.options = options
        self.state = state
        self.paths = Paths(src_mask)
        self.sentences = torch.arange(len(src_mask), device=device)
        self.shortest, self.longest = length_limits(src_mask, options)
        self.tokens = torch.full_like(self.longest, BOS)  # (N,), N = C * width
        self.scores = torch.zeros(len(src_mask), 1, device=device)  # (C, width)
        self.open = torch.full_like(self.longest, options.beam_size)  # (C,) places
        self.most_open = options.beam_size
        self.finished = torch.full((len(src_mask), options.n_best), -torch.inf, device=device)
        """(C, n_best): normalised scores of the best finished hypotheses, best first."""

    @property
    def width(self) -> int:
        """Live rows a sentence."""
        return self.scores.shape[1]

    def advance(self, state: StateT, log_probs: Float[Tensor, "N V"]) -> None:
        """Fill the open places with the best candidates; take out what has ended."""
        scores, rows, tokens = self._candidates(log_probs)
        length = self.paths.tokens.shape[1] + 1
        ends = (tokens == EOS) | (self.longest == length)[:, None]
        ended = ends & (scores > -torch.inf)
        live = scores.masked_fill(ends, -torch.inf)
        if ended.any():
            self._end(ended, scores, rows, tokens, length)
        reachable = highest_normalised(live.amax(1), self.longest, self.options.length_penalty)
        done = reachable <= self.finished[:, -1]
        kept = None
        if (ended.any(1) | done).any():
            kept = (~done).nonzero()[:, 0]
            live, rows, tokens = self._compact(kept, live, rows, tokens)
        rows = rows.flatten()
        self.scores, self.tokens = live, tokens.flatten()
        self.paths.extend(rows, self.tokens)
        # Passing no sentences leaves the encoder's output where it is.
        self.state = state.reorder(rows, kept if kept is not None and len(kept) < len(done) else None)

    def _candidates(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, rows of origin and tokens of the candidates that fill the open places, each (C, <= K).

        A sentence's best K are among the best K of its rows: the table (C, width * V) is never sorted.
        """
        count = len(self.sentences)
        best, tokens = best_tokens(log_probs, self.most_open)
        k = best.shape[1]
        totals = (self.scores.view(-1, 1) + best).view(count, -1)  # (C, width * k)
        scores, places = totals.topk(min(self.most_open, totals.shape[1]), 1)
        first = torch.arange(0, count * self.width, self.width, device=scores.device)
        rows = first[:, None] + places // k
        ranks = torch.arange(scores.shape[1], device=scores.device)
        scores = scores.masked_fill(ranks >= self.open[:, None], -torch.inf)
        return scores, rows, tokens.view(count, -1).gather(1, places)

    def _end(
        self,
        ended: Bool[Tensor, "C K"],
        scores: Float[Tensor, "C K"],
        rows: Int[Tensor, "C K"],
        tokens: Int[Tensor, "C K"],
        length: int,
    ) -> None:
        """Move ended hypotheses to the pool and close their places."""
        sentences = self.sentences[ended.nonzero()[:, 0]].tolist()
        self.paths.end(sentences, rows[ended], tokens[ended], scores[ended])
        self.open = self.open - ended.sum(1)
        finished = scores.masked_fill(~ended | (tokens != EOS), -torch.inf)
        pool = torch.cat([self.finished, normalise(finished, length, self.options.length_penalty)], 1)
        self.finished = pool.topk(self.options.n_best, 1).values

    def _compact(
        self, kept: Int[Tensor, " C"], live: Tensor, rows: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Drop finished sentences, and the places that no sentence fills any more."""
        self.sentences, self.shortest, self.longest = (
            self.sentences[kept],
            self.shortest[kept],
            self.longest[kept],
        )
        self.open, self.finished = self.open[kept], self.finished[kept]
        if not len(kept):
            return live[kept], rows[kept], tokens[kept]
        self.most_open = int(self.open.amax())
        width = int((live[kept] > -torch.inf).sum(1).amax())
        live, order = live[kept].topk(width, 1)
        return live, rows[kept].gather(1, order), tokens[kept].gather(1, order)
