import torch

from nmt.config import DecodingOptions
from nmt.decoding.constraints import forbid_end, forbid_repeated_ngrams, forbid_tokens, length_limits
from nmt.special import EOS


def banned(log_probs: torch.Tensor) -> list[list[int]]:
    return [(row == -torch.inf).nonzero()[:, 0].tolist() for row in log_probs]


def test_forbidden_tokens() -> None:
    log_probs = torch.zeros(2, 6)
    forbid_tokens(log_probs, (0, 5))
    assert banned(log_probs) == [[0, 5], [0, 5]]


def test_no_end_where_too_short() -> None:
    log_probs = torch.zeros(2, 6)
    forbid_end(log_probs, torch.tensor([True, False]))
    assert banned(log_probs) == [[EOS], []]


def test_tokens_that_would_repeat_an_ngram() -> None:
    produced = torch.tensor([[4, 5, 6, 4, 5], [4, 4, 4, 4, 4], [4, 5, 6, 7, 8]])
    for size, expected in ((1, [[4, 5, 6], [4], [4, 5, 6, 7, 8]]), (2, [[6], [4], []]), (3, [[6], [4], []])):
        log_probs = torch.zeros(3, 9)
        forbid_repeated_ngrams(log_probs, produced, size)
        assert banned(log_probs) == expected


def test_nothing_can_repeat_before_there_is_one() -> None:
    log_probs = torch.zeros(1, 6)
    forbid_repeated_ngrams(log_probs, torch.tensor([[4]]), 2)
    forbid_repeated_ngrams(log_probs, torch.empty(1, 0, dtype=torch.int64), 1)
    assert banned(log_probs) == [[]]


def test_limits_count_the_own_source() -> None:
    src_mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    options = DecodingOptions(max_length_ratio=1.5, max_length_extra=1, min_length_ratio=0.7)
    limits = length_limits(src_mask, options)
    assert limits.longest.tolist() == [5, 2]
    assert limits.shortest.tolist() == [2, 0]


def test_limits_leave_room_for_one_token() -> None:
    limits = length_limits(torch.tensor([[True]]), DecodingOptions(max_length_ratio=0.0, max_length_extra=0))
    assert limits.longest.tolist() == [1]
