"""Our own searches, on torch: every architecture, every option."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from nmt.batching import pad_source
from nmt.bucketing import length_batches
from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis, Tick, nothing
from nmt.decoding.search import search
from nmt.engines import Progress
from nmt.errors import DeviceError, is_out_of_memory
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast, reuse_memory

BATCH_TOKENS: Final = 4096
"""Source tokens at work at a time, padding included."""
LEAST_TOKENS: Final = 512
"""Source tokens that are worth a batch of their own."""

_Work = Callable[[np.ndarray, Tick], list[list[Hypothesis]]]


class _LeftError(Exception):
    """Nobody waits for the search any more."""


class TorchEngine:
    """Searches in batches of sentences of like length.

    A translation does not depend on the batch, up to rounding, which in float32 decides only between hypotheses
    whose scores differ by less than some 1e-5.

    Args:
        model: any architecture; put into evaluation mode while it works.
        device: where the model is; by default that of its first weight.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: source tokens of a batch, padding included, or on a CPU of the batches that are at work at a time,
            if they are not too few; a beam makes `beam_size` rows of each.
        keep_attention: leave its attention with every hypothesis (for long texts, the larger part of memory).
    """

    name = "torch"

    def __init__(
        self,
        model: Seq2Seq[Any],
        *,
        device: torch.device | None = None,
        precision: str = "fp32",
        batch_tokens: int = BATCH_TOKENS,
        keep_attention: bool = False,
    ) -> None:
        self.model = model
        first = next(model.parameters(), None)
        self.place = device or (torch.device("cpu") if first is None else first.device)
        if self.place.type == "cpu":
            reuse_memory()
        self.precision = precision
        self.batch_tokens = batch_tokens
        self.keep_attention = keep_attention

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`."""
        return str(self.place)

    def search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each sentence, searched longest first, so that memory runs out early if it does."""
        results: list[list[Hypothesis]] = [[]] * len(sentences)
        lengths = np.array([len(sentence) + 1 for sentence in sentences], dtype=np.int64)
        batches = length_batches(lengths, self._budget(int(lengths.sum())))[::-1]
        done = 0

        def found(batch: np.ndarray, tick: Tick) -> list[list[Hypothesis]]:
            return self._search([sentences[i] for i in batch], options, tick)

        with evaluating(self.model):
            for batch, part in self._each(found, batches):
                for i, hypotheses in zip(batch, part, strict=True):
                    results[i] = hypotheses
                done += len(batch)
                if progress is not None:
                    progress(done, len(sentences))
        return results

    def _budget(self, tokens: int) -> int:
        """Source tokens of a batch, for so many in all: where several are at work, they share `batch_tokens`."""
        threads = torch.get_num_threads() if self.place.type == "cpu" else 1
        return min(self.batch_tokens, max(LEAST_TOKENS, min(tokens, self.batch_tokens) // threads))

    def _each(self, work: _Work, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, list[list[Hypothesis]]]]:
        """Each batch with what `work` gives for it; on a CPU as many at a time as it has threads.

        Many operations of a search are too small to be shared by threads, or are not shared at all. Batches for which
        memory does not suffice beside the others are searched again when those have ended. Who leaves before the end
        stops them all within a step.
        """
        threads = torch.get_num_threads()
        workers = min(threads, len(batches)) if self.place.type == "cpu" else 1
        left, too_large = threading.Event(), []

        def tick() -> None:
            if left.is_set():
                raise _LeftError

        def attempt(batch: np.ndarray) -> list[list[Hypothesis]] | None:
            try:
                return work(batch, tick)
            except DeviceError:
                return None

        if workers < 2:
            yield from ((batch, work(batch, nothing)) for batch in batches)
            return
        torch.set_num_threads(threads // workers)
        try:
            with ThreadPoolExecutor(workers) as pool:
                try:
                    for batch, found in zip(batches, pool.map(attempt, batches), strict=True):
                        if found is None:
                            too_large.append(batch)
                        else:
                            yield batch, found
                finally:
                    left.set()
        finally:
            torch.set_num_threads(threads)
        yield from ((batch, work(batch, nothing)) for batch in too_large)

    def _search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, tick: Tick
    ) -> list[list[Hypothesis]]:
        """Hypotheses of one batch; where memory does not suffice, of its halves."""
        try:
            with autocast(self.place, self.precision):
                found = search(self.model, *pad_source(sentences, self.place), options, tick)
            return [[self._kept(hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(sentences) == 1:
                what = f"one sentence of {len(sentences[0])} tokens"
                raise DeviceError(f"out of memory translating {what}: use a smaller --beam") from error
        half = len(sentences) // 2
        return self._search(sentences[:half], options, tick) + self._search(sentences[half:], options, tick)

    def _kept(self, hypothesis: Hypothesis) -> Hypothesis:
        attention = hypothesis.attention if self.keep_attention else None
        return replace(hypothesis, attention=None if attention is None else attention.cpu())


@contextmanager
def evaluating(model: Seq2Seq[Any]) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
