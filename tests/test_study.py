"""The study: each step done once, and a page whose every figure comes from the steps."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nmt.errors import NMTError, UsageError
from nmt.study import measure as measuring
from nmt.study.measure import ParallelFiles, Study, measure, measured
from nmt.study.page import write_page
from nmt.study.plan import Part, full_plan, quick_plan

REFS = [f"the word {i} is here and there" for i in range(40)]


class Nmt:
    """Answers as the commands do, with figures that follow from the model's name, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.fails: str | None = None

    def __call__(self, *words: object) -> str:
        given = [str(word) for word in words]
        if self.fails is not None and any(self.fails in word for word in given):
            raise NMTError("stopped")
        self.asked[" ".join(given)] += 1
        command = given[0] if given[0] != "bench" else f"bench {given[1]}"
        answer = {
            "train": self.train,
            "eval": self.eval,
            "attend": self.attend,
            "bench train": lambda _: {"target_tokens_per_second": 100.0, "peak_memory_mib": 50.0},
            "bench translate": lambda given: {"lines_per_second": 1000.0 / int(option(given, "--length"))},
        }[command](given)
        return json.dumps(answer)

    def train(self, given: list[str]) -> None:
        out = Path(option(given, "--out"))
        (out / "training").mkdir(parents=True)
        (out / "manifest.json").write_text('{"parameters": 1234}')
        records = [
            {"type": "train", "tokens_per_second": 10.0, "seconds": 5},
            {"type": "valid", "update": 3, "seconds": 60, "bleu": 7.0},
        ]
        (out / "training" / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def eval(self, given: list[str]) -> dict[str, Any]:
        good = 0 if "gru" in option(given, "-m") else 1
        hyps = [ref if i % 2 < good else "nothing of it" for i, ref in enumerate(REFS)]
        Path(option(given, "--save-hyp")).write_text("".join(f"{line}\n" for line in hyps))
        bleu, long = (
            {"value": value, "low": value - 2, "high": value + 2} for value in (20.0 + 15 * good, 5.0 + 25 * good)
        )
        buckets = [(1, 5, bleu), (6, 10, long)]
        return {
            "scores": {"bleu": bleu},
            "speed": {"sentences_per_second": 12.5},
            "buckets": [{"low": low, "high": high, "lines": 20, "bleu": score} for low, high, score in buckets],
        }

    def attend(self, given: list[str]) -> dict[str, Any]:
        error = 31.5 if "transformer" in option(given, "-m") else 42.0
        names = {"layer 0": error, "diagonal": 60.0}
        return {"alignments": {name: {"aer": e, "precision": 50.0, "recall": 60.0} for name, e in names.items()}}


def option(given: list[str], name: str) -> str:
    return given[given.index(name) + 1]


@pytest.fixture
def nmt(monkeypatch: pytest.MonkeyPatch) -> Nmt:
    answers = Nmt()
    monkeypatch.setattr(measuring, "_run", answers)
    monkeypatch.setattr(measuring, "_remember", lambda study: None)
    return answers


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for side in ("fr", "en"):
        (tmp_path / f"t.{side}").write_text("".join(f"{ref}\n" for ref in REFS))
    text = ParallelFiles("t", tmp_path / "t.fr", tmp_path / "t.en")
    gold = replace(text, name="gold")
    return Study(quick_plan(), tmp_path / "data", tmp_path / "out", (text,), (gold,), workers=1, say=lambda line: None)


def test_the_page_answers_every_question_from_the_figures(study: Study, nmt: Nmt) -> None:
    measure(study)
    page = write_page(study).read_text()
    for run in study.plan.runs:
        assert (run.name if run.part == "ladder" else run.variant) in page
    assert "gru 25 %, attention 86 %" in page  # 5 of 20 against 30 of 35
    assert "Attention flattens the fall" in page
    assert "transformer, layer 0, 31.5 % (the diagonal has 60.0)" in page
    assert "nan" not in page
    assert (study.out / "study.md").read_text().count("## ") == 6


def test_a_study_that_was_stopped_goes_on(study: Study, nmt: Nmt) -> None:
    nmt.fails = "placement-after"
    with pytest.raises(NMTError, match="stopped"):
        measure(study)
    assert not any(word.startswith("bench") for word in nmt.asked)
    nmt.fails = None
    measure(study)
    measure(study)
    assert set(nmt.asked.values()) == {1}


def test_a_claim_that_does_not_hold_is_said_not_to(study: Study, nmt: Nmt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = nmt.eval
    monkeypatch.setattr(nmt, "eval", lambda given: real(["-m", "gru", "--save-hyp", option(given, "--save-hyp")]))
    measure(study)
    assert "does not show here" in write_page(study).read_text()


@pytest.mark.parametrize("part", ["ladder", "family"])
def test_a_part_has_its_own_runs_and_sections(study: Study, nmt: Nmt, part: Part) -> None:
    half = replace(study, plan=study.plan.of(part), out=study.out / part)
    measure(half)
    text = write_page(half).with_name("study.md").read_text()
    names = {run.name for run in half.plan.runs}
    assert names < {run.name for run in study.plan.runs}
    assert ("three generations" in text) == ("How do time and memory grow" in text) == (part == "ladder")
    assert ("Scores, scopes, placements" in text) == ("score-dot-1" in names) == (part == "family")


def test_a_page_of_what_is_measured_so_far(study: Study, nmt: Nmt) -> None:
    with pytest.raises(UsageError, match="nothing in .* is measured"):
        write_page(measured(study))
    nmt.fails = "score-dot"
    with pytest.raises(NMTError, match="stopped"):
        measure(study)
    write_page(measured(study))
    text = (study.out / "study.md").read_text()
    assert "score-dot" not in text
    assert "three generations" in text
    assert "How do time" not in text


def test_what_is_beyond_the_noise_of_the_seeds_is_marked(study: Study, nmt: Nmt) -> None:
    ladder, family = study.plan.of("ladder").runs, study.plan.of("family").runs
    runs = tuple(replace(run, seed=seed) for run in family for seed in (1, 2, 3))
    several = replace(study, plan=replace(study.plan, runs=(*ladder, *runs)))
    measure(several)
    bleu = {
        "score-additive": (30.0, 31.0, 32.0),
        "score-dot": (33.0, 34.0, 35.0),
        "placement-after": (30.5, 31.5, 32.5),
    }
    for run in runs:
        path = several.figure(run.name, "t", 5)
        figures = json.loads(path.read_text())
        figures["scores"]["bleu"]["value"] = bleu.get(run.variant, (31.0, 32.0, 33.0))[run.seed - 1]
        path.write_text(json.dumps(figures))
    write_page(several)
    text = (several.out / "study.md").read_text()
    assert "spread by 1.00" in text  # two standard errors of a difference of means of three: 2 √(2/3) = 1.63
    assert "| score-additive | 3 | 10 | 31.00 ± 1.00 |  |" in text
    assert "| score-dot | 3 | 10 | 34.00 ± 1.00 | +3.00\\* |" in text
    assert "| placement-after | 3 | 10 | 31.50 ± 1.00 | +0.50 |" in text


def test_another_study_is_not_mixed_in(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    class Data:
        fingerprint = "x"

    monkeypatch.setattr("nmt.dataset.DataDirectory.open", lambda path: Data)
    with pytest.raises(UsageError, match=r"t\.align is not there"):
        measuring._remember(study)
    study.gold[0].src.with_suffix(".align").touch()
    measuring._remember(study)
    measuring._remember(study)
    with pytest.raises(UsageError, match="another study"):
        measuring._remember(replace(study, plan=full_plan()))


def test_the_full_plan_has_every_score_scope_and_placement_each_with_three_seeds() -> None:
    names = {run.name for run in full_plan().runs}
    assert len(names) == len(full_plan().runs) == 3 * (3 + 11 + 2 + 2)
    assert {"gru-3", "score-additive-1", "score-epanechnikov-3", "scope-local-m-2", "placement-feeding-1"} <= names
