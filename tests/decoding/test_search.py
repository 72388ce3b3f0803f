"""What both searches must keep, over every model (the table of properties of search)."""

import math
from typing import Any

import pytest
import torch

from nmt.config import DecodingOptions
from nmt.decoding.beam import beam_search
from nmt.decoding.greedy import greedy_search
from nmt.decoding.hypothesis import Hypothesis
from nmt.decoding.search import METHODS, search
from nmt.models.interface import Seq2Seq, unroll
from nmt.special import BOS, EOS, PAD
from tests.decoding.table import TableModel, pad, random_table

SENTENCES = [[4, 5, 6], [9], [10, 11], [13, 14, 15, 16, 17]]


def options(**changes: Any) -> DecodingOptions:
    return DecodingOptions(**{"beam_size": 4, "max_length_ratio": 1.0, "max_length_extra": 2} | changes)


def same(one: Hypothesis, other: Hypothesis) -> None:
    assert one.tokens == other.tokens
    assert one.score == pytest.approx(other.score, rel=1e-4, abs=1e-4)
    assert (one.attention is None) == (other.attention is None)
    if one.attention is not None and other.attention is not None:
        torch.testing.assert_close(one.attention, other.attention, rtol=1e-4, atol=1e-5)


def rescored(model: Seq2Seq, sentence: list[int], ranked: list[Hypothesis]) -> list[Hypothesis]:
    """What forced decoding, without any search, makes of the tokens of each hypothesis of one sentence."""
    src, src_mask = pad(*[sentence] * len(ranked))
    tgt_in = torch.full((len(ranked), max(len(h.tokens) for h in ranked)), PAD)
    for row, hypothesis in zip(tgt_in, ranked, strict=True):
        row[: len(hypothesis.tokens)] = torch.tensor([BOS, *hypothesis.tokens[:-1]])
    with torch.no_grad():
        logits, attention = unroll(model, src, src_mask, tgt_in)
    found = []
    for row, tokens in enumerate(h.tokens for h in ranked):
        log_probs = logits[row].log_softmax(-1)[range(len(tokens)), list(tokens)]
        weights = None if attention is None else attention[row, : len(tokens)]
        found.append(Hypothesis(tokens, float(log_probs.sum()), weights))
    return found


@pytest.mark.parametrize("chosen", [options(beam_size=1), options(n_best=4), options(n_best=3, length_penalty=0.0)])
def test_every_hypothesis_rescored_by_forced_decoding_is_the_same(model: Seq2Seq, chosen: DecodingOptions) -> None:
    """State, tokens, scores and attention rows followed the same back-pointers, also while sentences left."""
    results = search(model, *pad(*SENTENCES), chosen)
    assert [len(ranked) for ranked in results] == [chosen.n_best] * len(SENTENCES)
    for sentence, ranked in zip(SENTENCES, results, strict=True):
        for hypothesis, gold in zip(ranked, rescored(model, sentence, ranked), strict=True):
            same(hypothesis, gold)


def test_hypotheses_of_a_beam_do_cross(model: Seq2Seq) -> None:
    """The property above means little unless hypotheses of one sentence share beginnings and differ later."""
    results = search(model, *pad(*SENTENCES), options(n_best=4))
    assert any(len({h.tokens[0] for h in ranked}) < len({h.tokens for h in ranked}) for ranked in results)


def test_greedy_is_a_beam_of_one(model: Seq2Seq) -> None:
    for one, other in zip(
        greedy_search(model, *pad(*SENTENCES), options()),
        beam_search(model, *pad(*SENTENCES), options(beam_size=1)),
        strict=True,
    ):
        assert len(one) == len(other) == 1
        same(one[0], other[0])


def test_greedy_takes_the_most_probable_token_at_every_step(model: Seq2Seq) -> None:
    for sentence, [hypothesis] in zip(SENTENCES, greedy_search(model, *pad(*SENTENCES), options()), strict=True):
        src, src_mask = pad(sentence)
        tgt_in = torch.tensor([[BOS, *hypothesis.tokens[:-1]]])
        with torch.no_grad():
            logits = unroll(model, src, src_mask, tgt_in)[0][0]
        logits[:, [PAD, BOS]] = -torch.inf
        assert tuple(logits.argmax(1).tolist()) == hypothesis.tokens


@pytest.mark.parametrize("name", METHODS)
def test_padding_and_batch_mates_change_nothing(model: Seq2Seq, name: str) -> None:
    chosen = options(n_best=3)
    together = METHODS[name](model, *pad(*SENTENCES, extra=3), chosen)
    reverse = METHODS[name](model, *pad(*SENTENCES[::-1]), chosen)[::-1]
    for sentence, ranked, others in zip(SENTENCES, together, reverse, strict=True):
        alone = METHODS[name](model, *pad(sentence), chosen)[0]
        assert len(alone) == len(ranked) == len(others)
        for a, b, c in zip(alone, ranked, others, strict=True):
            same(a, b)
            same(a, c)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_attention_rows_are_distributions_over_the_own_source(model: Seq2Seq, beam_size: int) -> None:
    results = search(model, *pad(*SENTENCES), options(beam_size=beam_size))
    for sentence, [hypothesis] in zip(SENTENCES, results, strict=True):
        if hypothesis.attention is not None:
            assert hypothesis.attention.shape == (len(hypothesis.tokens), len(sentence) + 1)
            torch.testing.assert_close(hypothesis.attention.sum(1), torch.ones(len(hypothesis.tokens)))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_lengths_follow_the_own_source(beam_size: int) -> None:
    """At most ratio * source + extra tokens, EOS counted on both sides; at least the least ratio."""
    never_ends = TableModel(lambda *_: [0.0, 0.2, 0.0, 0.01, 0.4, 0.39], uniform)
    chosen = options(beam_size=beam_size, max_length_ratio=1.5, max_length_extra=2)
    stopped = search(never_ends, *pad(*SENTENCES), chosen)
    assert all(len(h.tokens) <= most for most, found in zip([8, 5, 6, 11], stopped, strict=True) for h in found)
    if beam_size == 1:
        assert [len(ranked[0].tokens) for ranked in stopped] == [8, 5, 6, 11]
        assert not any(ranked[0].finished for ranked in stopped)
    ends_at_once = TableModel(lambda *_: [0.0, 0.0, 0.0, 0.9, 0.04, 0.06], uniform)
    chosen = options(beam_size=beam_size, min_length_ratio=1.0)
    ended = search(ends_at_once, *pad(*SENTENCES), chosen)
    assert [len(ranked[0].tokens) for ranked in ended] == [4, 2, 3, 6]
    assert all(ranked[0].finished for ranked in ended)


def uniform(prefix: tuple[int, ...], source: tuple[int, ...]) -> list[float]:
    return [1 / len(source)] * len(source)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_specials_and_forbidden_tokens_never_appear(beam_size: int) -> None:
    wants_specials = TableModel(lambda *_: [0.4, 0.1, 0.3, 0.05, 0.1, 0.05], uniform)
    chosen = options(beam_size=beam_size, n_best=beam_size, forbidden=(4,))
    for ranked in search(wants_specials, *pad(*SENTENCES), chosen):
        for hypothesis in ranked:
            assert not {PAD, BOS, 4} & set(hypothesis.tokens)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_appears_twice(beam_size: int, size: int) -> None:
    loops = TableModel(lambda *_: [0.0, 0.03, 0.0, 0.02, 0.5, 0.3, 0.15], uniform)
    chosen = options(beam_size=beam_size, n_best=beam_size, no_repeat_ngram=size, max_length_extra=20)
    for ranked in search(loops, *pad(*SENTENCES), chosen):
        for hypothesis in ranked:
            ngrams = list(zip(*(hypothesis.tokens[i:] for i in range(size)), strict=False))
            assert len(ngrams) == len(set(ngrams))
            assert hypothesis.finished or size == 3


@pytest.mark.parametrize("beam_size", [1, 3])
def test_where_rules_leave_nothing_a_hypothesis_ends(beam_size: int) -> None:
    """Each of UNK, 4, 5 may come once, and the least length asks for more."""
    model = TableModel(lambda *_: [0.0, 0.2, 0.0, 0.2, 0.35, 0.25], uniform)
    chosen = options(beam_size=beam_size, no_repeat_ngram=1, min_length_ratio=3.0, max_length_ratio=4.0)
    for ranked in search(model, *pad(*SENTENCES), chosen):
        assert sorted(ranked[0].tokens) == [1, 3, 4, 5]


def test_search_is_greedy_for_a_beam_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    for method in ("greedy", "beam"):
        monkeypatch.setitem(METHODS, method, lambda *_, method=method: chosen.append(method) or [])
    for size in (1, 2):
        search(random_table(), *pad([4, 5]), options(beam_size=size))
    assert chosen == ["greedy", "beam"]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_scores_that_are_no_numbers_still_give_a_hypothesis(beam_size: int) -> None:
    """Weights may be finite and too large for what they are multiplied with."""
    model = TableModel(lambda *_: [float("nan")] * 6, uniform)
    for ranked in search(model, *pad(*SENTENCES), options(beam_size=beam_size)):
        assert math.isnan(ranked[0].score)


def test_stops_as_soon_as_every_sentence_has_ended() -> None:
    model = TableModel(lambda *_: [0.0, 0.0, 0.0, 1.0, 0.0, 0.0], uniform)
    [[hypothesis]] = search(model, *pad([4, 5]), options())
    assert hypothesis.tokens == (EOS,)
    assert hypothesis.score == 0.0
