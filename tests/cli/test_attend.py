import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from nmt.tokenizer import TokenizerPair
from tests.cli.terminal import on_a_terminal
from tests.tiny import tiny_model


def test_a_sentence_is_shown_with_its_words(nmt, model):
    result = nmt("attend", "-m", model, "La gare est là-bas.", "--target", "The station is over there.")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[-5:]] == ["The", "station", "is", "over", "there."]
    assert len({len(line) for line in lines[-5:]}) == 1


def test_weights_as_json(nmt, model):
    result = nmt("attend", "-m", model, "La gare.", "--target", "The station is.", "--json")
    document = json.loads(result.out)
    assert document["source"] == ["La", "gare."]
    assert document["target"] == ["The", "station", "is."]
    assert [len(row) for row in document["weights"]] == [2, 2, 2]
    assert len(document["alignment"].split()) == 3


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_is_drawn(nmt, model, tmp_path, suffix):
    out = tmp_path / f"map.{suffix}"
    result = nmt(
        "attend", "-m", model, "Une gare à 5 $ l'unité_.", "--target", "A $ station_.", "-o", out, "--subwords"
    )
    assert (result.code, result.out) == (0, "")
    assert out.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_a_file_gives_a_page_of_its_sentences_or_a_picture_of_each(nmt, model, corpus):
    files = ["--src", corpus / "text.fr", "--ref", corpus / "text.en"]
    assert nmt("attend", "-m", model, *files, "-o", corpus / "page.html").code == 0
    assert [pair["title"] for pair in pairs_of(corpus / "page.html")] == ["1. La gare.", "3. Un homme marche."]
    assert nmt("attend", "-m", model, *files, "-o", corpus / "map.png").code == 0
    assert sorted(path.name for path in corpus.glob("*.png")) == ["map-1.png", "map-3.png"]


def test_no_picture_stays_where_a_later_line_cannot_be_shown(nmt, model, corpus):
    (corpus / "long.fr").write_text(f"La gare.\n{'la gare ' * 200}\n", encoding="utf-8")
    result = nmt("attend", "-m", model, "--src", corpus / "long.fr", "-o", corpus / "map.svg")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert f"{corpus / 'long.fr'}, line 2: " in result.err
    assert not list(corpus.glob("map*"))


def pairs_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])


@pytest.mark.parametrize("beam", [2, 4])
def test_without_translations_the_model_makes_them(nmt, model, tmp_path, beam):
    """The very tokens that `nmt translate` finds with such a beam."""
    (tmp_path / "a").write_text("La gare est là-bas.\n", encoding="utf-8")
    result = nmt("attend", "-m", model, "--src", tmp_path / "a", "-o", tmp_path / "page.html", "--beam", beam)
    assert result.code == 0, result.err
    [pair] = pairs_of(tmp_path / "page.html")
    given = nmt("translate", "-m", model, tmp_path / "a", "--engine", "torch", "--json", "--beam", beam).out
    tokenizer = TokenizerPair.load(model).target
    pieces = tokenizer.vocabulary()
    assert (
        tokenizer.decode([pieces.index(piece) for piece in pair["target"]]).strip() == json.loads(given)["translation"]
    )


def test_an_own_translation_without_words_is_an_error(nmt, model):
    result = nmt("attend", "-m", model, "La gare est là-bas.", "--beam", 1)  # what greedy search makes of it
    assert (result.code, result.out) == (3, "")
    assert "own translation is blank" in result.err


def test_pieces_are_linked_as_they_are_shown(nmt, model):
    result = nmt("attend", "-m", model, "La gare.", "--target", "The station is.", "--json", "--subwords")
    document = json.loads(result.out)
    linked = {int(link.split("-")[1]) for link in document["alignment"].split()}
    assert linked == set(range(len(document["target"])))
    assert document["target"][-1] == "</s>"


def test_on_a_narrow_terminal_words_stand_in_blocks(nmt, model, monkeypatch):
    command = ["attend", "-m", model, "gare " * 30, "--target", "The \u4f60\u597d station."]
    assert max(map(len, nmt(*command).out.splitlines())) > 60
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = nmt(*command).out.splitlines()
    assert sum("station." in line for line in lines) == 2
    assert max(map(cell_len, lines)) <= 40


@pytest.fixture
def corpus(tmp_path):
    for name, lines in {
        "text.fr": ["La gare.", "", "Un homme marche."],
        "text.en": ["The station.", "", "A man walks."],
        "gold": ["0-0 1-1", "", "0-0 1-1 2?2"],
        "short": ["0-0"],
        "beyond": ["0-0 1-1", "", "1-1 3-1"],
    }.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path


def test_links_of_a_file(nmt, model, corpus):
    result = nmt("attend", "-m", model, "--src", corpus / "text.fr", "--ref", corpus / "text.en")
    lines = result.out.split("\n")
    assert [len(line.split()) for line in lines] == [2, 0, 3, 0]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
def test_links_go_to_a_file_while_the_bar_is_on_the_terminal(model, corpus):
    files = ["--src", corpus / "text.fr", "--ref", corpus / "text.en"]
    command = [sys.executable, "-m", "nmt", "attend", "-m", model, *files]
    quiet = subprocess.run([*command, "-q"], capture_output=True, check=True)
    with open(corpus / "links", "wb") as file:
        shown, _ = on_a_terminal(command, file)
    unseen, piped = on_a_terminal(command, subprocess.PIPE)  # a pipe may lead to the terminal
    assert unseen == b""
    assert (corpus / "links").read_bytes() == piped == quiet.stdout
    assert piped.count(b"\n") == 3
    assert b"attending" in shown
    assert b"0-0" not in shown


def parsed(line):
    return {tuple(map(int, item.split("-"))) for item in line.split()}


def test_links_of_both_directions_are_joined(nmt, model, corpus, tmp_path):
    reverse = tiny_model(tmp_path / "reverse", seed=2, facts={"direction": {"source": "en", "target": "fr"}})
    there = ["attend", "-m", model, "--src", corpus / "text.fr", "--ref", corpus / "text.en"]
    back = ["attend", "-m", reverse, "--src", corpus / "text.en", "--ref", corpus / "text.fr"]
    forward, backward = ([parsed(line) for line in nmt(*command).out.split("\n")] for command in (there, back))
    backward = [{(source, target) for target, source in pairs} for pairs in backward]
    for method, join in (("intersection", set.__and__), ("union", set.__or__)):
        result = nmt(*there, "--symmetrise", method, "--reverse", reverse)
        assert [parsed(line) for line in result.out.split("\n")] == list(map(join, forward, backward))
    alone = nmt(*there, "--symmetrise", "union")
    assert all(f <= parsed(line) for f, line in zip(forward, alone.out.split("\n"), strict=True))
    assert alone.out != nmt(*there).out
    document = json.loads(nmt(*there, "--symmetrise", "union", "--gold", corpus / "gold", "--json").out)
    assert document["symmetrised"] == "union"
    assert document["alignments"]["layer 0"]["links"] == len(alone.out.split())


def test_error_rates_by_layer_and_head_beside_a_diagonal(nmt, model, corpus):
    command = ["attend", "-m", model, "--src", corpus / "text.fr", "--ref", corpus / "text.en"]
    result = nmt(*command, "--gold", corpus / "gold")
    rows = [line.rsplit(None, 4) for line in result.out.splitlines()]
    assert [row[0] for row in rows[1:]] == ["layer 0", "layer 0, head 0", "layer 0, head 1", "diagonal"]
    assert rows[-1][1:] == ["0.0", "100.0", "100.0", "5"]
    document = json.loads(nmt(*command, "--gold", corpus / "gold", "--json").out)
    assert document["alignments"]["diagonal"] == {"aer": 0.0, "precision": 100.0, "recall": 100.0, "links": 5}


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ([], "give a sentence, or --src", 2),
        (["x", "--gold", "gold"], "--gold needs --src and --ref", 2),
        (["--src", "text.fr"], "--src needs --ref, or -o", 2),
        (["x", "--ref", "text.en"], "--ref needs --src", 2),
        (["--src", "text.fr", "--ref", "text.en", "--gold", "beyond"], "beyond:3: 3-1 is not among 3 source and 3", 3),
        (["La gare.", "--target", " "], "the translation is blank", 3),
        (["--src", "text.fr", "--ref", "short"], "text.fr has 3 lines", 3),
        (["--src", "text.fr", "--ref", "text.en", "--gold", "short"], "short has 1 lines", 3),
        (["--src", "text.fr", "--ref", "text.en", "--gold", "text.en"], "is no link", 3),
        (["La gare.", "--symmetrise", "union"], "--symmetrise needs --src and --ref", 2),
        (["--src", "text.fr", "--ref", "text.en", "--reverse", "x"], "--reverse needs --symmetrise", 2),
        (["--src", "text.fr", "--ref", "text.en", "--symmetrise", "onion"], "did you mean 'union'", 2),
        (["La gare.", "--layer", "7"], "--layer 7: this model has layers 0 to 0", 2),
        (["La gare.", "-o", "map.bmp"], "the name must end in .html, .png, .svg, .pdf", 2),
        (["  "], "the sentence is blank", 3),
        (["La gare.", "-o", "folder.png"], "--output folder.png is a directory", 2),
        (["--src", "page.html", "-o", "page.html"], "--output page.html is an input", 2),
        (["--src", "map-2.png", "-o", "map.png"], "--output map-2.png is an input", 2),
        (["--src", "-", "--ref", "-"], "standard input can be only one of --src, --ref and --gold", 2),
    ],
)
def test_what_cannot_be_is_one_line(nmt, model, corpus, monkeypatch, options, message, code):
    monkeypatch.chdir(corpus)
    (corpus / "folder.png").mkdir()
    for name in ("page.html", "map-2.png"):
        (corpus / name).write_bytes((corpus / "text.fr").read_bytes())
    result = nmt("attend", "-m", model, *options)
    assert (corpus / "page.html").read_bytes() == (corpus / "map-2.png").read_bytes()
    assert not (corpus / "map-1.png").exists()
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_reverse_model_must_be_one(nmt, model, corpus):
    files = ["--src", corpus / "text.fr", "--ref", corpus / "text.en"]
    result = nmt("attend", "-m", model, *files, "--symmetrise", "union", "--reverse", model)
    assert result.code == 2
    assert "translates fr to en: --reverse needs a model of en to fr" in result.err


def test_a_sentence_on_standard_input(nmt, model, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("La gare est là.\n".encode())))
    given = nmt("attend", "-m", model, "La gare est là.", "--json")
    assert nmt("attend", "-m", model, "-", "--json").out == given.out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    result = nmt("attend", "-m", model, "-")
    assert (result.code, "standard input has 2 sentences" in result.err) == (3, True)


def test_a_pair_that_is_too_long_is_named(nmt, model, tmp_path):
    (tmp_path / "a").write_text("la gare\n" + "la gare " * 2000 + "\n")
    (tmp_path / "b").write_text("the station\nthe station\n")
    result = nmt("attend", "-m", model, "--src", tmp_path / "a", "--ref", tmp_path / "b")
    assert (result.code, result.out.count("\n")) == (3, 1)
    assert "pair 2: " in result.err


def test_a_page_needs_its_folder(nmt, tmp_path):
    result = nmt("attend", "-m", tmp_path / "no model", "Merci.", "-o", tmp_path / "none" / "page.html")
    assert result.code == 2
    assert "there is no folder" in result.err
