"""Attention: the one place where scores become weights, and the heads of the Transformer."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nmt.nn.packing import Packing
from nmt.nn.positions import rotate


class Attended(NamedTuple):
    """What a look-up gives."""

    context: Tensor
    """Weighted sum of the values."""
    weights: Tensor
    """Non-negative, 1 in sum over the keys, exactly 0 at masked ones."""


def masked_softmax(
    scores: Float[Tensor, "*N"], mask: Bool[Tensor, "*#N"], *, scale: float = 1.0, dim: int = -1
) -> Float[Tensor, "*N"]:
    """Softmax of scale * scores over `dim`, that of the keys, where the mask is True; the others get exactly 0.

    Each query must have a True in `mask`, which has all the keys, and every score, masked ones too, must be below
    infinity. Weights are in float32, where torch's softmax of few scores a row is also two to four times as fast as in
    bfloat16.
    """
    hidden = torch.where(mask, torch.zeros((), device=mask.device), -torch.inf)
    return torch.add(hidden, scores, alpha=scale).softmax(dim)  # in float32, as the first of them is


def attend(scores: Float[Tensor, "B K S"], values: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Attended:
    """Softmax over the source positions (Bahdanau et al. 2015, equation 6), then the mean of values (5).

    Where no real position has a score above minus infinity, all of them weigh the same.
    """
    scores = scores.float().masked_fill(~mask[:, None], -torch.inf)
    lost = (scores == -torch.inf).all(-1, keepdim=True)
    weights = masked_softmax(scores.masked_fill(lost, 0.0), mask[:, None])
    return Attended(weights.to(values.dtype) @ values, weights)


class MultiHeadAttention(nn.Module):
    """Concat(head_1 ... head_H) W_O, head_h = softmax(Q_h K_h^T / sqrt(d)) V_h, d = D / H.

    Vaswani et al. 2017, section 3.2, https://arxiv.org/abs/1706.03762. Where weights are not asked for, torch's
    fused kernels compute the heads; where they are, or where the keys are so few that a plain product is faster
    on a CPU, the equation stands below as it is; packed rows, whose queries are many, take it as one operation with a
    gradient of its own. All are tested to be equal.
    """

    FUSED_FROM = 192
    """Keys from which torch's fused kernel is faster on a CPU (README, "What trains faster")."""
    PACKED_FUSED_FROM = 512
    """The same on packed rows: up to 1,024 keys the fused kernel is the slower one there, but spares the tables of
    weights, which grow with the square of the length."""

    def __init__(self, size: int, num_heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        self.num_heads, self.rotary = num_heads, rotary
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)
        for weight in (self.query.weight, *self.key_value.weight.chunk(2), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())
        for layer in (self.query, self.key_value, self.out):
            nn.init.zeros_(layer.bias)

    def project_keys(
        self, memory: Float[Tensor, "B S D"] | Float[Tensor, "R D"], offset: int = 0, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, d) of every head, computed once a sentence; positions count from `offset`."""
        keys, values = self._heads(self.key_value(memory), 2, packing)
        return rotate(keys, offset) if self.rotary else keys, values

    def forward(
        self,
        query: Float[Tensor, "N T D"] | Float[Tensor, "R D"],
        keys_values: tuple[Float[Tensor, "B H S d"], Float[Tensor, "B H S d"]],
        mask: Bool[Tensor, "#B #H #KT S"],
        *,
        offset: int = 0,
        need_weights: bool = False,
        packing: Packing | None = None,
    ) -> tuple[Float[Tensor, "N T D"] | Float[Tensor, "R D"], Float[Tensor, "N H T S"] | None]:
        """Attend from T queries; mask is True where a query may look.

        The K rows of each of B sentences, N = B*K, are K times as many queries of one table of keys and values.
        `offset` is the position of the first query; it matters where positions turn queries and keys (`rotary`).
        With `packing` the queries are packed rows, and so is the result.
        """
        (queries,) = self._heads(self.query(query), 1, packing)
        queries = rotate(queries, offset) if self.rotary else queries
        keys, values = keys_values
        rows, count, length, size = queries.shape
        queries = queries.view(len(keys), -1, count, length, size).transpose(1, 2).flatten(2, 3)  # (B, H, K*T, d)
        weights, scale = None, 1 / math.sqrt(size)
        fused_from = self.FUSED_FROM if packing is None else self.PACKED_FUSED_FROM
        if not need_weights and (query.is_cuda or keys.shape[2] >= fused_from):
            heads = nn.functional.scaled_dot_product_attention(queries, keys, values, mask)
        elif not need_weights and packing is not None:
            heads = _Heads.apply(queries, keys, values, mask, scale)  # type: ignore[no-untyped-call]
        else:
            weights = masked_softmax(queries @ keys.mT, mask, scale=scale)  # (B, H, K*T, S)
            heads = weights.to(values.dtype) @ values
        if packing is None:
            joined = heads.view(len(keys), count, -1, length, size).permute(0, 2, 3, 1, 4).reshape(rows, length, -1)
        else:
            joined = packing.join(heads)
        context: Tensor = self.out(joined)
        if weights is None or not need_weights:
            return context, None
        weights = weights.view(len(keys), count, -1, length, keys.shape[2])
        return context, weights.transpose(1, 2).flatten(0, 1)

    def _heads(
        self, x: Float[Tensor, "B T PD"] | Float[Tensor, "R PD"], parts: int, packing: Packing | None
    ) -> tuple[Float[Tensor, "B H T d"], ...]:
        if packing is not None:
            return packing.split(x, parts, self.num_heads)
        rows, length, _ = x.shape
        return x.view(rows, length, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class _Heads(torch.autograd.Function):
    """The same heads for many queries, with the gradient by hand: autograd would keep and copy more.

    Keys go down and queries across: a softmax of many short columns takes torch half as long as one of short rows,
    and twice as long where queries are as few as in a search.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        weights = masked_softmax(keys @ queries.mT, mask.mT.contiguous(), scale=scale, dim=-2)  # (B, H, S, T)
        rounded = weights.to(values.dtype)
        ctx.save_for_backward(queries, keys, values, weights, rounded)
        ctx.scale = scale
        return rounded.mT @ values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights, rounded = ctx.saved_tensors
        grad_weights = (values @ grad.mT).to(weights.dtype)
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -2, weights.dtype)
        grad_scores = grad_scores.mul_(ctx.scale).to(values.dtype)
        grad_keys, grad_values = keys.new_empty(2, *keys.shape)  # beside each other, as a `Packing` takes them back
        torch.matmul(grad_scores, queries, out=grad_keys)
        torch.matmul(rounded, grad, out=grad_values)
        return grad_scores.mT @ keys, grad_keys, grad_values, None, None
