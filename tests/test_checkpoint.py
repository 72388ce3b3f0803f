"""Model directories: what is saved comes back; what is damaged is refused, whatever the damage."""

import errno
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt import checkpoint as checkpoint_module
from nmt.checkpoint import load_model, named_weights, read_tensors, save_model
from nmt.cli.doctor import check
from nmt.cli.info import kind_of
from nmt.dataset import DataDirectory
from nmt.errors import DataError, ModelError, NMTError
from nmt.manifest import read_manifest
from nmt.tokenizer import train_tokenizer
from tests.canary import pickled_canary
from tests.tiny import SENTENCES, tiny_model


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
        (lambda w: w.update({name: t.to(torch.float8_e4m3fn) for name, t in w.items()}), "is torch.float8_e4m3fn"),
        (lambda w: w.update({name: t.to(torch.int32) for name, t in w.items()}), "is torch.int32"),
    ],
)
def test_wrong_tensors_are_named(model: Path, change: object, message: str) -> None:
    from safetensors.torch import load, save

    weights = load((model / "model.safetensors").read_bytes())
    change(weights)
    forge(model, "model.safetensors", save(weights))
    with pytest.raises(ModelError, match=message):
        load_model(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_size", 60_000), ("num_encoder_layers", 1000), ("num_encoder_layers", 300), ("ffn_size", 2**16)],
)
def test_sizes_the_weights_cannot_have_are_refused_before_building(model: Path, key: str, value: int) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["model"][key] = value
    forge(model, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelError, match=f"{key} = {value} does not fit"):
        load_model(model)


def test_sizes_that_no_model_has_are_damage(model: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["model"]["ffn_size"] = 10**9
    forge(model, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelError, match="config.json is damaged: ffn_size = 1000000000 is not possible"):
        load_model(model)


def test_a_size_that_decides_nothing_may_be_any(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", arch="attention", overrides=["score=dot", "attention_size=9999"])
    assert load_model(model).config.model.without_effect >= {"attention_size"}


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


def header(*entries: tuple[str, str, list[int], list[int]]) -> bytes:
    """A safetensors header, entry by entry, duplicates and all."""
    described = [
        f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{place}}}'
        for name, dtype, shape, place in entries
    ]
    text = ("{" + ",".join(described) + "}").encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("a", "F32", [1], [0, 4]), ("b", "F32", [1], [0, 4])], id="overlap"),
        pytest.param([("a", "F32", [1], [0, 4]), ("b", "F32", [1], [8, 12])], id="hole"),
        pytest.param([("a", "F32", [2], [-4, 4])], id="negative"),
        pytest.param([("a", "F32", [2], [4, 0])], id="backwards"),
        pytest.param([("a", "F32", [1000], [0, 4000])], id="outside"),
        pytest.param([("a", "F32", [2**40, 2**40], [0, 4])], id="overflow"),
        pytest.param([("a", "F99", [1], [0, 4])], id="type"),
        pytest.param([("a", "F32", [1], [0, 4]), ("a", "F32", [2], [4, 12])], id="twice"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, entries: list[Any]) -> None:
    (tmp_path / "x").write_bytes(header(*entries) + bytes(12))
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(tmp_path / "x")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.model", "manifest.json"])
def test_a_pickle_in_a_model_is_never_run(model: Path, tmp_path: Path, file: str, protocol: int) -> None:
    data = pickled_canary(tmp_path / "canary", protocol)
    if file == "manifest.json":
        (model / file).write_bytes(data)
    else:
        forge(model, file, data)
    with pytest.raises(ModelError):
        load_model(model)
    assert not (tmp_path / "canary").exists()
    pickle.loads(data)
    assert (tmp_path / "canary").exists()  # it would have told


def test_a_changed_file_with_a_manifest_to_match_loads(model: Path) -> None:
    """Hashes find damage; they are no signature."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["training"]["seed"] = 77
    forge(model, "config.json", json.dumps(config).encode())
    assert load_model(model).config.training.seed == 77


def test_a_vocabulary_of_another_size_than_the_weights_is_refused(model: Path) -> None:
    forge(model, "tokenizer.model", train_tokenizer(SENTENCES, vocab_size=320, model_type="bpe"))
    with pytest.raises(ModelError, match=r"is torch.float32 \(330, 16\), expected \(320, 16\)"):
        load_model(model)


def test_a_name_no_file_can_have_is_a_damaged_manifest(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    for name in ("x" * 5000, "a\0b"):
        changed = manifest | {"sha256": {**manifest["sha256"], name: "0" * 64}}
        (model / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(ModelError, match="manifest.json|plain file"):
            load_model(model)


def test_files_keep_to_the_umask(model: Path) -> None:
    loaded = load_model(model)
    before = os.umask(0o077)
    try:
        save_model(model.parent / "private", loaded.model, loaded.config, loaded.tokenizers, loaded.manifest)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in (model.parent / "private").iterdir()} == {0}


@pytest.mark.parametrize("read", [read_manifest, load_model, DataDirectory.open, check, kind_of])
def test_a_folder_that_may_not_be_read_is_not_called_damaged(model: Path, monkeypatch, read) -> None:
    def denied(path: Path) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.access", lambda *args: False)  # root may all
    monkeypatch.setattr("nmt.cli.info.read_json", denied, raising=False)
    monkeypatch.setattr("nmt.files.read_json", denied)
    with pytest.raises((ModelError, DataError), match=f"cannot read {model}"):
        read(model)
