import json
import shutil

import pytest

from nmt.cli import doctor
from nmt.manifest import WEIGHTS
from tests.tiny import tiny_model
from tests.torture.training import forgets_its_place


def test_machine_is_described(nmt):
    result = nmt("doctor")

    assert (result.code, result.err) == (0, "")
    for text in ("Python", "PyTorch", "bf16 on CPU", "GFLOP/s", "--device auto", "sentencepiece"):
        assert text in result.out


def test_machine_as_json(nmt):
    document = json.loads(nmt("doctor", "--json").out)

    assert document["schema"] == 1
    assert document["cpu"]["bf16"] in ("fast", "emulated")
    assert document["cpu"]["gflops"]["fp32"] > 0
    assert document["auto"]["precision"] in ("fp32", "bf16")
    assert all(entry["version"] for entry in document["packages"] if entry["extra"] is None)


def test_missing_packages_say_how_to_install_them():
    assert doctor._package_text({"name": "x", "version": None, "extra": "plot"}).endswith("pip install 'nmt[plot]')")
    assert doctor._package_text({"name": "x", "version": None, "extra": None}).startswith("MISSING")
    assert doctor._package_text({"name": "x", "version": "1.0", "extra": "plot"}) == "1.0"


def test_whole_directories_pass(nmt, model, data_directory):
    result = nmt("doctor", model, data_directory)

    assert result.code == 0
    assert (
        result.out == f"{model}: model directory, all files whole\n{data_directory}: data directory, all files whole\n"
    )


def test_damaged_model_is_named(nmt, tmp_path):
    path = tiny_model(tmp_path / "m")
    data = bytearray((path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (path / WEIGHTS).write_bytes(data)

    result = nmt("doctor", path)

    assert result.code == 4
    assert "model.safetensors is damaged" in result.err


def test_damaged_data_is_named(nmt, data_directory):
    file = data_directory / "test.source.tokens.bin"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)

    result = nmt("doctor", data_directory)

    assert result.code == 3
    assert "test.source.tokens.bin" in result.err


def test_a_training_is_described(nmt, data_directory, tmp_path):
    quick = ["max_updates=4", "save_every=2", "eval_every=4", "threads=1", "embedding_size=8", "hidden_size=8"]
    settings = [word for setting in quick for word in ("--set", setting)]
    out = tmp_path / "m"
    assert nmt("train", data_directory, "--arch", "gru", "--preset", "tiny", *settings, "--out", out).code == 0

    assert nmt("doctor", out).out.endswith(f"{out}: training, resumable at update 4 (2 of 2 checkpoints whole)\n")
    newest = out / "training" / "checkpoints" / "update-00000004" / "progress.json"
    newest.write_text(newest.read_text().replace("4", "5"))
    result = nmt("doctor", out)
    assert result.code == 4
    assert "resumable at update 2 (1 of 2 checkpoints whole)" in result.out
    assert "update-00000004" in result.err
    for checkpoint in (out / "training" / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    assert "resumable from the beginning" in nmt("doctor", out).out
    (out / "manifest.json").unlink()
    assert nmt("doctor", out).code == 4  # weights without a manifest
    (out / "model.safetensors").unlink()
    assert "training without a model yet" in nmt("doctor", out).out


def test_a_device_that_nothing_uses_is_refused(nmt):
    assert nmt("doctor", "--device", "cpu").code == 2


@pytest.mark.slow
def test_exact_resume_is_proved_here(nmt):
    result = nmt("doctor", "--prove-resume", "--device", "cpu")
    assert result.code == 0, result.err
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["gru", "attention", "transformer"]
    assert "the same bytes as never stopped" in result.out


@pytest.mark.slow
def test_a_resume_that_is_not_exact_is_no_proof(nmt):
    with forgets_its_place():
        result = nmt("doctor", "--prove-resume", "--device", "cpu")
    assert result.code == 1
    assert "differs" in result.err


def test_a_card_that_was_changed_is_mentioned(nmt, tmp_path):
    path = tiny_model(tmp_path / "m")
    with (path / "README.md").open("a") as card:
        card.write("My own words.\n")

    result = nmt("doctor", path)

    assert result.code == 0
    assert result.out == f"{path}: model directory, all files whole but the card, README.md\n"


def test_an_export_that_is_not_used_is_mentioned(nmt, tmp_path):
    path = tiny_model(tmp_path / "m")
    (path / "ctranslate2").mkdir()
    (path / "ctranslate2" / "export.json").write_text("{}")

    result = nmt("doctor", path)

    assert result.code == 0
    assert f"{path}: its export is not used: " in result.out
    assert "export the model again" in result.out
