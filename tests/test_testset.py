import io
from pathlib import Path

import pytest

from nmt.errors import DataError
from nmt.testset import TestSet, read_corpus, read_references, read_sources, read_test_files


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_end_at_line_feeds_only(tmp_path):
    source = write(tmp_path / "a.fr", "\ufeffun\u2028\x0b\x85\r\ndeux\rtrois\n")
    ref = write(tmp_path / "a.en", "one\ntwo")

    test = read_test_files(source, [ref])

    assert test.sources == ("un\u2028\x0b\x85", "deux\rtrois")
    assert test.refs == (("one",), ("two",))


def test_columns_of_a_tsv_are_references_and_may_be_ragged(tmp_path):
    refs = write(tmp_path / "refs.tsv", "one\tan one\t\ntwo\n\t\n")

    assert read_references([refs]) == (("one", "an one"), ("two",), ("",))


def test_several_files_give_several_references(tmp_path):
    files = [write(tmp_path / "a.en", "one\ntwo\n"), write(tmp_path / "b.en", "an one\n\n")]

    test = read_test_files(None, files)

    assert test.refs == (("one", "an one"), ("two",))
    assert test.max_refs == 2


def test_a_tab_in_a_plain_file_is_text(tmp_path):
    assert read_references([write(tmp_path / "a.en", "one\ttwo\n")]) == (("one\ttwo",),)


def test_sources_of_a_tsv_are_its_first_column(tmp_path):
    assert read_sources(write(tmp_path / "a.tsv", "un\tone\ndeux\ttwo\n")) == ["un", "deux"]


@pytest.mark.parametrize(
    ("source", "refs", "message"),
    [
        ("un\ndeux\n", ["one\n"], "a.fr has 2 lines, 0.en has 1"),
        ("un\n", ["one\n", "one\ntwo\n"], "0.en has 1 lines, 1.en has 2"),
        ("", [""], "0.en is empty"),
        ("un\n", [b"\xff\n"], "0.en:1 is not UTF-8"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, monkeypatch, source, refs, message):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    write(Path("a.fr"), source)
    files = [write(Path(f"{i}.en"), text) for i, text in enumerate(refs)]

    with pytest.raises(DataError) as caught:
        read_test_files(Path("a.fr"), files)

    assert message in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.en"):
        read_references([tmp_path / "nowhere.en"])


def test_standard_input(tmp_path, monkeypatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    give(b"one\r\ntwo")
    assert read_sources(Path("-")) == ["one", "two"]
    write(tmp_path / "t.en", "one\ntwo\n")
    give(b"un\ndeux\n")
    assert read_test_files(Path("-"), [tmp_path / "t.en"]).sources == ("un", "deux")
    give(b"one\n\xff\n")
    with pytest.raises(DataError, match="standard input:2 is not UTF-8"):
        read_references([Path("-")])
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        read_sources(Path("-"))


def test_corpus_spec(tmp_path):
    write(tmp_path / "t.fr", "un\ndeux\n")
    write(tmp_path / "t.en", "one\ntwo\n")

    test = read_corpus(str(tmp_path / "t"), source_lang="fr", target_lang="en")

    assert test.sources == ("un", "deux")
    assert test.refs == (("one",), ("two",))


def test_counts_must_agree():
    with pytest.raises(DataError, match="x: 1 source lines but 2 references"):
        TestSet(name="x", sources=("un",), refs=(("one",), ("two",)))
