"""Position-wise feed-forward network."""

from typing import Literal, assert_never

from jaxtyping import Float
from torch import Tensor, nn

Activation = Literal["relu", "gelu", "swiglu"]


class FeedForward(nn.Module):
    """FFN(x) = W2 act(W1 x + b1) + b2.

    Vaswani et al. 2017, section 3.3, equation 2, https://arxiv.org/abs/1706.03762, with relu. With gelu, Hendrycks
    and Gimpel 2016, https://arxiv.org/abs/1606.08415. With swiglu, W2 (swish(W1 x + b1) * (V x + c)) + b2, Shazeer
    2020, equation 6, https://arxiv.org/abs/2002.05202, with biases, W1 and V one matrix; it has half as many weights
    again.
    """

    def __init__(self, size: int, hidden_size: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activation = activation
        self.inner = nn.Linear(size, (2 if activation == "swiglu" else 1) * hidden_size)
        self.outer = nn.Linear(hidden_size, size)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The same two layers at every position."""
        y: Tensor = self.outer(self._activate(self.inner(x)))
        return y

    def _activate(self, x: Tensor) -> Tensor:
        match self.activation:
            case "relu":
                return x.relu()
            case "gelu":
                return nn.functional.gelu(x)
            case "swiglu":
                gate, value = x.chunk(2, -1)
                return nn.functional.silu(gate) * value
            case _:
                assert_never(self.activation)
