import json

import pytest

from nmt.engines.ct2 import FOLDER, is_installed
from tests.tiny import sharpened, tiny_model

pytestmark = pytest.mark.skipif(not is_installed(), reason="ctranslate2 is not installed")


@pytest.fixture
def path(tmp_path):
    return sharpened(tiny_model(tmp_path / "model"))


def test_an_export_is_taken_by_translate_unless_told_otherwise(nmt, path, tmp_path):
    text = tmp_path / "text.fr"
    text.write_text("La gare.\n", encoding="utf-8")
    result = nmt("export", "-m", path)
    assert (result.code, result.out) == (0, "")
    assert "float32" in result.err
    for options, engine in (
        ([], "ctranslate2"),
        (["--engine", "torch"], "torch"),
        (["--precision", "fp32"], "torch"),
        (["--min-length-ratio", "0.1"], "torch"),
        (["--max-source-tokens", "5000"], "torch"),
    ):
        result = nmt("translate", "-v", "-m", path, *options, text)
        assert (result.code, result.out.count("\n")) == (0, 1)
        assert f"engine {engine}, cpu" in result.err


def test_verification_compares_the_engines(nmt, path, tmp_path):
    (tmp_path / "test.tsv").write_text("La gare.\tThe station.\nUn homme.\tA man.\n", encoding="utf-8")
    command = ["-q", "export", "-m", path, "--verify", "--test", tmp_path / "test.tsv", "--beam", "2"]
    document = json.loads(nmt(*command, "--json").out)
    verification = document["verification"]
    assert document["quantization"] == "float32"
    assert (verification["lines"], verification["same"]) == (2, 2)
    assert verification["bleu_difference"] == pytest.approx(0.0)
    assert "same translations  2 of 2" in nmt(*command, "--force").out


@pytest.mark.parametrize("options", [["--test", "nowhere"], []])
def test_nothing_is_exported_where_there_is_nothing_to_verify_with(nmt, path, options):
    if not options:
        tiny_model(path, facts={"direction": {"source": "de", "target": "en"}})
    result = nmt("export", "-m", path, "--verify", *options)
    assert result.code == (3 if options else 2)
    assert not (path / FOLDER).exists()


def test_what_is_no_export_is_kept(nmt, path):
    (path / FOLDER).mkdir()
    (path / FOLDER / "notes").write_text("mine")
    assert nmt("export", "-m", path).code == 2
    result = nmt("export", "-m", path, "--force")
    assert result.code == 0
    assert f"that is now {path / FOLDER}.old" in result.err
    assert (path / f"{FOLDER}.old" / "notes").read_text() == "mine"
    assert nmt("export", "-m", path, "--force").code == 0
    assert not (path / f"{FOLDER}.old2").exists()


def test_an_export_of_other_weights_is_passed_over(nmt, path, tmp_path):
    nmt("export", "-m", path)
    tiny_model(path, seed=2)
    (tmp_path / "text.fr").write_text("La gare.\n", encoding="utf-8")
    result = nmt("translate", "-m", path, tmp_path / "text.fr")
    assert result.code == 0
    assert "made from other weights" in result.err
    assert nmt("translate", "--engine", "ctranslate2", "-m", path, tmp_path / "text.fr").code == 4


@pytest.mark.parametrize(
    ("command", "message", "code"),
    [
        (["export", "--format", "onnx"], "'onnx' is not one of ctranslate2", 2),
        (["export", "--quantization", "int"], "did you mean 'int8'", 2),
        (["export", "--beam", "3"], "belong to --verify", 2),
        (["translate", "--engine", "tensorflow"], "is not one of auto, torch, ctranslate2", 2),
        (["translate", "--engine", "ctranslate2"], "has no export: make one with nmt export", 2),
    ],
)
def test_what_cannot_be_is_one_line(nmt, path, command, message, code):
    result = nmt(*command, "-m", path)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (path / FOLDER).exists()


def test_a_recurrent_model_is_refused(nmt, tmp_path):
    from nmt.checkpoint import save_model
    from nmt.models.factory import build_model
    from nmt.settings import resolve
    from tests.tiny import tiny_tokenizers

    tokenizers = tiny_tokenizers()
    config = resolve("gru", preset="tiny", environment={}, overrides=["embedding_size=8", "hidden_size=8"])
    size = tokenizers.source.vocab_size
    facts = {"direction": {"source": "fr", "target": "en"}}
    save_model(tmp_path / "gru", build_model(config.model, size, size, joint=True), config, tokenizers, facts)
    result = nmt("export", "-m", tmp_path / "gru")
    assert result.code == 2
    assert "is no Transformer" in result.err
