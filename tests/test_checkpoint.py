"""Model directories: what is saved comes back; what is damaged is refused, whatever the damage."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt import checkpoint as checkpoint_module
from nmt.checkpoint import load_model, named_weights, save_model
from nmt.errors import ModelError, NMTError
from tests.tiny import tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


def test_weights_settings_and_facts_come_back(model: Path) -> None:
    loaded = load_model(model)
    save_model(model.parent / "again", loaded.model, loaded.config, loaded.tokenizers, loaded.manifest)
    again = load_model(model.parent / "again")
    assert again.config == loaded.config
    assert (again.source_lang, again.target_lang) == ("fr", "en")
    for name, weight in named_weights(loaded.model).items():
        assert named_weights(again.model)[name].equal(weight)


def test_tied_weights_are_stored_once_and_stay_tied(model: Path) -> None:
    loaded = load_model(model).model
    assert loaded.output.linear.weight is loaded.tgt_embedding.weight is loaded.src_embedding.weight
    header = json.loads((model / "model.safetensors").read_bytes()[8:].split(b"}}", 1)[0] + b"}}")
    assert sum("embedding" in name or name.startswith("output.linear.weight") for name in header) == 1


def test_half_precision_halves_the_file_and_loads_as_float32(model: Path) -> None:
    loaded = load_model(model)
    half = model.parent / "half"
    save_model(half, loaded.model, loaded.config, loaded.tokenizers, loaded.manifest, dtype=torch.float16)
    sizes = [(path / "model.safetensors").stat().st_size for path in (half, model)]
    assert sizes[0] < 0.65 * sizes[1]
    again = load_model(half)
    for name, weight in named_weights(loaded.model).items():
        assert named_weights(again.model)[name].dtype == torch.float32
        torch.testing.assert_close(named_weights(again.model)[name], weight, rtol=1e-3, atol=1e-4)


FILES = ["config.json", "model.safetensors", "tokenizer.model", "README.md", "manifest.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["flipped", "truncated", "empty", "longer", "missing", "zeros", "text"])
def test_damage_is_a_clean_error(model: Path, file: str, kind: str) -> None:
    path = model / file
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "truncated": data[:middle],
        "empty": b"",
        "longer": data + b"x",
        "zeros": bytes(len(data)),
        "text": b"hello",
    }
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[kind])
    if file == "README.md":
        load_model(model)  # the card decides no translation
        return
    with pytest.raises(ModelError) as caught:
        load_model(model)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)
    assert kind != "flipped" or file == "manifest.json" or f"{file} is damaged: its checksum" in str(caught.value)


def forge(model: Path, file: str, data: bytes) -> None:
    """Replace a file and make the manifest agree."""
    import hashlib

    (model / file).write_bytes(data)
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    manifest["sha256"][file] = hashlib.sha256(data).hexdigest()
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("length", [0, 1, 10**8 + 1, 2**40, 2**63 - 1, 2**64 - 1])
def test_lying_header_lengths_are_refused(model: Path, length: int) -> None:
    data = (model / "model.safetensors").read_bytes()
    forge(model, "model.safetensors", struct.pack("<Q", length) + data[8:])
    with pytest.raises(ModelError, match="damaged"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(next(iter(w))), "is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "'extra' is unexpected"),
        (lambda w: w.update({next(iter(w)): torch.zeros(1, 2)}), r"\(1, 2\), expected"),
        (lambda w: next(iter(w.values())).view(-1)[0].fill_(torch.nan), "not finite"),
    ],
)
def test_wrong_tensors_are_named(model: Path, change: object, message: str) -> None:
    from safetensors.torch import load, save

    weights = load((model / "model.safetensors").read_bytes())
    change(weights)
    forge(model, "model.safetensors", save(weights))
    with pytest.raises(ModelError, match=message):
        load_model(model)


@pytest.mark.parametrize("key", ["model_size", "num_encoder_layers", "ffn_size"])
def test_sizes_the_weights_cannot_have_are_refused_before_building(model: Path, key: str) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["model"][key] = 10**9
    forge(model, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelError, match=f"{key} = 1000000000 does not fit"):
        load_model(model)


@pytest.mark.parametrize(
    "change", [{"parameters": None}, {"vocabulary": 3}, {"direction": {"source": 1, "target": None}}, {"sha256": []}]
)
def test_a_manifest_of_wrong_types_is_refused(model: Path, change: dict[str, object]) -> None:
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    (model / "manifest.json").write_text(json.dumps(manifest | change), encoding="utf-8")
    with pytest.raises(ModelError, match="manifest.json is damaged"):
        load_model(model)


def test_version_and_kind_are_checked(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    (model / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}), encoding="utf-8")
    with pytest.raises(ModelError, match="version 99"):
        load_model(model)
    (model / "manifest.json").write_text(json.dumps({"format": "nmt-data"}), encoding="utf-8")
    with pytest.raises(ModelError, match="no model directory"):
        load_model(model)


@pytest.mark.parametrize("file", ["tokenizer.model", "config.json", "model.safetensors"])
def test_a_link_out_of_the_directory_is_not_followed(model: Path, tmp_path: Path, file: str) -> None:
    (model / file).rename(tmp_path / "elsewhere")
    (model / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="plain file"):
        load_model(model)


def test_weights_that_are_not_finite_are_never_saved(model: Path) -> None:
    loaded = load_model(model)
    with torch.no_grad():
        next(loaded.model.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(NMTError, match="not finite"):
        save_model(model.parent / "bad", loaded.model, loaded.config, loaded.tokenizers, loaded.manifest)
    assert not (model.parent / "bad").exists()


def test_the_card_states_licence_and_score(model: Path) -> None:
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "sample: CC0-1.0" in card
    assert "BLEU 12.50 on valid (nrefs:1)" in card


def test_no_file_of_the_project_can_run_code_from_a_model() -> None:
    import nmt

    words = ("pickle", "torch.load", "eval(", "exec(", "allow_pickle=True")
    for path in Path(nmt.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace(".eval()", "").replace("model.eval(", "")
        found = [word for word in words if word in text]
        assert not found, f"{path}: {found}"


def test_a_model_replaced_while_it_is_read_is_not_mixed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the tokenizer has come yet."""
    build = checkpoint_module.build_model

    def replacing(*args: Any, **kwargs: Any) -> Any:
        (model / "tokenizer.model").write_bytes(b"another")
        return build(*args, **kwargs)

    monkeypatch.setattr(checkpoint_module, "build_model", replacing)
    with pytest.raises(ModelError, match=r"tokenizer\.model is damaged"):
        load_model(model)


def test_a_manifest_that_names_files_elsewhere_is_refused(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    for name in ("../elsewhere", "/etc/passwd"):
        changed = manifest | {"sha256": manifest["sha256"] | {name: "0" * 64}}
        (model / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(ModelError, match="plain file"):
            load_model(model)
