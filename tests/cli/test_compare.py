import json

import pytest

from nmt.errors import NMTError
from tests.tiny import tiny_model


def folder(path):
    path.mkdir()
    return path


def linked(path, target):
    path.symlink_to(target)
    return path


@pytest.fixture
def models(tmp_path):
    facts = {"training": {"seconds": 60.0, "target_tokens": 6000}}
    return [tiny_model(tmp_path / "one", facts=facts), tiny_model(tmp_path / "two", seed=2)]


@pytest.fixture
def text(tmp_path):
    (tmp_path / "test.tsv").write_text("La gare.\tThe station.\nUn homme.\tA man.\n" * 3, encoding="utf-8")
    return tmp_path / "test.tsv"


def test_models_are_compared_in_tables_and_a_report(nmt, models, text, tmp_path):
    result = nmt("compare", *models, "--test", text, "--beam", "1", "--report", tmp_path / "report.html")
    assert (result.code, result.err) == (0, "")
    assert "BLEU" in result.out
    assert "100" in next(line for line in result.out.splitlines() if line.startswith("one") and "transformer" in line)
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_json(nmt, models, text):
    [document] = json.loads(nmt("compare", *models, "--test", text, "--beam", "1", "--json").out)["tests"]
    assert document["lines"] == 6
    assert all(system["engine"] == "torch" and system["memory_mib"] > 100 for system in document["systems"])
    assert [system["training_tokens_per_second"] for system in document["systems"]] == [100.0, None]


def test_equal_names_are_told_apart(nmt, models, text, tmp_path):
    other = tiny_model(tmp_path / "other" / "one", seed=3)
    [document] = json.loads(nmt("compare", models[0], other, "--test", text, "--beam", "1", "--json").out)["tests"]
    assert [system["name"] for system in document["systems"]] == [str(models[0]), str(other)]


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        (lambda models, tmp: models[:1], "give at least two models", 2),
        (lambda models, tmp: [models[0], models[0]], "the same model was given twice", 2),
        (lambda models, tmp: [models[0], tmp / "nothing"], "no model at", 4),
        (
            lambda models, tmp: [
                models[0],
                tiny_model(tmp / "x", facts={"direction": {"source": "en", "target": "fr"}}),
            ],
            "translates en-fr",
            3,
        ),
        (lambda models, tmp: [*models, "--report", "x.pdf"], "must end in .md or .html", 2),
        (lambda models, tmp: [*models, "--report", tmp / "nowhere" / "x.md"], "there is no folder", 2),
        (lambda models, tmp: [*models, "--report", folder(tmp / "x.md")], "x.md is a directory", 2),
        (lambda models, tmp: [*models, "--report", linked(tmp / "x.md", tmp / "test.tsv")], "x.md is an input", 2),
    ],
)
def test_what_cannot_be_is_one_line(nmt, models, text, tmp_path, change, message, code):
    result = nmt("compare", *change(models, tmp_path), "--test", text)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_several_test_sets(nmt, models, text, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("Un chien.\tA dog.\n", encoding="utf-8")
    report = tmp_path / "report.md"
    result = nmt("compare", *models, "--test", text, other, "--beam", "1", "--json", "--report", report)
    first, second = json.loads(result.out)["tests"]
    assert (first["lines"], second["lines"]) == (6, 1)
    assert f"Scores on {second['test']}" in report.read_text()
    printed = nmt("compare", *models, "--test", text, "--test", other, "--beam", "1").out
    assert printed.count("architecture") == 1
    assert printed.count("chrF2") == 2
    assert nmt("compare", *models, "--test", text, other, "--ref", text).code == 2


def test_what_earlier_models_leave_behind_is_not_counted(nmt, models, text, monkeypatch, tmp_path):
    measured = iter([100.0, 150.0, 130.0, 150.0, 145.0, 165.0])  # before each, and at most in each
    monkeypatch.setattr("nmt.nn.device.peak_memory", lambda device: next(measured))
    monkeypatch.setattr("nmt.nn.device.forget_peak_memory", lambda device: True)
    three = [*models, tiny_model(tmp_path / "three", seed=3)]
    [document] = json.loads(nmt("compare", *three, "--test", text, "--beam", "1", "--json").out)["tests"]
    assert [system["memory_mib"] for system in document["systems"]] == [150.0, 150.0, 150.0]


@pytest.mark.parametrize("form", ["--json", None])
def test_what_was_found_is_shown_also_where_no_report_can_be_written(nmt, models, text, tmp_path, monkeypatch, form):
    def full(*args: object) -> None:
        raise NMTError("no space left")

    monkeypatch.setattr("nmt.comparison_report.write_comparison", full)
    result = nmt(
        "compare", *models, "--test", text, "--beam", "1", "--report", tmp_path / "x.md", *([form] if form else [])
    )
    assert (result.code, result.err) == (1, "nmt: error: no space left\n")
    assert "BLEU" in result.out or json.loads(result.out)["tests"]
