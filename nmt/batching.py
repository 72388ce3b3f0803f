"""Batches of like length under a token budget, in an order that is a function of (seed, epoch)."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nmt.dataset import EncodedSplit
from nmt.special import BOS, EOS, PAD

LENGTH_MULTIPLE: Final = 2
ROWS_MULTIPLE: Final = 8
"""Batches are padded to, and those of training have as many rows as, a multiple of these. That adds a few per cent of
padding, and leaves tens of shapes where there were hundreds: libraries of matrix products prepare, and keep, code for
each."""


@dataclass(frozen=True)
class Batch:
    """Sentence pairs padded to one length a side; masks are True at real tokens."""

    src: Int[Tensor, "B S"]
    """Source tokens, EOS last."""
    src_mask: Bool[Tensor, "B S"]
    tgt_in: Int[Tensor, "B T"]
    """Target tokens, BOS first: what the decoder reads."""
    tgt_out: Int[Tensor, "B T"]
    """Target tokens, EOS last: what it must predict."""
    tgt_mask: Bool[Tensor, "B T"]
    samples: tuple[int, ...]
    """Positions of the pairs in their split."""
    target_tokens: int
    """Real target tokens, EOS included."""
    seed: int
    """Of the dropout masks in training."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        names = ("src", "src_mask", "tgt_in", "tgt_out", "tgt_mask")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def halves(self) -> tuple["Batch", "Batch"]:
        """Two batches of half the pairs, each without padding that only the other needs; with other dropout masks."""
        middle = len(self.samples) // 2
        return self._part(slice(0, middle), 2 * self.seed + 1), self._part(slice(middle, None), 2 * self.seed + 2)

    def _part(self, rows: slice, seed: int) -> "Batch":
        src_mask, tgt_mask = self.src_mask[rows], self.tgt_mask[rows]
        source, target = (_round_up(int(mask.sum(1).amax())) for mask in (src_mask, tgt_mask))
        return Batch(
            self.src[rows, :source],
            src_mask[:, :source],
            self.tgt_in[rows, :target],
            self.tgt_out[rows, :target],
            tgt_mask[:, :target],
            self.samples[rows],
            int(tgt_mask.sum()),
            seed % 2**32,
        )


Lengths = TypeVar("Lengths", int, np.ndarray)


def _round_up(length: Lengths) -> Lengths:
    rounded: Lengths = length + -length % LENGTH_MULTIPLE
    return rounded


def _pad(
    ids: np.ndarray, lengths: np.ndarray, *, bos: bool = False, eos: bool = False, rounded: bool = False
) -> Tensor:
    """Sentences of `lengths`, given one after the other, with BOS before or EOS after each, PAD up to the longest."""
    length = int(lengths.max()) + bos + eos
    padded = np.full((len(lengths), _round_up(length) if rounded else length), PAD, dtype=np.int64)
    position = np.arange(padded.shape[1]) - bos
    padded[(position >= 0) & (position < lengths[:, None])] = ids
    if bos:
        padded[:, 0] = BOS
    if eos:
        padded[np.arange(len(lengths)), lengths + bos] = EOS
    return torch.from_numpy(padded)


def pad_source(sentences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Source tokens (B, S), EOS appended, and their mask, on `device`."""
    ids = np.fromiter(itertools.chain.from_iterable(sentences), dtype=np.int64)
    src = _pad(ids, np.array([len(sentence) for sentence in sentences]), eos=True)
    return src.to(device), (src != PAD).to(device)


def make_batch(split: EncodedSplit, samples: Sequence[int] | np.ndarray, *, seed: int = 0) -> Batch:
    """Fetch and pad the pairs at positions `samples`; `seed` is for their dropout."""
    numbers = np.asarray(samples)
    src = _pad(split.sources(numbers), split.src_lengths[numbers], eos=True, rounded=True)
    ids, lengths = split.targets(numbers), split.tgt_lengths[numbers]
    tgt_in, tgt_out = _pad(ids, lengths, bos=True, rounded=True), _pad(ids, lengths, eos=True, rounded=True)
    tokens = len(ids) + len(lengths)
    return Batch(src, src != PAD, tgt_in, tgt_out, tgt_out != PAD, tuple(numbers.tolist()), tokens, seed)


def epoch_batches(split: EncodedSplit, batch_tokens: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """All pairs once, as sample positions batch by batch; depends on nothing but the arguments.

    Pairs are sorted by the target length that they are padded to, then by source length, up and down in turn: a batch
    that two target lengths share has neighbours of both, so that both sides pad little. Equal pairs are shuffled
    among themselves, and batches among each other.
    """
    rng = np.random.default_rng([seed, epoch])
    src, tgt = split.src_lengths + 1, split.tgt_lengths + 1
    longer = np.maximum(src, tgt)
    shuffled = rng.permutation(len(split))
    padded = _round_up(tgt[shuffled])
    up_and_down = np.where(padded // LENGTH_MULTIPLE % 2, src[shuffled], -src[shuffled])
    order = shuffled[np.lexsort((up_and_down, padded))]
    batches = cut_batches(order, _round_up(longer), batch_tokens, rows=ROWS_MULTIPLE)
    return [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True, eq=False)
class Planned:
    """A batch to come: what is in it is known, but not fetched."""

    epoch: int
    index: int
    """Of the batch in its epoch."""
    split: EncodedSplit
    samples: np.ndarray
    seed: int
    """Of the run."""

    @property
    def target_tokens(self) -> int:
        """Real target tokens, EOS included."""
        return int(self.split.tgt_lengths[self.samples].sum()) + len(self.samples)

    def fetch(self) -> Batch:
        """Fetch and pad."""
        seed = np.random.SeedSequence([self.seed, self.epoch, self.index, 1]).generate_state(1)[0]
        return make_batch(self.split, self.samples, seed=int(seed))


def batch_stream(
    splits: Callable[[int], EncodedSplit], batch_tokens: int, *, seed: int, epoch: int = 0, skip: int = 0
) -> Iterator[Planned]:
    """Endless batches, beginning at batch `skip` of `epoch`.

    `splits` gives the pairs as they are segmented in an epoch.
    """
    while True:
        split = splits(epoch)
        plan = epoch_batches(split, batch_tokens, seed=seed, epoch=epoch)
        for index in range(skip, len(plan)):
            yield Planned(epoch, index, split, plan[index], seed)
        epoch, skip = epoch + 1, 0


def length_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions sorted by length and cut so that rows * longest row <= `batch_tokens` (or one row)."""
    return cut_batches(np.argsort(lengths, kind="stable"), lengths, batch_tokens)


def cut_batches(order: np.ndarray, lengths: np.ndarray, batch_tokens: int, *, rows: int = 1) -> list[np.ndarray]:
    """`order` cut so that rows * longest row <= `batch_tokens` (or one row).

    A batch of more than `rows` rows has a multiple of them, but for the last.
    """
    batches, start = [], 0
    while start < len(order):
        longest = np.maximum.accumulate(lengths[order[start : start + max(1, batch_tokens)]])
        fits = int(np.count_nonzero(longest * np.arange(1, len(longest) + 1) <= batch_tokens))
        if fits > rows and start + fits < len(order):
            fits -= fits % rows
        batches.append(order[start : start + max(1, fits)])
        start += max(1, fits)
    return batches
