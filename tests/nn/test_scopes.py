"""Scopes against direct evaluation, position by position."""

import math

import pytest
import torch

from nmt.nn.attention import attend
from nmt.nn.scopes import MonotonicScope, PredictiveScope, Scope, build_scope

MASK = torch.tensor([[True] * 8, [True] * 5 + [False] * 3])


def test_the_global_scope_changes_nothing() -> None:
    scores = torch.randn(2, 3, 8)
    assert Scope()(scores, torch.randn(2, 3, 4), torch.arange(3)[None], MASK).equal(scores)


def test_local_m_looks_around_its_own_position_and_stays_on_the_source() -> None:
    scores = torch.randn(2, 7, 8)
    result = MonotonicScope(2)(scores, torch.randn(2, 7, 4), torch.arange(7)[None], MASK)
    for sentence, length in enumerate([8, 5]):
        for t in range(7):
            for s in range(8):
                inside = abs(s - min(t, length - 1)) <= 2 and s < length
                assert result[sentence, t, s].item() == (scores[sentence, t, s].item() if inside else -math.inf)


def test_local_p_is_a_gaussian_around_the_predicted_position() -> None:
    torch.manual_seed(1)
    scope, scores, query = PredictiveScope(3, 4), torch.randn(2, 6, 8), torch.randn(2, 6, 4)
    with torch.no_grad():
        result = scope(scores, query, torch.arange(6)[None], MASK)
    w, v = scope.w.weight.double(), scope.v.weight.double()[0]
    for sentence, length in enumerate([8, 5]):
        for t in range(6):
            q = query[sentence, t].double()
            centre = (length * torch.sigmoid(v @ torch.tanh(w @ q))).item()
            for s in range(8):
                expected = scores[sentence, t, s].item() - (s - centre) ** 2 / (2 * 1.5**2)
                if abs(s - centre) > 3 or s >= length:
                    assert result[sentence, t, s].item() == -math.inf
                else:
                    assert result[sentence, t, s].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["local-m", "local-p"])
def test_a_window_in_which_nothing_has_a_score_weighs_alike_what_is_in_it(kind: str) -> None:
    scope = build_scope(kind, window=1, query_size=4)  # type: ignore[arg-type]
    memory, steps = torch.randn(2, 8, 5), torch.arange(6)[None]
    scores = torch.full((2, 6, 8), -math.inf)
    scores[:, :, 0] = 1.0
    with torch.no_grad():
        weights = attend(scope(scores, torch.randn(2, 6, 4), steps, MASK), memory, MASK).weights
    assert weights.sum(-1) == pytest.approx(torch.ones(2, 6))
    assert int((weights > 0).sum(-1).max()) <= 3
    if kind == "local-m":
        assert weights[0, 3].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
        assert weights[1, 5].tolist() == pytest.approx([0, 0, 0, 1 / 2, 1 / 2, 0, 0, 0])
        assert weights[0, 1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_the_predicted_position_learns() -> None:
    torch.manual_seed(1)
    scope, memory = PredictiveScope(3, 4), torch.randn(2, 8, 5)
    scores = scope(torch.zeros(2, 1, 8), torch.randn(2, 1, 4), torch.zeros(1, 1, dtype=torch.int64), MASK)
    attend(scores, memory, MASK).context.square().sum().backward()
    for parameter in scope.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
