"""Linear layers by oneDNN: the same results, of the weights as they are, and only where asked for."""

import pytest
import torch
from torch import nn

from nmt.nn.blocked import BlockedLinears, blocks_pay, has_blocks, round_up

pytestmark = pytest.mark.skipif(not has_blocks(), reason="this torch has no such operation")


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(16, 40), nn.Tanh(), nn.Linear(40, 24, bias=False)).eval()


@pytest.mark.parametrize("shape", [(1, 16), (5, 16), (200, 16), (3, 7, 16), (16,), (0, 16), (2, 0, 16)])
@torch.inference_mode()
def test_results_are_those_of_the_plain_product(model: nn.Sequential, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    expected = model(x)
    with BlockedLinears(model).used():
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_rows_that_do_not_lie_one_after_the_other(model: nn.Sequential) -> None:
    x = torch.randn(16, 9).T
    expected = model(x)
    with BlockedLinears(model).used():
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


def test_they_are_used_inside_only(model: nn.Sequential) -> None:
    blocked = BlockedLinears(model)
    for _ in range(2):
        with blocked.used():
            assert all("forward" in vars(module) for module in model if isinstance(module, nn.Linear))
        assert not any("forward" in vars(module) for module in model)


def test_an_error_inside_leaves_the_model_as_it_was(model: nn.Sequential) -> None:
    def fail() -> None:
        with BlockedLinears(model).used():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    model(torch.randn(4, 16)).sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize(
    ("name", "avx512", "pays"),
    [("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel(R) Xeon(R)", True, False), (None, True, False)],
)
def test_they_pay_where_mkl_holds_back(
    name: str | None, avx512: bool, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    capabilities = {"avx512_f": avx512} | ({} if name is None else {"cpu_name": name})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert blocks_pay(torch.device("cpu")) is pays
    assert not blocks_pay(torch.device("cuda", 0))


def test_rows_come_in_few_numbers() -> None:
    wanted = [round_up(rows) for rows in range(2000)]
    assert wanted[:8] == list(range(8))
    assert all(rows <= more <= max(rows + 7, 1.125 * rows) for rows, more in enumerate(wanted))
    assert len(set(wanted)) < 70
