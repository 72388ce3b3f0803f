import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from nmt.errors import DataError
from nmt.evaluation import LENGTH_BUCKETS, evaluate, translate_and_evaluate
from nmt.metrics import METRICS, bleu
from nmt.metrics.base import BOOTSTRAP_SAMPLES
from nmt.testset import TestSet

SOURCES = ("Où est la gare ?", "La gare est là-bas.", "Oui.", " ".join(["mot"] * 7), " ".join(["mot"] * 60))
REFS = tuple((text,) for text in ("Where is the station ?", "The station is there.", "Yes.", "seven", "sixty words"))
TEST = TestSet(name="tiny", sources=SOURCES, refs=REFS)
HYPS = [
    "Where is the station ?",
    "The station is there .",
    "",
    "the the the the the the the the",
    "words sixty",
]


@dataclass
class Stub:
    """As much of a translation as an evaluation looks at."""

    text: str
    cut: bool = False
    looping: bool = False
    source_tokens: list[str] = field(default_factory=lambda: ["a", "b"])


class StubTranslator:
    def __init__(self, translations):
        self.translations = translations

    engine = SimpleNamespace(device="cpu", precision="fp32")

    def translate(self, lines, progress):
        assert tuple(lines) == SOURCES
        return self.translations


def test_scores_are_the_metrics_with_intervals():
    evaluation = evaluate(TEST, HYPS)

    for key, metric in METRICS.items():
        assert evaluation.scores[key] == metric(HYPS, REFS, bootstrap=BOOTSTRAP_SAMPLES)
        assert evaluation.scores[key].low is not None


def test_buckets_are_by_words_of_the_source_and_never_empty():
    evaluation = evaluate(TEST, HYPS)

    assert [(bucket.label, bucket.lines) for bucket in evaluation.buckets] == [
        ("1-5", 3),
        ("6-10", 1),
        ("51+", 1),
    ]
    assert evaluation.buckets[0].bleu.value == bleu.corpus_score(HYPS[:3], REFS[:3]).value
    assert evaluation.buckets[1].bleu.low is None  # one line says nothing about spread


def test_buckets_cover_every_length_once():
    for words in range(1, 200):
        assert sum(low <= words and (high is None or words <= high) for low, high in LENGTH_BUCKETS) == 1


def test_no_sources_no_buckets():
    evaluation = evaluate(TestSet(name="tiny", sources=None, refs=REFS), HYPS)

    assert evaluation.buckets == ()
    assert evaluation.empty == 1


def test_what_went_wrong_is_counted():
    evaluation = evaluate(TEST, HYPS)

    assert (evaluation.empty, evaluation.looping, evaluation.cut) == (1, 1, None)


def test_a_source_that_loops_excuses_its_translation():
    test = TestSet(name="x", sources=("ha " * 12, "un"), refs=(("ha " * 12,), ("one",)))

    assert evaluate(test, ["ha " * 12, "ha " * 12]).looping == 1


def test_a_blank_source_excuses_a_blank_translation():
    test = TestSet(name="x", sources=(" ", "un"), refs=(("",), ("one",)))

    assert evaluate(test, ["", "one"]).empty == 0


def test_length_ratio_counts_words_against_the_mean_reference():
    test = TestSet(name="x", sources=None, refs=(("one two", "one two three four"), ("one",)))

    assert evaluate(test, ["a b", "c d"]).length_ratio == 4 / (3 + 1)


def test_examples_are_the_best_and_the_worst_and_never_both():
    evaluation = evaluate(TEST, HYPS, examples=10)

    assert [example.line for example in evaluation.best] == [1, 2]
    assert {example.line for example in evaluation.worst} <= {3, 4, 5}
    assert evaluation.worst[0].chrf <= evaluation.worst[-1].chrf
    assert evaluation.best[0].source == SOURCES[0]


def test_counts_must_agree():
    with pytest.raises(DataError, match="4 translations but 5 lines in tiny"):
        evaluate(TEST, HYPS[:4])


def test_translating_counts_cut_lines_and_time():
    translations = [Stub(text) for text in HYPS]
    translations[0].cut = True
    translations[1].looping = True
    ticks = iter([10.0, 12.0])

    evaluation, returned = translate_and_evaluate(StubTranslator(translations), TEST, clock=lambda: next(ticks))

    assert returned is translations
    assert (evaluation.cut, evaluation.looping) == (1, 2)
    assert evaluation.speed is not None
    assert evaluation.speed.seconds == 2.0
    assert evaluation.speed.sentences_per_second == 2.5
    assert evaluation.speed.source_tokens_per_second == 5.0


def test_nothing_to_translate_without_sources():
    with pytest.raises(DataError, match="no source lines"):
        translate_and_evaluate(StubTranslator([]), TestSet(name="x", sources=None, refs=REFS))


@pytest.mark.parametrize("hyps", [HYPS, [""] * 5, ["word"] * 5])
def test_document_is_json_without_nan(hyps):
    document = evaluate(TEST, hyps, examples=2).as_dict()

    assert json.loads(json.dumps(document, allow_nan=False))["scores"]["bleu"]["name"] == "BLEU"
    assert "best" not in document
