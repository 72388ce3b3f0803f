import json

import pytest

from nmt.manifest import WEIGHTS
from tests.tiny import tiny_model


def test_model_is_described(nmt, model):
    result = nmt("info", model)

    assert (result.code, result.err) == (0, "")
    for text in (
        "fr → en",
        "transformer",
        "model_size 16",
        "sample: CC0-1.0",
        "12.50 on valid",
        "as the manifest says",
    ):
        assert text in result.out


def test_model_as_json(nmt, model):
    document = json.loads(nmt("info", model, "--json").out)

    assert (document["schema"], document["kind"], document["architecture"]) == (1, "model", "transformer")
    assert document["damaged"] == []
    assert document["bytes"][WEIGHTS] > 1000


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_damage_is_shown_and_is_an_error(nmt, tmp_path, options):
    path = tiny_model(tmp_path / "m")
    (path / WEIGHTS).write_bytes(b"short")

    result = nmt("info", path, *options)

    assert result.code == 4
    assert "model.safetensors is damaged" in result.out
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1


def test_an_edited_card_is_shown_and_is_no_error(nmt, tmp_path):
    path = tiny_model(tmp_path / "m")
    (path / "README.md").write_text("mine")

    result = nmt("info", path)

    assert (result.code, result.err) == (0, "")
    assert "README.md is damaged" in result.out


def test_data_directory_is_described(nmt, data_directory):
    result = nmt("info", data_directory)
    document = json.loads(nmt("info", data_directory, "--json").out)

    assert result.code == 0
    assert "fr → en" in result.out
    assert "pairs of" in result.out
    assert (document["schema"], document["kind"]) == (1, "data")
    assert document["splits"]["test"]["kept"] == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", "is not there"),
        (lambda p: (p / "file").write_text("x") and p / "file", "is a file, not a directory"),
        (lambda p: p, "it has no manifest.json"),
        (lambda p: (p / "manifest.json").write_text("{") and p, "manifest.json is damaged"),
        (lambda p: (p / "manifest.json").write_text("[1]") and p, "describes something else"),
        (lambda p: (p / "a\nb\x1b").mkdir() or p / "a\nb\x1b", "a\\nb\\x1b is no model"),
    ],
)
def test_other_places_are_refused(nmt, tmp_path, make, message):
    result = nmt("info", make(tmp_path))

    assert (result.code, result.out) == (4, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_the_model_inside_is_suggested(nmt, tmp_path):
    tiny_model(tmp_path / "demo")

    assert f"did you mean {tmp_path / 'demo'}?" in nmt("info", tmp_path).err


def test_no_model_ships(nmt, monkeypatch):
    monkeypatch.setattr("nmt.resources.shipped_model", lambda: None)

    result = nmt("info")

    assert result.code == 4
    assert "no model ships with this installation" in result.err
