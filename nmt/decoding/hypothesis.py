"""What a search returns. Loads no torch: engines that need none return it too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nmt.decoding.length_penalty import normalise
from nmt.special import EOS

Tick = Callable[[], object]
"""Called before every step of a search; what it raises ends the search."""


def nothing() -> None:
    """A tick that lets a search go on."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One translation of one sentence, as token ids."""

    tokens: tuple[int, ...]
    """Without BOS; EOS is last if it was produced."""
    score: float
    """Sum of the tokens' log-probabilities, in nats, EOS included."""
    attention: Any
    """Tensor (T, S), a row a token: the weights over the source, its EOS included, with which it was predicted.

    `None` for a model without attention, and where it was not kept.
    """

    @property
    def finished(self) -> bool:
        """Whether it ends with EOS; if not, it was stopped at its greatest length."""
        return self.tokens[-1:] == (EOS,)

    def normalised(self, length_penalty: float) -> float:
        """The score by which hypotheses are ranked (see `normalise`)."""
        return normalise(self.score, max(1, len(self.tokens)), length_penalty)
