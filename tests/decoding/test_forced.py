import pytest
import torch

import nmt.decoding.forced
from nmt.config import DecodingOptions
from nmt.decoding.forced import forced_scores
from nmt.decoding.search import search
from nmt.models.interface import Seq2Seq
from nmt.special import BOS, PAD
from tests.decoding.table import pad


def test_a_search_result_scored_by_force_has_its_score(model: Seq2Seq, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one batch of many lengths, in small pieces of positions."""
    monkeypatch.setattr(nmt.decoding.forced, "PIECE", 3)
    src, src_mask = pad([4, 5, 6, 7, 8], [9], [10, 11, 12])
    options = DecodingOptions(beam_size=3, max_length_ratio=1.0, max_length_extra=3)
    hypotheses = [ranked[0] for ranked in search(model, src, src_mask, options)]
    tgt_out = torch.full((3, max(len(h.tokens) for h in hypotheses)), PAD)
    for row, hypothesis in zip(tgt_out, hypotheses, strict=True):
        row[: len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens)
    tgt_in = torch.cat([torch.full((3, 1), BOS), tgt_out[:, :-1]], 1)
    scores = forced_scores(model, src, src_mask, tgt_in, tgt_out, tgt_out != PAD)
    assert scores.tolist() == pytest.approx([h.score for h in hypotheses], rel=1e-4, abs=1e-4)
