import pytest
import torch

from nmt.checkpoint import load_model, named_weights
from nmt.training.state import RunDirectory
from tests.tiny import tiny_model


def test_mean_is_written_and_loads(nmt, tmp_path):
    models = [tiny_model(tmp_path / str(seed), seed=seed) for seed in (1, 2)]

    result = nmt("average", *models, "--out", tmp_path / "mean")

    assert (result.code, result.out) == (0, "")
    assert result.err == f"{tmp_path / 'mean'}: the mean of 2 models\n"
    assert load_model(tmp_path / "mean").manifest["parameters"] == load_model(models[0]).manifest["parameters"]


def test_full_directory_needs_force(nmt, tmp_path):
    model = tiny_model(tmp_path / "m")
    out = tiny_model(tmp_path / "out", seed=2)

    refused = nmt("average", model, "--out", out)
    forced = nmt("average", model, "--out", out, "--force")

    assert (refused.code, forced.code) == (2, 0)
    assert "--force" in refused.err


def test_a_model_is_not_replaced_by_its_own_mean(nmt, tmp_path):
    model = tiny_model(tmp_path / "m")

    for out in (model, tmp_path):
        result = nmt("average", model, "--out", out, "--force")

        assert (result.code, result.out) == (2, "")
        assert "holds the model" in result.err
    assert load_model(model)


def test_models_that_differ_are_one_line(nmt, tmp_path):
    models = [tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", overrides=["ffn_size=48"])]

    result = nmt("average", *models, "--out", tmp_path / "mean")

    assert result.code == 4
    assert "ffn_size is 32 in one, 48 in the other" in result.err
    assert not (tmp_path / "mean").exists()


@pytest.fixture
def trained(nmt, data_directory, tmp_path):
    """A model whose training validated, and kept a checkpoint, at updates 2, 4 and 6."""
    sizes = ["embedding_size=8", "hidden_size=8", "threads=1", "eval_every=2", "save_every=2"]
    settings = [word for setting in sizes for word in ("--set", setting)]
    out = tmp_path / "trained"
    assert nmt("train", data_directory, "--arch", "gru", *settings, "--max-updates", 6, "--out", out).code == 0
    return out


def test_checkpoints_of_a_training_are_averaged(nmt, trained, tmp_path):
    result = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")

    assert (result.code, result.out) == (0, "")
    assert result.err == f"{tmp_path / 'mean'}: the mean of the checkpoints at 2, 4, 6 updates\n"
    mean = load_model(tmp_path / "mean")
    assert mean.manifest["averaged"] == ["update 2", "update 4", "update 6"]
    run = RunDirectory(trained)
    kept, troubles = run.read_candidates(run.newest())
    assert (sorted(kept), troubles) == ([2, 4, 6], [])
    for name, value in named_weights(mean.model).items():
        assert torch.allclose(value, sum(weights[name] for weights in kept.values()) / 3, atol=1e-7), name


def test_a_damaged_checkpoint_is_left_out_with_a_warning(nmt, trained, tmp_path):
    candidates = sorted((trained / "training" / "candidates").iterdir())
    candidates[0].write_bytes(candidates[0].read_bytes()[:-1] + b"?")

    two = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")
    candidates[1].unlink()
    one = nmt("average", trained, "--checkpoints", "--out", tmp_path / "none")

    assert two.code == 0
    assert "averaging without it" in two.err
    assert "at 4, 6 updates" in two.err
    assert one.code == 4
    assert "kept 1 whole checkpoint: nothing to average" in one.err
    assert not (tmp_path / "none").exists()


def test_checkpoints_are_those_of_one_training(nmt, trained, model, tmp_path):
    several = nmt("average", trained, trained, "--checkpoints", "--out", tmp_path / "mean")
    none = nmt("average", model, "--checkpoints", "--out", tmp_path / "mean")

    assert several.code == 2
    assert "name one" in several.err
    assert none.code == 4
    assert "no checkpoint of a training" in none.err
