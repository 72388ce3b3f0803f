import shutil

import pytest
import torch
from safetensors.torch import load_file

from nmt.checkpoint import load_model, named_weights
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


def candidates(trained):
    return sorted((trained / "training" / "candidates").iterdir())


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_checkpoints_of_a_training_are_averaged(nmt, trained, tmp_path):
    whole = {path.stem: load_file(path) for path in candidates(trained)}
    damage(candidates(trained)[0])
    newest = trained / "training" / "checkpoints" / "update-00000006"
    damage(newest / "optimizer.safetensors")  # of no use here

    result = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")

    assert (result.code, result.out) == (0, "")
    warning, note = result.err.splitlines()
    assert "update-00000002" in warning
    assert "averaging without it" in warning
    assert note == f"{tmp_path / 'mean'}: the mean of the checkpoints at 4, 6 updates"
    mean = load_model(tmp_path / "mean")
    assert mean.manifest["averaged"] == ["update 4", "update 6"]
    assert mean.manifest["training"]["updates"] == 6
    assert "Weights       the mean of update 4, update 6 of that training\n" in nmt("info", tmp_path / "mean").out
    assert "scores" not in mean.manifest
    parts = [whole["update-00000004"], whole["update-00000006"]]
    for name, value in named_weights(mean.model).items():
        assert torch.allclose(value, (parts[0][name] + parts[1][name]) / 2, atol=1e-7), name


def test_too_few_checkpoints_are_one_line(nmt, trained, tmp_path):
    for path in candidates(trained)[1:]:
        path.unlink()
    one = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")
    for path in (trained / "training" / "checkpoints").glob("*/progress.json"):
        damage(path)
    damaged = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")
    shutil.rmtree(trained / "training" / "checkpoints")
    none = nmt("average", trained, "--checkpoints", "--out", tmp_path / "mean")
    nowhere = nmt("average", tmp_path / "x", "--checkpoints", "--out", tmp_path / "mean")

    for result, what in (
        (one, "kept 1 whole checkpoint: nothing to average"),
        (damaged, "is whole"),
        (none, "holds no checkpoint"),
        (nowhere, "no model at"),
    ):
        assert result.code == 4, what
        assert result.err.count("\n") == 1
        assert what in result.err
    assert not (tmp_path / "mean").exists()


def test_checkpoints_are_those_of_one_training_and_stay(nmt, trained, tmp_path):
    several = nmt("average", trained, trained, "--checkpoints", "--out", tmp_path / "mean")
    inside = nmt("average", trained, "--checkpoints", "--out", trained / "training" / "candidates", "--force")

    assert (several.code, inside.code) == (2, 2)
    assert "name one" in several.err
    assert "is in the training" in inside.err
    assert len(candidates(trained)) == 3
