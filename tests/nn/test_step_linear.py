"""A weight used at many steps gets the gradient that autograd would add up step by step."""

import torch
from torch import nn

from nmt.nn.step_linear import StepWeight


def test_gradients_equal_plain_use() -> None:
    torch.manual_seed(1)
    plain = nn.Linear(4, 4)
    weight, bias = (p.detach().clone().requires_grad_() for p in (plain.weight, plain.bias))
    x = torch.randn(3, 4)
    banked, ordinary = x.clone().requires_grad_(), x.clone().requires_grad_()
    step, h, g = StepWeight(weight, bias), banked, ordinary
    for _ in range(5):
        h, g = torch.tanh(step(h)), torch.tanh(plain(g))
    h.square().sum().backward()
    g.square().sum().backward()
    torch.testing.assert_close(h, g)
    torch.testing.assert_close(weight.grad, plain.weight.grad)
    torch.testing.assert_close(bias.grad, plain.bias.grad)
    torch.testing.assert_close(banked.grad, ordinary.grad)


def test_a_slice_of_a_weight_works_too() -> None:
    torch.manual_seed(1)
    weight = torch.randn(3, 6, requires_grad=True)
    StepWeight(weight[:, 2:], None)(torch.ones(2, 4)).sum().backward()
    assert weight.grad is not None
    assert weight.grad[:, :2].abs().sum() == 0
    assert weight.grad[:, 2:].equal(torch.full((3, 4), 2.0))


def test_under_autocast_gradients_add_up_in_float32() -> None:
    """A thousand steps of 1/1024 each: bfloat16 sums would stand still long before 1."""
    weight = torch.zeros(1, 1, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = StepWeight(weight, None)
        total = torch.stack([step(torch.full((1, 1), 1 / 1024)) for _ in range(1024)]).float().sum()
    total.backward()
    assert weight.grad is not None
    assert abs(weight.grad.item() - 1.0) < 0.01
