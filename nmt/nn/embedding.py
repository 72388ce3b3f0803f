"""Token embeddings and the output layer that may share their weights."""

import math
from typing import Literal

from torch import Tensor, nn

from nmt.special import PAD


def token_embedding(vocab_size: int, size: int) -> nn.Embedding:
    """Embeddings drawn from N(0, 1/size), zero for PAD, so that they fit as output weights too."""
    embedding = nn.Embedding(vocab_size, size, padding_idx=PAD)
    nn.init.normal_(embedding.weight, std=size**-0.5)
    nn.init.zeros_(embedding.weight[PAD].detach())
    return embedding


def source_and_target_embeddings(
    source_vocab_size: int, target_vocab_size: int, size: int, tie: Literal["none", "output", "all"]
) -> tuple[nn.Embedding, nn.Embedding]:
    """One shared table if `tie` is `all` (a joint vocabulary only), else two."""
    target = token_embedding(target_vocab_size, size)
    if tie == "all":
        return target, target
    return token_embedding(source_vocab_size, size), target


class OutputLayer(nn.Module):
    """Logits = W x + b; W is the target embedding itself when tied (Press and Wolf 2017).

    https://arxiv.org/abs/1608.05859
    """

    def __init__(self, size: int, vocab_size: int, tied: nn.Embedding | None) -> None:
        super().__init__()
        self.linear = nn.Linear(size, vocab_size)
        nn.init.normal_(self.linear.weight, std=size**-0.5)
        nn.init.zeros_(self.linear.bias)
        if tied is not None:
            self.linear.weight = tied.weight

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., D) to logits (..., V)."""
        logits: Tensor = self.linear(x)
        return logits


def embedding_scale(size: int) -> float:
    """sqrt(D), which brings shared embeddings to unit variance (Vaswani et al. 2017, section 3.4)."""
    return math.sqrt(size)
