from nmt.checkpoint import load_model
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
