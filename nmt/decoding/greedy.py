"""Greedy search: the most probable token at every step."""

from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nmt.config import DecodingOptions
from nmt.decoding.constraints import constrain, length_limits
from nmt.decoding.hypothesis import Hypothesis, Tick, nothing
from nmt.decoding.paths import Paths
from nmt.decoding.selection import best_tokens, log_probabilities
from nmt.models.interface import DecoderState, Seq2Seq
from nmt.special import BOS, EOS

StateT = TypeVar("StateT", bound=DecoderState)


@torch.inference_mode()
def greedy_search(
    model: Seq2Seq[StateT],
    src: Int[Tensor, "B S"],
    src_mask: Bool[Tensor, "B S"],
    options: DecodingOptions,
    tick: Tick = nothing,
) -> list[list[Hypothesis]]:
    """One hypothesis a sentence; `beam_size`, `n_best` and `length_penalty` mean nothing here.

    `tick` is called before every step; what it raises ends the search.
    """
    shortest, longest = length_limits(src_mask, options)
    state, paths = model.encode(src, src_mask), Paths(src_mask)
    tokens = torch.full_like(longest, BOS)
    scores = torch.zeros(len(src), device=src.device)
    rows = sentences = torch.arange(len(src), device=src.device)  # `sentences`: which one each row belongs to
    while len(sentences):
        tick()
        output = model.step(tokens, state)
        state = output.state
        log_probs = log_probabilities(output.logits)
        constrain(log_probs, paths.tokens, shortest, options)
        best, token = best_tokens(log_probs, 1)
        scores, tokens = scores + best[:, 0], token[:, 0]
        paths.observe(output.attention)
        ended = (tokens == EOS) | (longest == paths.tokens.shape[1] + 1)
        if ended.any():
            out, rows = ended.nonzero()[:, 0], (~ended).nonzero()[:, 0]
            paths.end(sentences[out].tolist(), out, tokens[out], scores[out])
            state = state.reorder(rows, rows)
            sentences, shortest, longest = sentences[rows], shortest[rows], longest[rows]
            tokens, scores = tokens[rows], scores[rows]
        paths.extend(rows, tokens)
        rows = torch.arange(len(rows), device=src.device)
    return paths.hypotheses()
