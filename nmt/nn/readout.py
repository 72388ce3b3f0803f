"""Deep output with a maxout hidden layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MaxoutReadout(nn.Module):
    """t = [max(u_{2j}, u_{2j+1})]_j with u = W [x_1; x_2; ...] + b (Pascanu et al. 2014; Goodfellow et al. 2013).

    Bahdanau et al. 2015, section A.2.2 (there U s + V E y + C c), https://arxiv.org/abs/1409.0473; Cho et al.
    2014, appendix, uses the same.
    """

    def __init__(self, input_sizes: list[int], size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(input_sizes), 2 * size)

    def forward(self, *inputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Features (..., size) of inputs (..., input size)."""
        joined = torch.cat([x.to(inputs[0].dtype) for x in inputs], -1)
        units: Tensor = self.linear(joined)
        return torch.maximum(*units.chunk(2, -1))
