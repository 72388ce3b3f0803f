import itertools
import json
from types import SimpleNamespace

import pytest

from nmt.bench import alternate
from nmt.bench.translation import TRANSLATION_PARTS, lines_of_length
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("quick")
TRAIN = ["bench", "train", "--preset", "tiny", "--updates", "2", "--warmup", "1", "--precision", "fp32"]
SMALL = [word for key in ("model_size=16", "ffn_size=32", "batch_tokens=128") for word in ("--set", key)]


@pytest.fixture
def quick(monkeypatch):
    """The roof is measured in an instant."""
    monkeypatch.setattr("nmt.bench.machine._SECONDS", 0.02)
    monkeypatch.setattr("nmt.bench.machine._SIZES", {"cpu": (64, 64, 64)})


def test_training_is_timed_on_a_data_directory(nmt, data_directory):
    result = nmt(*TRAIN, *SMALL, data_directory)
    assert (result.code, result.err) == (0, "")
    for text in ("target tokens", "padding", "GFLOP/s", "backward", "optimiser"):
        assert text in result.out


def test_training_as_json(nmt):
    document = json.loads(nmt(*TRAIN, *SMALL, "--length", "8", "--vocab", "40", "--json").out)
    assert (document["schema"], document["kind"], document["data"]) == (1, "train", "synthetic")


def test_translation_is_timed(nmt, model, tmp_path):
    (tmp_path / "text.fr").write_text("Un homme marche.\n\nDeux enfants.\n" * 3, encoding="utf-8")
    (tmp_path / "word.fr").write_text("Oui\n", encoding="utf-8")
    command = ["bench", "translate", "-m", model, "--beam", "1"]
    assert "lines/s" in nmt(*command, tmp_path / "word.fr").out
    document = json.loads(nmt(*command, tmp_path / "text.fr", "--json").out)
    assert (document["kind"], document["lines"], document["beam"]) == ("translate", 9, 1)
    assert tuple(document["milliseconds_per_line"]) == TRANSLATION_PARTS
    assert document["lines_per_second"] * document["seconds"] == pytest.approx(9)


def test_lines_are_made_as_long_as_asked_for():
    assert lines_of_length(["a b c", "d e f g"], 3) == ["a b c", "d e f"]
    assert lines_of_length(["a b"], 3) == ["a b"]


@pytest.fixture
def answers(monkeypatch):
    """Stand in for the processes of sweeps and comparisons."""

    def run(contender):
        given = dict(itertools.pairwise(contender.arguments))  # the last of an option's values
        value = int(given.get("--beam" if "translate" in contender.arguments else "--updates", 0))
        return {"lines_per_second": 100 / value, "target_tokens_per_second": 50 * value, "peak_memory_mib": 300}

    monkeypatch.setattr(alternate, "_run", run)


def test_a_sweep_is_a_table_a_plot_and_json(nmt, answers, tmp_path):
    command = ["bench", "translate", "--sweep", "beam"]
    result = nmt(*command, "--plot", tmp_path / "beam.png")
    assert result.out.splitlines()[1].split() == ["1", "100.0", "300"]
    assert (tmp_path / "beam.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(nmt("-q", *command, "--json").out)
    assert [run["value"] for run in document["runs"]] == [1, 2, 4, 8, 16]


def test_a_comparison_gives_the_ratio_of_medians(nmt, answers):
    result = nmt("bench", "train", "--updates", "2", "--against", "--updates 8", "--rounds", "2")
    assert "ratio 0.25 (2 rounds in turn, medians)" in result.out
    assert "round 2 of 2: --updates 8" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train", "--sweep", "lenght"], "did you mean 'length'"),
        (["train", "--sweep", "batch", "--against", "--seed 2"], "exclude each other"),
        (["translate", "--plot", "x.png"], "--plot draws a sweep"),
        (["translate", "--rounds", "2"], "--rounds is for a comparison"),
        (["translate", "--sweep", "beam", "--plot", "x.bmp"], "the name must end in"),
        (["train", "--against-checkout", "/nowhere"], "no nmt package"),
        (["train", "--against", "'"], "No closing quotation"),
        (["translate", "--sweep", "beam", "--plot", "/nowhere/x.png"], "there is no folder"),
        (["train", "data", "--vocab", "100"], "leave DATA out"),
        (["translate", "--sweep", "beam", "--beam", "7"], "--sweep beam sets --beam by itself"),
        (["train", "--sweep", "batch", "--set", "batch_tokens=9"], "--sweep batch sets --set batch_tokens by itself"),
        (["train", "--sweep", "vocab", "--vocab", "500"], "--sweep vocab sets --vocab by itself"),
        (["translate", "--against", "--beam 1 --sweep=beam"], "leave --sweep=beam out of it"),
        (["train", "--against", "--against x"], "leave --against out of it"),
        (["train", "--against", "--foo"], "no such option --foo"),
        (["translate", "--against", "--beam 0"], "'--beam'"),
        (["translate", "-", "--sweep", "beam"], "- can be read once only"),
        (["translate", "/dev/null", "--against", "--beam 1"], "/dev/null can be read once only"),
    ],
)
def test_impossible_requests_are_refused(nmt, options, message):
    result = nmt("bench", *options)
    assert result.code == 2
    assert message in result.err


def test_a_plot_does_not_replace_the_text(nmt, tmp_path):
    (tmp_path / "x.png").write_text("La gare.\n")
    result = nmt("bench", "translate", tmp_path / "x.png", "--sweep", "beam", "--plot", tmp_path / "x.png")
    assert (result.code, "is an input" in result.err) == (2, True)


@pytest.mark.parametrize(("source", "target", "read"), [("en", "fr", "sources in en"), ("de", "en", None)])
def test_the_sample_is_read_in_the_language_of_the_model(nmt, tmp_path, monkeypatch, source, target, read):
    seen = []

    def corpus(spec, *, source_lang, target_lang):
        seen.append(f"sources in {source_lang}")
        return SimpleNamespace(sources=["the station"])

    monkeypatch.setattr("nmt.testset.read_corpus", corpus)
    model = tiny_model(tmp_path / "model", facts={"direction": {"source": source, "target": target}})
    result = nmt("bench", "translate", "-m", model, "--beam", "1", "--engine", "torch")
    assert seen == ([read] if read else [])
    assert result.code == (0 if read else 2)
    assert read or "translates de to en, the sample is in fr and en: name a FILE" in result.err


def test_a_model_that_memory_cannot_hold_is_not_built(nmt):
    huge = ["--set", "model_size=65536", "--set", "ffn_size=65536", "--set", "num_encoder_layers=1000"]
    result = nmt("bench", "train", "--arch", "transformer", "--device", "cpu", *huge)
    assert (result.code, "out of memory: the model takes" in result.err) == (5, True)
