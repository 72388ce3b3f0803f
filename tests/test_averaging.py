import pytest
import torch

from nmt.averaging import average_models
from nmt.checkpoint import load_model, named_weights
from nmt.errors import ModelError, UsageError
from nmt.manifest import WEIGHTS
from tests.tiny import SENTENCES, tiny_model


def weights(path):
    return named_weights(load_model(path).model)


def test_every_weight_is_the_mean(tmp_path):
    models = [tiny_model(tmp_path / str(seed), seed=seed) for seed in (1, 2, 3)]

    average_models(models, tmp_path / "mean")

    parts = [weights(model) for model in models]
    for name, value in weights(tmp_path / "mean").items():
        assert torch.allclose(value, sum(part[name] for part in parts) / 3, atol=1e-7), name


def test_mean_of_equal_models_is_that_model_bit_for_bit(tmp_path):
    model = tiny_model(tmp_path / "one")

    average_models([model] * 3, tmp_path / "mean")

    assert (tmp_path / "mean" / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()


def test_manifest_names_the_parts_and_carries_no_score(tmp_path):
    models = [tiny_model(tmp_path / name, seed=i) for i, name in enumerate(("a", "b"))]

    average_models(models, tmp_path / "mean")

    manifest = load_model(tmp_path / "mean").manifest
    assert [part["name"] for part in manifest["averaged"]] == ["a", "b"]
    assert manifest["data"]["corpora"][0]["licence"] == "CC0-1.0"
    assert "scores" not in manifest
    assert str(tmp_path) not in str(manifest)
    card = (tmp_path / "mean" / "README.md").read_text()
    assert "The weights are the mean of a, b; how it was trained is said of a." in card


def test_half_precision_takes_half_the_space(tmp_path):
    model = tiny_model(tmp_path / "one")

    average_models([model], tmp_path / "half", dtype=torch.float16)

    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (model / WEIGHTS).stat().st_size
    for name, value in weights(tmp_path / "half").items():
        assert torch.equal(value, weights(model)[name].half().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overrides": ["ffn_size=48"]}, "ffn_size is 32 in one, 48 in the other"),
        ({"facts": {"direction": {"source": "de", "target": "en"}}}, "one translates fr-en, the other de-en"),
        ({"sentences": [s.upper() for s in SENTENCES]}, "source tokenizers differ"),
    ],
)
def test_models_that_differ_are_refused(tmp_path, change, message):
    models = [tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", **change)]

    with pytest.raises(ModelError, match=message):
        average_models(models, tmp_path / "mean")

    assert not (tmp_path / "mean").exists()


def test_damaged_model_is_named_and_nothing_written(tmp_path):
    models = [tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b")]
    data = bytearray((models[1] / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (models[1] / WEIGHTS).write_bytes(data)

    with pytest.raises(ModelError, match=r"b/model\.safetensors is damaged"):
        average_models(models, tmp_path / "mean")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_full_directory_is_refused_before_any_work(tmp_path):
    (tmp_path / "mean").mkdir()
    (tmp_path / "mean" / "mine.txt").write_text("keep")

    with pytest.raises(UsageError, match="not empty"):
        average_models([tmp_path / "nowhere"], tmp_path / "mean")
