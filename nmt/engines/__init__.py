"""What computes translations: our own searches on torch, or CTranslate2."""

from collections.abc import Callable, Sequence
from typing import Protocol

from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis

Progress = Callable[[int, int], object]
"""Called with (sentences translated, sentences in all) from time to time."""


class Engine(Protocol):
    """Token ids in, hypotheses out; it decides on batches, devices and threads."""

    @property
    def name(self) -> str:
        """As `nmt translate --engine` has it."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`; several joined by commas."""

    batch_tokens: int
    """Source tokens of a batch, padding included."""

    @property
    def precision(self) -> str:
        """What matrix products are computed in: `fp32`, `bf16`, `int8` ..."""

    def search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each sentence, best first; a sentence's do not depend on the others.

        Args:
            sentences: source tokens without EOS, at least one each.
            options: how to search.
            progress: told how far it has come.

        Raises:
            DeviceError: memory does not suffice.
        """
