"""Attention behind a pair, against the model's own steps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nmt.attending import END, attend_pair, word_attention, words_of
from nmt.checkpoint import LoadedModel, load_model
from nmt.errors import DataError, UsageError
from nmt.models.factory import build_model
from nmt.models.interface import unroll
from nmt.special import BOS, EOS
from tests.models.configs import CONFIGS
from tests.tiny import tiny_model

SOURCE, TARGET = "Deux enfants jouent au parc.", "Two children play in the park."


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    overrides = ["num_encoder_layers=2", "num_decoder_layers=3"]
    return load_model(tiny_model(tmp_path_factory.mktemp("attending") / "model", overrides=overrides))


def other(loaded: LoadedModel, name: str) -> LoadedModel:
    size = loaded.tokenizers.source.vocab_size
    torch.manual_seed(1)
    model = build_model(CONFIGS[name], size, size, joint=True).eval()
    return LoadedModel(model, loaded.config, loaded.tokenizers, loaded.manifest, Path("other"))


def test_maps_of_every_layer_and_head_are_distributions(transformer: LoadedModel) -> None:
    pair = attend_pair(transformer, SOURCE, TARGET)
    source, target = len(pair.source), len(pair.target)
    assert pair.cross.shape == (3, 2, target, source)
    assert pair.encoder is not None
    assert pair.decoder is not None
    assert pair.encoder.shape == (2, 2, source, source)
    assert pair.decoder.shape == (3, 2, target, target)
    for weights in (pair.cross, pair.encoder, pair.decoder):
        np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    assert (np.triu(pair.decoder, 1) == 0).all()


@pytest.mark.parametrize("name", ["transformer", "attention", "attention-feeding"])
def test_the_alignment_is_what_the_steps_report(transformer: LoadedModel, name: str) -> None:
    loaded = other(transformer, name)
    pair = attend_pair(loaded, SOURCE, TARGET)
    src = torch.tensor([[*loaded.tokenizers.source.encode(SOURCE), EOS]])
    tgt_in = torch.tensor([[BOS, *loaded.tokenizers.target.encode(TARGET)]])
    with torch.no_grad():
        expected = unroll(loaded.model, src, src >= 0, tgt_in)[1]
    assert expected is not None
    np.testing.assert_allclose(pair.alignment(), expected[0].numpy(), rtol=1e-3, atol=1e-5)


def test_a_layer_and_a_head_can_be_chosen(transformer: LoadedModel) -> None:
    pair = attend_pair(transformer, SOURCE, TARGET)
    assert pair.alignment(1, 0) == pytest.approx(pair.cross[1, 0])
    assert pair.alignment(0) == pytest.approx(pair.cross[0].mean(0))
    with pytest.raises(UsageError, match="layers 0 to 2"):
        pair.alignment(3)
    with pytest.raises(UsageError, match="heads 0 to 1"):
        pair.alignment(0, 2)


def test_without_a_translation_the_model_gives_its_own(transformer: LoadedModel) -> None:
    pair = attend_pair(transformer, SOURCE, None, beam_size=2)
    assert pair.target[-1] == END
    assert pair.cross.shape[2] == len(pair.target)


def test_words_are_those_of_the_text(transformer: LoadedModel) -> None:
    pair = attend_pair(transformer, SOURCE, TARGET)
    words = words_of(pair, pair.alignment())
    assert list(words.source) == SOURCE.split()
    assert list(words.target) == TARGET.split()
    assert words.weights.shape == (6, 5)


@pytest.mark.parametrize(
    "text", ["l\u00b4homme est l\u00e0", "a\u200bb c", "la \u00ad gare", "la\u00a0gare ?", "la \ufeff gare"]
)
def test_words_are_counted_as_the_text_has_them_whatever_the_tokenizer_makes_of_them(
    transformer: LoadedModel, text: str
) -> None:
    pair = attend_pair(transformer, text, text)
    words = words_of(pair, pair.alignment())
    assert words.weights.shape == (len(text.split()), len(text.split()))
    assert list(words.source) == list(words.target) == text.split()


def test_what_would_fill_the_memory_is_refused(transformer: LoadedModel) -> None:
    with pytest.raises(DataError, match="too many to show"):
        attend_pair(transformer, "la gare " * 1000, TARGET)
    assert word_attention(transformer, "la gare " * 200, TARGET) is None


@pytest.mark.parametrize("blank", ["", " ", "\u200b"])
def test_between_a_text_and_nothing_there_are_no_weights(transformer: LoadedModel, blank: str) -> None:
    assert word_attention(transformer, SOURCE, blank) is None
    assert word_attention(transformer, blank, TARGET) is None


def test_a_model_without_attention_has_nothing_to_show(transformer: LoadedModel) -> None:
    with pytest.raises(UsageError, match="has no attention to show"):
        attend_pair(other(transformer, "gru"), SOURCE, TARGET)


def test_a_blank_sentence_is_refused(transformer: LoadedModel) -> None:
    with pytest.raises(DataError, match="the sentence is blank"):
        attend_pair(transformer, "  ", None)
    with pytest.raises(DataError, match="the translation is blank"):
        attend_pair(transformer, SOURCE, "\u200b")
