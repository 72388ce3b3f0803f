"""Label-smoothed cross-entropy of the output layer, computed in pieces.

The table of logits (tokens x vocabulary) is the largest thing in a training step. It is never held whole: each
piece of tokens is projected, scored and turned into its gradient at once, and only the gradients by features and
weights are kept. Between the matrix products, for which a piece is large, softmax and gradient go over it in slices
that stay in cache; the gradient takes the place of the logits.
"""

from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIECE_TOKENS: Final = 1024
"""Tokens a piece: 1024 x 8,000 logits are 16 MB in bfloat16."""
TOKENS_MULTIPLE: Final = 128
"""The last piece is filled up to a multiple of these, with rows that count nothing, so that few shapes arise."""
SLICE_LOGITS: Final = 2**19
"""Logits a slice: as many probabilities are 2 MB in float32."""


class Losses(NamedTuple):
    """Sums over tokens, in nats."""

    smoothed: Float[Tensor, ""]
    """What training minimises."""
    nll: Float[Tensor, ""]
    """Negative log-likelihood of the targets themselves: exp(nll / tokens) is the perplexity. No gradient."""


def smoothed_cross_entropy(
    features: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"],
    targets: Int[Tensor, " M"],
    label_smoothing: float,
) -> Losses:
    """Sum over tokens of -(1 - e) log p(target) - e/V sum_v log p(v), with log p = log softmax(W x + b).

    Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567. Pass features of real tokens only.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    wanted = torch.is_grad_enabled()  # inside, torch only says whether the inputs could have a gradient
    smoothed, nll = _CrossEntropy.apply(features, weight, bias, targets, label_smoothing, dtype, wanted)  # type: ignore[no-untyped-call]
    return Losses(smoothed, nll)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_grad = wanted and any(ctx.needs_input_grad)
        tokens = len(features)
        low = nn.functional.pad(features.to(dtype), (0, 0, 0, -tokens % TOKENS_MULTIPLE))
        low_weight = weight.to(dtype)
        wide_bias = bias.float()
        smoothed = torch.zeros((), device=low.device)
        nll = torch.zeros_like(smoothed)
        grad_features = torch.empty_like(low) if needs_grad else low
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = torch.zeros_like(wide_bias)
        with torch.autocast(features.device.type, enabled=False):
            for start in range(0, len(low), PIECE_TOKENS):
                rows, gold = low[start : start + PIECE_TOKENS], targets[start : start + PIECE_TOKENS, None]
                logits = rows @ low_weight.T
                logits[len(gold) :] = 0  # the gradient at rows that are no tokens
                size = len(rows) if logits.is_cuda else max(1, SLICE_LOGITS // len(weight))
                parts = torch.split(logits[: len(gold)], size)
                for part, part_gold in zip(parts, torch.split(gold, size), strict=True):
                    probs, gold_log_probs, all_log_probs = _log_probabilities(part + wide_bias, part_gold)
                    nll -= gold_log_probs.sum()
                    spread = all_log_probs * (label_smoothing / len(weight))
                    smoothed -= (1 - label_smoothing) * gold_log_probs.sum() + spread
                    if needs_grad:
                        grad = probs.sub_(label_smoothing / len(weight))
                        grad.scatter_add_(-1, part_gold, torch.full_like(gold_log_probs, label_smoothing - 1))
                        part.copy_(grad)
                if needs_grad:
                    torch.mm(logits, low_weight, out=grad_features[start : start + PIECE_TOKENS])
                    grad_weight += logits.T @ rows
                    grad_bias += (logits.new_ones(1, len(logits)) @ logits)[0]  # faster than a sum over rows
        if needs_grad:
            ctx.save_for_backward(grad_features[:tokens], grad_weight, grad_bias)
            ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _nll: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [(saved.float() * grad).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return *scaled, None, None, None, None


def _log_probabilities(logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (M, V), log-probabilities of `gold` (M, 1), and the sum of all log-probabilities."""
    probs = torch.softmax(logits, -1)
    normaliser = logits.amax(-1, keepdim=True) - probs.amax(-1, keepdim=True).log()  # log sum exp; the best p >= 1/V
    gold_log_probs = logits.gather(-1, gold) - normaliser
    return probs, gold_log_probs, logits.sum() - logits.shape[-1] * normaliser.sum()
