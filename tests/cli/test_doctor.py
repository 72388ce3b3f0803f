import json

from nmt.cli import doctor
from nmt.manifest import WEIGHTS
from tests.tiny import tiny_model


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
