"""The pieced loss against torch's own cross-entropy."""

import math

import pytest
import torch
from torch.nn import functional as F

from nmt.training import loss as loss_module
from nmt.training.loss import smoothed_cross_entropy


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tokens", [0, 1, 7, 16, 21])
def test_value_and_gradients_equal_torch(tokens: int, label_smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "PIECE_TOKENS", 8)  # 21 tokens are two whole pieces and a part of one ...
    monkeypatch.setattr(loss_module, "TOKENS_MULTIPLE", 4)  # ... and the last piece is filled up, but for 16 tokens
    torch.manual_seed(1)
    features, weight, bias = torch.randn(tokens, 5), torch.randn(11, 5), torch.randn(11)
    targets = torch.randint(0, 11, (tokens,))
    inputs = [t.clone().requires_grad_() for t in (features, weight, bias)]
    golds = [t.clone().requires_grad_() for t in (features, weight, bias)]
    ours = smoothed_cross_entropy(*inputs, targets, label_smoothing)
    logits = F.linear(*golds)
    gold = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum")
    torch.testing.assert_close(ours.smoothed, gold)
    torch.testing.assert_close(ours.nll, F.cross_entropy(logits, targets, reduction="sum"))
    (ours.smoothed * 3).backward()
    (gold * 3).backward()
    for mine, theirs in zip(inputs, golds, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_bfloat16_is_as_near_as_its_rounding(label_smoothing: float) -> None:
    torch.manual_seed(1)
    features, weight, bias = torch.randn(300, 64), torch.randn(500, 64) / 4, torch.randn(500)
    targets = torch.randint(0, 500, (300,))
    inputs = [t.clone().requires_grad_() for t in (features, weight, bias)]
    golds = [t.double().requires_grad_() for t in (features, weight, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = smoothed_cross_entropy(*inputs, targets, label_smoothing)
    gold = F.cross_entropy(F.linear(*golds), targets, label_smoothing=label_smoothing, reduction="sum")
    assert ours.smoothed.item() == pytest.approx(gold.item(), rel=2e-3)
    assert ours.nll.item() == pytest.approx(
        F.cross_entropy(F.linear(*golds), targets, reduction="sum").item(), rel=2e-3
    )
    ours.smoothed.backward()
    gold.backward()
    for mine, theirs in zip(inputs, golds, strict=True):
        assert (mine.grad - theirs.grad).norm() < 0.01 * theirs.grad.norm()


def test_a_smoothed_gradient_in_bfloat16_pulls_no_way() -> None:
    """That of the bias is 0 in sum, but for roundings that cancel out."""
    torch.manual_seed(1)
    features, weight = torch.randn(300, 64), torch.randn(500, 64) / 4
    bias = torch.randn(500, requires_grad=True)
    targets = torch.distributions.Categorical(logits=2 * (features @ weight.T + bias).detach()).sample()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = smoothed_cross_entropy(features, weight, bias, targets, 0.1)
    ours.smoothed.backward()
    assert bias.grad is not None
    assert abs(bias.grad.sum().item()) < 0.25


def test_very_unlikely_target_is_finite() -> None:
    weight = torch.tensor([[500.0], [500.0], [-500.0]])
    ours = smoothed_cross_entropy(torch.tensor([[1.0]]), weight, torch.zeros(3), torch.tensor([2]), 0.0)
    assert ours.nll.item() == pytest.approx(1000.0 + math.log(2), rel=1e-7)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("low", [False, True])
def test_impossible_targets_leave_the_others_as_they_are(
    low: bool, label_smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probabilities of the first and the last are too small for a float: of a full piece, and of one filled up."""
    monkeypatch.setattr(loss_module, "PIECE_TOKENS", 8)
    monkeypatch.setattr(loss_module, "TOKENS_MULTIPLE", 4)
    torch.manual_seed(1)
    features, weight, bias = torch.randn(21, 5), torch.randn(11, 5), torch.randn(11)
    bias[2] = -200
    targets = torch.randint(3, 11, (21,))
    targets[0] = targets[20] = 2
    inputs = [t.clone().requires_grad_() for t in (features, weight, bias)]
    golds = [t.double().requires_grad_() for t in (features, weight, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        ours = smoothed_cross_entropy(*inputs, targets, label_smoothing)
    logits = F.linear(*golds)
    gold = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum")
    near = 2e-3 if low else 1e-6
    assert ours.smoothed.item() == pytest.approx(gold.item(), rel=near)
    assert ours.nll.item() == pytest.approx(F.cross_entropy(logits, targets, reduction="sum").item(), rel=near)
    ours.smoothed.backward()
    gold.backward()
    for mine, theirs in zip(inputs, golds, strict=True):
        assert (mine.grad - theirs.grad).norm() < (0.01 if low else 1e-5) * theirs.grad.norm()


def test_needs_no_gradient_to_be_computed() -> None:
    with torch.no_grad():
        losses = smoothed_cross_entropy(
            torch.randn(3, 4), torch.randn(6, 4), torch.zeros(6), torch.tensor([1, 2, 3]), 0.1
        )
    assert losses.smoothed.isfinite()
