"""The tables that a beam's rows share."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nmt.models.past import LEAST_ROOM, Past, Tail, write


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def empty(sentences: int) -> Past:
    table = torch.zeros(sentences, 1, 0, 2)
    return Past(torch.zeros(sentences, 0, dtype=torch.bool), Tail(), ((table, -table),))


def read(past: Past, entries: Tensor) -> Past:
    """Every row writes one entry: the number it is given."""
    past = past.with_room()
    filled = past.descent.shape[1]
    for keys, values in past.tables:
        write(keys, filled, entries.view(-1, 1, 1, 1).expand(-1, -1, -1, 2).float())
        write(values, filled, -entries.view(-1, 1, 1, 1).expand(-1, -1, -1, 2).float())
    return past.extended()


def seen(past: Past) -> list[list[int]]:
    """What each row goes back to, as the numbers that were written."""
    [(keys, values)] = past.tables
    rows = len(past.descent) // len(keys)
    filled = past.descent.shape[1]
    torch.testing.assert_close(keys[:, :, :filled], -values[:, :, :filled])
    written = keys[:, 0, :filled, 0].repeat_interleave(rows, 0)
    return [numbers[own].int().tolist() for numbers, own in zip(written, past.descent, strict=True)]


def test_rows_go_back_to_what_they_descend_from() -> None:
    past = read(empty(2), torch.tensor([1, 2])).reorder(torch.tensor([0, 0, 1, 1]))
    past = read(past, torch.tensor([10, 11, 20, 21])).reorder(torch.tensor([1, 1, 2, 3]))
    assert seen(read(past, torch.tensor([3, 4, 5, 6]))) == [[1, 11, 3], [1, 11, 4], [2, 20, 5], [2, 21, 6]]


def test_following_back_pointers_copies_no_table() -> None:
    past = read(empty(2), torch.tensor([1, 2]))
    widened = past.reorder(torch.tensor([0, 0, 1, 1]))
    assert widened.tables is past.tables
    assert read(widened, torch.tensor([3, 4, 5, 6])).tables is past.tables


def test_sentences_may_leave_and_beams_become_narrower() -> None:
    past = read(empty(3), torch.tensor([1, 2, 3])).reorder(torch.tensor([0, 0, 1, 1, 2, 2]))
    past = read(past, torch.arange(10, 16)).reorder(torch.tensor([1, 4]), torch.tensor([0, 2]))
    assert seen(read(past, torch.tensor([7, 8]))) == [[1, 11, 7], [3, 14, 8]]


def test_two_states_that_continue_one_do_not_disturb_each_other() -> None:
    past = read(empty(1), torch.tensor([1]))
    first, second = (read(past, torch.tensor([number])) for number in (2, 3))
    assert (seen(first), seen(second), seen(past)) == ([[1, 2]], [[1, 3]], [[1]])
    again = past.reorder(torch.tensor([0]), torch.tensor([0]))
    assert seen(read(again, torch.tensor([4]))) == [[1, 4]]
    assert seen(first) == [[1, 2]]


def test_full_tables_make_room_by_leaving_out_what_nobody_descends_from() -> None:
    past = read(empty(1), torch.tensor([0])).reorder(torch.tensor([0, 0, 0, 0]))
    lines = [[0]] * 4
    for step in range(1, 60):
        entries = torch.arange(4) + 10 * step
        past = read(past, entries)
        rows = torch.tensor([step % 4, step % 4, (step + 1) % 4, step % 4])
        lines = [[*line, int(entry)] for line, entry in zip(lines, entries, strict=True)]
        lines = [lines[row] for row in rows]
        past = past.reorder(rows)
        assert seen(past) == lines
    assert past.descent.shape[1] < past.tables[0][0].shape[2] < 2 * 60 + LEAST_ROOM


@torch.enable_grad()
def test_gradients_flow_through_what_was_written() -> None:
    with torch.inference_mode(mode=False):
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        total = torch.zeros(())
        past = empty(2)
        for step in (1.0, 10.0):
            past = past.with_room()
            filled = past.descent.shape[1]
            for keys, values in past.tables:
                entries = (weight * step).view(2, 1, 1, 1).expand(-1, -1, -1, 2)
                write(values, filled, entries)
                total = total + write(keys, filled, entries).square().sum()
            past = past.extended()
        total.backward()
        # (w^2 + w^2 + 100 w^2) * 2 columns
        torch.testing.assert_close(weight.grad, 2 * 2 * 102 * weight.detach())
