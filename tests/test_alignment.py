"""Alignments against hand-computed cases."""

from pathlib import Path

import numpy as np
import pytest

from nmt.alignment import (
    Gold,
    Link,
    Symmetrisation,
    by_words,
    diagonal,
    links,
    links_back,
    pharaoh,
    read_gold,
    score_alignments,
    symmetrisation,
    symmetrise,
)
from nmt.errors import DataError, UsageError
from nmt.tokenizer import Word


def test_a_word_gets_the_sum_and_gives_the_mean_of_its_pieces() -> None:
    weights = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    words = [Word("la", 0, 2), Word("gare", 2, 3)]
    merged = by_words(weights, words, words)
    np.testing.assert_allclose(merged, [[(0.3 + 0.8) / 2, (0.7 + 0.2) / 2], [1.0, 0.0]])
    np.testing.assert_allclose(merged.sum(1), 1.0)


def test_a_word_without_pieces_gets_and_gives_nothing() -> None:
    weights = np.array([[0.4, 0.6], [0.3, 0.7]])
    words = [Word("la", 0, 1), Word("\ufeff", 1, 1), Word("gare", 1, 2)]
    merged = by_words(weights, words, words)
    np.testing.assert_allclose(merged, [[0.4, 0, 0.6], [0, 0, 0], [0.3, 0, 0.7]])
    assert links(merged) == [(2, 0), (2, 2)]
    assert by_words(weights, words, []).shape == (0, 3)


def test_links_go_to_the_greatest_weight_and_are_written_source_first() -> None:
    assert links(np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])) == [(1, 0), (0, 1), (1, 2)]
    assert pharaoh([(1, 0), (0, 1), (1, 2)]) == "0-1 1-0 1-2"
    assert links(np.zeros((0, 0))) == []


def test_links_back_go_to_the_target_word_that_looks_hardest() -> None:
    assert links_back(np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.95]])) == [(0, 1), (1, 2)]
    assert links_back(np.zeros((0, 0))) == []


THERE = [(0, 0), (1, 1), (2, 2), (5, 5), (7, 0)]
BACK = [(0, 0), (1, 1), (1, 2), (3, 3), (5, 6)]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("intersection", [(0, 0), (1, 1)]),
        ("union", [(0, 0), (1, 1), (1, 2), (2, 2), (3, 3), (5, 5), (5, 6), (7, 0)]),
        # (1, 2) is next to (1, 1) and brings target 2; (2, 2) brings source 2; (3, 3) follows; 5 touches nothing
        ("grow-diag", [(0, 0), (1, 1), (1, 2), (2, 2), (3, 3)]),
        # ... (5, 5) and (7, 0) bring sources 5 and 7, then (5, 6) target 6
        ("grow-diag-final", [(0, 0), (1, 1), (1, 2), (2, 2), (3, 3), (5, 5), (5, 6), (7, 0)]),
    ],
)
def test_two_directions_become_one(method: Symmetrisation, expected: list[Link]) -> None:
    assert symmetrise(THERE, BACK, method) == expected
    assert symmetrise(expected, expected, method) == expected


def test_growing_leaves_out_what_reaches_no_new_word() -> None:
    square = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert symmetrise([(0, 0), (1, 1)], square, "grow-diag-final") == [(0, 0), (1, 1)]


def test_an_unknown_way_to_symmetrise_is_named() -> None:
    assert symmetrisation("grow-diag") == "grow-diag"
    with pytest.raises(UsageError, match="grow-diag"):
        symmetrisation("grow-dag")


def test_the_diagonal_stretches_one_side_to_the_other() -> None:
    assert diagonal(4, 2) == [(1, 0), (3, 1)]
    assert diagonal(2, 4) == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert diagonal(3, 3) == [(0, 0), (1, 1), (2, 2)]


def test_error_rate_by_hand() -> None:
    """A = {0-0, 1-1, 2-2, 3-3}, S = {0-0, 1-2, 4-4}, P = S + {1-1, 2-2}: 1 in S, 3 in P."""
    gold = Gold(frozenset({(0, 0), (1, 2), (4, 4)}), frozenset({(0, 0), (1, 2), (4, 4), (1, 1), (2, 2)}))
    score = score_alignments([[(i, i) for i in range(4)]], [gold])
    assert score.error_rate == pytest.approx(100 * (1 - (1 + 3) / (4 + 3)))
    assert score.precision == pytest.approx(75.0)
    assert score.recall == pytest.approx(100 / 3)
    assert score.links == 4


def test_the_truth_itself_has_no_error() -> None:
    gold = Gold(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (2, 1)}))
    assert score_alignments([gold.sure], [gold]).error_rate == pytest.approx(0.0)
    assert score_alignments([gold.possible], [gold]).error_rate == pytest.approx(0.0)


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(DataError, match="no alignments"):
        score_alignments([[]], [Gold(frozenset(), frozenset())])


def test_gold_links_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text("0-0 3?4 2p1\n\n")
    assert read_gold(path) == [
        Gold(frozenset({(0, 0)}), frozenset({(0, 0), (3, 4), (2, 1)})),
        Gold(frozenset(), frozenset()),
    ]


@pytest.mark.parametrize("item", ["3", "-", "a-1", "1-", "1--2", "-1-2", "1-2-3", "9" * 30 + "-1"])
def test_what_is_no_link_is_named_with_its_line(tmp_path: Path, item: str) -> None:
    path = tmp_path / "gold"
    path.write_text(f"0-0\n1-1 {item}\n")
    with pytest.raises(DataError, match="gold:2: .* is no link"):
        read_gold(path)
