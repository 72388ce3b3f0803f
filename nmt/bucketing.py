"""Batches of sentences of like length under a token budget."""

import numpy as np


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
