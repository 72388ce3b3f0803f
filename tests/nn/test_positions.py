"""Sinusoids as the paper has them."""

import math

import pytest
import torch

from nmt.nn.positions import LearnedPositions, SinusoidalPositions, rotate, sinusoids


@pytest.mark.parametrize(("position", "i"), [(0, 0), (3, 0), (7, 2), (50, 5)])
def test_entries_are_the_papers(position: int, i: int) -> None:
    angle = position / 10000 ** (2 * i / 12)
    row = sinusoids(64, 12)[position]
    assert row[2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
    assert row[2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_offset_continues_and_the_table_grows() -> None:
    positions = SinusoidalPositions(12, length=8)
    expected = sinusoids(40, 12)
    assert positions(5, offset=30).allclose(expected[30:35], atol=1e-5)
    assert positions(3).allclose(expected[:3], atol=1e-6)
    assert not positions.state_dict()


def test_rotation_is_a_complex_product() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 5, 8)
    turned = rotate(x, offset=4)
    pairs = torch.view_as_complex(x.double().view(2, 3, 5, 4, 2))
    for t in range(5):
        for i in range(4):
            angle = torch.tensor((t + 4) / 10000 ** (2 * i / 8), dtype=torch.float64)
            expected = torch.view_as_real(pairs[:, :, t, i] * torch.polar(torch.ones_like(angle), angle))
            torch.testing.assert_close(turned[:, :, t, 2 * i : 2 * i + 2].double(), expected, rtol=1e-4, atol=1e-5)


def test_products_of_rotated_vectors_depend_on_their_distance_alone() -> None:
    torch.manual_seed(1)
    query, key = torch.randn(1, 8), torch.randn(1, 8)
    near = rotate(query, 3) @ rotate(key, 1).T
    far = rotate(query, 103) @ rotate(key, 101).T
    other = rotate(query, 3) @ rotate(key, 2).T
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(near, other, atol=1e-3)


def test_learned_positions_beyond_the_table_are_its_last() -> None:
    positions = LearnedPositions(4, 3)
    table = positions.embedding.weight
    assert positions(4, offset=1).equal(table[[1, 2, 2, 2]])
