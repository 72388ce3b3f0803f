"""Our own searches, on torch: every architecture, every option."""

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
from nmt.decoding.hypothesis import Hypothesis
from nmt.decoding.search import search
from nmt.engines import Progress
from nmt.errors import DeviceError, is_out_of_memory
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast

BATCH_TOKENS: Final = 4096
"""Source tokens of a batch, padding included."""


class TorchEngine:
    """Searches in batches of sentences of like length.

    A translation does not depend on the batch, up to rounding, which in float32 decides only between hypotheses
    whose scores differ by less than some 1e-5.

    Args:
        model: any architecture; put into evaluation mode while it works.
        device: where the model is; by default that of its first weight.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: source tokens of a batch, padding included; a beam makes `beam_size` rows of each.
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
        batches = length_batches(lengths, self.batch_tokens)[::-1]
        done = 0

        def found(batch: np.ndarray) -> list[list[Hypothesis]]:
            return self._search([sentences[i] for i in batch], options)

        with evaluating(self.model):
            for batch, part in zip(batches, self._each(found, batches), strict=True):
                for i, hypotheses in zip(batch, part, strict=True):
                    results[i] = hypotheses
                done += len(batch)
                if progress is not None:
                    progress(done, len(sentences))
        return results

    def _each(
        self, work: Callable[[np.ndarray], list[list[Hypothesis]]], batches: Sequence[np.ndarray]
    ) -> Iterator[list[list[Hypothesis]]]:
        """What `work` gives for each batch; on a CPU as many at a time as it has threads, one thread each.

        Many operations of a search are too small to be shared by threads, or are not shared at all.
        """
        threads = torch.get_num_threads()
        workers = min(threads, len(batches))
        if self.place.type != "cpu" or workers < 2:
            yield from map(work, batches)
            return
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(workers) as pool:
                yield from pool.map(work, batches)
        finally:
            torch.set_num_threads(threads)

    def _search(self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions) -> list[list[Hypothesis]]:
        """Hypotheses of one batch; where memory does not suffice, of its halves."""
        try:
            with autocast(self.place, self.precision):
                found = search(self.model, *pad_source(sentences, self.place), options)
            return [[self._kept(hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(sentences) == 1:
                what = f"one sentence of {len(sentences[0])} tokens"
                raise DeviceError(f"out of memory translating {what}: use a smaller --beam") from error
        half = len(sentences) // 2
        return self._search(sentences[:half], options) + self._search(sentences[half:], options)

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
