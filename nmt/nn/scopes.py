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


class Scope(nn.Module):
    """A rule on scores; this one lets a query look everywhere (global)."""

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
            query: what looks up.
            steps: the target position each query stands at, from 0.
            mask: True at real source tokens.
        """
        return scores


class LocalScope(Scope, ABC):
    """Within D positions of p_t, of which there is always one."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    @abstractmethod
    def centre(self, query: Tensor, steps: Tensor, length: Int[Tensor, "B 1"]) -> Tensor:
        """p_t of each query, (B or 1, K or 1), in sources of so many tokens."""

    def prefer(self, scores: Tensor, distance: Tensor) -> Tensor:
        """Scores of what lies at some distance from p_t; inside the window all are alike."""
        return scores

    def forward(
        self,
        scores: Float[Tensor, "B K S"],
        query: Float[Tensor, "B K Q"],
        steps: Int[Tensor, "#B #K"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B K S"]:
        """The window around p_t. Where nothing in it has a score above minus infinity, all in it weigh the same."""
        centre = self.centre(query, steps, mask.sum(1, keepdim=True))[:, :, None]
        distance = torch.arange(scores.shape[-1], device=scores.device) - centre
        outside = (distance.abs() > self.window) | ~mask[:, None]
        scores = self.prefer(scores, distance).masked_fill(outside, -math.inf)
        lost = (scores == -math.inf).all(-1, keepdim=True)
        return scores.masked_fill(lost & ~outside, 0.0)


class MonotonicScope(LocalScope):
    """local-m: p_t = t; beyond the source's end, its last token."""

    def centre(self, query: Tensor, steps: Tensor, length: Int[Tensor, "B 1"]) -> Tensor:
        """The target's own position."""
        return torch.minimum(steps, length - 1)


class PredictiveScope(LocalScope):
    """local-p: p_t = S sigmoid(v . tanh(W q)), and what is nearer counts more: - (s - p_t)^2 / (2 sigma^2).

    Equations 9 and 10, sigma = D / 2. The window's edges have no gradient, the Gaussian has.
    """

    def __init__(self, window: int, query_size: int) -> None:
        super().__init__(window)
        self.w = nn.Linear(query_size, query_size, bias=False)
        self.v = nn.Linear(query_size, 1, bias=False)

    def centre(self, query: Tensor, steps: Tensor, length: Int[Tensor, "B 1"]) -> Tensor:
        """The position that the query predicts."""
        predicted: Tensor = length * self.v(torch.tanh(self.w(query)))[..., 0].float().sigmoid()
        return predicted

    def prefer(self, scores: Tensor, distance: Tensor) -> Tensor:
        """Times a Gaussian, before the softmax."""
        sigma = self.window / 2
        return scores.float() - distance.square() / (2 * sigma * sigma)


def build_scope(name: ScopeName, *, window: int, query_size: int) -> Scope:
    """The scope of a name; `window` is D."""
    match name:
        case "global":
            return Scope()
        case "local-m":
            return MonotonicScope(window)
        case "local-p":
            return PredictiveScope(window, query_size)
        case _:
            assert_never(name)
