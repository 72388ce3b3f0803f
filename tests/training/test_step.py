"""One update: what is done to the gradient before the optimiser sees it."""

import pytest
import torch
from torch.nn import functional as F

from nmt.batching import make_batch
from nmt.dataset import DataDirectory
from nmt.models.factory import build_model
from nmt.nn.device import autocast
from nmt.settings import resolve
from nmt.training.ranks import Ranks
from nmt.training.step import UpdateStep, Window, make_optimizer
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


def test_two_updates_are_those_of_adamw() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with decay for the matrix alone."""
    options = resolve("gru", environment={}, overrides=["weight_decay=0.3", "beta1=0.8", "beta2=0.9"]).training
    model = torch.nn.Linear(3, 2).double()
    optimizer, rate = make_optimizer(model, options), 0.1
    for group in optimizer.param_groups:
        group["lr"] = rate
    gradients = {name: torch.randn(2, *p.shape, dtype=p.dtype) for name, p in model.named_parameters()}
    expected = {}
    for name, parameter in model.named_parameters():
        theta, decay = parameter.detach().clone(), 0.3 if name == "weight" else 0.0
        mean = square = torch.zeros_like(theta)
        for t, gradient in enumerate(gradients[name], 1):
            mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
            theta = theta - rate * ((mean / (1 - 0.8**t)) / ((square / (1 - 0.9**t)).sqrt() + 1e-9) + decay * theta)
        expected[name] = theta
    for number in range(2):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name][number]
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_of_an_update_are_smoothed_and_plain_in_the_precision_asked_for(
    precision: str, data: DataDirectory
) -> None:
    torch.manual_seed(1)
    model = build_model(CONFIGS["transformer"], *(data.tokenizers.target.vocab_size,) * 2)
    options = resolve("transformer", environment={}, overrides=["label_smoothing=0.2"]).training
    batch = make_batch(data.split("train"), range(8))
    model.eval()
    with torch.no_grad(), autocast(batch.src.device, precision):
        logits = model(batch.src, batch.src_mask, batch.tgt_in).float()[batch.tgt_mask]
    gold = batch.tgt_out[batch.tgt_mask]
    exact = [F.cross_entropy(logits, gold, label_smoothing=e, reduction="sum").item() for e in (0.2, 0.0)]
    seen: list[torch.dtype] = []
    model.encoder[0].register_forward_hook(lambda _, args, output: seen.append(output.dtype))
    done = UpdateStep(model, options, precision)([batch], 1e-3)
    assert seen == [torch.float32 if precision == "fp32" else torch.bfloat16]
    assert [done.smoothed.item(), done.nll.item()] == pytest.approx(exact, rel=1e-5 if precision == "fp32" else 2e-4)


def test_speed_after_a_resume_counts_no_earlier_tokens() -> None:
    window = Window.restore({"tokens": 10**9, "smoothed": 1.0, "nll": 1.0}, Ranks())
    assert window.record()["target_tokens"] == 10**9
    assert window.record()["tokens_per_second"] == 0.0
