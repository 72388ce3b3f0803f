"""Position-wise feed-forward network."""

from jaxtyping import Float
from torch import Tensor, nn

from nmt.nn.dropout import Dropout


class FeedForward(nn.Module):
    """FFN(x) = W2 relu(W1 x + b1) + b2, with dropout on the hidden layer.

    Vaswani et al. 2017, section 3.3, equation 2, https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(size, hidden_size)
        self.outer = nn.Linear(hidden_size, size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The same two layers at every position."""
        hidden: Tensor = self.outer(self.dropout(self.inner(x).relu()))
        return hidden
