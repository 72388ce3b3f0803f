"""Which search is used when."""

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

from nmt.config import DecodingOptions
from nmt.decoding.beam import beam_search
from nmt.decoding.greedy import greedy_search
from nmt.decoding.hypothesis import Hypothesis, Tick, nothing
from nmt.models.interface import Seq2Seq

Search = Callable[..., list[list[Hypothesis]]]

METHODS: Final[dict[str, Search]] = {"greedy": greedy_search, "beam": beam_search}


def search(
    model: Seq2Seq[Any], src: Tensor, src_mask: Tensor, options: DecodingOptions, tick: Tick = nothing
) -> list[list[Hypothesis]]:
    """Hypotheses [sentence][rank] by greedy search for a beam of 1, else by beam search."""
    return METHODS["greedy" if options.beam_size == 1 else "beam"](model, src, src_mask, options, tick)
