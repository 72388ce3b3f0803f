"""A model written by hand: its next-token distribution and its attention are any functions of the prefix.

Its state is the prefix itself, so a search that reorders the state wrongly is told by another distribution, and
one that reorders attention wrongly by other weights.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt.models.interface import DecoderState, Seq2Seq, StepOutput, per_sentence, unroll
from nmt.special import BOS, EOS, PAD

Prefix = tuple[int, ...]
Function = Callable[[Prefix, Prefix], list[float]]
"""From a prefix (without BOS) and a source (without padding) to a list of weights."""


@dataclass(frozen=True)
class TableState(DecoderState):
    prefix: Tensor
    src: Tensor = per_sentence()
    src_mask: Tensor = per_sentence()


class TableModel(Seq2Seq[TableState]):
    """`distribution(prefix, source)` over V tokens, `attention(prefix, source)` over the source's tokens."""

    def __init__(self, distribution: Function, attention: Function) -> None:
        super().__init__()
        self.distribution, self.attention = distribution, attention
        self.output = nn.Identity()

    def encode(self, src: Tensor, src_mask: Tensor) -> TableState:
        return TableState(src.new_empty(len(src), 0), src, src_mask)

    def step(self, tokens: Tensor, state: TableState) -> StepOutput[TableState]:
        prefixes = torch.cat([state.prefix, tokens[:, None]], 1)
        rows_per_sentence = len(tokens) // len(state.src)
        assert len(tokens) == rows_per_sentence * len(state.src)
        sources = [tuple(s[m].tolist()) for s, m in zip(state.src, state.src_mask, strict=True)]
        logits, weights = [], torch.zeros(len(tokens), state.src.shape[1])
        for row, (_, *prefix) in enumerate(prefixes.tolist()):
            source = sources[row // rows_per_sentence]
            probabilities = self.distribution(tuple(prefix), source)
            logits.append([math.log(p) + 3.0 if p else -math.inf for p in probabilities])
            weights[row, : len(source)] = torch.tensor(self.attention(tuple(prefix), source))
        return StepOutput(torch.tensor(logits), TableState(prefixes, state.src, state.src_mask), weights)

    def features(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor:
        return unroll(self, src, src_mask, tgt_in)[0]

    def complete(self, source: Prefix, longest: int, prefix: Prefix = ()) -> Iterator[tuple[Prefix, float]]:
        """Every translation up to `longest` tokens with its log-probability, by brute force."""
        for token, p in enumerate(self.distribution(prefix, source)):
            if token in (PAD, BOS) or not p:
                continue
            if token == EOS or len(prefix) + 1 == longest:
                yield (*prefix, token), math.log(p)
                continue
            for rest, score in self.complete(source, longest, (*prefix, token)):
                yield rest, score + math.log(p)


def random_table(seed: int = 0, vocab: int = 7, sharpness: float = 1.5) -> TableModel:
    """Every prefix of every source has its own distribution and its own attention."""

    def draw(what: str, prefix: Prefix, source: Prefix, size: int) -> list[float]:
        rng = random.Random(repr((seed, what, prefix, source)))
        weights = [math.exp(sharpness * rng.gauss(0, 1)) for _ in range(size)]
        return [w / sum(weights) for w in weights]

    return TableModel(
        lambda prefix, source: draw("token", prefix, source, vocab),
        lambda prefix, source: draw("attention", prefix, source, len(source)),
    )


def pad(*sentences: list[int], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Source tokens with EOS appended, `extra` columns of padding, and their mask."""
    src = torch.full((len(sentences), max(map(len, sentences)) + 1 + extra), PAD)
    for row, ids in zip(src, sentences, strict=True):
        row[: len(ids) + 1] = torch.tensor([*ids, EOS])
    return src, src != PAD
