"""Dropout from random bytes keeps the expectation, and does nothing when it must not."""

import pytest
import torch

from nmt.nn.dropout import Dropout, byte_mask, shared_masks


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_drops_the_stated_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(1)
    mask = byte_mask(torch.ones(1000, 999), p)
    assert (mask == 0).float().mean().item() == pytest.approx(p, abs=0.004)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.005)
    assert mask.unique().numel() == 2


def test_every_byte_of_a_word_is_random() -> None:
    torch.manual_seed(1)
    kept = (byte_mask(torch.ones(80_000), 0.5) > 0).view(-1, 8).float().mean(0)
    assert kept.sub(0.5).abs().max() < 0.02


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = (byte_mask(torch.ones(400_000), 0.5) > 0).float()
    assert (kept[1:] * kept[:-1]).mean().item() == pytest.approx(0.25, abs=0.005)


def test_is_the_identity_without_training_or_probability() -> None:
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_follows_the_seed() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(7)
        masks.append(byte_mask(torch.ones(33, 7), 0.2))
    assert masks[0].equal(masks[1])


def test_gradient_goes_through_what_was_kept() -> None:
    torch.manual_seed(1)
    x = torch.ones(100, requires_grad=True)
    y = Dropout(0.5).train()(x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.equal(y.detach())


def test_shared_masks_drop_as_often_and_keep_the_expectation() -> None:
    torch.manual_seed(1)
    layer = Dropout(0.25)
    with shared_masks():
        masks = [layer(torch.ones(size)) for size in ([300, 400], [7], [100, 1000], [300, 400])]
    for mask in masks[::2]:
        assert (mask == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
        assert mask.mean().item() == pytest.approx(1.0, abs=0.01)
    assert masks[1].shape == (7,)
    assert not torch.equal(masks[0], masks[3])


def test_shared_masks_are_new_for_every_batch_and_a_function_of_the_seed() -> None:
    layer, x = Dropout(0.5), torch.ones(64)

    def mask() -> torch.Tensor:
        with shared_masks():
            return layer(x)

    torch.manual_seed(1)
    first, second = mask(), mask()
    torch.manual_seed(1)
    assert torch.equal(mask(), first)
    assert not torch.equal(first, second)


def test_elements_under_shared_masks_are_dropped_independently_of_each_other_over_batches() -> None:
    torch.manual_seed(1)
    layer = Dropout(0.5)
    rows = []
    for _ in range(2000):
        with shared_masks():
            rows.append(torch.cat([layer(torch.ones(6)), layer(torch.ones(6))]))
    correlation = torch.corrcoef(torch.stack(rows).T)
    assert (correlation - torch.eye(12)).abs().max() < 0.25  # chance alone, and an overlap now and then
