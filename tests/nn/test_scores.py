"""Every score against a direct evaluation of its equation in float64."""

import math
import typing
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmt.config import ScoreName
from nmt.nn.attention import attend
from nmt.nn.scores import BoxcarScore, EpanechnikovScore, GaussianScore, LinearScore, Score, build_score

WIDTH = 6
Equation = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


def u_squared(q: Tensor, k: Tensor, h: float) -> Tensor:
    return (q - k).square().sum() / (WIDTH * h * h)


EQUATIONS: dict[str, Equation] = {
    "additive": lambda w, q, k: w["v.weight"][0] @ torch.tanh(w["w.weight"] @ q + w["w.bias"] + w["u.weight"] @ k),
    "concat": lambda w, q, k: w["v.weight"][0] @ torch.tanh(w["w.weight"] @ torch.cat([q, k])),
    "dot": lambda w, q, k: q @ k,
    "general": lambda w, q, k: q @ (w["w.weight"] @ k),
    "scaled_dot": lambda w, q, k: q @ k / math.sqrt(WIDTH),
    "cosine": lambda w, q, k: w["log_beta"].exp() * torch.cosine_similarity(q, k, 0),
    "linear": lambda w, q, k: torch.cat([w["w_query.weight"][0], w["w_key.weight"][0]]) @ torch.cat([q, k]),
    "gaussian": lambda w, q, k: torch.exp(-u_squared(q, k, 0.9) / 2).log(),
    "boxcar": lambda w, q, k: (u_squared(q, k, 0.9) <= 1).double().log(),
    "epanechnikov": lambda w, q, k: (1 - u_squared(q, k, 0.9)).clamp_min(0).log(),
}


def score(name: ScoreName, *, learn_bandwidth: bool = True) -> Score:
    torch.manual_seed(1)
    settings = {"attention_size": 5, "positions": 4, "bandwidth": 0.9, "learn_bandwidth": learn_bandwidth}
    return build_score(name, WIDTH, WIDTH, **settings)


def inputs() -> tuple[Tensor, Tensor]:
    """Queries (2, 3, D) and memory (2, 7, D), some near each other and some not."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, WIDTH, generator=generator), 0.8 * torch.randn(2, 7, WIDTH, generator=generator)


def test_every_score_has_its_equation() -> None:
    assert {*EQUATIONS, "location"} == set(typing.get_args(ScoreName))


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_score_is_its_equation(name: ScoreName) -> None:
    module, (query, memory) = score(name), inputs()
    weights = {key: value.double() for key, value in module.state_dict().items()}
    with torch.no_grad():
        result = module(query, module.project_keys(memory))
    equation, pairs = EQUATIONS[name], zip(query.double(), memory.double(), strict=True)
    expected = [[[equation(weights, q, k) for k in keys] for q in queries] for queries, keys in pairs]
    torch.testing.assert_close(result.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-5)


def test_location_scores_come_from_the_query_alone() -> None:
    module, (query, memory) = score("location"), inputs()
    result = module(query, module.project_keys(memory))
    torch.testing.assert_close(result[..., :4], module.w(query))
    assert (result[..., 4:] == -torch.inf).all()
    short = module(query, module.project_keys(memory[:, :2]))
    torch.testing.assert_close(short, module.w(query)[..., :2])


def test_a_linear_score_gives_the_same_weights_to_every_query() -> None:
    module, (query, memory) = score("linear"), inputs()
    assert isinstance(module, LinearScore)
    mask = torch.ones(2, 7, dtype=torch.bool)
    weights = attend(module(query, module.project_keys(memory)), memory, mask).weights
    torch.testing.assert_close(weights[:, 0], weights[:, 1])
    weights.square().sum().backward()
    assert module.w_query.weight.grad is not None
    assert module.w_query.weight.grad.abs().max() < 1e-6
    assert module.w_key.weight.grad is not None
    assert module.w_key.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gaussian", "boxcar", "epanechnikov"])
def test_kernel_weights_are_those_of_nadaraya_and_watson(name: ScoreName) -> None:
    module, (query, memory) = score(name), inputs()
    values = torch.randn(2, 7, 3)
    mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        context = attend(module(query, module.project_keys(memory)), values, mask).context
    for b in range(2):
        for q in range(3):
            kernel = torch.stack([EQUATIONS[name]({}, query[b, q].double(), k).exp() for k in memory[b].double()])
            if kernel.sum() == 0:
                kernel = torch.ones(7, dtype=torch.float64)  # no key inside the window
            expected = kernel @ values[b].double() / kernel.sum()
            torch.testing.assert_close(context[b, q].double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "learns"), [("gaussian", True), ("epanechnikov", True), ("boxcar", False)])
def test_what_has_a_gradient(name: ScoreName, learns: bool) -> None:
    """Near keys, far keys: a boxcar passes no gradient to queries, keys or bandwidth."""
    module, (query, memory) = score(name), inputs()
    query, memory = (0.3 * query).requires_grad_(), (0.3 * memory).requires_grad_()
    mask = torch.ones(2, 7, dtype=torch.bool)
    weights = attend(module(query, module.project_keys(memory)), memory.detach(), mask).weights
    assert weights.requires_grad is learns
    if not learns:
        assert list(module.parameters()) == []
        return
    weights.square().sum().backward()
    for tensor in (query, memory, module.log_bandwidth):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize("kind", [GaussianScore, BoxcarScore, EpanechnikovScore])
def test_a_fixed_bandwidth_is_no_parameter(kind: type[GaussianScore | BoxcarScore | EpanechnikovScore]) -> None:
    assert list(kind(0.5, learned=False).parameters()) == []


def test_far_from_all_keys_a_window_weighs_them_alike() -> None:
    module = score("epanechnikov", learn_bandwidth=False)
    memory = torch.randn(1, 4, WIDTH)
    query = torch.full((1, 1, WIDTH), 100.0)
    mask = torch.tensor([[True, True, True, False]])
    weights = attend(module(query, module.project_keys(memory)), memory, mask).weights
    assert weights.flatten().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0])
