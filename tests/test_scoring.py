"""Forced decoding against what a search gives the same tokens."""

import pytest
import torch

from nmt.config import DecodingOptions
from nmt.engines.pytorch import TorchEngine
from nmt.scoring import Scorer
from nmt.translator import Translator
from tests.copying import TEXT, copying_model, tokenizers


def copying_scorer() -> Scorer:
    return Scorer(copying_model(), tokenizers(), device=torch.device("cpu"))


def test_forced_scores_are_those_of_the_search() -> None:
    engine = TorchEngine(copying_model())
    translations = Translator(engine, tokenizers(), DecodingOptions(beam_size=1)).translate(TEXT)
    scores = copying_scorer().score([(t.source, t.text) for t in translations])
    for translation, score in zip(translations, scores, strict=True):
        assert score.log_prob == pytest.approx(translation.candidates[0].log_prob, rel=1e-4)
        assert score.tokens == len(translation.candidates[0].tokens)
        assert not score.cut


def test_a_wrong_translation_scores_lower() -> None:
    right, wrong, empty = copying_scorer().score([("la gare", "la gare"), ("la gare", "le chat"), ("la gare", "")])
    assert right.log_prob > wrong.log_prob
    assert empty.tokens == 1


def test_an_endless_pair_is_scored_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.scoring.MAX_SCORED", 5)
    short, long = copying_scorer().score([("gare", "gare"), ("gare", TEXT[1])])
    assert not short.cut
    assert long.cut
    assert long.tokens == 6
