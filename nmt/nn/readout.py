"""From state and context to what the output layer reads."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nmt.nn.step_linear import StepWeight


class MaxoutReadout(nn.Module):
    """t = [max(u_j, u_{J+j})]_j with u = W [x_1; x_2; ...] + b (Pascanu et al. 2014; Goodfellow et al. 2013).

    The papers take neighbours, u_{2j} and u_{2j+1}: the rows of W are in another order.

    Bahdanau et al. 2015, section A.2.2 (there U s + V E y + C c), https://arxiv.org/abs/1409.0473; Cho et al.
    2014, appendix, uses the same.
    """

    def __init__(self, input_sizes: list[int], size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(input_sizes), 2 * size)

    def forward(self, *inputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Features (..., size) of inputs (..., input size)."""
        units: Tensor = self.linear(_joined(inputs))
        return torch.maximum(*units.chunk(2, -1))


class AttentionalVector(nn.Module):
    """h~ = tanh(W_c [c; h]) (Luong et al. 2015, equation 5, https://arxiv.org/abs/1508.04025), with a bias added."""

    def __init__(self, context_size: int, state_size: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context_size + state_size, size)

    def forward(self, *inputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The vector (..., size) of a context and a state."""
        vector: Tensor = self.linear(_joined(inputs)).tanh()
        return vector

    def step_weight(self) -> StepWeight:
        """W_c, for use at many steps of one loop."""
        return StepWeight(self.linear.weight, self.linear.bias)

    def combine(self, weight: StepWeight, *inputs: Float[Tensor, "N _"]) -> Float[Tensor, "N D"]:
        """The same at one step of such a loop."""
        return weight(_joined(inputs)).tanh()


def _joined(inputs: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([x.to(inputs[0].dtype) for x in inputs], -1)
