"""Whether a search got caught in a loop: the classic failure of a weak model on an odd line."""

from collections.abc import Hashable, Sequence
from typing import Final

LONGEST_PERIOD: Final = 32
"""Longest phrase, in items, whose repetition is looked for."""
_FEWEST_REPEATED: Final = 7
"""A loop has so many items, at the least, that occur before: 8 equal ones are the shortest."""


def is_looping(items: Sequence[Hashable]) -> bool:
    """Whether one phrase of `items` (words or token ids) repeats back to back as no sentence does.

    A phrase of up to four items must come five times and span eight items or more ("no, no, no, no" and
    "ha ha ha ha ha" are sentences); a longer one must come three times.
    """
    if len(items) - len(set(items)) < _FEWEST_REPEATED:
        return False
    periods = (period for period in range(1, LONGEST_PERIOD + 1) if _limit(period) <= len(items))
    return any(_longest_run(items, period) >= _limit(period) for period in periods)


def _limit(period: int) -> int:
    return max(8, 5 * period) if period <= 4 else 3 * period


def _longest_run(items: Sequence[Hashable], period: int) -> int:
    """Length of the longest stretch in which every item equals the one `period` before it."""
    longest = run = 0
    for earlier, later in zip(items, items[period:], strict=False):
        run = run + 1 if earlier == later else 0
        longest = max(longest, run)
    return longest + period if longest else 0
