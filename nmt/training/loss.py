"""Label-smoothed cross-entropy of the output layer, computed in pieces.

The table of logits (tokens x vocabulary) is the largest thing in a training step. It is never held whole: each
piece of tokens is projected, scored and turned into its gradient at once, while it is in cache, and only the
gradients by features and weights are kept.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE_TOKENS = 512
"""Tokens a piece: 512 x 8,000 logits are 8 MB in bfloat16."""


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
    smoothed, nll = _CrossEntropy.apply(features, weight, bias, targets, label_smoothing, dtype)  # type: ignore[no-untyped-call]
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
    ) -> tuple[Tensor, Tensor]:
        needs_grad = any(ctx.needs_input_grad)
        low_weight, low_bias = weight.to(dtype), bias.to(dtype)
        low = features.to(dtype)
        grad_features = torch.empty_like(low) if needs_grad else low
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = torch.zeros_like(bias, dtype=torch.float32)
        smoothed = features.new_zeros((), dtype=torch.float32)
        nll = torch.zeros_like(smoothed)
        vocabulary = len(weight)
        with torch.autocast(features.device.type, enabled=False):
            for start in range(0, len(low), PIECE_TOKENS):
                rows, gold = low[start : start + PIECE_TOKENS], targets[start : start + PIECE_TOKENS, None]
                logits = torch.addmm(low_bias, rows, low_weight.T)
                probs = torch.softmax(logits, -1, dtype=torch.float32)
                top, best = logits.max(-1, keepdim=True)
                normaliser = top.float() - probs.gather(-1, best).log()  # log sum exp; probs[best] >= 1/V
                gold_log_probs = logits.gather(-1, gold).float() - normaliser
                all_log_probs = logits.sum(dtype=torch.float32) - vocabulary * normaliser.sum()
                nll -= gold_log_probs.sum()
                spread = all_log_probs * (label_smoothing / vocabulary)
                smoothed -= (1 - label_smoothing) * gold_log_probs.sum() + spread
                if not needs_grad:
                    continue
                grad = probs.sub_(label_smoothing / vocabulary)
                grad.scatter_add_(-1, gold, torch.full_like(gold_log_probs, label_smoothing - 1))
                grad_low = grad.to(dtype)
                torch.mm(grad_low, low_weight, out=grad_features[start : start + PIECE_TOKENS])
                grad_weight += grad_low.T @ rows
                grad_bias += grad.sum(0)
        if needs_grad:
            ctx.save_for_backward(grad_features, grad_weight, grad_bias)
            ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _nll: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [(saved.float() * grad).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return *scaled, None, None, None
