"""What is made of several evaluations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt.attending import WordAttention
from nmt.comparison import Comparison, System, bucket_labels, compare, read_curve, with_attention
from nmt.comparison_report import html, length_table, markdown, model_table, score_table, write_comparison
from nmt.evaluation import evaluate
from nmt.testset import TestSet
from tests.tiny import tiny_model

SOURCES = [f"phrase {i} " + "mot " * (i % 12) for i in range(60)]
REFS = [f"sentence {i} says the word {i * i} and then some more of it" for i in range(60)]
TEST = TestSet(name="toy", sources=tuple(SOURCES), refs=tuple((ref,) for ref in REFS))


def worse(lines: list[str], every: int) -> list[str]:
    """Each so many-th line loses its second half."""
    return [" ".join(line.split()[:5]) if i % every == 0 else line for i, line in enumerate(lines)]


def system(name: str, hyps: list[str], curve: tuple[tuple[float, float], ...] = ()) -> System:
    return System(
        name=name,
        architecture="gru",
        parameters=1234,
        megabytes=5.0,
        training_minutes=12.0,
        training_tokens_per_second=None,
        training_memory=900.0,
        curve=curve,
        engine="torch",
        memory=None,
        evaluation=evaluate(TEST, hyps),
        hyps=tuple(hyps),
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    curve = ((1.0, 5.0), (2.0, 15.0), (3.0, 12.0), (4.0, 33.0))
    return compare(
        TEST, [system("bad <i>", worse(REFS, 2), curve), system("good", worse(REFS, 9)), system("same", worse(REFS, 2))]
    )


def test_a_clear_difference_is_significant_and_none_is_not(comparison: Comparison) -> None:
    assert set(comparison.differences) == {"good", "same"}
    assert comparison.differences["good"].bleu < 0.01
    assert comparison.differences["same"].bleu > 0.5


def test_sentences_that_differ_most_come_first(comparison: Comparison) -> None:
    spreads = [max(item.scores) - min(item.scores) for item in comparison.disagreements]
    assert spreads == sorted(spreads, reverse=True)
    assert len(spreads) == 10
    first = comparison.disagreements[0]
    found = comparison.as_dict()["disagreements"][0]
    assert (found["line"], found["translations"], found["chrf"]) == (first.line, [*first.hyps], [*first.scores])
    assert first.source == SOURCES[first.line - 1]
    assert first.hyps[1] == REFS[first.line - 1]


def test_levels_are_reached_when_first_passed(comparison: Comparison) -> None:
    first = comparison.systems[0]
    assert [first.minutes_to(level) for level in (5, 10, 14, 30, 40)] == [1.0, 2.0, 2.0, 4.0, None]
    header, rows = model_table(comparison)
    assert header[-3:] == ["min to 10 BLEU", "min to 20 BLEU", "min to 30 BLEU"]
    assert rows[0][-3:] == ["2.0", "4.0", "4.0"]
    assert rows[1][-3:] == ["", "", ""]


def test_tables_have_a_row_a_model(comparison: Comparison) -> None:
    for header, rows in (score_table(comparison), model_table(comparison), length_table(comparison)):
        assert [row[0] for row in rows] == ["bad <i>", "good", "same"]
        assert all(len(row) == len(header) for row in rows)
    assert bucket_labels(comparison.systems) == ["1-5", "6-10", "11-15"]


def test_reports_hold_all_of_it_and_no_markup_of_others(comparison: Comparison, tmp_path: Path) -> None:
    page, text = html([comparison, comparison]), markdown([comparison, comparison])
    assert "<i>" not in page
    assert page.count("<svg") == 3  # one of training, two of lengths
    assert page.count("Scores on toy") == text.count("Scores on toy") == 2
    assert page.count(">Models<") == text.count("## Models") == 1
    assert "5.0 (1.0), 15.0 (2.0), 12.0 (3.0), 33.0 (4.0)" in text
    assert "nan" not in page.lower()
    assert "| good |" in text
    for name in ("report.html", "report.md"):
        write_comparison(tmp_path / name, [comparison])
        assert (tmp_path / name).stat().st_size > 1000


def test_json_is_plain(comparison: Comparison) -> None:
    document = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert [item["name"] for item in document["systems"]] == ["bad <i>", "good", "same"]
    assert document["systems"][0]["p_value"] is None
    assert document["systems"][0]["minutes_to_bleu"] == {"10": 2.0, "20": 4.0, "30": 4.0}
    assert document["systems"][1]["p_value"]["bleu"] < 0.01


def test_a_log_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        '{"type": "train"}\n{"type": "valid", "seconds": 120, "bleu": 3.5}\n[]\n{"type": "valid"}\n'
        '{"type": "valid", "seconds": NaN, "bleu": 1}\n{"type": "valid", "seconds": 1, "bleu": Infinity}\n{"ty'
    )
    assert read_curve(log) == ((2.0, 3.5),)
    assert read_curve(tmp_path / "none") == ()


def test_attention_stands_side_by_side_where_there_is_any(comparison: Comparison) -> None:
    seen = WordAttention(("a", "<b>"), ("c",), np.array([[0.75, 0.01]]))
    first = replace(comparison.disagreements[0], attention=(None, seen, seen))
    others = [replace(item, attention=(None, None, None)) for item in comparison.disagreements[1:]]
    page = html([replace(comparison, disagreements=(first, *others))])
    assert page.count('class="heat"') == 2
    assert page.count('opacity="0.75"') == 2
    assert 'opacity="0.01"' not in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_attention_is_computed_for_the_own_translation(comparison: Comparison, tmp_path: Path) -> None:
    models = [
        tiny_model(tmp_path / "none", arch="gru", overrides=["embedding_size=8", "hidden_size=8"]),
        *(tiny_model(tmp_path / str(seed), seed=seed) for seed in (1, 2)),
    ]
    [with_maps] = with_attention([comparison], models, torch.device("cpu"))
    seen = with_maps.disagreements
    for item in seen:
        assert item.attention[0] is None
        for hyp, found in zip(item.hyps[1:], item.attention[1:], strict=True):
            assert found is not None
            assert found.weights.shape == (len(found.target), len(found.source))
            assert found.weights.shape == (len(hyp.split()), len(item.source.split()))
