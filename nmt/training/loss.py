"""Label-smoothed cross-entropy of the output layer, computed in pieces.

The table of logits (tokens x vocabulary) is the largest thing in a training step. It is never held whole: each
piece of tokens is projected, scored and turned into its gradient at once, and only the gradients by features and
weights are kept. On a CPU a piece is gone through once between its matrix products, by the softmax, which leaves the
probabilities where the logits were. To that end the bias is one more feature, which is 1 everywhere, and the part of
the gradient that label smoothing spreads evenly over the vocabulary is a product of two vectors.

In bfloat16 probabilities are rounded before the target's 1 is taken off: by 2^-8 of themselves at most, as logits are.
Where there is no label smoothing, what is left to learn of a token whose probability is above .99 is of that size.
"""

from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE_TOKENS: Final = 1024
"""Tokens a piece: 1024 x 8,000 logits are 16 MB in bfloat16."""
TOKENS_MULTIPLE: Final = 128
"""The last piece is filled up to a multiple of these, with rows of zeros, so that few shapes arise."""
FEATURES_MULTIPLE: Final = 32 if torch.cpu.get_capabilities().get("amx_bf16") else 16
"""Features, the one for the bias included, are filled up to a multiple of these: as many as a matrix unit takes at
once, or a vector unit."""


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
        (tokens, size), vocabulary = features.shape, len(weight)
        even = label_smoothing / vocabulary
        rows = _with_one_more(features, torch.ones_like(targets), dtype, TOKENS_MULTIPLE)
        low_weight = _with_one_more(weight, bias, dtype, 1)
        feature_sum, weight_sum = features.sum(0, dtype=torch.float32), weight.sum(0, dtype=torch.float32)
        nll = torch.zeros((), device=rows.device)
        # Of all the vocabulary, so far without the normalisers.
        all_nll = -(feature_sum * weight_sum).sum() - tokens * bias.sum(dtype=torch.float32)
        grad_rows = torch.empty_like(rows) if needs_grad else rows
        grad_weight = torch.zeros_like(low_weight, dtype=torch.float32)
        table = rows.new_empty(min(PIECE_TOKENS, len(rows)), vocabulary)  # one for all pieces
        with torch.autocast(features.device.type, enabled=False):
            for start in range(0, len(rows), PIECE_TOKENS):
                piece, gold = rows[start : start + PIECE_TOKENS], targets[start : start + PIECE_TOKENS]
                logits = torch.mm(piece, low_weight.T, out=table[: len(piece)])
                places = torch.arange(len(gold), device=gold.device), gold
                gold_logits = logits[places].float()
                best_logits = logits.amax(-1) if logits.is_cuda else None
                probs = torch.softmax(logits, -1, out=logits)  # in their place: the logits are gone
                gold_probs = probs[places].float()
                if best_logits is None and bool((gold_probs > torch.finfo(torch.float32).tiny).all()):
                    gold_nll = -gold_probs.log()
                else:
                    # One is too small for a float, or a GPU would have to be waited for to know: by the best, whose p
                    # is at least 1/V.
                    if best_logits is None:
                        best_logits = torch.mm(piece, low_weight.T).amax(-1)
                    gold_nll = (best_logits.float() - probs.amax(-1).float().log())[: len(gold)] - gold_logits
                nll += gold_nll.sum()
                all_nll += vocabulary * (gold_nll + gold_logits).sum()
                if needs_grad:
                    # In float32: torch would round the smoothed 1 to bfloat16 before taking it off.
                    probs[places] = (gold_probs - (1 - label_smoothing)).to(dtype)
                    torch.mm(probs, low_weight, out=grad_rows[start : start + PIECE_TOKENS])
                    grad_weight += probs.T @ piece
        if needs_grad:
            grad_weight[:, :size] -= even * feature_sum
            grad_weight[:, size] -= even * tokens
            ctx.save_for_backward(grad_rows[:tokens, :size] - even * weight_sum, grad_weight)
            ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(nll)
        return (1 - label_smoothing) * nll + even * all_nll, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _nll: Tensor) -> tuple[Tensor | None, ...]:
        grad_features, grad_weight = ctx.saved_tensors
        size = grad_features.shape[1]
        parts = grad_features, grad_weight[:, :size], grad_weight[:, size]
        return *((part * grad).to(dtype) for part, dtype in zip(parts, ctx.dtypes, strict=True)), None, None, None, None


def _with_one_more(table: Tensor, column: Tensor, dtype: torch.dtype, multiple: int) -> Tensor:
    """The table and the column beside it, and zeros: columns to FEATURES_MULTIPLE, rows to `multiple`."""
    rows, size = table.shape
    wide = table.new_zeros(rows + -rows % multiple, size + 1 + -(size + 1) % FEATURES_MULTIPLE, dtype=dtype)
    wide[:rows, :size] = table
    wide[:rows, size] = column
    return wide
