"""Cells and sequence kernels against torch's own GRU and LSTM."""

import pytest
import torch
from torch import Tensor, nn

from nmt.nn.recurrent import Cell, make_cell, reverse_within_length, run_cell


def twin(kind: str) -> tuple[Cell, nn.Module]:
    """Our cell and torch's layer with the same weights."""
    torch.manual_seed(2)
    cell = make_cell("gru" if kind == "gru" else "lstm", 5, 6)
    gold = (nn.GRU if kind == "gru" else nn.LSTM)(5, 6, batch_first=True)
    with torch.no_grad():
        for ours, theirs in ((cell.input, "ih"), (cell.hidden, "hh")):
            ours.bias.normal_()
            getattr(gold, f"weight_{theirs}_l0").copy_(ours.weight)
            getattr(gold, f"bias_{theirs}_l0").copy_(ours.bias)
    return cell, gold


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_sequence_equals_torch_on_packed_input(kind: str, x: Tensor) -> None:
    cell, gold = twin(kind)
    lengths = torch.tensor([7, 4, 1])
    mask = torch.arange(7) < lengths[:, None]
    states = run_cell(cell, x, mask, torch.zeros(3, cell.state_size))
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    expected, last = gold(packed)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(cell.output(states) * mask[..., None], outputs)
    last = torch.cat(last, -1)[0] if kind == "lstm" else last[0]
    torch.testing.assert_close(states[:, -1], last)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_sequence_gradients_equal_torch(kind: str, x: Tensor) -> None:
    cell, gold = twin(kind)
    weights = torch.randn(3, 7, 6)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    mask = torch.ones(3, 7, dtype=torch.bool)
    (cell.output(run_cell(cell, ours, mask, torch.zeros(3, cell.state_size))) * weights).sum().backward()
    (gold(theirs)[0] * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(cell.hidden.weight.grad, gold.weight_hh_l0.grad)
    torch.testing.assert_close(cell.hidden.bias.grad, gold.bias_hh_l0.grad)
    torch.testing.assert_close(cell.input.weight.grad, gold.weight_ih_l0.grad)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradient_by_the_first_state_crosses_padding(kind: str, x: Tensor) -> None:
    cell, _ = twin(kind)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    initial = torch.randn(3, cell.state_size, requires_grad=True)
    run_cell(cell, x, mask, initial)[:, -1].sum().backward()
    assert initial.grad is not None
    torch.testing.assert_close(initial.grad, torch.ones_like(initial))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_single_steps_equal_the_sequence(kind: str, x: Tensor) -> None:
    cell, _ = twin(kind)
    states = run_cell(cell, x, torch.ones(3, 7, dtype=torch.bool), torch.zeros(3, cell.state_size))
    state = torch.zeros(3, cell.state_size)
    for step in range(7):
        state = cell(x[:, step], state)
        torch.testing.assert_close(state, states[:, step])


def test_reversal_keeps_padding_in_place() -> None:
    tokens = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    mask = tokens != 0
    reversed_ = reverse_within_length(tokens, mask)
    assert reversed_.tolist() == [[3, 2, 1, 0, 0], [8, 7, 6, 5, 4]]
    assert reverse_within_length(reversed_, mask).equal(tokens)
