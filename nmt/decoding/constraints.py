"""What a search must not produce: functions that set log-probabilities (N, V) to -inf, in place.

What stays keeps its value: scores are the model's own log-probabilities, not those of a restricted model.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.config import DecodingOptions
from nmt.special import BOS, EOS, PAD

NEVER: Final = (PAD, BOS)


class LengthLimits(NamedTuple):
    """Lengths of the translations of each sentence, EOS included."""

    shortest: Int[Tensor, " B"]
    longest: Int[Tensor, " B"]


def length_limits(src_mask: Bool[Tensor, "B S"], options: DecodingOptions) -> LengthLimits:
    """Limits from each sentence's own length (EOS included), so that batch-mates have no say in them."""
    lengths = src_mask.sum(1).tolist()
    longest = torch.tensor([options.longest(length) for length in lengths], device=src_mask.device)
    shortest = torch.tensor([options.shortest(length) for length in lengths], device=src_mask.device)
    return LengthLimits(torch.minimum(shortest, longest), longest)


def forbid_tokens(log_probs: Float[Tensor, "N V"], tokens: Sequence[int]) -> None:
    """No row may produce one of `tokens`."""
    for token in tokens:
        log_probs[:, token] = -torch.inf


def forbid_end(log_probs: Float[Tensor, "N V"], too_short: Bool[Tensor, " N"]) -> None:
    """Rows that are too short may not produce EOS."""
    log_probs[:, EOS].masked_fill_(too_short, -torch.inf)


def forbid_repeated_ngrams(log_probs: Float[Tensor, "N V"], produced: Int[Tensor, "N t"], size: int) -> None:
    """No row may produce a token that completes an n-gram of `size` tokens for the second time."""
    if produced.shape[1] < size:
        return
    ngrams = produced.unfold(1, size, 1)  # (N, t - size + 1, size)
    last = produced[:, produced.shape[1] - size + 1 :]
    begun_again = (ngrams[:, :, :-1] == last[:, None]).all(2)
    rows = begun_again.nonzero()[:, 0]
    log_probs[rows, ngrams[:, :, -1][begun_again]] = -torch.inf


def constrain(
    log_probs: Float[Tensor, "N V"],
    produced: Int[Tensor, "N t"],
    shortest: Int[Tensor, " N"],
    options: DecodingOptions,
) -> None:
    """Apply every rule of `options` to the rows that have produced `produced` so far.

    Where the rules leave a row nothing at all, it may end.
    """
    optional = options.forbidden or options.no_repeat_ngram
    end = log_probs[:, EOS].clone() if optional else None
    forbid_tokens(log_probs, (*NEVER, *options.forbidden))
    if options.min_length_ratio or options.min_length:
        forbid_end(log_probs, shortest > produced.shape[1] + 1)
    if options.no_repeat_ngram:
        forbid_repeated_ngrams(log_probs, produced, options.no_repeat_ngram)
    if end is not None:
        stuck = log_probs.amax(1) == -torch.inf
        log_probs[:, EOS] = torch.where(stuck, end, log_probs[:, EOS])
