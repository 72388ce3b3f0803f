"""One update: what is done to the gradient before the optimiser sees it."""

import pytest
import torch

from nmt.models.factory import build_model
from nmt.settings import resolve
from nmt.training.ranks import Ranks
from nmt.training.step import UpdateStep, Window
from tests.models.configs import CONFIGS


@pytest.mark.parametrize(("clip_norm", "norm", "left"), [(1.0, 4.0, 1.0), (1.0, 0.5, 0.5), (0.0, 4.0, 4.0)])
def test_a_gradient_above_the_limit_is_scaled_down_to_it(clip_norm: float, norm: float, left: float) -> None:
    torch.manual_seed(1)
    model = build_model(CONFIGS["transformer"], 23, 23)
    options = resolve("transformer", environment={}, overrides=[f"clip_norm={clip_norm}"]).training
    step = UpdateStep(model, options, "fp32")
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    whole = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad *= norm / whole
    before, applied = step.apply(1e-3)
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert applied
    assert float(before) == pytest.approx(norm, rel=1e-4)
    assert float(after) == pytest.approx(left, rel=1e-4)


def test_speed_after_a_resume_counts_no_earlier_tokens() -> None:
    window = Window.restore({"tokens": 10**9, "smoothed": 1.0, "nll": 1.0}, Ranks())
    assert window.record()["target_tokens"] == 10**9
    assert window.record()["tokens_per_second"] == 0.0
