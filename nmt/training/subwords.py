"""Subword regularization: the training text segmented anew in every epoch (Kudo 2018).

A model that has seen "▁voiture s" and "▁voit ures" knows more of words than one that has only ever seen "▁voitures":
worth most where there is little data. https://arxiv.org/abs/1804.10959

SentencePiece draws segmentations too, but others in every process, whatever its seed: a run could not be repeated or
resumed, and processes that train together would not agree on the batches.
"""

import math
import random
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from nmt.config import TrainingConfig
from nmt.dataset import DataDirectory, EncodedSplit, token_type
from nmt.errors import UsageError
from nmt.tokenizer import Tokenizer

_SENTENCES_AT_ONCE: Final = 10_000
_WORDS_KEPT: Final = 20_000  # some 4 KB each
_SPACE: Final = "▁"


def segmentations(split: EncodedSplit, data: DataDirectory, options: TrainingConfig) -> Callable[[int], EncodedSplit]:
    """The pairs of `split` of `data` as they are segmented in an epoch of training.

    Raises:
        UsageError: other segmentations are asked for, and the vocabulary cannot give any.
    """
    alpha = options.subword_alpha
    if not alpha:
        return lambda epoch: split
    if data.manifest["tokenizer"].get("model_type") != "unigram":
        raise UsageError("subword_alpha needs a unigram vocabulary: this one is of another kind; leave it at 0")
    source = Sampler(data.tokenizers.source, alpha)
    samplers = source, source if data.tokenizers.joint else Sampler(data.tokenizers.target, alpha)
    return lambda epoch: sampled_split(split, samplers, seed=options.seed, epoch=epoch)


def sampled_split(split: EncodedSplit, samplers: tuple["Sampler", "Sampler"], *, seed: int, epoch: int) -> EncodedSplit:
    """The pairs of `split` in segmentations drawn for one epoch; depends on nothing but the arguments.

    Args:
        split: pairs as encoded once and for all.
        samplers: with the models that encoded sources and targets.
        seed: of the run.
        epoch: which draw.
    """
    dtype = token_type(*(sampler.vocab_size for sampler in samplers))
    tokens, offsets = [], []
    sides = ((split.sources, split.src_lengths), (split.targets, split.tgt_lengths))
    for side, (sampler, (sentences, known_lengths)) in enumerate(zip(samplers, sides, strict=True)):
        pieces = [np.empty(0, dtype)]
        lengths = np.zeros(len(split) + 1, np.int64)
        for start in range(0, len(split), _SENTENCES_AT_ONCE):
            end = min(start + _SENTENCES_AT_ONCE, len(split))
            ends = np.cumsum(known_lengths[start:end])
            known = np.split(sentences(np.arange(start, end)), ends[:-1])
            draw = int(np.random.SeedSequence([seed, epoch, side, start]).generate_state(1)[0])
            uniform = random.Random(draw).random
            sampled = [sampler.sample(ids.tolist(), uniform) for ids in known]
            lengths[start + 1 : end + 1] = [len(ids) for ids in sampled]
            pieces.append(np.concatenate([np.asarray(ids, dtype) for ids in sampled]))
        tokens.append(np.concatenate(pieces))
        offsets.append(np.cumsum(lengths))
    return EncodedSplit(tokens, offsets)


class Sampler:
    """Draws segmentations from a unigram model: P(x | text) ~ P(x)^alpha (section 3.3), of all that there are.

    No piece reaches from one word into the next, so each word is drawn by itself: forward filtering, once a word, and
    backward sampling. What stands for a character that the vocabulary lacks, bytes or UNK, stays as it is.

    Args:
        tokenizer: a unigram model.
        alpha: 1 for the model's own distribution, towards 0 for all segmentations alike.
    """

    def __init__(self, tokenizer: Tokenizer, alpha: float) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._pieces = tokenizer.vocabulary()
        known = tokenizer.log_probabilities()
        self._weights = {piece: (i, alpha * log_probability) for piece, (i, log_probability) in known.items()}
        self._longest = max(map(len, known), default=0)
        self._begins = [piece not in known or piece.startswith(_SPACE) for piece in self._pieces]
        self._ends = [piece not in known for piece in self._pieces]
        self._words: OrderedDict[tuple[int, ...], _Lattice] = OrderedDict()  # those seen last, last

    def sample(self, ids: Sequence[int], uniform: Callable[[], float]) -> list[int]:
        """Another segmentation of a sentence.

        Args:
            ids: its pieces.
            uniform: gives the next random number of [0, 1).
        """
        sampled: list[int] = []
        word: list[int] = []
        for i in ids:
            if self._begins[i]:
                self._draw(word, uniform, sampled)
                word = []
            word.append(i)
            if self._ends[i]:
                sampled.append(i)
                word = []
        self._draw(word, uniform, sampled)
        return sampled

    def _draw(self, word: list[int], uniform: Callable[[], float], sampled: list[int]) -> None:
        """Append the pieces of a segmentation of one word: from its end to its beginning, as they are drawn."""
        if not word:
            return
        key = tuple(word)
        lattice = self._words.get(key)
        if lattice is None:
            if len(self._words) >= _WORDS_KEPT:
                self._words.popitem(last=False)
            lattice = self._words[key] = self._lattice("".join(self._pieces[i] for i in word))
        else:
            self._words.move_to_end(key)
        place, end = len(sampled), len(lattice) - 1
        while end:
            last = lattice[end]
            chosen = bisect(last.cumulative, uniform()) if last.cumulative else 0
            sampled.insert(place, last.ids[chosen])
            end = last.starts[chosen]

    def _lattice(self, word: str) -> "_Lattice":
        """The pieces that can come last in each beginning of a word, and how probable each is there."""
        totals = [0.0]  # log of what all segmentations of the first so many characters weigh together
        lattice = [_Last([], [], [])]
        for end in range(1, len(word) + 1):
            starts, ids, weights = [], [], []
            for start in range(max(0, end - self._longest), end):
                if totals[start] > -math.inf and (found := self._weights.get(word[start:end])) is not None:
                    starts.append(start)
                    ids.append(found[0])
                    weights.append(totals[start] + found[1])
            greatest = max(weights, default=-math.inf)
            shares = [math.exp(weight - greatest) for weight in weights]
            total = sum(shares)
            totals.append(greatest + math.log(total) if weights else -math.inf)  # where none ends, none is drawn
            lattice.append(_Last(starts, ids, [share / total for share in accumulate(shares[:-1])]))
        return lattice


class _Last(NamedTuple):
    """The pieces that can come last: where each starts, its id, and the probability of it and those before it."""

    starts: list[int]
    ids: list[int]
    cumulative: list[float]
    """Without that of the last one, which is 1."""


_Lattice = list[_Last]
