import json
import math

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from nmt.errors import DataError, UsageError
from nmt.metrics import METRICS, bleu, chrf, ter
from nmt.metrics.base import BOOTSTRAP_SAMPLES, bootstrap_samples, looks_tokenised
from nmt.metrics.significance import Difference, paired_bootstrap

HYPS = [
    "The cat sat on the mat.",
    "A man is riding a horse.",
    "",
    "Two children are playing in the park.",
    "The station is over there.",
]
REFS = [
    "The cat is sitting on the mat.",
    "A man rides a horse.",
    "Good evening.",
    "Two children play in the park.",
    "The station is over there.",
]
REFERENCE_TOOLS = {"bleu": BLEU, "chrf": CHRF, "ter": TER}


@pytest.mark.parametrize("key", METRICS)
def test_value_and_signature_are_sacrebleus(key):
    tool = REFERENCE_TOOLS[key]()
    expected = tool.corpus_score(HYPS, [REFS]).score

    score = METRICS[key](HYPS, REFS)

    assert score.value == expected
    assert score.signature == str(tool.get_signature())
    assert score.low is None


@pytest.mark.parametrize("key", METRICS)
def test_interval_is_sacrebleus_bootstrap(key):
    tool = REFERENCE_TOOLS[key]()
    expected = tool.corpus_score(HYPS, [REFS], n_bootstrap=200)

    score = METRICS[key](HYPS, REFS, bootstrap=200)

    assert score.low == pytest.approx(expected._mean - expected._ci)
    assert score.high == pytest.approx(expected._mean + expected._ci)
    assert "bs:200|seed:12345" in score.signature
    assert score == METRICS[key](HYPS, REFS, bootstrap=200)


@pytest.mark.parametrize("key", METRICS)
def test_ragged_references_are_as_sacrebleu_has_them(key):
    refs = [
        (REFS[0], "A cat sat on a mat."),
        (REFS[1],),
        ("Good evening.", " "),
        (REFS[3],),
        ("There.", REFS[4]),
    ]
    columns = [[row[0] for row in refs], ["A cat sat on a mat.", None, None, None, REFS[4]]]
    tool = REFERENCE_TOOLS[key]()

    score = METRICS[key](HYPS, refs)

    assert score.value == tool.corpus_score(HYPS, columns).score
    assert "nrefs:var" in score.signature


def test_known_bleu_worked_by_hand():
    score = bleu.corpus_score(["the cat sat on the mat"], ["the cat is on the mat"])
    precisions = (5 / 6, 3 / 5, 1 / 4, 1 / (2 * 3))  # no four-gram matches: smoothed to half of one in three

    assert score.value == pytest.approx(100 * math.prod(precisions) ** 0.25)


@pytest.mark.parametrize("key", METRICS)
@pytest.mark.parametrize("hyps", [["", ""], ["x", "y"], [" ", "\u2028"]])
def test_nothing_right_is_a_number_and_not_nan(key, hyps):
    score = METRICS[key](hyps, ["Good evening.", "The cat."], bootstrap=100)

    json.dumps([score.value, score.low, score.high], allow_nan=False)
    assert score.value == (pytest.approx(100.0) if key == "ter" else 0.0)


@pytest.mark.parametrize("key", METRICS)
def test_blank_references_are_scored_and_not_nan(key):
    json.dumps(METRICS[key](["", "word"], ["", ["", ""]]).value, allow_nan=False)


def test_perfect_translations():
    assert bleu.corpus_score(REFS, REFS).value == pytest.approx(100.0)
    assert chrf.corpus_score(REFS, REFS).value == pytest.approx(100.0)
    assert ter.corpus_score(REFS, REFS).value == 0.0


@pytest.mark.parametrize("key", METRICS)
def test_other_number_of_references_is_refused(key):
    with pytest.raises(DataError, match="5 translations but 4 references"):
        METRICS[key](HYPS, REFS[:4])


@pytest.mark.parametrize("key", METRICS)
def test_no_lines_are_refused(key):
    with pytest.raises(DataError, match="no lines"):
        METRICS[key]([], [])


def test_seed_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "many")

    with pytest.raises(UsageError, match="SACREBLEU_SEED = 'many'"):
        bleu.corpus_score(HYPS, REFS, bootstrap=100)


def test_sentence_scores_take_the_best_reference():
    scores = chrf.sentence_scores(["The cat.", ""], [("Dogs", "The cat."), "A."])

    assert scores == [pytest.approx(100.0), 0.0]


def test_resamples_shrink_with_the_test_set():
    assert bootstrap_samples(1) == 0
    assert bootstrap_samples(1000) == BOOTSTRAP_SAMPLES
    assert 100 <= bootstrap_samples(50_000) < BOOTSTRAP_SAMPLES
    assert bootstrap_samples(10_000_000) == 0


def test_detached_full_stops_look_tokenised():
    assert looks_tokenised(["A man ."] * 100 + ["A man."] * 900)
    assert looks_tokenised(["A man ."] * 10)
    assert not looks_tokenised(["A man ."] * 99 + ["A man."] * 901)
    assert not looks_tokenised(["A man ."] * 3)


@pytest.mark.parametrize("key", METRICS)
def test_resamples_in_which_nothing_is_right(key):
    # sacreBLEU alone fails on these: some resamples give its constant 0.0, others a numpy number
    score = METRICS[key](["ha ha", "word", "", "x"], ["ha ha", "other", "", ""], bootstrap=200)

    assert score.low is not None
    assert score.low <= score.high


def test_equal_scores_of_other_texts_differ_in_nothing() -> None:
    systems = {"one": ["q q q q q"] * 4, "other": ["z z z z z"] * 4}
    assert paired_bootstrap(systems, ["The cat sat on the mat."] * 4, 100)["other"] == Difference(1.0, 1.0)
