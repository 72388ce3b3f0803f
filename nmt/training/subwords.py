"""Subword regularization: the training text segmented anew in every epoch (Kudo 2018).

A model that has seen "▁voiture s" and "▁voit ures" knows more of words than one that has only ever seen "▁voitures":
worth most where there is little data. https://arxiv.org/abs/1804.10959
"""

from typing import Final

import numpy as np

from nmt.dataset import EncodedSplit, token_type
from nmt.tokenizer import TokenizerPair

_SENTENCES_AT_ONCE: Final = 10_000


def sampled_split(
    split: EncodedSplit, tokenizers: TokenizerPair, *, alpha: float, seed: int, epoch: int
) -> EncodedSplit:
    """The pairs of `split` in segmentations drawn for one epoch; depends on nothing but the arguments.

    Args:
        split: pairs as encoded once and for all.
        tokenizers: unigram models that encoded them.
        alpha: of the sampling distribution P(x)^alpha: 1 the model's own, towards 0 uniform.
        seed: of the run.
        epoch: which draw.
    """
    dtype = token_type(tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    tokens, offsets = [], []
    sides = ((tokenizers.source, split.source), (tokenizers.target, split.target))
    for side, (tokenizer, sentence) in enumerate(sides):
        pieces = [np.empty(0, dtype)]
        lengths = np.zeros(len(split) + 1, np.int64)
        for start in range(0, len(split), _SENTENCES_AT_ONCE):
            end = min(start + _SENTENCES_AT_ONCE, len(split))
            texts = [tokenizer.decode(sentence(i).tolist()) for i in range(start, end)]
            draw = int(np.random.SeedSequence([seed, epoch, side, start]).generate_state(1)[0])
            sampled = tokenizer.sample_batch(texts, alpha=alpha, seed=draw)
            lengths[start + 1 : end + 1] = [len(ids) for ids in sampled]
            pieces += [np.asarray(ids, dtype) for ids in sampled]
        tokens.append(np.concatenate(pieces))
        offsets.append(np.cumsum(lengths))
    return EncodedSplit(tokens, offsets)
