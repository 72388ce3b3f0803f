"""Batches of sentences of like length under a token budget."""

import numpy as np


def length_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions sorted by length and cut so that rows * longest row <= `batch_tokens` (or one row)."""
    return cut_batches(np.argsort(lengths, kind="stable"), lengths, batch_tokens)


def cut_batches(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """`order` cut so that rows * longest row <= `batch_tokens` (or one row)."""
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
