"""The study: each step done once, and a page whose every figure comes from the steps."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nmt.errors import NMTError, UsageError
from nmt.study import __main__ as command
from nmt.study import measure as measuring
from nmt.study.measure import ParallelFiles, Study, measure
from nmt.study.page import write_page
from nmt.study.plan import Part, Run, full_plan, quick_plan

REFS = [f"the word {i} is here and there" for i in range(40)]


class Nmt:
    """Answers as the commands do, with figures that follow from the model's name, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.fails: str | None = None
        self.cut = "nowhere"

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
            "bench train": self.time_training,
            "bench translate": self.time_translation,
        }[command](given)
        return json.dumps(answer)

    @staticmethod
    def time_training(given: list[str]) -> dict[str, Any]:
        """n + n^2 / 100 ms a sentence of n tokens, 0 for the square of a gru."""
        n = int(option(given, "--length"))
        time = n + (0 if "gru" in given else n**2 / 100)
        return {"target_tokens_per_second": 1000 * n / time, "peak_memory_mib": 50.0, "flop_per_target_token": 1e6}

    @staticmethod
    def time_translation(given: list[str]) -> dict[str, Any]:
        """10 n + n^2 ms a line, n its tokens: 1.5 a word."""
        n = 1.5 * int(option(given, "--length"))
        return {"lines_per_second": 1000 / (10 * n + n**2), "target_tokens_per_line": n, "peak_memory_mib": 40.0}

    def train(self, given: list[str]) -> None:
        out = Path(option(given, "--out"))
        (out / "training").mkdir(parents=True, exist_ok=True)
        (out / "training" / "run.json").write_text("{}")
        if self.cut in str(out) and "--resume" not in given:
            raise NMTError("cut")
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
            "scores": {"bleu": bleu | {"signature": "nrefs:1"}},
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
    langs = {"source_lang": "fr", "target_lang": "en"}
    opened = lambda path: SimpleNamespace(fingerprint=f"of {path.name}", **langs)  # noqa: E731
    monkeypatch.setattr("nmt.dataset.DataDirectory.open", opened)
    return answers


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for side in ("fr", "en", "align"):
        (tmp_path / f"t.{side}").write_text("".join(f"{ref}\n" for ref in REFS))
    text = ParallelFiles("t", tmp_path / "t.fr", tmp_path / "t.en")
    gold = replace(text, name="gold", links=tmp_path / "t.align")
    return Study(quick_plan(), tmp_path / "data", tmp_path / "out", (text,), (gold,), workers=1, say=lambda line: None)


def seeds(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(replace(run, seed=seed) for seed in (1, 2, 3) for run in runs)


def rewrite(path: Path, change: Any) -> None:
    figures = json.loads(path.read_text())
    change(figures)
    path.write_text(json.dumps(figures))


def page(study: Study) -> str:
    return write_page(study).with_name("study.md").read_text()


def test_the_page_answers_every_question_from_the_figures(study: Study, nmt: Nmt) -> None:
    measure(study)
    text = page(study)
    html = (study.out / "study.html").read_text()
    for run in study.plan.runs:
        assert (run.name if run.part == "ladder" else run.variant) in html
    assert "gru 25 %, attention 86 %" in text  # 5 of 20 against 30 of 35
    assert "attention is ahead of gru beyond the intervals" in text
    assert "One seed does not tell" in text
    assert "So few seeds do not tell" in text
    assert "transformer, layer 0, 31.5 % (the diagonal has 60.0)" in text
    assert "score-additive, layer 0, 42.0 % (the diagonal has 60.0)" in text
    assert "7 of 7 models are measured. BLEU: nrefs:1" in text
    assert "Preset tiny, 300 updates each (batch_tokens=1024" in text
    assert "nan" not in text
    assert "gru 0% of the operations, 0% of the training time, 76% of greedy's" in text  # 32^2 of 10 * 32 + 32^2
    assert "attention 9% of the operations, 24% of the training time" in text  # 10.24 of 42.24 ms at 32 tokens
    assert "| gru, translation of 6, 24 tokens, ms | 96.00 | 816.00 | 1.54 | 76% |" in text
    assert text.count("## ") == 7


def test_a_study_that_was_stopped_goes_on(study: Study, nmt: Nmt) -> None:
    nmt.cut = "placement-after"
    with pytest.raises(NMTError, match="cut"):
        measure(study)
    assert not any(word.startswith("bench") for word in nmt.asked)
    measure(study)
    measure(study)
    assert set(nmt.asked.values()) == {1}
    assert [words for words in nmt.asked if "--resume" in words] == [
        f"train --resume --out {study.out / 'models' / 'placement-after-1'}"
    ]


def test_what_the_seeds_agree_on_is_claimed(study: Study, nmt: Nmt) -> None:
    several = replace(study, plan=replace(study.plan, runs=seeds(study.plan.of("ladder").runs)))
    measure(several)
    text = page(several)
    assert "gru 25 %, attention 86 %" in text
    assert "Attention flattens the fall, as was claimed" in text
    assert "on t gru 20.00 ± 0.00, attention 35.00 ± 0.00" in text

    def fall(figures: Any) -> None:
        figures["buckets"][1]["bleu"]["value"] = 8.0

    rewrite(several.figure("attention-2", "t", 5), fall)
    text = page(several)
    assert "gru 25 %, attention 23 to 86 %" in text
    assert "does not show here" in text


def test_each_is_compared_with_the_baseline_of_its_own_seed(study: Study, nmt: Nmt) -> None:
    several = replace(study, plan=replace(study.plan, runs=seeds(study.plan.of("ladder").runs)))
    measure(several)
    hyps = several.hyps(several.plan.runs[1], several.tests[0], 5)
    assert hyps.name.startswith("attention-1")
    hyps.write_text("nothing of it\n" * len(REFS))  # what the gru says
    lines = reversed(page(several).splitlines())  # the first table goes before the later ones
    rows = {line.split(" | ")[0].removeprefix("| "): line.removesuffix(" |").split(" | ")[1:] for line in lines}
    assert float(rows["gru-1"][-1]) > 0.4
    assert float(rows["gru-2"][-1]) < 0.01
    assert rows["attention-2"][-1] == ""


def test_a_length_of_one_line_has_no_interval(study: Study, nmt: Nmt) -> None:
    measure(study)

    def alone(figures: Any) -> None:
        figures["buckets"][0]["bleu"] |= {"low": None, "high": None}

    for run in study.plan.of("ladder").runs:
        rewrite(study.figure(run.name, "t", 5), alone)
    assert r"| gru-1 | 20.0 | 5.0 \[3.0, 7.0\] |" in page(study)


@pytest.mark.parametrize("part", ["ladder", "family"])
def test_a_part_has_its_own_runs_and_sections(study: Study, nmt: Nmt, part: Part) -> None:
    half = replace(study, plan=study.plan.of(part), out=study.out / part)
    measure(half)
    text = page(half)
    names = {run.name for run in half.plan.runs}
    assert names < {run.name for run in study.plan.runs}
    assert ("three generations" in text) == ("How do time and memory grow" in text) == (part == "ladder")
    assert ("Scores, scopes, placements" in text) == ("score-dot-1" in names) == (part == "family")


def test_what_is_beyond_the_noise_of_the_seeds_is_marked(study: Study, nmt: Nmt) -> None:
    family = tuple(run for run in full_plan().runs if run.variant in BLEU)
    several = replace(study, plan=replace(study.plan, runs=family))
    measure(several)
    for run in family:
        value = BLEU[run.variant] + run.seed - 2

        def scored(figures: Any, value: float = value) -> None:
            figures["scores"]["bleu"]["value"] = value

        rewrite(several.figure(run.name, "t", 5), scored)
    text = page(several)
    assert "by the median of all: t 1.19." in text
    # Three standard errors of a difference of means of three: 3 * 1.19 * sqrt(2 / 3) = 2.9.
    assert "Highest on t: score-dot with 34.00; lowest: score-linear with 30.00" in text
    assert "| score-additive | 3 | 10 | 31.00 ± 1.00 |  |" in text
    assert r"| score-dot | 3 | 10 | 34.00 ± 1.00 | +3.00\* |" in text
    assert "| placement-after | 3 | 10 | 33.00 ± 1.00 | +2.00 |" in text


BLEU = {"score-additive": 31.0, "score-dot": 34.0, "placement-after": 33.0, "score-concat": 31.0, "score-linear": 30.0}


def test_another_study_is_not_mixed_in(study: Study, nmt: Nmt, tmp_path: Path) -> None:
    measure(study)
    measuring.check(study)
    for other, what in (
        (replace(study, plan=study.plan.of("family")), "models"),
        (replace(study, plan=replace(study.plan, settings=(*study.plan.settings, "dropout=0.3"))), "models"),
        (replace(study, data=tmp_path / "other"), "data"),
        (replace(study, gold=()), "test sets or gold alignments"),
        (replace(study, plan=replace(study.plan, lengths=(8,))), "measurements"),
    ):
        with pytest.raises(UsageError, match=f"other {what}"):
            measure(other)
    (tmp_path / "t.align").write_text("0-0\n" * len(REFS))
    with pytest.raises(UsageError, match="other test sets or gold alignments"):
        measuring.check(study)


def test_a_page_of_what_is_measured_so_far(study: Study, nmt: Nmt, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study.out.parent
    words = [str(study.data), "--out", str(study.out), "--quick", "--workers", "1", "--test", str(folder / "t")]
    assert command.main([*words, "--page"]) == 2
    assert "no model in" in capsys.readouterr().err
    assert not study.out.exists()
    nmt.fails = "score-dot"
    assert command.main(words) == 1
    assert "nmt: error: stopped" in capsys.readouterr().err
    assert command.main([*words, "--page"]) == 0
    assert capsys.readouterr().out == f"{study.out / 'study.html'}\n"
    text = (study.out / "study.md").read_text()
    assert "of 7 models are measured" in text
    assert "three generations" in text
    assert "score-dot" not in text
    assert "How do time" not in text
    assert command.main([*words[:3], "--page", "--test", str(folder / "t")]) == 2
    assert "other models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--test", "none"], "none.fr is not there"), (["--test", "t", "--test", "./t"], "would be called")],
)
def test_test_sets_that_cannot_be_used(
    study: Study,
    nmt: Nmt,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(study.out.parent)
    assert command.main(["data", "--out", "out", *options]) == 2
    assert message in capsys.readouterr().err
    assert not nmt.asked


def test_test_sets_are_in_the_languages_of_the_data(study: Study) -> None:
    folder = study.out.parent
    (text,) = command._texts([str(folder / "t")], ("en", "fr"))
    assert (text.src.name, text.ref.name) == ("t.en", "t.fr")
    with pytest.raises(UsageError, match=r"t\.de is not there"):
        command._texts([str(folder / "t")], ("de", "en"))


def test_the_full_plan_has_every_score_scope_and_placement_each_with_three_seeds() -> None:
    names = {run.name for run in full_plan().runs}
    assert len(names) == len(full_plan().runs) == 3 * (3 + 11 + 2 + 2)
    assert {"gru-3", "score-additive-1", "score-epanechnikov-3", "scope-local-m-2", "placement-feeding-1"} <= names
