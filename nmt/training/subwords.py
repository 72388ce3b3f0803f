"""Subword regularization: the training text segmented anew in every epoch (Kudo 2018).

A model that has seen "▁voiture s" and "▁voit ures" knows more of words than one that has only ever seen "▁voitures":
worth most where there is little data. https://arxiv.org/abs/1804.10959
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from nmt.config import TrainingConfig
from nmt.dataset import DataDirectory, EncodedSplit, token_type
from nmt.errors import UsageError
from nmt.special import UNK
from nmt.tokenizer import TokenizerPair

_SENTENCES_AT_ONCE: Final = 10_000


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
    return lambda epoch: sampled_split(split, data.tokenizers, alpha=alpha, seed=options.seed, epoch=epoch)


def sampled_split(
    split: EncodedSplit, tokenizers: TokenizerPair, *, alpha: float, seed: int, epoch: int
) -> EncodedSplit:
    """The pairs of `split` in segmentations drawn for one epoch; depends on nothing but the arguments.

    A sentence with unknown characters stays as it is: its pieces do not say what they were.

    Args:
        split: pairs as encoded once and for all.
        tokenizers: unigram models that encoded them.
        alpha: of the sampling distribution P(x)^alpha: 1 the model's own, towards 0 uniform.
        seed: of the run.
        epoch: which draw.
    """
    dtype = token_type(tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    tokens, offsets = [], []
    sides = (
        (tokenizers.source, split.sources, split.src_lengths),
        (tokenizers.target, split.targets, split.tgt_lengths),
    )
    for side, (tokenizer, sentences, known_lengths) in enumerate(sides):
        pieces = [np.empty(0, dtype)]
        lengths = np.zeros(len(split) + 1, np.int64)
        for start in range(0, len(split), _SENTENCES_AT_ONCE):
            end = min(start + _SENTENCES_AT_ONCE, len(split))
            ends = np.cumsum(known_lengths[start:end])
            known = [ids.tolist() for ids in np.split(sentences(np.arange(start, end)), ends[:-1])]
            texts = [tokenizer.decode(ids) for ids in known]
            draw = int(np.random.SeedSequence([seed, epoch, side, start]).generate_state(1)[0])
            drawn = tokenizer.sample_batch(texts, alpha=alpha, seed=draw)
            sampled = [ids if UNK in ids else new for ids, new in zip(known, drawn, strict=True)]
            lengths[start + 1 : end + 1] = [len(ids) for ids in sampled]
            pieces.append(np.concatenate([np.asarray(ids, dtype) for ids in sampled]))
        tokens.append(np.concatenate(pieces))
        offsets.append(np.cumsum(lengths))
    return EncodedSplit(tokens, offsets)
