"""Scores and heads against torch's own functions and direct evaluation of the equations."""

import math

import pytest
import torch
from torch import nn

from nmt.nn.attention import MultiHeadAttention, _Heads, attend, masked_softmax


def test_masked_weights_are_exactly_zero() -> None:
    mask = torch.tensor([[True, False, True]])
    weights = masked_softmax(torch.tensor([[1.0, 50.0, 2.0]]), mask)
    assert weights[0, 1] == 0
    assert weights.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_weights_in_either_type_are_those_of_float64(dtype: torch.dtype) -> None:
    """Keys along the rows, and down the columns."""
    torch.manual_seed(1)
    scores, scale = 5 * torch.randn(3, 4, 9), 1 / math.sqrt(32)
    mask = torch.rand(3, 1, 9) < 0.7
    weights = masked_softmax(scores.to(dtype), mask, scale=scale)
    exact = scores.to(dtype).double() * scale
    hidden = ~mask.expand(3, 4, 9)
    assert weights.dtype == torch.float32
    assert (weights[hidden] == 0).all()
    torch.testing.assert_close(weights.double(), exact.masked_fill(hidden, -torch.inf).softmax(-1), rtol=1e-5, atol=0.0)
    turned = masked_softmax(scores.mT.to(dtype), mask.mT, scale=scale, dim=-2).mT
    assert (turned[hidden] == 0).all()
    torch.testing.assert_close(turned, weights, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_heads_as_one_operation_have_the_values_and_gradients_of_torchs(queries: int, causal: bool) -> None:
    torch.manual_seed(1)
    keys = queries if causal else 7
    shapes = (queries, keys, keys)
    ours = [torch.randn(2, 3, length, 4, dtype=torch.float64, requires_grad=True) for length in shapes]
    golds = [tensor.detach().clone().requires_grad_() for tensor in ours]
    mask = torch.ones(queries, keys, dtype=torch.bool).tril()[None, None]
    if not causal:
        mask = (torch.arange(keys) < torch.tensor([keys, 2])[:, None])[:, None, None]
    heads = _Heads.apply(*ours, mask, 0.5)  # 1 / sqrt(4), as torch has it
    expected = nn.functional.scaled_dot_product_attention(*golds, mask)
    torch.testing.assert_close(heads, expected)
    weights = torch.randn_like(expected)
    (heads * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, theirs in zip(ours, golds, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_context_is_the_weighted_mean() -> None:
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    context, weights = attend(torch.tensor([[[0.0, math.log(3)]]]), values, torch.tensor([[True, True]]))
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75])
    assert context.flatten().tolist() == pytest.approx([0.25, 0.75])


def test_where_no_score_is_finite_all_real_positions_weigh_the_same() -> None:
    scores = torch.tensor([[[-torch.inf, -torch.inf, 5.0]], [[1.0, -torch.inf, torch.inf]]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, False]])
    context, weights = attend(scores, torch.eye(3).expand(2, 3, 3), mask)
    assert weights.tolist() == [[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]]]
    context[0, 0, 0].backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("fused_from", [0, 10**9])
def test_heads_equal_torch_multihead_attention(
    need_weights: bool, fused_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain equation and the fused kernel, on padded memory."""
    monkeypatch.setattr(MultiHeadAttention, "FUSED_FROM", fused_from)
    torch.manual_seed(1)
    ours = MultiHeadAttention(8, 2).eval()
    gold = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        ours.query.bias.normal_()
        ours.key_value.bias.normal_()
        gold.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        gold.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        gold.out_proj.weight.copy_(ours.out.weight)
        gold.out_proj.bias.copy_(ours.out.bias)
        query, memory = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
        mask = torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
        context, weights = ours(query, ours.project_keys(memory), mask[:, None, None], need_weights=need_weights)
        expected, expected_weights = gold(query, memory, memory, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(context, expected)
    assert (weights is None) is not need_weights
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights)
