"""Beam search that gives every hypothesis its due.

Rules, from which the properties below follow:

1. A sentence has up to K live hypotheses. At each step their continuations, (live hypothesis, token), are candidates.
2. Candidates among the best K that end (EOS, or the greatest length is reached) go to the pool. The best K of those
   that do not end live on: an ended one gives its place to the next.
3. A sentence is done when 2K - 1 have ended, when nothing lives, or when no live hypothesis can still come before the
   last of its `n_best` finished ones, whatever follows: `highest_normalised` bounds that from above.
4. Finished hypotheses come before stopped ones, then by normalised score.

So no ended hypothesis is ever evicted; the bound never changes the n-best list; K = 1 is greedy search; and a beam as
wide as the space of translations is exhaustive.

It is the beam of Sutskever et al. 2014 (section 3.2, https://arxiv.org/abs/1409.3215), from which a hypothesis is
removed as soon as EOS is appended to it. They do not say when to stop. With K ended ones, as is usual, a better one is
missed in 2 to 7 sentences of 100; waiting for 4K gives nothing (README, "What searches faster"). CTranslate2 searches
by the same rules (its `patience` is (2K - 1) / K), so that both engines find the same with float weights.
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
        self.ended = torch.zeros_like(self.longest)  # (C,) hypotheses in the pool
        self.finished = torch.full((len(src_mask), options.n_best), -torch.inf, device=device)
        """(C, n_best): normalised scores of the best finished hypotheses, best first."""

    @property
    def width(self) -> int:
        """Live rows a sentence."""
        return self.scores.shape[1]

    def advance(self, state: StateT, log_probs: Float[Tensor, "N V"]) -> None:
        """Let the best candidates end or live on; take out the sentences that are done."""
        scores, rows, tokens = self._candidates(log_probs)
        length = self.paths.tokens.shape[1] + 1
        ends = (tokens == EOS) | (self.longest == length)[:, None]
        ended = ends & (scores != -torch.inf)  # what is not a number ends too, at the greatest length at last
        ended[:, self.options.beam_size :] = False
        if ended.any():
            self._end(ended, scores, rows, tokens, length)
        live, order = scores.masked_fill(ends, -torch.inf).topk(min(self.options.beam_size, scores.shape[1]), 1)
        rows, tokens = rows.gather(1, order), tokens.gather(1, order)
        reachable = highest_normalised(live[:, 0], self.longest, self.options.length_penalty)
        done = (reachable <= self.finished[:, -1]) | (self.ended >= self.options.most_ended)
        kept = None
        if done.any():
            kept = (~done).nonzero()[:, 0]
            live, rows, tokens = live[kept], rows[kept], tokens[kept]
            self.sentences, self.shortest, self.longest = self.sentences[kept], self.shortest[kept], self.longest[kept]
            self.ended, self.finished = self.ended[kept], self.finished[kept]
        rows = rows.flatten()
        self.scores, self.tokens = live, tokens.flatten()
        self.paths.extend(rows, self.tokens)
        self.state = state.reorder(rows, kept)  # no sentences: the encoder's output stays where it is

    def _candidates(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, rows of origin and tokens of the best candidates of each sentence, best first, each (C, <= 2K).

        At most K of them end with EOS, so that the best K that do not are among them, and these among the best K + 1
        of each row: the table (C, width * V) is never sorted.
        """
        count, beam_size = len(self.sentences), self.options.beam_size
        best, tokens = best_tokens(log_probs, beam_size + 1)
        k = best.shape[1]
        totals = (self.scores.view(-1, 1) + best).view(count, -1)  # (C, width * k)
        scores, places = totals.topk(min(2 * beam_size, totals.shape[1]), 1)
        first = torch.arange(0, count * self.width, self.width, device=scores.device)
        return scores, first[:, None] + places // k, tokens.view(count, -1).gather(1, places)

    def _end(
        self,
        ended: Bool[Tensor, "C k"],
        scores: Float[Tensor, "C k"],
        rows: Int[Tensor, "C k"],
        tokens: Int[Tensor, "C k"],
        length: int,
    ) -> None:
        """Move ended hypotheses to the pool."""
        sentences = self.sentences[ended.nonzero()[:, 0]].tolist()
        self.paths.end(sentences, rows[ended], tokens[ended], scores[ended])
        self.ended = self.ended + ended.sum(1)
        finished = scores.masked_fill(~ended | (tokens != EOS), -torch.inf)
        pool = torch.cat([self.finished, normalise(finished, length, self.options.length_penalty)], 1)
        self.finished = pool.topk(self.options.n_best, 1).values
