"""Our own searches, on torch: every architecture, every option."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from nmt.batching import length_batches, pad_source
from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis, Tick, nothing
from nmt.decoding.search import search
from nmt.engines import Progress
from nmt.errors import DeviceError, is_out_of_memory
from nmt.host import reuse_memory
from nmt.models.interface import Seq2Seq
from nmt.nn.blocked import BlockedLinears, blocks_pay
from nmt.nn.device import autocast

BATCH_TOKENS: Final = 4096
"""Source tokens at work at a time, padding included."""
LEAST_TOKENS: Final = 512
"""Source tokens that are worth a batch of their own."""


class _Replica(NamedTuple):
    model: Seq2Seq[Any]
    device: torch.device


_Work = Callable[[np.ndarray, _Replica, Tick], list[list[Hypothesis]]]


class _LeftError(Exception):
    """Nobody waits for the search any more."""


class TorchEngine:
    """Searches in batches of sentences of like length.

    A translation does not depend on the batch, up to rounding, which in float32 decides only between hypotheses
    whose scores differ by less than some 1e-5.

    Args:
        model: any architecture; put into evaluation mode while it works. Its weights must stay as they are.
        device: where the model is; by default that of its first weight.
        others: further devices that work beside it where there are several batches, each on a copy of the model
            that is made for the first of them.
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
        others: Sequence[torch.device] = (),
        precision: str = "fp32",
        batch_tokens: int = BATCH_TOKENS,
        keep_attention: bool = False,
    ) -> None:
        first = next(model.parameters(), None)
        device = device or (torch.device("cpu") if first is None else first.device)
        if device.type == "cpu":
            reuse_memory()
        self.replicas = [_Replica(model, device)]
        self._others = list(others)
        self.precision = precision
        self.batch_tokens = batch_tokens
        self.keep_attention = keep_attention
        self._blocked = BlockedLinears(model) if precision == "fp32" and blocks_pay(device) else None

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`; several joined by commas."""
        return ",".join(str(device) for device in [*(replica.device for replica in self.replicas), *self._others])

    def search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each sentence, searched longest first, so that memory runs out early if it does."""
        results: list[list[Hypothesis]] = [[]] * len(sentences)
        lengths = np.array([len(sentence) + 1 for sentence in sentences], dtype=np.int64)
        batches = length_batches(lengths, self._budget(int(lengths.sum())))[::-1]
        done = 0

        def found(batch: np.ndarray, replica: _Replica, tick: Tick) -> list[list[Hypothesis]]:
            return self._search([sentences[i] for i in batch], options, replica, tick)

        self._copy_for(len(batches))
        products = nullcontext() if self._blocked is None else self._blocked.used()
        with evaluating(*(replica.model for replica in self.replicas)), products:
            for batch, part in self._each(found, batches):
                for i, hypotheses in zip(batch, part, strict=True):
                    results[i] = hypotheses
                done += len(batch)
                if progress is not None:
                    progress(done, len(sentences))
        return results

    def _copy_for(self, batches: int) -> None:
        """Copy the model to other devices, until each batch could have its own.

        Raises:
            DeviceError: a device cannot take it.
        """
        while self._others and len(self.replicas) < batches:
            other = self._others[0]
            try:
                self.replicas.append(_Replica(copy.deepcopy(self.replicas[0].model).to(other), other))
            except RuntimeError as error:
                what = str(error).partition("\n")[0]
                raise DeviceError(f"device {other} cannot be used ({what}): name another with --device") from error
            del self._others[0]

    def _workers(self) -> int:
        """Batches that can be at work at a time: one a device, or on a CPU one a thread."""
        devices = len(self.replicas) + len(self._others)
        return torch.get_num_threads() if devices == 1 and self.replicas[0].device.type == "cpu" else devices

    def _budget(self, tokens: int) -> int:
        """Source tokens of a batch, for so many in all.

        Devices share the text; the threads of a CPU share `batch_tokens` as well.
        """
        room = min(tokens, self.batch_tokens * (len(self.replicas) + len(self._others)))
        return min(self.batch_tokens, max(LEAST_TOKENS, room // self._workers()))

    def _each(self, work: _Work, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, list[list[Hypothesis]]]]:
        """Each batch with what `work` gives for it; on each device one at a time, on a CPU one a thread.

        Many operations of a search are too small to be shared by threads, or are not shared at all. Batches for which
        the memory of a CPU does not suffice beside the others are searched again when those have ended. Who leaves
        before the end stops them all within a step.
        """
        threads = torch.get_num_threads()
        workers = min(self._workers(), len(batches))
        left, too_large = threading.Event(), []
        idle: queue.SimpleQueue[_Replica] = queue.SimpleQueue()
        for number in range(workers):
            idle.put(self.replicas[number % len(self.replicas)])

        def tick() -> None:
            if left.is_set():
                raise _LeftError

        def attempt(batch: np.ndarray) -> list[list[Hypothesis]] | None:
            replica = idle.get()
            try:
                return work(batch, replica, tick)
            except DeviceError:
                if len(self.replicas) > 1:  # it was alone there
                    raise
                return None
            finally:
                idle.put(replica)

        if workers < 2:
            yield from ((batch, work(batch, self.replicas[0], nothing)) for batch in batches)
            return
        torch.set_num_threads(max(1, threads // workers))
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
        yield from ((batch, work(batch, self.replicas[0], nothing)) for batch in too_large)

    def _search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, replica: _Replica, tick: Tick
    ) -> list[list[Hypothesis]]:
        """Hypotheses of one batch; where memory does not suffice, of its halves."""
        try:
            with autocast(replica.device, self.precision):
                found = search(replica.model, *pad_source(sentences, replica.device), options, tick)
            return [[self._kept(hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(sentences) == 1:
                what = f"one sentence of {len(sentences[0])} tokens"
                raise DeviceError(f"out of memory translating {what}: use a smaller --beam") from error
        half = len(sentences) // 2
        parts = (self._search(part, options, replica, tick) for part in (sentences[:half], sentences[half:]))
        return [hypotheses for part in parts for hypotheses in part]

    def _kept(self, hypothesis: Hypothesis) -> Hypothesis:
        attention = hypothesis.attention if self.keep_attention else None
        return replace(hypothesis, attention=None if attention is None else attention.cpu())


@contextmanager
def evaluating(*models: Seq2Seq[Any]) -> Iterator[None]:
    """Put models into evaluation mode for a while."""
    before = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)
