"""Attention scopes: which source positions a query may look at (Luong et al. 2015, section 3.2).

https://arxiv.org/abs/1508.04025. A scope changes the scores before the softmax, so that the weights of what remains
sum to 1. (The paper multiplies the weights of local-p by a Gaussian after the softmax and does not normalise again.)
"""

import math
from abc import ABC, abstractmethod
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nmt.config import ScopeName


class Scope(nn.Module, ABC):
    """A rule on scores."""

    @abstractmethod
    def forward(
        self,
        scores: Float[Tensor, "B K S"],
        query: Float[Tensor, "B K Q"],
        steps: Int[Tensor, "#B #K"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B K S"]:
        """Scores, minus infinity where a query may not look.

        Args:
            scores: of all positions.
            query: the decoder state.
            steps: the target position each query stands at, from 0.
            mask: True at real source tokens.
        """


class GlobalScope(Scope):
    """Everywhere."""

    def forward(
        self,
        scores: Float[Tensor, "B K S"],
        query: Float[Tensor, "B K Q"],
        steps: Int[Tensor, "#B #K"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B K S"]:
        """The scores as they are."""
        return scores


class MonotonicScope(Scope):
    """local-m: within D positions of p_t = t; beyond the source's end, of its last token."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(
        self,
        scores: Float[Tensor, "B K S"],
        query: Float[Tensor, "B K Q"],
        steps: Int[Tensor, "#B #K"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B K S"]:
        """The window around the target's own position."""
        last = mask.sum(1, keepdim=True) - 1
        centre = torch.minimum(steps, last)[:, :, None]
        position = torch.arange(scores.shape[-1], device=scores.device)
        return scores.masked_fill((position - centre).abs() > self.window, -math.inf)


class PredictiveScope(Scope):
    """local-p: within D positions of p_t = S sigmoid(v . tanh(W q)), nearer ones more: - (s - p_t)^2 / (2 sigma^2).

    Equations 9 and 10, sigma = D / 2. The window's edges have no gradient, the Gaussian has.
    """

    def __init__(self, window: int, query_size: int) -> None:
        super().__init__()
        self.window = window
        self.w = nn.Linear(query_size, query_size, bias=False)
        self.v = nn.Linear(query_size, 1, bias=False)

    def forward(
        self,
        scores: Float[Tensor, "B K S"],
        query: Float[Tensor, "B K Q"],
        steps: Int[Tensor, "#B #K"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B K S"]:
        """The window around a position that the state predicts."""
        length = mask.sum(1)[:, None, None]
        centre = length * self.v(torch.tanh(self.w(query))).float().sigmoid()  # (B, K, 1)
        distance = torch.arange(scores.shape[-1], device=scores.device) - centre
        sigma = self.window / 2
        nearer = scores.float() - distance.square() / (2 * sigma * sigma)
        inside: Tensor = nearer.masked_fill(distance.abs() > self.window, -math.inf)
        return inside


def build_scope(name: ScopeName, *, window: int, query_size: int) -> Scope:
    """The scope of a name; `window` is D."""
    match name:
        case "global":
            return GlobalScope()
        case "local-m":
            return MonotonicScope(window)
        case "local-p":
            return PredictiveScope(window, query_size)
        case _:
            assert_never(name)
