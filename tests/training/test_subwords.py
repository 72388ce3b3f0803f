import numpy as np
import pytest

from nmt.dataset import EncodedSplit
from nmt.training.subwords import sampled_split


def sentences(split: EncodedSplit) -> list[list[int]]:
    return [side([i]).tolist() for i in range(len(split)) for side in (split.sources, split.targets)]


def test_a_sampled_split_is_the_same_text_in_other_pieces(unigram_data):
    split, tokenizer = unigram_data.split("train"), unigram_data.tokenizers.source
    sampled = sampled_split(split, unigram_data.tokenizers, alpha=0.2, seed=1, epoch=0)
    before, after = sentences(split), sentences(sampled)
    assert [tokenizer.decode(ids) for ids in after] == [tokenizer.decode(ids) for ids in before]
    assert sum(a != b for a, b in zip(after, before, strict=True)) > 10
    assert sampled.src_lengths.tolist() == [len(sampled.sources([i])) for i in range(len(sampled))]


def test_a_split_of_many_chunks_is_the_same_text(unigram_data, monkeypatch):
    split, tokenizer = unigram_data.split("train"), unigram_data.tokenizers.source
    monkeypatch.setattr("nmt.training.subwords._SENTENCES_AT_ONCE", 7)
    sampled = sampled_split(split, unigram_data.tokenizers, alpha=0.2, seed=1, epoch=0)
    assert [tokenizer.decode(ids) for ids in sentences(sampled)] == [tokenizer.decode(ids) for ids in sentences(split)]


def test_source_and_target_of_one_text_are_drawn_apart(unigram_data):
    sampled = sampled_split(unigram_data.split("train"), unigram_data.tokenizers, alpha=0.2, seed=1, epoch=0)
    assert any(not np.array_equal(sampled.sources([i]), sampled.targets([i])) for i in range(len(sampled)))


@pytest.mark.parametrize(("seed", "epoch", "same"), [(1, 3, True), (1, 4, False), (2, 3, False)])
def test_the_draw_is_a_function_of_seed_and_epoch(unigram_data, seed, epoch, same):
    split, tokenizers = unigram_data.split("train"), unigram_data.tokenizers
    first = sampled_split(split, tokenizers, alpha=0.2, seed=1, epoch=3)
    other = sampled_split(split, tokenizers, alpha=0.2, seed=seed, epoch=epoch)
    assert (sentences(first) == sentences(other)) is same


def test_a_high_alpha_gives_the_best_segmentation_nearly_always(unigram_data):
    split = unigram_data.split("train")
    sampled = sampled_split(split, unigram_data.tokenizers, alpha=50.0, seed=1, epoch=0)
    equal = sum(a == b for a, b in zip(sentences(split), sentences(sampled), strict=True))
    assert equal > 0.95 * 2 * len(split)
