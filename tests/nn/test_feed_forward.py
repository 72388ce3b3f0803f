"""Feed-forward layers against direct evaluation in float64."""

import typing
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmt.nn.feed_forward import Activation, FeedForward

HIDDEN = 5
EQUATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: h.clamp_min(0),
    "gelu": lambda h: h * (1 + torch.erf(h / 2**0.5)) / 2,
    "swiglu": lambda h: h[..., :HIDDEN] / (1 + torch.exp(-h[..., :HIDDEN])) * h[..., HIDDEN:],
}


@pytest.mark.parametrize("activation", typing.get_args(Activation))
def test_the_layers_are_their_equation(activation: Activation) -> None:
    torch.manual_seed(1)
    layer, x = FeedForward(3, HIDDEN, activation), torch.randn(2, 4, 3)
    hidden = EQUATIONS[activation](x.double() @ layer.inner.weight.double().T + layer.inner.bias.double())
    expected = hidden @ layer.outer.weight.double().T + layer.outer.bias.double()
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-5)
