import json
from pathlib import Path

import pytest

from nmt.dataset import DataDirectory
from tests.cli.test_train import line_of


@pytest.fixture
def corpus(tmp_path):
    def write(name: str, first: int, count: int) -> str:
        lines = [f"Voici le mot numéro {i}.\tHere is word number {i}.\n" for i in range(first, first + count)]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
        return str(tmp_path / name)

    return ["--train", write("a.tsv", 0, 60), "--valid", write("b.tsv", 100, 4), "--test", write("c.tsv", 200, 4)]


def test_prepare_makes_a_data_directory_and_prints_what_was_kept(nmt, corpus, tmp_path):
    out = tmp_path / "new" / "data"
    result = nmt("data", "prepare", *corpus, "--out", out)
    assert (result.code, result.err) == (0, "")
    DataDirectory.open(out).verify()
    assert "train    60    60" in result.out
    assert "pieces, joint, unigram" in result.out
    assert str(out) in result.out


def test_what_was_dropped_is_printed(nmt, corpus, tmp_path):
    with Path(corpus[1]).open("a", encoding="utf-8") as file:
        file.write("\tblank\nVoici le mot numéro 3.\tHere is word number 3.\n")
    result = nmt("data", "prepare", *corpus, "--out", tmp_path / "data")
    assert "dropped from train:\n  1  a side is blank\n  1  exact duplicate\n" in result.out


def test_json_prints_one_document(nmt, corpus, tmp_path):
    options = ["--separate", "--model-type", "bpe", "--vocab-size", "300", "--licence", "CC0"]
    result = nmt("data", "prepare", *corpus, "--out", tmp_path / "data", *options, "--json")
    document = json.loads(result.out)
    assert (result.code, document["schema"]) == (0, 1)
    assert document["splits"]["train"]["kept"] == 60
    assert document["tokenizer"]["joint"] is False
    assert document["corpora"]["train"][0]["licence"] == "CC0"


def test_languages_can_be_turned_round(nmt, tmp_path):
    for name, count in (("t", 40), ("v", 3)):
        for lang in ("fr", "en"):
            lines = [f"{lang} line number {name}{i}\n" for i in range(count)]
            (tmp_path / f"{name}.{lang}").write_text("".join(lines), encoding="utf-8")
    specs = ["--train", tmp_path / "t", "--valid", tmp_path / "v"]
    result = nmt("data", "prepare", *specs, "--source-lang", "en", "--target-lang", "fr", "--out", tmp_path / "d")
    assert result.code == 0
    assert DataDirectory.open(tmp_path / "d").text("valid")[0][0].startswith("en line")


def test_warnings_go_to_stderr(nmt, corpus, tmp_path):
    with Path(corpus[3]).open("a", encoding="utf-8") as file:
        file.write("Source only.\t\n")
    result = nmt("data", "prepare", *corpus, "--out", tmp_path / "data")
    assert result.code == 0
    assert result.err.startswith("nmt: warning: ")
    assert "b.tsv:5" in result.err
    assert nmt("data", "prepare", *corpus, "--out", tmp_path / "strict", "--strict").code == 3


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--vocab-size", "many"], 2, "--vocab-size 'many' is neither a number of pieces nor auto"),
        (["--vocab-size", "32000"], 2, "the largest possible is"),
        (["--model-type", "bbpe"], 2, "did you mean 'bpe'"),
        (["--invalid-utf8", "ignore"], 2, "not one of error, replace, drop"),
        (["--max-tokens", "0"], 2, "--max-tokens"),
        (["--source-lang", "../x"], 2, "no language code"),
        (["--train", "nothing.tsv"], 3, "nothing.tsv does not exist"),
        (["--train", "nothing"], 3, "nothing.fr and nothing.en do not exist"),
        (["--train", "sample#tset"], 2, "did you mean 'test'"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_right_code_and_leaves_nothing(
    nmt, corpus, tmp_path, options, code, message
):
    result = nmt("data", "prepare", *corpus, "--out", tmp_path / "data", *options)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_an_output_in_the_way_is_refused_and_replaced_with_force(nmt, corpus, tmp_path):
    out = tmp_path / "data"
    assert nmt("data", "prepare", *corpus, "--out", out).code == 0
    result = nmt("data", "prepare", *corpus, "--out", out)
    assert result.code == 2
    assert "--force" in result.err
    assert nmt("data", "prepare", *corpus, "--out", out, "--force").code == 0


def test_help_of_the_group_has_examples_first(nmt):
    result = nmt("data", "--help")
    assert result.code == 0
    assert "nmt data prepare --train sample" in result.out.partition("Usage")[0]


def test_help_shows_examples_and_specs(nmt):
    result = nmt("data", "prepare", "--help")
    assert result.code == 0
    assert "nmt data prepare --train sample" in result.out
    assert "hf:REPO" in result.out


def test_known_corpora_are_listed_and_fetched(nmt, tmp_path, monkeypatch):
    from nmt.corpora import known

    listed = nmt("data", "list")
    assert listed.code == 0
    assert ["opus-100", "1,004,000", "train", "valid", "test"] in [line.split()[:5] for line in listed.out.splitlines()]
    assert json.loads(nmt("data", "list", "--json").out)["corpora"][1]["name"] == "opus-books"
    sample = known.Known("tiny", "sample", {"valid": 150, "test": 200}, "CC0", "everyday")
    monkeypatch.setattr(known, "KNOWN", (sample,))
    monkeypatch.chdir(tmp_path)
    result = nmt("data", "get", "tiny", "--max-pairs", 10)
    assert (result.code, result.err) == (0, "")
    assert "10 pairs in data/tiny/test.fr and .en" in result.out
    assert (tmp_path / "data" / "tiny" / "test.fr").read_bytes().count(b"\n") == 10
    again = nmt("data", "get", "tiny")
    assert again.code == 2
    assert "not empty" in again.err
    assert nmt("data", "get", "tin").code == 2


GOOD = [("Un homme marche dans la rue.", "A man is walking down the street."), ("Où est la gare ?", "Where is it?")]


def tsv(path, pairs):
    path.write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8", newline="\n")
    return path


def test_control_characters_of_a_corpus_do_not_reach_the_terminal(nmt, tmp_path):
    spec = tsv(tmp_path / "x.tsv", [("Un \x9b31m mot \x7f et \x1b[2J.", "A word\u2028here \x07.")])
    for more in ([], ["--json"]):
        result = nmt("data", "check", spec, *more)
        assert result.code == 0
        assert not set(result.out) & set(map(chr, [*range(10), *range(11, 32), *range(127, 160), 0x2028]))


def test_a_corpus_is_checked(nmt, tmp_path):
    spec = tsv(tmp_path / "x.tsv", [*GOOD, *GOOD[:1], ("", "x"), ("Oui.", "Yes.")])
    result = nmt("data", "check", spec)
    assert (result.code, result.err) == (0, "")
    assert "5 pairs" in result.out
    assert "20.00%  exact duplicate of an earlier pair" in result.out
    document = json.loads(nmt("data", "check", spec, "--against", spec, "--json").out)
    assert document["schema"] == 1
    assert document["findings"]["leak"]["pairs"] == 4
    assert document["findings"]["blank"]["examples"][0] == {"place": f"{spec}:4", "source": "", "target": "x"}
    assert nmt("data", "check", tmp_path / "none.tsv").code == 3
    assert nmt("data", "check", tsv(tmp_path / "good.tsv", GOOD)).out.endswith("nothing was found\n")


def test_several_specs_may_follow_one_option(nmt, corpus, tmp_path):
    _, train, _, valid, _, test = corpus
    options = ["--json", "--out", tmp_path / "out"]
    result = nmt("data", "prepare", "--train", train, test, "-q", *options, "--valid", valid, valid)
    assert result.code == 0
    assert len(json.loads(result.out)["corpora"]["train"]) == 2
    after = nmt("data", "check", train, "--against", valid, train, "--json")
    before = nmt("data", "check", "--against", valid, "--against", train, train, "--json")
    assert (after.code, before.code) == (0, 0)
    assert json.loads(after.out) == json.loads(before.out)
    assert json.loads(after.out)["findings"]["leak"]["pairs"] == 60
    for flag in ("--json", "-q"):
        assert nmt("data", "check", flag, train, "--against", valid, train).code == 0
    assert nmt("data", "check", "--against", valid, train, "--", test).code == 2


@pytest.mark.parametrize("spec", [".", "/"])
def test_a_folder_is_no_corpus(nmt, spec):
    result = nmt("data", "check", spec)
    assert result.code == 3
    assert "is a folder: name a corpus in it" in line_of(result)


def test_a_group_has_the_common_options(nmt):
    assert nmt("data", "-q", "list").code == 0
    assert nmt("data", "--version").out == nmt("--version").out != ""
