"""Settings: which layer wins, what is refused and how it is said."""

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from nmt.config import (
    ARCHITECTURES,
    PRESETS,
    AttentionGRUConfig,
    DecodingOptions,
    RunConfig,
)
from nmt.errors import UsageError
from nmt.settings import describe, resolve, restore


def run(arch: str = "transformer", **layers: Any) -> RunConfig:
    return resolve(arch, **({"environment": {}} | layers))


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seed = 4\n[model]\nnum_heads = 2\nnorm = "post"\n[training]\nlr = 0.5\nmax_updates = 7\n')
    layers: dict[str, Any] = {}
    assert run(preset="tiny", **layers).model.model_size == 128
    layers["file"] = file
    assert run(**layers).training.lr == 0.5
    layers["environment"] = {"NMT_LR": "0.25", "NMT_MAX_UPDATES": "8", "HOME": "/"}
    assert run(**layers).training.lr == 0.25
    layers["flags"] = {"max_updates": 9, "device": None}
    config = run(**layers, overrides=["training.lr=0.125", "num_heads=8"])
    assert (config.training.lr, config.training.max_updates, config.training.seed) == (0.125, 9, 4)
    assert config.model == dataclasses.replace(run().model, num_heads=8, norm="post")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"overrides": ["num_heds=3"]}, "--set num_heds: unknown key 'num_heds' (did you mean 'num_heads'?)"),
        ({"overrides": ["model.lr=3"]}, "unknown key 'model.lr'"),
        ({"overrides": ["lr"]}, "--set lr: write KEY=VALUE"),
        ({"overrides": ["lr=fast"]}, "lr = 'fast' is not a finite number"),
        ({"overrides": ["lr=nan"]}, "lr = 'nan' is not a finite number"),
        ({"overrides": ["lr=1e999"]}, "lr = '1e999' is not a finite number"),
        ({"overrides": ["max_updates=1.5"]}, "max_updates = '1.5' is not a whole number"),
        ({"overrides": ["norm=prr"]}, "norm = 'prr' is not one of pre, post (did you mean 'pre'?)"),
        ({"overrides": ["num_heads=3"]}, "num_heads = 3 is not possible: it must divide model_size = 256"),
        ({"overrides": ["dropout=1"]}, "dropout = 1.0 is not possible"),
        ({"overrides": ["batch_tokens=0"]}, "batch_tokens = 0 is not possible: it must be at least 1"),
        ({"environment": {"NMT_LRR": "1"}}, "environment variable NMT_LRR: unknown key 'lrr' (did you mean 'lr'?)"),
        ({"preset": "smal"}, "unknown preset 'smal' for transformer (did you mean 'small'?)"),
        ({"file": Path("/nowhere/x.toml")}, "cannot read /nowhere/x.toml"),
    ],
)
def test_mistakes_are_named(layers: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(**layers)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_table_is_named_though_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[trainig]\n")
    with pytest.raises(UsageError, match=r"unknown table \[trainig\] \(did you mean 'training'\?\)"):
        run(file=tmp_path / "x.toml")


def test_unknown_architecture_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'transformer'"):
        run("transfromer")


@pytest.mark.parametrize(
    "text",
    [
        *("[model]\nx = [", "a = 1\na = 2\n", "[model.deep]\nlr = 1\n", "\x00"),
        *(f"seed = {'9' * 5000}\n", f"seed = 0x{'f' * 5000}\n", f"a = {'[' * 5000}\n", "# x\n" * 300_000),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match="run.toml") as caught:
        run(file=file)
    assert "\n" not in str(caught.value)


def test_a_file_without_end_is_no_configuration() -> None:
    with pytest.raises(UsageError, match="larger than 1024 KiB"):
        run(file=Path("/dev/zero"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "9" * 5000, "is not a whole number"),
        ("warmup_updates", 10**400, "a number too large"),
        ("max_updates", str(2**63), "is not a whole number"),
        ("batch_tokens", 1e30, "is not a whole number"),
        ("threads", 10**12, "at most 1024"),
        ("lr", "1e999", "is not a finite number"),
        ("lr", 10**400, "a number too large"),
    ],
)
def test_numbers_no_machine_can_use_are_named(key: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=f"{key} .*{message}"):
        run(flags={key: value})


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_preset_is_possible_and_survives_storing(arch: str) -> None:
    for preset in PRESETS[arch]:
        config = run(arch, preset=preset)
        assert restore(config.as_dict()) == config


def test_stored_settings_take_the_place_of_defaults_and_preset() -> None:
    stored = run(preset="tiny", overrides=["lr=0.5"]).as_dict()
    config = run(stored=stored, overrides=["max_updates=5"])
    assert (config.preset, config.training.lr, config.training.max_updates) == ("tiny", 0.5, 5)
    assert config.model.model_size == 128


def test_every_setting_is_explained() -> None:
    for arch in ARCHITECTURES:
        assert all(help_ for _, _, _, help_ in describe(run(arch)))


def test_odd_width_cannot_be_split_in_two_directions() -> None:
    with pytest.raises(UsageError, match="hidden_size = 7"):
        AttentionGRUConfig(hidden_size=7)
    assert AttentionGRUConfig(hidden_size=7, bidirectional=False).hidden_size == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam_size": 0},
        {"n_best": 6},
        {"length_penalty": -1.0},
        {"length_penalty": 10.1},
        {"length_penalty": float("nan")},
    ],
)
def test_impossible_searches_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DecodingOptions(**wrong)


def test_input_feeding_belongs_after_the_cell() -> None:
    assert run("attention", overrides=["placement=after", "input_feeding=true"]).model.input_feeding
    with pytest.raises(UsageError, match='needs placement = "after"'):
        run("attention", overrides=["input_feeding=true"])


@pytest.mark.parametrize(("source", "longest"), [(1, 22), (10, 40), (10**9, 1_000_000)])
def test_the_longest_translation_follows_the_source(source: int, longest: int) -> None:
    assert DecodingOptions().longest(source) == longest


def test_scores_that_compare_element_by_element_need_a_query_of_that_width() -> None:
    assert run("attention", overrides=["query=state+token", "score=general"]).model.query_size == 640 + 256
    assert run("attention", overrides=["query=context", "score=dot"]).model.query_size == 640
    with pytest.raises(UsageError, match="the score dot needs a query as wide as hidden_size = 640"):
        run("attention", overrides=["query=state+token", "score=dot"])


def test_a_kernel_has_the_bandwidth_that_suits_it_unless_it_is_told() -> None:
    def bandwidth(*overrides: str) -> float:
        model = resolve("attention", environment={}, overrides=overrides).model
        assert isinstance(model, AttentionGRUConfig)
        return model.bandwidth

    assert bandwidth("score=gaussian", "hidden_size=256") == 0.25
    assert bandwidth("score=gaussian", "hidden_size=16") == 0.5
    assert bandwidth("score=epanechnikov") == bandwidth("score=boxcar", "bandwidth=0") == 1.0
    assert bandwidth("score=gaussian", "bandwidth=0.5") == 0.5
    stored = resolve("attention", environment={}, overrides=["score=gaussian"])
    assert restore(stored.as_dict()) == stored
    with pytest.raises(UsageError, match="above 0, or 0 for"):
        bandwidth("bandwidth=-1")


@pytest.mark.parametrize("name", ["cdua", "cpu:3", "cuda:", "cuda:x", ""])
def test_a_device_is_known_by_its_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown device '{name}'.*: choose auto, cpu, cuda or cuda:N"):
        resolve("gru", environment={}, flags={"device": name})
    assert resolve("gru", environment={}, flags={"device": "cuda:3"}).training.device == "cuda:3"


def test_a_run_that_was_started_with_another_name_of_a_device_goes_on() -> None:
    stored = resolve("gru", environment={}).as_dict()
    stored["training"]["device"] = "cpu:0"
    assert restore(stored).training.device == "cpu:0"
    with pytest.raises(UsageError, match="unknown device 'cpu:0' \\(did you mean 'cpu'"):
        resolve("gru", environment={}, stored=stored)
    assert resolve("gru", environment={}, stored=stored, flags={"device": "cpu"}).training.device == "cpu"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[model]\n# nothing\n"hiden_size" = 3\n', ":3"),
        ("model.hiden_size = 3\n", ":1"),
        ("[model]\nhiden_size = 3\n[training]\nhiden_size = 4\n", ":2"),
        ("# \u2028\n[training]\nlr = 0.1\n[model]\nlr = 0.1\n", ":5"),
        ("model = { lr = 3 }\n[training]\nlr = 0.1\n", ""),
        ("model = { hiden_size = 3 }\n", ""),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        run(file=tmp_path / "c.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'c.toml'}{place}: unknown key")


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("lr = 0.5\nmax_updates = 7\n"))
    writer.start()
    config = run(file=tmp_path / "pipe")
    writer.join()
    assert (config.training.lr, config.training.max_updates) == (0.5, 7)
