"""Batches: every pair once, under the budget, little padding, an order that depends on seed and epoch only."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from nmt.batching import batch_stream, epoch_batches, length_batches, make_batch, pad_source
from nmt.bench.training import synthetic_pairs
from nmt.dataset import EncodedSplit, SplitWriter
from nmt.special import BOS, EOS, PAD


@pytest.fixture
def split(tmp_path: Path) -> EncodedSplit:
    rng = np.random.default_rng(1)
    with SplitWriter(tmp_path, "train", "uint16") as writer:
        for _ in range(500):
            length = int(rng.integers(1, 30))
            writer.append(list(range(4, 4 + length)), list(range(4, 4 + max(1, length + int(rng.integers(-3, 4))))))
    return EncodedSplit.open(tmp_path, "train", "uint16")


def test_every_pair_once_an_epoch(split: EncodedSplit) -> None:
    samples = np.concatenate(epoch_batches(split, 200, seed=1, epoch=0))
    assert sorted(samples.tolist()) == list(range(500))


def test_halves_are_what_would_have_been_made_of_half_the_pairs(split: EncodedSplit) -> None:
    samples = [3, 77, 200, 41, 9]
    halves = make_batch(split, samples, seed=5).halves()
    for half, expected in zip(halves, (samples[:2], samples[2:]), strict=True):
        made = make_batch(split, expected)
        assert (half.samples, half.target_tokens) == (made.samples, made.target_tokens)
        for name in ("src", "src_mask", "tgt_in", "tgt_out", "tgt_mask"):
            assert getattr(half, name).equal(getattr(made, name)), name
    assert len({halves[0].seed, halves[1].seed, 5}) == 3


def test_padding_counts_towards_the_budget_and_stays_small(split: EncodedSplit) -> None:
    area = real = 0
    for samples in epoch_batches(split, 200, seed=1, epoch=0):
        batch = make_batch(split, samples.tolist())
        rows = len(samples)
        assert rows * max(batch.src.shape[1], batch.tgt_in.shape[1]) <= 200 or rows == 1
        area += batch.tgt_out.numel()
        real += batch.target_tokens
    assert real / area > 0.9


def test_neither_side_pads_much_where_lengths_go_together() -> None:
    split = synthetic_pairs(8000)  # as long as captions are
    samples = epoch_batches(split, 16384, seed=1, epoch=0)  # large ones have many target lengths
    batches = [make_batch(split, batch.tolist()) for batch in samples]
    source = sum(int(batch.src_mask.sum()) for batch in batches) / sum(batch.src.numel() for batch in batches)
    target = sum(batch.target_tokens for batch in batches) / sum(batch.tgt_in.numel() for batch in batches)
    assert source > 0.82
    assert target > 0.93


def test_batches_have_few_shapes(split: EncodedSplit) -> None:
    batches = [make_batch(split, samples.tolist()) for samples in epoch_batches(split, 400, seed=1, epoch=0)]
    odd = [batch for batch in batches if len(batch.samples) > 8 and len(batch.samples) % 8]
    assert len(odd) <= 1  # what the epoch ends with
    for batch in batches:
        assert batch.src.shape[1] % 2 == batch.tgt_in.shape[1] % 2 == batch.tgt_out.shape[1] % 2 == 0
        assert batch.src[:, -2:].ne(PAD).any()


def test_order_is_a_function_of_seed_and_epoch(split: EncodedSplit) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [b.tolist() for b in epoch_batches(split, 200, seed=seed, epoch=epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_a_stream_can_be_entered_anywhere(split: EncodedSplit) -> None:
    whole = [(p.epoch, p.index, p.fetch().samples) for p in islice(batch_stream(lambda _: split, 200, seed=1), 150)]
    epoch, index, _ = whole[100]
    rest = islice(batch_stream(lambda _: split, 200, seed=1, epoch=epoch, skip=index), 50)
    assert [(p.epoch, p.index, p.fetch().samples) for p in rest] == whole[100:]
    assert whole[-1][0] > 0


def test_batch_holds_shifted_targets(split: EncodedSplit) -> None:
    batch = make_batch(split, [0, 1])
    for row, sample in enumerate([0, 1]):
        target = split.targets([sample]).tolist()
        assert batch.tgt_in[row, : len(target) + 1].tolist() == [BOS, *target]
        assert batch.tgt_out[row, : len(target) + 1].tolist() == [*target, EOS]
        assert batch.src[row, : len(split.sources([sample])) + 1].tolist() == [*split.sources([sample]).tolist(), EOS]
    assert batch.tgt_mask.equal(batch.tgt_out != PAD)
    assert batch.target_tokens == int(batch.tgt_mask.sum())


def test_pad_source_ends_every_sentence() -> None:
    import torch

    src, mask = pad_source([[5, 6], []], torch.device("cpu"))
    assert src.tolist() == [[5, 6, EOS], [EOS, PAD, PAD]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = length_batches(np.array([3, 50, 4]), 10)
    assert [b.tolist() for b in batches] == [[0, 2], [1]]
