"""How probable a model finds translations that are already there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from nmt.batching import length_batches, pad_source
from nmt.decoding.forced import forced_scores
from nmt.engines import Progress
from nmt.engines.pytorch import BATCH_TOKENS, evaluating
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast
from nmt.special import BOS
from nmt.tokenizer import TokenizerPair
from nmt.translator import MAX_LINE_TOKENS, MAX_PIECE_CHARACTERS

MAX_SCORED: Final = 1024
"""Tokens a side of what is scored."""


@dataclass(frozen=True)
class ForcedScore:
    """What the model gives for a translation that was already there."""

    log_prob: float
    """Sum of the tokens' log-probabilities, EOS included, nats."""
    tokens: int
    """Target tokens, EOS included."""
    cut: bool
    """Whether a side was so long that only its beginning was scored."""


class Scorer:
    """Forced decoding of given pairs.

    Args:
        model: any architecture; put into evaluation mode while it works.
        tokenizers: of source and target language.
        device: where the model is.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: tokens of a batch on its longer side, padding included.
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        tokenizers: TokenizerPair,
        *,
        device: torch.device,
        precision: str = "fp32",
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.model, self.tokenizers, self.device = model, tokenizers, device
        self.precision, self.batch_tokens = precision, batch_tokens

    def score(self, pairs: Sequence[tuple[str, str]], progress: Progress | None = None) -> list[ForcedScore]:
        """Forced decoding: how probable the model finds each given (source, target)."""
        limit = MAX_PIECE_CHARACTERS * MAX_LINE_TOKENS
        src = self.tokenizers.source.encode_batch([source[:limit] for source, _ in pairs])
        tgt = self.tokenizers.target.encode_batch([target[:limit] for _, target in pairs])
        kept = [(s[:MAX_SCORED], t[:MAX_SCORED]) for s, t in zip(src, tgt, strict=True)]
        lengths = np.array([max(len(s), len(t)) + 1 for s, t in kept], dtype=np.int64)
        scores = np.zeros(len(pairs))
        done = 0
        with evaluating(self.model):
            for batch in reversed(length_batches(lengths, self.batch_tokens)):
                scores[batch] = self._score([kept[i] for i in batch])
                done += len(batch)
                if progress is not None:
                    progress(done, len(pairs))
        return [
            ForcedScore(
                log_prob=float(score),
                tokens=min(len(t), MAX_SCORED) + 1,
                cut=max(len(s), len(t)) > MAX_SCORED or max(map(len, pair)) > limit,
            )
            for score, s, t, pair in zip(scores, src, tgt, pairs, strict=True)
        ]

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
        src, src_mask = pad_source([source for source, _ in pairs], self.device)
        tgt_out, tgt_mask = pad_source([target for _, target in pairs], self.device)
        tgt_in = torch.cat([torch.full_like(tgt_out[:, :1], BOS), tgt_out[:, :-1]], 1)
        with autocast(self.device, self.precision):
            return forced_scores(self.model, src, src_mask, tgt_in, tgt_out, tgt_mask).cpu().numpy()
