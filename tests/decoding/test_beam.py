"""What makes a beam a beam: it finds what greedy search misses, and, wide enough, the best there is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nmt.config import DecodingOptions
from nmt.decoding.beam import beam_search
from nmt.decoding.greedy import greedy_search
from nmt.decoding.length_penalty import normalise
from nmt.special import EOS
from tests.decoding.table import Prefix, TableModel, pad, random_table

SENTENCES = [[4, 5, 6], [7], [8, 9]]


def options(**changes: Any) -> DecodingOptions:
    return DecodingOptions(**{"max_length_ratio": 0.0, "max_length_extra": 4} | changes)


def trap(prefix: Prefix, source: Prefix) -> list[float]:
    """4 begins with 0.6 against 5's 0.4, but nothing good follows it."""
    table = {
        (): [0, 0, 0, 0, 0.6, 0.4],
        (4,): [0, 0.3, 0, 0.3, 0.2, 0.2],
        (5,): [0, 0, 0, 0.9, 0.1, 0],
    }
    return table.get(prefix, [0, 0, 0, 1.0, 0, 0])


def test_a_beam_of_two_escapes_the_trap_that_greedy_falls_into() -> None:
    model = TableModel(trap, lambda prefix, source: [1.0] + [0.0] * (len(source) - 1))
    src, src_mask = pad([4, 5])
    [[greedy]] = greedy_search(model, src, src_mask, options())
    assert greedy.tokens[0] == 4
    [[found]] = beam_search(model, src, src_mask, options(beam_size=2, length_penalty=0.0))
    assert found.tokens == (5, EOS)
    assert found.score == pytest.approx(torch.tensor(0.4 * 0.9).log().item())


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_the_space_finds_the_best(seed: int, length_penalty: float) -> None:
    """All n-best places, against brute force: 3 tokens and EOS, at most 4 long."""
    model = random_table(seed, vocab=6)
    width = 1 + 3 + 9 + 27 * 4
    chosen = options(beam_size=width, n_best=20, length_penalty=length_penalty)
    for sentence, ranked in zip(SENTENCES, beam_search(model, *pad(*SENTENCES), chosen), strict=True):
        every = model.complete((*sentence, EOS), 4)
        gold = sorted(((t[-1] == EOS, normalise(score, len(t), length_penalty), t) for t, score in every), reverse=True)
        assert [h.tokens for h in ranked] == [tokens for _, _, tokens in gold[:20]]
        assert [h.normalised(length_penalty) for h in ranked] == pytest.approx([s for _, s, _ in gold[:20]], abs=1e-4)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_stopping_early_changes_nothing(length_penalty: float, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same search without the bound, which then goes on until 2K - 1 have ended, gives the same list."""
    model = random_table(seed, vocab=9, sharpness=2.5)
    chosen = options(beam_size=5, n_best=1, length_penalty=length_penalty, max_length_extra=7)
    steps = count_rows(model)
    early, early_steps = beam_search(model, *pad(*SENTENCES), chosen), len(steps)

    def anything(score: Tensor, longest: Tensor, length_penalty: float) -> Tensor:
        return torch.where(score > -torch.inf, torch.inf, -torch.inf)

    monkeypatch.setattr("nmt.decoding.beam.highest_normalised", anything)
    full = beam_search(model, *pad(*SENTENCES), chosen)
    assert [[h.tokens for h in ranked] for ranked in early] == [[h.tokens for h in ranked] for ranked in full]
    assert sum(steps[:early_steps]) <= sum(steps[early_steps:])


def test_a_hypothesis_that_is_behind_now_may_still_win() -> None:
    """After one token, (EOS) leads by mean log-probability; the four tokens that come late have the better mean."""
    model = TableModel(
        lambda prefix, _: {
            (): [0, 0, 0, 0.45, 0.35, 0.2],
            (4, 4, 4): [0, 0, 0, 0.98, 0.01, 0.01],
        }.get(prefix, [0, 0, 0, 0.01, 0.98, 0.01]),
        uniform,
    )
    [[found]] = beam_search(model, *pad([4]), options(beam_size=3))
    assert found.tokens == (4, 4, 4, EOS)


def test_a_lead_that_nothing_can_catch_up_ends_the_search() -> None:
    """log 0.97 / 1 against at best log 0.02 / 4: one step is enough, also with a length penalty."""
    model = TableModel(lambda *_: [0, 0, 0, 0.97, 0.02, 0.01], uniform)
    counts = count_rows(model)
    beam_search(model, *pad([4]), options(beam_size=3))
    assert len(counts) == 1


def test_n_best_is_in_order_and_without_doubles() -> None:
    model = random_table(2, vocab=9)
    for ranked in beam_search(model, *pad(*SENTENCES), options(beam_size=6, n_best=6, max_length_extra=6)):
        assert len(ranked) == len({h.tokens for h in ranked}) == 6
        keys = [(h.finished, h.normalised(1.0)) for h in ranked]
        assert keys == sorted(keys, reverse=True)


def test_best_is_the_same_however_many_are_asked_for() -> None:
    model = random_table(3, vocab=9)
    one, all_ = (
        beam_search(model, *pad(*SENTENCES), options(beam_size=6, n_best=n, max_length_extra=6)) for n in (1, 6)
    )
    assert [ranked[0].tokens for ranked in one] == [ranked[0].tokens for ranked in all_]


def test_finished_hypotheses_come_before_stopped_ones() -> None:
    """A loop of probability 0.9 a token has the better mean, but never ends."""
    model = TableModel(
        lambda prefix, source: [0, 0, 0, 0.1, 0.9, 0], lambda prefix, source: [1 / len(source)] * len(source)
    )
    [ranked] = beam_search(model, *pad([4, 5]), options(beam_size=3, n_best=3, max_length_extra=9))
    assert ranked[0].finished
    assert [h.finished for h in ranked] == sorted((h.finished for h in ranked), reverse=True)


def test_longer_hypotheses_win_as_the_penalty_grows() -> None:
    model = random_table(4, vocab=6)
    lengths = [
        len(beam_search(model, *pad([4, 5]), options(beam_size=130, length_penalty=lp))[0][0].tokens)
        for lp in (0.0, 1.0, 4.0)
    ]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_a_beam_wider_than_the_vocabulary_works() -> None:
    [ranked] = beam_search(random_table(5, vocab=5), *pad([4]), options(beam_size=50, n_best=50, max_length_extra=2))
    assert len(ranked) == len({h.tokens for h in ranked}) == 1 + 2 * 3


def test_encoder_memory_is_not_copied_for_a_beam() -> None:
    """While no sentence leaves, every step sees the very tensors that `encode` made."""
    model = random_table(6, vocab=9)
    seen = []
    step = model.step
    model.step = lambda tokens, state: seen.append(state) or step(tokens, state)  # type: ignore[method-assign, func-returns-value]
    src, src_mask = pad(*SENTENCES)
    beam_search(model, src, src_mask, options(beam_size=4, min_length_ratio=9.0, max_length_ratio=9.0))
    assert len(seen) > 3
    assert all(state.src is src for state in seen[:8])


def count_rows(model: TableModel) -> list[int]:
    counts: list[int] = []
    step = model.step
    model.step = lambda tokens, state: counts.append(len(tokens)) or step(tokens, state)  # type: ignore[method-assign, func-returns-value]
    return counts


def uniform(prefix: Prefix, source: Prefix) -> list[float]:
    return [1 / len(source)] * len(source)


def test_sentences_that_are_done_leave_the_batch() -> None:
    never_ends = TableModel(lambda *_: [0, 0.1, 0, 0, 0.3, 0.2, 0.4], uniform)
    counts = count_rows(never_ends)
    beam_search(never_ends, *pad(*SENTENCES), options(beam_size=4, max_length_ratio=2.0, max_length_extra=0))
    assert counts == [3] + [3 * 4] * 3 + [2 * 4] * 2 + [4] * 2


def test_an_ended_hypothesis_gives_its_place_to_the_next_best() -> None:
    """EOS and 4 are the best two at first; what 5 leads to is better than both."""
    model = TableModel(
        lambda prefix, _: {(): [0, 0, 0, 0.4, 0.31, 0.29], (5,): [0, 0, 0, 0.98, 0.01, 0.01]}.get(
            prefix, [0, 0, 0, 0.4, 0.3, 0.3]
        ),
        uniform,
    )
    [[found]] = beam_search(model, *pad([4]), options(beam_size=2))
    assert found.tokens == (5, EOS)


def test_a_beam_of_k_looks_at_2k_candidates() -> None:
    """At the second step EOS is the best of both prefixes: what lives on is the third and the fourth candidate."""
    table = {
        (): [0, 0, 0, 0, 0.5, 0.5],
        (4,): [0, 0, 0, 0.4, 0.34, 0.26],
        (5,): [0, 0, 0, 0.4, 0.33, 0.27],
        (5, 4): [0, 0, 0, 0.99, 0.005, 0.005],
    }
    model = TableModel(lambda prefix, _: table.get(prefix, [0, 0, 0, 0.1, 0.45, 0.45]), uniform)
    chosen = options(beam_size=2, length_penalty=3.0, max_length_ratio=0.0, max_length_extra=5)
    [[found]] = beam_search(model, *pad([4]), chosen)
    assert found.tokens == (5, 4, EOS)


def test_only_the_best_k_candidates_can_end() -> None:
    """EOS is the third candidate for a beam of two at first, and the first one later."""
    model = TableModel(
        lambda prefix, _: [0, 0, 0, 0.5, 0.3, 0.2] if prefix else [0, 0, 0, 0.2, 0.45, 0.35],
        uniform,
    )
    [ranked] = beam_search(model, *pad([4]), options(beam_size=2, n_best=2, length_penalty=0.0))
    assert [h.tokens for h in ranked] == [(4, EOS), (5, EOS)]


def test_a_search_is_over_when_nearly_twice_as_many_as_the_beam_have_ended() -> None:
    """With a penalty that no bound stops: 1 ends at the first step, and 2 at each of the next."""
    model = TableModel(lambda *_: [0, 0, 0, 0.4, 0.35, 0.25], uniform)
    counts = count_rows(model)
    beam_search(model, *pad([4]), options(beam_size=3, length_penalty=9.0, max_length_extra=30))
    assert counts == [1, 3, 3]
