"""`nmt translate` as its callers see it: bytes in, bytes out, what is said on stderr, how it ends."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import typer

from nmt.cli import app, frame
from nmt.cli.engine import EngineChoice, load_scorer
from nmt.cli.streams import Arrivals
from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis
from nmt.engines.pytorch import BATCH_TOKENS, TorchEngine
from nmt.scoring import Scorer
from nmt.special import EOS
from nmt.tokenizer import TokenizerPair
from nmt.translator import MAX_SOURCE_TOKENS, Candidate, Part, Translation, Translator
from tests.cli.terminal import on_a_terminal
from tests.copying import TEXT, copying_model, tokenizers
from tests.tiny import tiny_model

ECHO: dict[str, int] = {"echo": 1}


class Result(NamedTuple):
    code: int
    out: bytes
    err: str


def copying(
    model: Path | None, options: DecodingOptions, choice: EngineChoice, *, max_source_tokens: int | None = None
) -> Translator:
    engine = TorchEngine(
        copying_model(), batch_tokens=choice.batch_tokens or BATCH_TOKENS, keep_attention=choice.keep_attention
    )
    return Translator(engine, tokenizers(), options, max_source_tokens=max_source_tokens or MAX_SOURCE_TOKENS)


def copying_scorer(model: Path | None, choice: EngineChoice) -> Scorer:
    return Scorer(copying_model(), tokenizers(), device=torch.device("cpu"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command line on some bytes of standard input, with a model that copies."""
    monkeypatch.setattr("nmt.cli.translate.load_translator", copying)
    monkeypatch.setattr("nmt.cli.score.load_scorer", copying_scorer)

    def run(data: bytes, *args: object, command: str = "translate") -> Result:
        stdout = io.BytesIO()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stdout))
        code = frame.run(typer.main.get_command(app), [command, *map(str, args)])
        sys.stdout.flush()
        return Result(code, stdout.getvalue(), capsys.readouterr().err)

    return run


def encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_lines_in_lines_out(run) -> None:
    lines = [*TEXT, "", "la gare", "   ", *TEXT[::-1]]
    result = run(encoded(lines), "--beam", 1)
    assert result == (0, encoded([line.strip() for line in lines]), "")


def test_no_input_no_output(run) -> None:
    assert run(b"") == (0, b"", "")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"la gare", 1),
        (b"\n", 1),
        (b"\n\n\nla gare\n\n", 5),
        (b"la gare\r\nle chat\r\n", 2),
        (b"\xef\xbb\xbfla gare\n", 1),
        ("a\u2028b\u0085c\x0bd\x0ce\rf\x00g\x1b[31mh\n".encode(), 1),
        (b"\xff\xfe\xc3\n\xe2\x82\nok\n", 3),
        (b"\r\n\r\r\n", 2),
        ("\u202e\u200f<s></s>\u2581 <0x0A> [/red]\n".encode(), 1),
    ],
)
def test_as_many_lines_out_as_in(run, data: bytes, lines: int) -> None:
    result = run(data, "--beam", 1)
    assert result.code == 0
    assert result.out.count(b"\n") == lines
    assert result.out.endswith(b"\n")
    assert not any(byte < 32 and byte != 10 for byte in result.out)
    assert len(result.out.decode().splitlines()) == lines


def test_seeded_noise_keeps_its_lines(run) -> None:
    data = b"".join(bytes([(i * i * 7 + i // 3) % 256]) for i in range(4000))
    result = run(data, "--beam", 1)
    assert result.code == 0
    assert result.out.count(b"\n") == data.count(b"\n") + (not data.endswith(b"\n"))


def test_invalid_utf8_is_counted_in_one_warning(run) -> None:
    result = run(b"ok\n\xff\nok\n\xfe gare\n", "--beam", 1)
    assert result.err == "nmt: warning: 2 lines were not UTF-8: bad bytes read as U+FFFD (first: line 2)\n"


def test_hostile_neighbours_change_nothing(run) -> None:
    hostile = [b"\xff\xfe", b"", "a\u2028b".encode(), b"\x00", b"x" * 3000, "\u0301".encode() * 400]
    mixed = b"".join(line.encode() + b"\n" + hostile[i % 6] + b"\n" for i, line in enumerate(TEXT * 2))
    result = run(mixed, "--beam", 1)
    assert result.out.split(b"\n")[:-1:2] == encoded(TEXT * 2).split(b"\n")[:-1]


def test_files_are_read_in_order_and_dash_is_stdin(run, tmp_path) -> None:
    import gzip

    (tmp_path / "one.fr").write_bytes(b"le chat")
    (tmp_path / "two.fr.gz").write_bytes(gzip.compress(b"la pluie\n"))
    result = run(b"la gare\n", "--beam", 1, tmp_path / "one.fr", "-", tmp_path / "two.fr.gz")
    assert result.out == b"le chat\nla gare\nla pluie\n"


def test_output_file_appears_whole(run, tmp_path) -> None:
    result = run(encoded(TEXT), "--beam", 1, "-o", tmp_path / "out.en")
    assert result == (0, b"", "")
    assert (tmp_path / "out.en").read_bytes() == encoded(TEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["out.en"]


def test_a_failing_run_leaves_an_old_output_alone(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "out.en").write_text("old")
    monkeypatch.setattr(Translator, "translate", lambda *_: 1 / 0)
    result = run(b"la gare\n", "-o", tmp_path / "out.en")
    assert result.code == 1
    assert (tmp_path / "out.en").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.en"]


@pytest.mark.parametrize("link", ["none", "symbolic", "hard"])
def test_output_that_is_the_input_is_refused(run, tmp_path, link: str) -> None:
    source = tmp_path / "in.fr"
    source.write_bytes(b"la gare\n")
    output = source if link == "none" else tmp_path / "other"
    if link == "symbolic":
        output.symlink_to(source)
    elif link == "hard":
        output.hardlink_to(source)
    result = run(b"", source, "-o", output)
    assert result.code == 2
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1
    assert source.read_bytes() == b"la gare\n"


def test_output_through_a_link_replaces_what_it_points_to(run, tmp_path) -> None:
    (tmp_path / "link").symlink_to("real.en")
    assert run(b"la gare\n", "--beam", 1, "-o", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.en").read_bytes() == b"la gare\n"


def test_a_fifo_is_read_and_written_directly(run, tmp_path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / "in").write_bytes, args=[b"la gare\nle chat"])
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "out").read_bytes()))
    for thread in (writer, reader):
        thread.start()
    result = run(b"", "--beam", 1, tmp_path / "in", "-o", tmp_path / "out")
    for thread in (writer, reader):
        thread.join()
    assert result.code == 0
    assert received == [b"la gare\nle chat\n"]


def test_a_full_device_is_an_error(run) -> None:
    result = run(b"la gare\n", "--beam", 1, "-o", "/dev/full")
    assert result == (1, b"", "nmt: error: cannot write /dev/full: No space left on device\n")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["missing.fr"], 3, ["missing.fr", "no such file"]),
        (["."], 3, ["directory"]),
        (["a\x1b[31m\nb.fr"], 3, ["a\\x1b[31m\\nb.fr"]),
        (["-o", "no/such/dir/x"], 2, ["no/such/dir/x"]),
        (["-o", "."], 2, ["directory"]),
        (["--beam", "0"], 2, ["--beam"]),
        (["--beam", "x"], 2, ["--beam"]),
        (["--beam", "1000000000"], 2, ["--beam", "1000"]),
        (["--n-best", "7"], 2, ["--n-best 7", "--beam"]),
        (["--length-penalty", "nan"], 2, ["--length-penalty nan is not possible"]),
        (["--max-length-extra", "-5"], 2, ["--max-length-extra -5 is not possible"]),
        (["--beam", "x"], 2, ["'--beam': 'x' is no whole number of at least 1 and at most 1000"]),
        (["--length-penalty", "x"], 2, ["'--length-penalty': 'x' is no number"]),
        (["--no-repeat-ngram", "-1"], 2, ["--no-repeat-ngram"]),
        (["--bean", "4"], 2, ["--beam"]),
    ],
)
def test_mistakes_are_one_line(run, args: list[str], code: int, words: list[str]) -> None:
    result = run(b"la gare\n", *args)
    assert result.code == code
    assert result.out == b""
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1
    assert all(word in result.err for word in words)


def test_json_is_one_object_a_line(run) -> None:
    result = run(encoded([TEXT[0], "", "a\u2028b\x85\x1b"]), "--json", "--beam", 1)
    documents = [json.loads(line) for line in result.out.decode().splitlines()]
    assert [d["line"] for d in documents] == [1, 2, 3]
    assert documents[0]["schema"] == 1
    assert documents[0]["source"] == documents[0]["translation"] == TEXT[0]
    assert documents[0]["score"] == pytest.approx(-0.105, abs=1e-3)
    assert documents[0]["tokens"] == documents[0]["source_tokens"] + 1
    assert documents[0]["parts"] == 1
    assert not documents[0]["cut"]
    assert not documents[0]["looping"]
    assert (documents[1]["translation"], documents[1]["score"], documents[1]["parts"]) == ("", 0.0, 0)
    assert documents[2]["source"] == "a\u2028b\x85\x1b"
    assert "n_best" not in documents[0]


def test_n_best_as_columns_and_as_json(run) -> None:
    rows = [line.split("\t") for line in run(encoded(["le chat", ""]), "--n-best", 2).out.decode().splitlines()]
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "2"], ["2", "1"]]
    assert float(rows[0][2]) > float(rows[1][2])
    assert (rows[0][3], rows[2][3]) == ("le chat", "")
    [document] = map(json.loads, run(b"le chat\n", "--n-best", 2, "--json").out.splitlines())
    assert [candidate["translation"] for candidate in document["n_best"]] == [rows[0][3], rows[1][3]]


def test_long_lines_are_named(run) -> None:
    long = "la gare et le chat. " * 40
    result = run(encoded(["le chat", long]), "--beam", 1, "--max-source-tokens", 50)
    assert result.out == encoded(["le chat", long.strip()])
    assert result.err == "nmt: warning: line 2: too long to translate at once: translated in parts\n"


def test_an_endless_line_is_cut_and_named(run, monkeypatch) -> None:
    monkeypatch.setattr("nmt.cli.translate.MAX_LINE_BYTES", 1000)
    result = run(b"la gare " * 1000 + b"\nle chat\n", "--beam", 1)
    assert result.out.count(b"\n") == 2
    assert result.out.endswith(b"\nle chat\n")
    assert result.err == "nmt: warning: line 1: too long: its end was not translated\n"


def test_after_the_first_warnings_of_a_kind_many_lines_are_named_in_one(run, monkeypatch) -> None:
    monkeypatch.setattr("nmt.cli.translate.NAMED", 3)
    result = run(encoded([f"{i} " + "la gare " * 20 for i in range(10)]), "--beam", 1, "--max-source-tokens", 30)
    first = [f"line {number}" for number in range(1, 6)]
    named = [*first, "line 6, line 7, line 8", "line 9, line 10"]
    assert result.err.splitlines() == [
        f"nmt: warning: {lines}: too long to translate at once: translated in parts" for lines in named
    ]


def test_a_translation_that_does_not_end_is_named(run) -> None:
    result = run(encoded([TEXT[1]]), "--beam", 1, "--max-length-ratio", 0, "--max-length-extra", 3)
    assert result.err == "nmt: warning: line 1: the translation did not end and was cut at its greatest length\n"


def test_scores_of_pairs(run, tmp_path) -> None:
    result = run(b"le chat\tle chat\nle chat\tla gare\n", command="score")
    right, wrong = map(float, result.out.splitlines())
    assert wrong < right < 0
    (tmp_path / "a").write_bytes(b"le chat\nle chat\n")
    (tmp_path / "b").write_bytes(b"le chat\nla gare\n")
    assert run(b"", "--src", tmp_path / "a", "--ref", tmp_path / "b", command="score").out == result.out
    mean = float(run(b"le chat\tle chat\n", "--per-token", command="score").out)
    assert mean == pytest.approx(-0.105, abs=1e-3)
    document = json.loads(run(b"le chat\tle chat\tmore\nle chat\tla gare\n", "--json", command="score").out)
    assert [pair["line"] for pair in document["pairs"]] == [1, 2]
    assert json.loads(run(b"", "--json", command="score").out) == {"schema": 1, "pairs": []}
    document = document["pairs"][0]
    assert document["log_prob"] == pytest.approx(right, abs=1e-4)
    assert document["per_token"] == pytest.approx(document["log_prob"] / document["tokens"])


def test_pairs_that_are_none(run, tmp_path) -> None:
    result = run(b"le chat\tle chat\nle chat\n", command="score")
    assert (result.code, result.err) == (3, "nmt: error: line 2: no tab between source and translation\n")
    (tmp_path / "a").write_bytes(b"le chat\nle chat\n")
    (tmp_path / "b").write_bytes(b"le chat\n")
    result = run(b"", "--src", tmp_path / "a", "--ref", tmp_path / "b", command="score")
    assert result.code == 3
    assert "2 lines" in result.err
    assert "has 1" in result.err
    assert run(b"", "--src", tmp_path / "a", command="score").code == 2


# -- a process of its own: pipes, signals --------------------------------------------------------------------

PROGRAM = """
import sys
import nmt.cli.translate
from tests.cli.test_translate import copying
nmt.cli.translate.load_translator = copying
sys.exit(nmt.cli.main(["translate", "--beam", "1"]))
"""


def start(**streams: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, **streams)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_every_line_is_answered_before_the_next_is_sent(sent: signal.Signals, code: int) -> None:
    process = start()
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (*TEXT[:3], "", "très été"):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == line.encode() + b"\n"
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (code, b"", b"")


def test_a_closed_reader_ends_it_quietly() -> None:
    process = start()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(encoded(TEXT))
    process.stdin.close()
    process.stdin = None
    process.wait(300)
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.returncode in (0, 141)


def test_alignments_follow_the_translation(run) -> None:
    result = run(encoded(["la gare", "", "le chat dort"]), "--alignments", "--beam", 1)
    lines = result.out.decode().split("\n")
    assert [line.partition("\t")[0] for line in lines] == ["la gare", "", "le chat dort", ""]
    for line in lines[:3]:
        text, _, links = line.partition("\t")
        targets = sorted(int(link.split("-")[1]) for link in links.split())
        assert targets == list(range(len(text.split())))


@pytest.mark.parametrize("text", ["l\u00b4homme est l\u00e0", "a\u200bb c", "la gare \ufeff ici", "la\u00a0gare ?"])
def test_alignments_count_words_as_the_lines_have_them(run, text: str) -> None:
    translation, found = run(encoded([text]), "--alignments", "--beam", 1).out.decode().strip("\n").split("\t")
    links = [tuple(map(int, link.split("-"))) for link in found.split()]
    assert all(source < len(text.split()) and target < len(translation.split()) for source, target in links)
    assert links


def test_alignments_in_json_and_n_best(run) -> None:
    result = run(encoded(["la gare"]), "--alignments", "--beam", 2, "--n-best", 2, "--json")
    document = json.loads(result.out)
    assert len(document["alignment"].split()) == 2
    assert document["alignment"] == document["n_best"][0]["alignment"]
    plain = run(encoded(["la gare"]), "--alignments", "--beam", 2, "--n-best", 2).out.decode().split("\n")
    assert len(plain[0].split("\t")) == 5


def test_a_gpu_that_torch_does_not_see_is_mentioned(tmp_path, monkeypatch, capsys) -> None:
    model = tiny_model(tmp_path / "model")
    monkeypatch.setattr("nmt.cli.engine._NVIDIA", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, warnings in (("cpu", 0), ("auto", 1)):
        load_scorer(model, EngineChoice(device=device))
        assert capsys.readouterr().err.count("there is an NVIDIA driver") == warnings


@pytest.mark.parametrize(("command", "several"), [("translate", True), ("eval", True), ("bench", False)])
def test_text_is_spread_over_all_devices(nmt, model, tmp_path, monkeypatch, command, several):
    made = []

    class Noted(TorchEngine):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            made.append(self.device)

    devices = [torch.device("cpu"), torch.device("cpu", 1)]
    monkeypatch.setattr("nmt.nn.device.select_devices", lambda name: devices)
    monkeypatch.setattr("nmt.engines.pytorch.TorchEngine", Noted)
    (tmp_path / "a.fr").write_text("Oui\n")
    arguments = {
        "translate": [tmp_path / "a.fr"],
        "eval": ["--src", tmp_path / "a.fr", "--ref", tmp_path / "a.fr"],
        "bench": ["translate", tmp_path / "a.fr"],
    }
    if command == "bench":
        monkeypatch.setattr("nmt.bench.machine._SECONDS", 0.01)
    assert nmt(command, *arguments[command], "-m", model, "--engine", "torch", "--beam", 1).code == 0
    assert made == ["cpu,cpu:1" if several else "cpu"]


@pytest.mark.parametrize("data", [b"\xff\xfe la gare\nla gare\n", b"\0\n\0\n\0\n\0\n", b"BZh la gare\nx\n"])
def test_a_file_has_as_many_lines_as_the_same_bytes_on_standard_input(run, tmp_path, data) -> None:
    (tmp_path / "x").write_bytes(data)
    found = run(b"", tmp_path / "x")
    assert found.code == 0
    assert found.out == run(data).out
    assert found.out.count(b"\n") == data.count(b"\n")


def test_an_end_that_is_cut_off_after_nothing_but_blanks_is_reported(run) -> None:
    result = run(b" " * 600_000 + b"la gare\n" + b"\xe2\x80\x8b" * 600_000 + b"la gare\n")
    assert result.out.startswith(b"la gare\n")
    assert "line 1:" not in result.err
    assert "line 2:" in result.err


def test_input_that_does_not_wait_is_waited_for() -> None:
    end, start = os.pipe()
    os.set_blocking(end, False)
    arrivals = Arrivals(end, "x", enough=100)
    writer = threading.Timer(0.2, os.write, (start, b"la gare\n"))
    writer.start()
    try:
        assert arrivals.readline() == b"la gare\n"
    finally:
        writer.join()
        os.close(start)
        os.close(end)


def test_links_are_between_the_words_of_the_whole_line(model) -> None:
    """Two parts, the second beginning within a word; each target piece looks at one source piece."""
    from nmt.cli.translate import _Format

    tokenizers = TokenizerPair.load(model)
    source = tokenizers.source
    parts = tuple(Part(text, tuple(source.encode(text))) for text in ("l\u00b4homme  est", "l\u00e0-bas \ufeff ici"))
    targets = [tokenizers.target.encode(text) for text in ("the man", "is there")]
    # The first word of each translation looks at the last piece of its part, the second at its first.
    hypotheses = []
    for part, tokens in zip(parts, targets, strict=True):
        second = tokenizers.target.decode_words(tokens)[1].start
        attention = torch.zeros(len(tokens) + 1, len(part.tokens) + 1)
        attention[:second, len(part.tokens) - 1] = 1
        attention[second:, 0] = 1
        hypotheses.append(Hypothesis((*tokens, EOS), 0.0, attention))
    line = f" {parts[0].text}{parts[1].text} "  # words 0 to 3: l'homme, estlà-bas, U+FEFF, ici
    candidate = Candidate("the man is there", 0.0, 0.0, tuple(hypotheses))
    translation = Translation(line, parts, (candidate,), source_cut=False, looping=False, retried=False)
    form = _Format(n_best=1, as_json=False, tokenizers=tokenizers)
    assert list(form.lines(1, [translation])) == ["the man is there\t0-1 1-0 1-3 3-2"]


def test_a_score_document_is_printed_whole_or_not_at_all(run) -> None:
    whole = json.loads(run("Où ?\tWhere?\n".encode(), "--json", command="score").out)
    assert [pair["line"] for pair in whole["pairs"]] == [1]
    result = run("Où ?\tWhere?\nno tab\n".encode(), "--json", command="score")
    assert (result.code, result.out) == (3, b"")


def test_an_output_that_would_destroy_the_model_is_refused(run, tmp_path) -> None:
    model = tiny_model(tmp_path / "model")
    before = (model / "config.json").read_bytes()
    assert run(b"x\n", "-m", model, "-o", model / "config.json").code == 2
    assert (model / "config.json").read_bytes() == before


def test_an_output_named_as_compressed_is_refused(run, tmp_path) -> None:
    result = run(b"x\n", "-o", tmp_path / "out.en.gz")
    assert (result.code, list(tmp_path.glob("out*"))) == (2, [])
    assert "is not compressed" in result.err


def test_an_output_needs_its_folder(run, tmp_path) -> None:
    result = run(b"x\n", "-o", tmp_path / "none" / "x.en")
    assert result.code == 2
    assert f"there is no folder {tmp_path / 'none'}" in result.err


def test_an_output_that_is_a_link_to_itself_is_refused(run, tmp_path) -> None:
    (tmp_path / "x.en").symlink_to("x.en")
    result = run(b"x\n", "-o", tmp_path / "x.en")
    assert result.code == 2
    assert "in a circle" in result.err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
@pytest.mark.parametrize("to", ["-o", "pipe", "terminal"])
def test_a_bar_is_shown_where_no_translation_can_run_into_it(model, tmp_path, to):
    (tmp_path / "in.fr").write_text("un chat\ndeux chats\n" * 40, encoding="utf-8")
    command = [sys.executable, "-m", "nmt", "translate", "-m", str(model), "--beam", "1", str(tmp_path / "in.fr")]
    command += ["-o", str(tmp_path / "out.en")] if to == "-o" else []
    shown, piped = on_a_terminal(command, None if to == "terminal" else subprocess.PIPE)
    assert (b"translating" in shown) is (to != "terminal")
    if to != "terminal":
        lines = piped if to == "pipe" else (tmp_path / "out.en").read_bytes()
        assert lines.count(b"\n") == 80
