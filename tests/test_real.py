"""On real parallel text, where there is some: set NMT_REAL_DATA to the folder that holds it."""

import os
from pathlib import Path

import pytest

from nmt.checkpoint import load_model
from nmt.config import DecodingOptions
from nmt.dataset import DataDirectory
from nmt.engines.pytorch import TorchEngine
from nmt.metrics import bleu
from nmt.preparation import PreparationOptions, prepare
from nmt.resources import shipped_model
from nmt.translator import Translator

pytestmark = pytest.mark.real


@pytest.fixture
def folder() -> Path:
    path = os.environ.get("NMT_REAL_DATA")
    if not path:
        pytest.skip("NMT_REAL_DATA is not set")
    return Path(path)


def test_multi30k_is_prepared_whole(folder: Path, tmp_path: Path) -> None:
    """The published split: 1,014 validation and 1,000 test pairs, nearly all training pairs kept."""
    corpus = folder / "multi30k"
    specs = [[str(corpus / name)] for name in ("train", "val", "test_2016_flickr")]
    prepare(*specs, tmp_path / "data", PreparationOptions(vocab_size=4000, tokenizer_sentences=5000))
    data = DataDirectory.open(tmp_path / "data")
    kept = {name: split["kept"] for name, split in data.manifest["splits"].items()}
    assert (kept["valid"], kept["test"]) == (1014, 1000)
    assert 28_900 <= kept["train"] <= 28_993
    sources, references = data.text("test")
    split = data.split("test")
    for index in (0, 500, 999):
        assert data.tokenizers.source.decode(split.sources([index]).tolist()) == sources[index]
        assert data.tokenizers.target.decode(split.targets([index]).tolist()) == references[index]


@pytest.mark.skipif(shipped_model() is None, reason="no model ships")
def test_the_shipped_model_translates_everyday_sentences(folder: Path) -> None:
    path = shipped_model()
    assert path is not None
    lines = (folder / "tatoeba" / "test.tsv").read_text(encoding="utf-8").split("\n")[:200]
    sources, references = zip(*(line.split("\t") for line in lines), strict=True)
    loaded = load_model(path)
    translator = Translator(TorchEngine(loaded.model), loaded.tokenizers, DecodingOptions(beam_size=1))
    hyps = [translation.text for translation in translator.translate(sources)]
    assert bleu.corpus_score(hyps, references).value > 35
