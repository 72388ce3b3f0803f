import hashlib
import math
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from nmt.dataset import DataDirectory, EncodedSplit
from nmt.resources import shipped_model
from nmt.special import UNK
from nmt.tokenizer import Tokenizer, TokenizerPair
from nmt.training import subwords
from nmt.training.subwords import Sampler, sampled_split


def samplers(data: DataDirectory, alpha: float) -> tuple[Sampler, Sampler]:
    return Sampler(data.tokenizers.source, alpha), Sampler(data.tokenizers.target, alpha)


def sentences(split: EncodedSplit) -> list[list[int]]:
    return [side([i]).tolist() for i in range(len(split)) for side in (split.sources, split.targets)]


def test_a_sampled_split_is_the_same_text_in_other_pieces(unigram_data):
    split, tokenizer = unigram_data.split("train"), unigram_data.tokenizers.source
    sampled = sampled_split(split, samplers(unigram_data, 0.2), seed=1, epoch=0)
    before, after = sentences(split), sentences(sampled)
    assert [tokenizer.decode(ids) for ids in after] == [tokenizer.decode(ids) for ids in before]
    assert sum(a != b for a, b in zip(after, before, strict=True)) > 10
    assert sampled.src_lengths.tolist() == [len(sampled.sources([i])) for i in range(len(sampled))]


def test_a_split_of_many_chunks_is_the_same_text(unigram_data, monkeypatch):
    split, tokenizer = unigram_data.split("train"), unigram_data.tokenizers.source
    monkeypatch.setattr("nmt.training.subwords._SENTENCES_AT_ONCE", 7)
    sampled = sampled_split(split, samplers(unigram_data, 0.2), seed=1, epoch=0)
    assert [tokenizer.decode(ids) for ids in sentences(sampled)] == [tokenizer.decode(ids) for ids in sentences(split)]


def test_source_and_target_of_one_text_are_drawn_apart(unigram_data):
    sampled = sampled_split(unigram_data.split("train"), samplers(unigram_data, 0.2), seed=1, epoch=0)
    assert any(not np.array_equal(sampled.sources([i]), sampled.targets([i])) for i in range(len(sampled)))


@pytest.mark.parametrize(("seed", "epoch", "same"), [(1, 3, True), (1, 4, False), (2, 3, False)])
def test_the_draw_is_a_function_of_seed_and_epoch(unigram_data, seed, epoch, same):
    split = unigram_data.split("train")
    first = sampled_split(split, samplers(unigram_data, 0.2), seed=1, epoch=3)
    other = sampled_split(split, samplers(unigram_data, 0.2), seed=seed, epoch=epoch)
    assert (sentences(first) == sentences(other)) is same


def test_a_high_alpha_gives_the_best_segmentation_nearly_always(unigram_data):
    split = unigram_data.split("train")
    sampled = sampled_split(split, samplers(unigram_data, 50.0), seed=1, epoch=0)
    equal = sum(a == b for a, b in zip(sentences(split), sentences(sampled), strict=True))
    assert equal > 0.95 * 2 * len(split)


PROGRAM = """
import hashlib, sys
from pathlib import Path
import numpy as np
from nmt.dataset import DataDirectory
from nmt.training.subwords import Sampler, sampled_split
data = DataDirectory.open(Path(sys.argv[1]))
both = Sampler(data.tokenizers.source, 0.2), Sampler(data.tokenizers.target, 0.2)
split = sampled_split(data.split("train"), both, seed=1, epoch=2)
print(hashlib.sha256(split.sources(np.arange(len(split))).tobytes()).hexdigest())
"""


def test_processes_draw_the_same(unigram_data):
    """SentencePiece's own sampling does not, whatever its seed: ranks would not agree, nor would a resumed run."""
    split = sampled_split(unigram_data.split("train"), samplers(unigram_data, 0.2), seed=1, epoch=2)
    ours = hashlib.sha256(split.sources(np.arange(len(split))).tobytes()).hexdigest()
    command = [sys.executable, "-c", PROGRAM, str(unigram_data.path)]
    assert {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in "ab"} == {ours + "\n"}


def paths(tokenizer: Tokenizer, word: str) -> dict[tuple[int, ...], float]:
    """Log probability of every segmentation of a word."""
    if not word:
        return {(): 0.0}
    known = tokenizer.log_probabilities()
    found = {}
    for end in range(1, len(word) + 1):
        if word[:end] in known:
            first, log_probability = known[word[:end]]
            found |= {(first, *rest): log_probability + other for rest, other in paths(tokenizer, word[end:]).items()}
    return found


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_segmentations_come_as_often_as_the_paper_says(alpha):
    """P(x)^alpha over the sum of all (section 3.3, with l without bound)."""
    tokenizer = TokenizerPair.load(shipped_model()).source
    sampler, uniform = Sampler(tokenizer, alpha), random.Random(1).random
    weights = {path: math.exp(alpha * log) for path, log in paths(tokenizer, "\u2581jardin").items()}
    assert len(weights) > 10
    ids, times = tokenizer.encode("jardin"), 20_000
    counts = Counter(tuple(sampler.sample(ids, uniform)) for _ in range(times))
    assert set(counts) <= set(weights)
    for path, weight in weights.items():
        share = weight / sum(weights.values())
        assert counts[path] == pytest.approx(times * share, abs=5 * math.sqrt(times * share) + 1)


def test_the_best_segmentation_is_the_tokenizers_own(unigram_data):
    """Scores are those of the model: with a large alpha, what is drawn is what SentencePiece finds best."""
    tokenizer = TokenizerPair.load(shipped_model()).source
    sampler, uniform = Sampler(tokenizer, 100.0), random.Random(1).random
    for word in ("maison", "jardinier", "œuvre"):
        found = paths(tokenizer, f"\u2581{word}")
        best, worst = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
        assert list(best) == tokenizer.encode(word) == sampler.sample(worst, uniform)


@pytest.mark.parametrize("text", ["la maison € rouge", "€", "chat€chien", ""])
def test_characters_that_the_vocabulary_lacks_stay(unigram_data, text):
    tokenizer = unigram_data.tokenizers.source
    uniform, sampler = random.Random(1).random, Sampler(tokenizer, 0.01)
    ids = tokenizer.encode(text)
    drawn = [sampler.sample(ids, uniform) for _ in range(20)]
    assert {tokenizer.decode(sample) for sample in drawn} == {tokenizer.decode(ids)}
    assert len({tuple(sample) for sample in drawn}) > 1 or text in ("€", "")
    with_unknown = [UNK, *ids, UNK, *ids[:2], UNK, UNK]
    known = tokenizer.vocabulary()
    fixed = [i for i in with_unknown if i == UNK or known[i].startswith("<0x")]
    drawn_too = sampler.sample(with_unknown, uniform)
    assert [i for i in drawn_too if i == UNK or known[i].startswith("<0x")] == fixed
    assert drawn_too[0] == UNK
    assert drawn_too[-2:] == [UNK, UNK]


def test_a_beginning_that_nothing_spells_is_passed_over():
    """A vocabulary of "ab", "c" and "abc": "a" alone ends nothing."""

    class Vocabulary:
        vocab_size = 4

        def vocabulary(self):
            return ["<unk>", "ab", "c", "abc"]

        def log_probabilities(self):
            return {"ab": (1, -1.0), "c": (2, -1.0), "abc": (3, -2.0)}

    sampler, uniform = Sampler(Vocabulary(), 1.0), random.Random(1).random
    drawn = Counter(tuple(sampler.sample([1, 2], uniform)) for _ in range(1000))
    assert set(drawn) == {(1, 2), (3,)}
    assert drawn[3,] == pytest.approx(500, abs=80)


def test_words_that_were_forgotten_are_drawn_as_before(unigram_data, monkeypatch):
    split = unigram_data.split("train")
    before = sampled_split(split, samplers(unigram_data, 0.2), seed=1, epoch=0)
    monkeypatch.setattr(subwords, "_WORDS_KEPT", 2)
    assert sentences(sampled_split(split, samplers(unigram_data, 0.2), seed=1, epoch=0)) == sentences(before)
