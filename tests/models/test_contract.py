"""What every architecture must keep, whatever it is (the table of properties of the step interface)."""

import dataclasses
import typing
from typing import Any

import pytest
import torch
from torch import Tensor

from nmt.config import AttentionGRUConfig, ScopeName, ScoreName
from nmt.models.factory import build_model
from nmt.models.interface import Seq2Seq, unroll
from nmt.nn.attention import MultiHeadAttention
from nmt.nn.dropout import Dropout
from nmt.special import BOS, EOS, PAD
from tests.models.configs import CONFIGS, SMALL

VOCAB = 23
NARROW = {"local", "boxcar", "epanechnikov"}
"""Parts of the names of those that do not look everywhere."""
ATTENDING = [name for name in CONFIGS if not name.startswith(("gru", "lstm"))]


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    torch.manual_seed(1)
    return build_model(CONFIGS[request.param], VOCAB, VOCAB).eval()


@pytest.fixture
def src() -> Tensor:
    """Three sentences of 7, 4 and 2 tokens, EOS included."""
    rows = [[4, 5, 6, 7, 8, 9, EOS], [10, 11, 12, EOS], [13, EOS]]
    padded = torch.full((3, 7), PAD)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return padded


@pytest.fixture
def tgt_in() -> Tensor:
    return torch.tensor([[BOS, 14, 15, 16, 17], [BOS, 18, 19, 4, 5], [BOS, 6, 7, 8, 9]])


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_step_unrolled_equals_forward(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    with torch.no_grad():
        unrolled, _ = unroll(model, src, src != PAD, tgt_in)
        close(model(src, src != PAD, tgt_in), unrolled)


def test_step_unrolled_equals_forward_in_bf16(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        unrolled, forward = unroll(model, src, src != PAD, tgt_in)[0], model(src, src != PAD, tgt_in)
    scale = forward.float().std()
    assert ((unrolled.float() - forward.float()).abs().mean() / scale) < 0.05


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("transformer")])
def test_what_transformer_layers_add_to_is_in_bf16(name: str, src: Tensor, tgt_in: Tensor) -> None:
    model, seen = build_model(CONFIGS[name], VOCAB, VOCAB), []
    for layer in (*model.encoder, *model.decoder):
        layer.register_forward_hook(lambda _, args, output: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        model(src, src != PAD, tgt_in)
    assert set(seen) == {torch.bfloat16}


@pytest.fixture
def dropped(model: Seq2Seq) -> list[int]:
    """How many activations went through dropout, a call each."""
    seen: list[int] = []
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
    return seen


def test_forward_drops_out_what_steps_do(model: Seq2Seq, dropped: list[int], src: Tensor, tgt_in: Tensor) -> None:
    with torch.no_grad():
        model(src, src != PAD, tgt_in)
        at_once = sum(dropped)
        dropped.clear()
        unroll(model, src, src != PAD, tgt_in)
    assert sum(dropped) == at_once > 0


@pytest.mark.parametrize("model", ["transformer"], indirect=True)
def test_embeddings_and_what_every_sublayer_gives_are_dropped_out(
    model: Seq2Seq, dropped: list[int], src: Tensor, tgt_in: Tensor
) -> None:
    """Vaswani et al. 2017, section 5.4."""
    with torch.no_grad():
        model(src, src != PAD, tgt_in)
    size = CONFIGS["transformer"].model_size
    assert dropped == [src.numel() * size] * (1 + 2 * 2) + [tgt_in.numel() * size] * (1 + 2 * 3)


def test_reorder_commutes_with_step(model: Seq2Seq, src: Tensor) -> None:
    """With beams of 2, dropped and swapped sentences, and repeated rows."""
    with torch.no_grad():
        wide = model.encode(src, src != PAD).reorder(torch.arange(3).repeat_interleave(2))
        wide = model.step(torch.tensor([4, 5, 6, 7, 8, 9]), wide).state
        rows, sentences = torch.tensor([5, 4, 0, 0]), torch.tensor([2, 0])
        tokens = torch.tensor([9, 8, 7, 6, 5, 4])
        before = model.step(tokens, wide)
        after = model.step(tokens[rows], wide.reorder(rows, sentences))
        close(after.logits, before.logits[rows])
        if before.attention is not None:
            assert after.attention is not None
            close(after.attention, before.attention[rows])
        again = model.step(torch.tensor([11, 12, 13, 14]), after.state)
        once_more = model.step(torch.tensor([11, 12, 13, 14]), model.step(tokens, wide).state.reorder(rows, sentences))
        close(again.logits, once_more.logits)


def test_reorder_moves_every_field(model: Seq2Seq, src: Tensor) -> None:
    """Each tensor of the state follows the rows or the sentences: none is left out (of a `Past`, see test_past)."""
    with torch.no_grad():
        state = model.step(torch.tensor([4, 5, 6]), model.encode(src, src != PAD)).state
    moved = state.reorder(torch.tensor([2, 0]), torch.tensor([2, 0]))
    for field in dataclasses.fields(state):
        for old, new in zip(tensors(getattr(state, field.name)), tensors(getattr(moved, field.name)), strict=True):
            close(new.float(), old[[2, 0]].float())


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, tuple) else []


def test_rows_of_one_sentence_share_its_memory(model: Seq2Seq, src: Tensor) -> None:
    """Widening to a beam equals running each row alone, and copies nothing that belongs to the sentence."""
    with torch.no_grad():
        state = model.encode(src, src != PAD)
        wide = state.reorder(torch.arange(3).repeat_interleave(2))
        shared = [f.name for f in dataclasses.fields(state) if f.metadata.get("per_sentence")]
        assert shared
        for name in shared:
            assert getattr(wide, name) is getattr(state, name)
        together = model.step(torch.tensor([4, 5, 6, 7, 8, 9]), wide)
        first = model.step(torch.tensor([4, 6, 8]), state)
        second = model.step(torch.tensor([5, 7, 9]), state)
        close(together.logits[0::2], first.logits)
        close(together.logits[1::2], second.logits)


def test_padding_and_neighbours_change_nothing(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    with torch.no_grad():
        together, attention = unroll(model, src, src != PAD, tgt_in)
        for row, length in enumerate([7, 4, 2]):
            alone_src = src[row : row + 1, :length]
            alone, alone_attention = unroll(model, alone_src, alone_src != PAD, tgt_in[row : row + 1])
            close(together[row], alone[0])
            if attention is not None:
                assert alone_attention is not None
                close(attention[row, :, :length], alone_attention[0])


def test_real_features_are_those_of_real_tokens(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    """A model may compute them without padding: the same values, and the same gradients."""
    tgt_mask = torch.arange(tgt_in.shape[1]) < torch.tensor([[3], [5], [1]])
    weights = torch.randn(9, VOCAB, generator=torch.Generator().manual_seed(3))
    everywhere, gradients = model(src, src != PAD, tgt_in)[tgt_mask], []
    alone = model.output(model.real_features(src, src != PAD, tgt_in, tgt_mask))
    close(alone, everywhere)
    for logits in (alone, everywhere):
        model.zero_grad()
        (logits * weights).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fused_from", [0, 10**9])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("transformer")])
def test_packed_rows_train_as_padded_ones_in_bf16(
    name: str, fused_from: int, src: Tensor, tgt_in: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the heads as one operation and with the fused kernel."""
    monkeypatch.setattr(MultiHeadAttention, "PACKED_FUSED_FROM", fused_from)
    torch.manual_seed(1)
    model = build_model(CONFIGS[name], VOCAB, VOCAB).train()
    tgt_mask = torch.arange(tgt_in.shape[1]) < torch.tensor([[3], [5], [1]])
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    gradients = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = model.real_features(src, src != PAD, tgt_in, tgt_mask)
        everywhere = model.features(src, src != PAD, tgt_in)[tgt_mask]
    for features in (alone, everywhere):
        model.zero_grad()
        features.float().sin().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (alone - everywhere).float().norm() < 0.02 * everywhere.float().norm()
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[1].norm()


def test_padding_in_the_target_changes_nothing_before_it(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    longer = torch.cat([tgt_in, torch.full((3, 2), PAD)], 1)
    with torch.no_grad():
        close(model(src, src != PAD, longer)[:, :5], model(src, src != PAD, tgt_in))


def test_no_position_sees_a_later_target_token(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    changed = tgt_in.clone()
    changed[:, 3:] = 20
    with torch.no_grad():
        before, after = (model(src, src != PAD, tokens) for tokens in (tgt_in, changed))
    close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3], before[:, 3], atol=1e-4)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_is_a_distribution_over_real_tokens(name: str, src: Tensor, tgt_in: Tensor) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        _, attention = unroll(build_model(CONFIGS[name], VOCAB, VOCAB).eval(), src, src != PAD, tgt_in)
    assert attention is not None
    close(attention.sum(-1), torch.ones(3, 5))
    padding = (src == PAD)[:, None].expand_as(attention)
    assert (attention[padding] == 0).all()
    if not NARROW.intersection(name.split("-")):
        assert (attention[~padding] > 0).all()


def test_plain_recurrent_models_have_no_attention(src: Tensor, tgt_in: Tensor) -> None:
    assert unroll(build_model(CONFIGS["gru"], VOCAB, VOCAB).eval(), src, src != PAD, tgt_in)[1] is None


@pytest.mark.parametrize("placement", [{}, {"placement": "after"}, {"placement": "after", "input_feeding": True}])
@pytest.mark.parametrize("scope", typing.get_args(ScopeName))
@pytest.mark.parametrize("score", typing.get_args(ScoreName))
def test_every_score_in_every_scope_and_place_keeps_the_contract(
    score: ScoreName, scope: ScopeName, placement: dict[str, Any], src: Tensor, tgt_in: Tensor
) -> None:
    """Training equals unrolled steps, in values and gradients; weights are distributions; padding changes nothing."""
    config = AttentionGRUConfig(
        **SMALL, score=score, scope=scope, window=2, attention_size=10, attention_positions=8, **placement
    )
    torch.manual_seed(1)
    model = build_model(config, VOCAB, VOCAB)
    weights = torch.randn(3, 5, VOCAB, generator=torch.Generator().manual_seed(3))
    unrolled, attention = unroll(model, src, src != PAD, tgt_in)
    forward = model(src, src != PAD, tgt_in)
    close(forward, unrolled)
    parameters = list(model.parameters())
    gradients = [
        torch.autograd.grad((logits * weights).sum(), parameters, allow_unused=True, materialize_grads=True)
        for logits in (forward, unrolled)
    ]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    assert attention is not None
    close(attention.sum(-1), torch.ones(3, 5))
    assert (attention[(src == PAD)[:, None].expand_as(attention)] == 0).all()
    for row, length in enumerate([7, 4, 2]):
        alone = src[row : row + 1, :length]
        close(model(alone, alone != PAD, tgt_in[row : row + 1])[0], forward[row])


def test_two_searches_can_interleave(model: Seq2Seq, src: Tensor) -> None:
    """Nothing that belongs to one search stays on the module."""
    with torch.no_grad():
        one = model.encode(src[:1], src[:1] != PAD)
        first = model.step(torch.tensor([4]), one)
        other = model.encode(src[1:], src[1:] != PAD)
        model.step(torch.tensor([5, 6]), other)
        close(model.step(torch.tensor([4]), one).logits, first.logits)


def test_every_parameter_gets_a_gradient(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    model.train()
    weights = torch.randn(3, 5, VOCAB, generator=torch.Generator().manual_seed(3))
    (model(src, src != PAD, tgt_in) * weights).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name != "score.w_query.weight":  # of the score linear the softmax takes no notice
            assert parameter.grad.abs().sum() > 0, name


def test_gradients_of_forward_equal_those_of_unrolled_steps(model: Seq2Seq, src: Tensor, tgt_in: Tensor) -> None:
    """The fused recurrences have hand-written backward passes: autograd through `step` is their gold."""
    weights = torch.randn(3, 5, VOCAB, generator=torch.Generator().manual_seed(3))
    gradients = []
    for logits in (model(src, src != PAD, tgt_in), unroll(model, src, src != PAD, tgt_in)[0]):
        model.zero_grad()
        (logits * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4)
