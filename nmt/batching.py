"""Batches of like length under a token budget, in an order that is a function of (seed, epoch)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nmt.dataset import EncodedSplit
from nmt.special import BOS, EOS, PAD


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

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        names = ("src", "src_mask", "tgt_in", "tgt_out", "tgt_mask")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def _pad(rows: Sequence[np.ndarray], first: Sequence[int], last: Sequence[int]) -> Tensor:
    """Rows with `first` before and `last` after each, PAD up to the longest."""
    extra = len(first) + len(last)
    padded = np.full((len(rows), max(map(len, rows)) + extra), PAD, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row) + extra] = [*first, *row, *last]
    return torch.from_numpy(padded)


def pad_source(sentences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Source tokens (B, S), EOS appended, and their mask, on `device`."""
    src = _pad([np.asarray(ids, dtype=np.int64) for ids in sentences], [], [EOS])
    return src.to(device), (src != PAD).to(device)


def make_batch(split: EncodedSplit, samples: Sequence[int]) -> Batch:
    """Fetch and pad the pairs at positions `samples`."""
    src = _pad([split.source(i) for i in samples], [], [EOS])
    targets = [split.target(i) for i in samples]
    tgt_in, tgt_out = _pad(targets, [BOS], []), _pad(targets, [], [EOS])
    tokens = sum(map(len, targets)) + len(targets)
    return Batch(src, src != PAD, tgt_in, tgt_out, tgt_out != PAD, tuple(int(i) for i in samples), tokens)


def length_batches(lengths: Int[np.ndarray, " n"], batch_tokens: int) -> list[np.ndarray]:
    """Positions sorted by length and cut so that rows * longest row <= `batch_tokens` (or one row)."""
    return _cut(np.argsort(lengths, kind="stable"), lengths, batch_tokens)


def _cut(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    batches, start, longest = [], 0, 0
    for end, position in enumerate(order):
        grown = max(longest, int(lengths[position]))
        if end > start and grown * (end + 1 - start) > batch_tokens:
            batches.append(order[start:end])
            start, grown = end, int(lengths[position])
        longest = grown
    if len(order) > start:
        batches.append(order[start:])
    return batches


def epoch_batches(split: EncodedSplit, batch_tokens: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """All pairs once, as sample positions batch by batch; depends on nothing but the arguments.

    Pairs are sorted by target length, then by source length, so that both sides pad little; equal ones are
    shuffled among themselves, and batches among each other.
    """
    rng = np.random.default_rng([seed, epoch])
    src, tgt = split.src_lengths + 1, split.tgt_lengths + 1
    longer = np.maximum(src, tgt)
    shuffled = rng.permutation(len(split))
    order = shuffled[np.lexsort((src[shuffled], tgt[shuffled]))]
    batches = _cut(order, longer, batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


def batch_stream(
    splits: Callable[[int], EncodedSplit], batch_tokens: int, *, seed: int, epoch: int = 0, skip: int = 0
) -> Iterator[tuple[int, int, Batch]]:
    """Endless (epoch, index in epoch, batch), beginning at batch `skip` of `epoch`.

    `splits` gives the pairs as they are segmented in an epoch.
    """
    while True:
        split = splits(epoch)
        plan = epoch_batches(split, batch_tokens, seed=seed, epoch=epoch)
        for index in range(skip, len(plan)):
            yield epoch, index, make_batch(split, plan[index].tolist())
        epoch, skip = epoch + 1, 0
