"""Attention: scores of a query against keys, and the one place where scores become weights."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nmt.nn.dropout import Dropout


class Attended(NamedTuple):
    """What a look-up gives."""

    context: Tensor
    """Weighted sum of the values."""
    weights: Tensor
    """Non-negative, 1 in sum over the keys, exactly 0 at masked ones."""


def masked_softmax(scores: Float[Tensor, "*N S"], mask: Bool[Tensor, "*#N S"] | None) -> Float[Tensor, "*N S"]:
    """Softmax over the keys whose mask is True (all, where it is `None`), in float32; the others get exactly 0.

    Every row of `mask` must have a True.
    """
    scores = scores.float()
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)


class AdditiveScore(nn.Module):
    """Additive ("concat", MLP) attention score: v . tanh(W query + U key), with a bias in W.

    Bahdanau et al. 2015, section A.1.2, https://arxiv.org/abs/1409.0473.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        self.w = nn.Linear(query_size, attention_size)
        self.u = nn.Linear(key_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """Apply U once a sentence, so that each step costs one W query."""
        keys: Tensor = self.u(memory)
        return keys

    def forward(self, query: Float[Tensor, "B K Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """Unnormalised scores of K queries a sentence."""
        return self.from_projected(self.w(query), keys)

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """The same from W query, already computed."""
        hidden = torch.tanh(query[:, :, None] + keys[:, None])  # (B, K, S, A)
        scores: Tensor = self.v(hidden)[..., 0]
        return scores


def attend(scores: Float[Tensor, "B K S"], values: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Attended:
    """Softmax over the source positions (Bahdanau et al. 2015, equation 6), then the mean of values (5)."""
    weights = masked_softmax(scores, mask[:, None])
    return Attended(weights.to(values.dtype) @ values, weights)


class MultiHeadAttention(nn.Module):
    """Concat(head_1 ... head_H) W_O, head_h = softmax(Q_h K_h^T / sqrt(d)) V_h, d = D / H.

    Vaswani et al. 2017, section 3.2, https://arxiv.org/abs/1706.03762. Where weights are not asked for, torch's
    fused kernels compute the heads; where they are, or where the keys are so few that a plain product is faster
    on a CPU, the equation stands below as it is. Both are tested to be equal.
    """

    FUSED_FROM = 192
    """Keys from which torch's fused kernel is faster on a CPU (at 14 tokens it is 1.3 times slower)."""

    def __init__(self, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)
        self.dropout = Dropout(dropout)
        for weight in (self.query.weight, *self.key_value.weight.chunk(2), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())
        for layer in (self.query, self.key_value, self.out):
            nn.init.zeros_(layer.bias)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, d) of every head, computed once a sentence."""
        keys, values = self.key_value(memory).chunk(2, -1)
        return self._heads(keys), self._heads(values)

    def forward(
        self,
        query: Float[Tensor, "B T D"],
        keys_values: tuple[Float[Tensor, "B H S d"], Float[Tensor, "B H S d"]],
        mask: Bool[Tensor, "#B #H #T S"] | None,
        *,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """Attend from T queries; mask is True where a query may look, `None` where it may look everywhere."""
        queries = self._heads(self.query(query))
        keys, values = keys_values
        weights = None
        if not need_weights and (query.is_cuda or keys.shape[2] >= self.FUSED_FROM):
            rate = self.dropout.p if self.training else 0.0
            heads = nn.functional.scaled_dot_product_attention(queries, keys, values, mask, dropout_p=rate)
        else:
            scores = (queries * (1 / math.sqrt(queries.shape[-1]))) @ keys.transpose(-1, -2)  # (B, H, T, S)
            weights = masked_softmax(scores, mask)
            heads = self.dropout(weights).to(values.dtype) @ values
        context: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return context, weights if need_weights else None

    def _heads(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H T d"]:
        rows, length, size = x.shape
        return x.view(rows, length, self.num_heads, size // self.num_heads).transpose(1, 2)
