"""A linear map applied at every step of a loop, whose weight gradient is one product over all steps.

Autograd by itself would compute a small product a step and add up matrices as large as the weight; under
bfloat16 it would even add them up in bfloat16.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Bank:
    """Inputs and output gradients of the steps, until the weight's turn comes in the backward pass."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.gradients: list[Tensor] = []


class _Root(torch.autograd.Function):
    """Identity on weight and bias; its backward runs after that of every step, and there sums up."""

    @staticmethod
    def forward(ctx: Any, bank: _Bank, dtype: torch.dtype, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.bank, ctx.dtypes = bank, (weight.dtype, bias.dtype)
        return weight.to(dtype, copy=True), bias.to(dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _weight: Tensor, _bias: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gradients = torch.cat(ctx.bank.inputs), torch.cat(ctx.bank.gradients)
        ctx.bank.inputs, ctx.bank.gradients = [], []
        weight_dtype, bias_dtype = ctx.dtypes
        return None, None, (gradients.T @ inputs).to(weight_dtype), gradients.to(bias_dtype).sum(0)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bank: _Bank, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x_low = x.to(weight.dtype)
        ctx.bank, ctx.dtype = bank, x.dtype
        ctx.save_for_backward(x_low, weight)
        return torch.addmm(bias, x_low, weight.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_low, weight = ctx.saved_tensors
        ctx.bank.inputs.append(x_low)
        ctx.bank.gradients.append(grad)
        return None, (grad @ weight).to(ctx.dtype), None, None


class StepWeight:
    """W x + b for the steps of one loop; make a new one for every loop.

    Each application must get a gradient at most once, as in plain backpropagation through time.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        self.bank = _Bank()
        self.weight, self.bias = _Root.apply(self.bank, dtype, weight, bias)  # type: ignore[no-untyped-call]

    def __call__(self, x: Tensor) -> Tensor:
        """Rows (N, I) to (N, O), in the precision of autocast if that is on."""
        result: Tensor = _Step.apply(self.bank, x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result
