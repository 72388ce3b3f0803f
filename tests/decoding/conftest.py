"""Every model that the properties of search are tested with: the hand-written one and every architecture."""

import pytest
import torch

from nmt.models.factory import build_model
from nmt.models.interface import Seq2Seq
from tests.decoding.table import random_table
from tests.models.configs import CONFIGS, SEARCHED

VOCAB = 23


@pytest.fixture(params=["table", *SEARCHED])
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    if request.param == "table":
        return random_table(vocab=VOCAB)
    torch.manual_seed(1)
    model = build_model(CONFIGS[request.param], VOCAB, VOCAB).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform, so that hypotheses differ and end
            parameter.mul_(1.6)
    return model
