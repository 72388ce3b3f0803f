"""Learning rate as a function of the update."""

import math
from typing import Literal


def learning_rate(
    update: int,
    *,
    peak: float,
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"],
    warmup_updates: int,
    max_updates: int,
) -> float:
    """Rate of update 1, 2, ...: linear from 0 to `peak` at `warmup_updates`, then falling by `schedule`.

    `inverse_sqrt`: peak * sqrt(warmup / update) (Vaswani et al. 2017, equation 3). `cosine` (Loshchilov and
    Hutter 2017, equation 5) and `linear` reach 0 after `max_updates`.
    """
    if update < warmup_updates:
        return peak * update / warmup_updates
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(1, warmup_updates) / update)
    if schedule == "constant":
        return peak
    left = max(0, max_updates - update + 1) / max(1, max_updates - max(1, warmup_updates) + 1)
    left = min(1.0, left)
    return peak * (left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
