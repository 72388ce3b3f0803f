"""Attention scores: how well each key answers a query. Each class is one equation; softmax and mean are `attend`'s.

q is the query, (..., Q); k a key, one of S; both as wide as the recurrent state, unless something else looks up
(`query`), which some scores allow. What depends on the keys alone is computed once a sentence (`project_keys`), what
depends on the query alone once a step (`query_map`).
"""

import math
from abc import ABC, abstractmethod
from typing import Final, NamedTuple, assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nmt.config import ScoreName


class QueryMap(NamedTuple):
    """An affine map of the query, applied at every step."""

    weight: Float[Tensor, "A Q"]
    bias: Float[Tensor, " A"] | None


class Score(nn.Module, ABC):
    """A score of K queries a sentence against its S keys."""

    def query_map(self) -> QueryMap | None:
        """What is applied to a query before `from_projected`; `None` for nothing."""
        return None

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """What can be done once a sentence, so that a step does it no more."""
        return memory

    @abstractmethod
    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """Unnormalised scores from a query after `query_map` and keys after `project_keys`."""

    def forward(self, query: Float[Tensor, "B K Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """Unnormalised scores from the query itself."""
        mapped = self.query_map()
        return self.from_projected(query if mapped is None else nn.functional.linear(query, *mapped), keys)


class TanhScore(Score):
    """v . tanh(q + k), of queries and keys that are mapped to the same width."""

    v: nn.Linear

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """`v` applied to tanh(query + key)."""
        hidden = (query[:, :, None] + keys[:, None]).tanh_()  # (B, K, S, A)
        scores: Tensor = self.v(hidden)[..., 0]
        return scores


class AdditiveScore(TanhScore):
    """Additive ("MLP") score: v . tanh(W q + U k), with a bias in W.

    Bahdanau et al. 2015, section A.1.2, https://arxiv.org/abs/1409.0473.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        self.w = nn.Linear(query_size, attention_size)
        self.u = nn.Linear(key_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def query_map(self) -> QueryMap:
        """W."""
        return QueryMap(self.w.weight, self.w.bias)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """U k."""
        keys: Tensor = self.u(memory)
        return keys


class ConcatScore(TanhScore):
    """v . tanh(W [q; k]), without bias.

    Luong et al. 2015, section 3.1, https://arxiv.org/abs/1508.04025. The same function as Bahdanau's but for the
    bias: W [q; k] = W_q q + W_k k, and so it is computed.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.w = nn.Linear(query_size + key_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def query_map(self) -> QueryMap:
        """W_q."""
        return QueryMap(self.w.weight[:, : self.query_size], None)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """W_k k."""
        return nn.functional.linear(memory, self.w.weight[:, self.query_size :])


class DotScore(Score):
    """q . k (Luong et al. 2015, section 3.1)."""

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """The product itself."""
        return query @ keys.to(query.dtype).transpose(1, 2)


class GeneralScore(DotScore):
    """q . W k (Luong et al. 2015, section 3.1)."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.w = nn.Linear(key_size, query_size, bias=False)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """W k."""
        keys: Tensor = self.w(memory)
        return keys


class ScaledDotScore(DotScore):
    """q . k / sqrt(d), d the width of both (Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762)."""

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """The product, scaled."""
        return super().from_projected(query / math.sqrt(query.shape[-1]), keys)


class CosineScore(DotScore):
    """beta cos(q, k), with one learned beta > 0.

    Content addressing of Graves et al. 2014, equations 5 and 6, https://arxiv.org/abs/1410.5401, where the key
    strength beta is emitted at every step. Cosines lie within -1 and 1: with beta = 1 the weights of twenty keys
    could differ by no more than a factor of e^2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_beta = nn.Parameter(torch.tensor(math.log(10.0)))

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """`k` / |k|."""
        return nn.functional.normalize(memory, dim=-1)

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """The product of unit vectors, sharpened."""
        return self.log_beta.exp() * super().from_projected(nn.functional.normalize(query, dim=-1), keys)


class LinearScore(Score):
    """w . [q; k], one weight vector and no hidden layer.

    w . [q; k] = w_q . q + w_k . k, and w_q . q is the same for all keys: the softmax takes it out, so the weights
    do not depend on the query, and w_q has no gradient. Without a nonlinearity between them, query and key never
    meet: that is what the hidden layer of the additive score is for.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.w_query = nn.Linear(query_size, 1, bias=False)
        self.w_key = nn.Linear(key_size, 1, bias=False)

    def query_map(self) -> QueryMap:
        """w_q."""
        return QueryMap(self.w_query.weight, None)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """w_k . k."""
        keys: Tensor = self.w_key(memory)
        return keys

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """The sum."""
        return query + keys.to(query.dtype).transpose(1, 2)


class LocationScore(Score):
    """W q, one score for each of a fixed number of positions; the keys have no say.

    Luong et al. 2015, equation 8, and the decoder of PyTorch's sequence-to-sequence tutorial. Source positions
    beyond that number get no weight, unless a local scope sees nothing else.
    """

    def __init__(self, query_size: int, positions: int) -> None:
        super().__init__()
        self.w = nn.Linear(query_size, positions)

    def query_map(self) -> QueryMap:
        """W."""
        return QueryMap(self.w.weight, self.w.bias)

    def project_keys(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S 0"]:
        """Nothing but their number is of interest."""
        return memory[:, :, :0]

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S 0"]) -> Float[Tensor, "B K S"]:
        """The first S scores."""
        missing = max(0, keys.shape[1] - query.shape[-1])
        return nn.functional.pad(query[..., : keys.shape[1]], (0, missing), value=-math.inf)


class KernelScore(Score):
    """log K(u), u = |q - k| / (h sqrt(d)): attention as Nadaraya-Watson regression.

    sum_s K(u_s) v_s / sum_s K(u_s) (Nadaraya 1964; Watson 1964) is the mean of values under softmax(log K(u_s)).
    Distances are taken per dimension, so that a bandwidth h means the same for any width d. Where no key lies
    inside the window of a kernel that has one, nothing can be said: all real keys weigh the same (`attend`).
    """

    def __init__(self, bandwidth: float, *, learned: bool) -> None:
        super().__init__()
        log_bandwidth = torch.tensor(math.log(bandwidth))
        self.log_bandwidth: Tensor
        if learned:
            self.log_bandwidth = nn.Parameter(log_bandwidth)
        else:
            self.register_buffer("log_bandwidth", log_bandwidth, persistent=False)

    @staticmethod
    @abstractmethod
    def log_kernel(u_squared: Tensor) -> Tensor:
        """Log K(u), up to a constant, from u^2."""

    def from_projected(self, query: Float[Tensor, "B K A"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B K S"]:
        """|q - k|^2 = |q|^2 - 2 q . k + |k|^2, in float32."""
        query, keys = query.float(), keys.float()
        with torch.autocast(query.device.type, enabled=False):
            products = query @ keys.transpose(1, 2)
            squares = query.square().sum(-1)[:, :, None] + keys.square().sum(-1)[:, None]
            distance = (squares - 2 * products).clamp_min(0.0) / query.shape[-1]
            return self.log_kernel(distance * (-2 * self.log_bandwidth).exp())


class GaussianScore(KernelScore):
    """K(u) = exp(-u^2 / 2)."""

    @staticmethod
    def log_kernel(u_squared: Tensor) -> Tensor:
        """The exponent."""
        return -u_squared / 2


class BoxcarScore(KernelScore):
    """K(u) = 1 where u <= 1, else 0: the mean of all keys inside the window.

    A step function has no gradient: neither queries, keys nor bandwidth learn through the weights; the values do.
    """

    @staticmethod
    def log_kernel(u_squared: Tensor) -> Tensor:
        """0 inside, minus infinity outside."""
        return torch.zeros_like(u_squared).masked_fill(u_squared > 1, -math.inf)


class EpanechnikovScore(KernelScore):
    """K(u) = 1 - u^2 where u < 1, else 0 (Epanechnikov 1969). Keys outside the window have no gradient."""

    NARROWEST: Final = 1e-6
    """Least K inside the window: the logarithm's slope grows without bound towards the edge."""

    @staticmethod
    def log_kernel(u_squared: Tensor) -> Tensor:
        """Its logarithm."""
        inside = (1 - u_squared).clamp_min(EpanechnikovScore.NARROWEST).log()
        return inside.masked_fill(u_squared >= 1, -math.inf)


def build_score(
    name: ScoreName,
    query_size: int,
    key_size: int,
    *,
    attention_size: int,
    positions: int,
    bandwidth: float,
    learn_bandwidth: bool,
) -> Score:
    """The score of a name.

    Args:
        name: which.
        query_size: width of queries.
        key_size: width of the memory; most scores need both to be the same.
        attention_size: hidden width of `additive` and `concat`.
        positions: source positions that `location` knows.
        bandwidth: of the kernels, at first.
        learn_bandwidth: whether it is learned.
    """
    match name:
        case "additive":
            return AdditiveScore(query_size, key_size, attention_size)
        case "concat":
            return ConcatScore(query_size, key_size, attention_size)
        case "dot":
            return DotScore()
        case "general":
            return GeneralScore(query_size, key_size)
        case "scaled_dot":
            return ScaledDotScore()
        case "cosine":
            return CosineScore()
        case "linear":
            return LinearScore(query_size, key_size)
        case "location":
            return LocationScore(query_size, positions)
        case "gaussian":
            return GaussianScore(bandwidth, learned=learn_bandwidth)
        case "boxcar":
            return BoxcarScore(bandwidth, learned=False)
        case "epanechnikov":
            return EpanechnikovScore(bandwidth, learned=learn_bandwidth)
        case _:
            assert_never(name)
