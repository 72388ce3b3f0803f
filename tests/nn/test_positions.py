"""Sinusoids as the paper has them."""

import math

import pytest

from nmt.nn.positions import SinusoidalPositions, sinusoids


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
