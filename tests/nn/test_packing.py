"""Packed rows: what heads see of them is what they see of padded sentences, and spare rows see nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmt.nn.packing import TOKENS_MULTIPLE, Packing, _stack

HEADS, SIZE = 2, 4
MASKS = {
    "padded": [[1, 1, 1], [1, 0, 0], [1, 1, 0]],
    "holes": [[0, 1, 1], [0, 0, 0], [1, 0, 1]],
    "full": [[1, 1], [1, 1]],
    "empty": [[0, 0]],
    "as many as rows": [[1] * TOKENS_MULTIPLE],
}


@pytest.fixture(params=MASKS)
def mask(request: pytest.FixtureRequest) -> Tensor:
    return torch.tensor(MASKS[request.param], dtype=torch.bool)


def padded_heads(x: Tensor, mask: Tensor, parts: int) -> Tensor:
    """The same by the book: rows to their places, the width to parts and heads, which come before the positions."""
    places = x.new_zeros(*mask.shape, x.shape[1])
    places = places.masked_scatter(mask[..., None].expand_as(places), x[: int(mask.sum())])
    return places.view(*mask.shape, parts, HEADS, SIZE).permute(2, 0, 3, 1, 4)


def beside(parts: Tensor) -> list[Tensor]:
    return list(parts.clone().unbind(0))


def apart(parts: Tensor) -> list[Tensor]:
    return [part.clone() for part in parts]


def in_another_order(parts: Tensor) -> list[Tensor]:
    return list(parts.flip(0).clone().unbind(0))[::-1]


def transposed(parts: Tensor) -> list[Tensor]:
    return list(parts.mT.clone().mT.unbind(0))


@pytest.mark.parametrize("laid", [beside, apart, in_another_order, transposed])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_split_puts_rows_where_heads_of_padded_sentences_have_them(
    mask: Tensor, parts: int, laid: Callable[[Tensor], list[Tensor]]
) -> None:
    packing, real = Packing(mask), mask[None, :, None, :, None]
    x = torch.randn(packing.rows, parts * HEADS * SIZE, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    split, expected = packing.split(x, parts, HEADS), padded_heads(other, mask, parts)
    assert all(part.is_contiguous() for part in split)
    assert torch.stack(split).where(real, 0.0).equal(expected)
    weights = torch.randn_like(expected)
    (expected * weights).where(real, 0.0).sum().backward()
    # as a sentence without any token has them
    torch.autograd.backward(split, laid(weights.where(real, torch.nan)))
    assert x.grad is not None
    assert x.grad.equal(other.grad)


def test_gradients_that_stand_beside_each_other_are_not_copied() -> None:
    parts = torch.randn(2, 3, 4)
    assert _stack(beside(parts)).equal(parts)
    views = parts.unbind(0)
    assert _stack(views).data_ptr() == parts.data_ptr()


def test_join_is_the_way_back(mask: Tensor) -> None:
    packing = Packing(mask)
    assert packing.tokens < packing.rows
    assert packing.rows % TOKENS_MULTIPLE == 0
    x = torch.randn(packing.rows, HEADS * SIZE, dtype=torch.bfloat16)
    x[packing.tokens :] = 0
    assert packing.join(packing.split(x, 1, HEADS)[0]).equal(x)


def test_the_gradient_of_join_is_that_of_real_places_only(mask: Tensor) -> None:
    packing = Packing(mask)
    heads = torch.randn(len(mask), HEADS, mask.shape[1], SIZE, requires_grad=True)
    weights = torch.randn(packing.tokens, HEADS * SIZE)
    (packing.join(heads)[: packing.tokens] * weights).sum().backward()
    assert heads.grad is not None
    assert heads.grad.equal(padded_heads(weights, mask, 1)[0])


def test_values_and_positions_of_tokens() -> None:
    packing = Packing(torch.tensor(MASKS["padded"], dtype=torch.bool))
    packed = packing.pack(torch.arange(10, 19).view(3, 3), spare=7)
    assert packed[: packing.tokens].tolist() == [10, 11, 12, 13, 16, 17]
    assert packed[packing.tokens :].unique().tolist() == [7]
    assert packing.positions()[: packing.tokens].tolist() == [0, 1, 2, 0, 0, 1]
