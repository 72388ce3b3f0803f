"""Forced decoding: what the model gives for a translation that is already there."""

from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.decoding.selection import log_probabilities
from nmt.models.interface import Seq2Seq

PIECE: Final = 2048
"""Positions whose vocabulary-wide table is in memory at a time."""


@torch.inference_mode()
def forced_scores(
    model: Seq2Seq[Any],
    src: Int[Tensor, "B S"],
    src_mask: Bool[Tensor, "B S"],
    tgt_in: Int[Tensor, "B T"],
    tgt_out: Int[Tensor, "B T"],
    tgt_mask: Bool[Tensor, "B T"],
) -> Float[Tensor, " B"]:
    """Log P(tgt_out | src) of every pair, in nats: the score that a search gives the same tokens."""
    features = model.real_features(src, src_mask, tgt_in, tgt_mask)
    targets = tgt_out[tgt_mask]
    pieces = []
    for start in range(0, len(targets), PIECE):
        log_probs = log_probabilities(model.output(features[start : start + PIECE]))
        pieces.append(log_probs.gather(1, targets[start : start + PIECE, None])[:, 0])
    owner = tgt_mask.nonzero()[:, 0]
    scores = torch.zeros(len(src), dtype=torch.float64, device=src.device)
    scores.index_add_(0, owner, torch.cat(pieces).double() if pieces else scores[:0])
    return scores.float()
