import io
import json
import sys

import pytest

from nmt import evaluation
from nmt.errors import NMTError
from nmt.metrics import bleu
from tests.tiny import tiny_model

SOURCES = ["Où est la gare ?", "Un homme marche dans la rue.", "Il ne pleut pas."]
REFS = ["Where is the station?", "A man walks in the street.", "It is not raining."]
HYPS = ["Where is the station?", "A man is walking in the street.", ""]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, lines in (("test.fr", SOURCES), ("test.en", REFS), ("hyp.en", HYPS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    pairs = zip(SOURCES, REFS, strict=True)
    (tmp_path / "test.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    (tmp_path / "refs.tsv").write_text("Where's the station?\tx\nA\nB\n", encoding="utf-8")
    (tmp_path / "short.en").write_text("one\n")
    return tmp_path


def test_translations_are_scored(nmt, files):
    result = nmt("eval", "--hyp", "hyp.en", "--ref", "test.en", "--src", "test.fr", "--json")

    document = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert document["schema"] == 1
    assert document["scores"]["bleu"]["value"] == bleu.corpus_score(HYPS, REFS).value
    assert [bucket["lines"] for bucket in document["buckets"]] == [2, 1]
    assert (document["empty"], document["cut"], document["model"]) == (1, None, None)


def test_table_shows_every_signature(nmt, files):
    result = nmt("eval", "--hyp", "hyp.en", "--ref", "test.en")

    assert result.code == 0
    assert result.out.count("version:2.") == 3
    assert "Empty translations" in result.out
    assert "source words" not in result.out


def test_translations_from_standard_input(nmt, files, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(HYPS).encode() + b"\n")))

    result = nmt("eval", "--hyp", "-", "--ref", "test.en", "--json")

    assert json.loads(result.out)["lines"] == 3


def test_references_of_a_tsv_replace_those_of_the_test_set(nmt, files):
    result = nmt("eval", "--hyp", "hyp.en", "--test", "test.tsv", "--ref", "refs.tsv", "--json")

    document = json.loads(result.out)
    assert document["max_refs"] == 2
    assert "nrefs:var" in document["scores"]["bleu"]["signature"]


@pytest.mark.parametrize(
    "where", [("--src", "test.fr", "--ref", "test.en"), ("--test", "test"), ("--test", "test.tsv")]
)
def test_model_translates_and_is_scored(nmt, files, model, where):
    result = nmt("eval", "-m", model, *where, "--beam", "1", "--json", "--save-hyp", "out.en", "--device", "cpu")

    document = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert document["lines"] == 3
    assert document["decoding"]["beam_size"] == 1
    assert document["model"]["direction"] == "fr-en"
    assert document["speed"]["device"] == "cpu"
    saved = (files / "out.en").read_text(encoding="utf-8").split("\n")
    assert len(saved) == 4
    assert document["scores"]["bleu"]["value"] == bleu.corpus_score(saved[:3], REFS).value


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_report_is_written(nmt, files, name):
    result = nmt("eval", "--hyp", "hyp.en", "--ref", "test.en", "--src", "test.fr", "--report", name)

    assert result.code == 0
    assert "hyp.en on test.fr" in (files / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["report", "record", "save-hyp"])
def test_scores_are_shown_also_where_they_cannot_be_written(nmt, files, model, monkeypatch, what):
    def denied(*args: object) -> None:
        raise NMTError("cannot write it")

    name, how = {
        "report": ("nmt.report.write_report", ["--report", "x.md"]),
        "record": ("nmt.cli.eval._Done.record", ["--record"]),
        "save-hyp": ("nmt.cli.eval._save", ["--save-hyp", "x.en"]),
    }[what]
    monkeypatch.setattr(name, denied)
    result = nmt("eval", "-m", model, "--src", "test.fr", "--ref", "test.en", "--beam", "1", *how)
    assert (result.code, result.err) == (1, "nmt: error: cannot write it\n")
    assert "BLEU" in result.out


def test_same_command_same_digits(nmt, files):
    first, second = (nmt("eval", "--hyp", "hyp.en", "--ref", "test.en", "--json").out for _ in range(2))

    assert first == second


@pytest.mark.parametrize("name", ["hyp.en", "test.en", "test.fr"])
@pytest.mark.parametrize("change", ["CRLF", "byte order mark"])
def test_line_ends_and_byte_order_marks_change_no_digit(nmt, files, name, change):
    command = ("eval", "--hyp", "hyp.en", "--ref", "test.en", "--src", "test.fr", "--json")
    before = nmt(*command)
    data = (files / name).read_bytes()
    (files / name).write_bytes(data.replace(b"\n", b"\r\n") if change == "CRLF" else b"\xef\xbb\xbf" + data)

    assert nmt(*command).out == before.out


def test_tokenised_translations_get_a_warning(nmt, files):
    (files / "many.en").write_text("A man walks .\n" * 100)
    (files / "many.ref").write_text("A man walks.\n" * 100)

    result = nmt("eval", "--hyp", "many.en", "--ref", "many.ref")

    assert result.code == 0
    assert result.err.startswith("nmt: warning: many translations end in a detached full stop")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--hyp", "short.en", "--ref", "test.en"], 3, "short.en has 1 lines, test.en has 3"),
        (["--src", "test.fr", "--ref", "short.en"], 3, "test.fr has 3 lines, short.en has 1"),
        (["--hyp", "hyp.en", "--test", "test", "--ref", "short.en"], 3, "test has 3 lines, short.en has 1"),
        (["--hyp", "nowhere.en", "--ref", "test.en"], 3, "nowhere.en"),
        (["--hyp", "hyp.en", "--ref", "test.en", "--beam", "3"], 2, "--beam has no meaning with --hyp"),
        (["--hyp", "hyp.en", "--ref", "test.en", "--report", "x.pdf"], 2, "must end in .md or .html"),
        (["--hyp", "hyp.en"], 2, "what are the translations to be compared with?"),
        (["--test", "test", "--beam", "0"], 2, "'--beam'"),
        (["--test", "test", "--beam", "1001"], 2, "'--beam'"),
        (["--src", "test.fr", "--ref", "test.en", "--save-hyp", "test.en"], 2, "test.en is an input"),
        (["--src", "test.fr", "--ref", "test.en", "--save-hyp", "./test.fr"], 2, "test.fr is an input"),
        (["--test", "test", "--save-hyp", "test.en"], 2, "test.en is an input"),
        (["--test", "test.tsv", "--save-hyp", "test.tsv"], 2, "test.tsv is an input"),
        (["--test", "test", "--save-hyp", "no/where.en"], 2, "there is no folder no"),
        (["--test", "test", "--save-hyp", "."], 2, "is a directory"),
        (["--test", "test", "--report", "nowhere/x.md"], 2, "there is no folder"),
        (["--test", "test", "--report", "folder.md"], 2, "folder.md is a directory"),
        (["--test", "test", "--save-hyp", "/dev/null"], 2, "is no plain file"),
        (["--test", "test", "--save-hyp", "MODEL/manifest.json"], 2, "manifest.json is a file of"),
        (["--test", "test", "--report", "x.md", "--save-hyp", "x.md"], 2, "--save-hyp and --report are one file"),
        (["--src", "test.tsv", "--ref", "test.tsv"], 2, "use --test"),
        (["--ref", "test.en"], 2, "--ref alone is not enough"),
        (["--split", "test"], 2, "--split goes with --data"),
        (["--data", "x", "--test", "y"], 2, "--data and --test both name a test set"),
        (["--data", "x", "--src", "y"], 2, "--src goes with --ref"),
        (["--data", "nowhere"], 3, "nowhere"),
        (["-m", "nowhere", "--test", "test"], 4, "nowhere"),
        (["--test", "test", "--length-penalty", "nan"], 2, "--length-penalty nan is not possible"),
        (["--test", "test", "--batch-tokens", "0"], 2, "--batch-tokens"),
        (["--test", "test", "--device", "cuda:99"], 5, "cuda:99"),
        (["--test", "test", "--device", "gpu"], 2, "gpu"),
        (["--test", "test", "--precision", "fp8"], 2, "fp8"),
    ],
)
def test_mistakes_are_one_line(nmt, files, model, args, code, message):
    if args[0] in ("--test", "--src", "--ref", "--data") and "--hyp" not in args and "-m" not in args:
        args = ["-m", str(model), *args]
    (files / "folder.md").mkdir()
    result = nmt("eval", *(arg.replace("MODEL", str(model)) for arg in args))

    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_report_does_not_replace_an_input(nmt, files):
    (files / "hyp.md").write_text((files / "hyp.en").read_text())

    result = nmt("eval", "--hyp", "hyp.md", "--ref", "test.en", "--report", "hyp.md")

    assert result.code == 2
    assert (files / "hyp.md").read_text() == (files / "hyp.en").read_text()


def test_empty_files_are_refused(nmt, files):
    (files / "none.en").write_text("")

    assert nmt("eval", "--hyp", "none.en", "--ref", "none.en").code == 3


def test_damaged_model_is_refused_and_no_report_is_left(nmt, files):
    broken = tiny_model(files / "broken")
    (broken / "model.safetensors").write_bytes(b"x")

    result = nmt("eval", "-m", broken, "--test", "test", "--report", "report.html")

    assert result.code == 4
    assert "model.safetensors" in result.err
    assert not (files / "report.html").exists()


def test_metrics_are_those_of_the_project():
    assert evaluation.bleu is bleu


def test_record_notes_the_scores_with_the_model(nmt, files):
    from nmt.checkpoint import load_model

    directory = tiny_model(files / "model")
    for replaces in (False, True):
        result = nmt("eval", "-m", directory, "--test", "test.tsv", "--beam", 1, "--record")
        assert result.code == 0
        assert ("recorded in place of BLEU" in result.err) is replaces

    scores = load_model(directory).manifest["scores"]
    assert [(score["set"], score["name"]) for score in scores] == [
        ("valid", "BLEU"),
        *(("test.tsv, greedy", name) for name in ("BLEU", "chrF2", "TER")),
    ]
    assert "test.tsv, greedy" in (directory / "README.md").read_text(encoding="utf-8")


def test_record_says_how_the_search_was_unusual(nmt, files):
    from nmt.checkpoint import load_model

    directory = tiny_model(files / "model")
    search = ["--beam", 2, "--length-penalty", 0, "--precision", "bf16"]
    assert nmt("eval", "-m", directory, "--test", "test.tsv", *search, "--record").code == 0
    assert load_model(directory).manifest["scores"][-1]["set"] == "test.tsv, beam 2, length penalty 0, bf16"


def test_record_has_no_meaning_without_a_model(nmt, files):
    result = nmt("eval", "--hyp", "hyp.en", "--ref", "test.en", "--record")

    assert (result.code, result.err.count("\n")) == (2, 1)


def test_standard_input_is_one_thing_only(nmt):
    result = nmt("eval", "--hyp", "-", "--ref", "-")
    assert result.code == 2
    assert "standard input can be only one of" in result.err
