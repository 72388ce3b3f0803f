"""`nmt train` from the shell: its errors, its signals, and a kill that loses nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nmt.cli import console
from nmt.cli.train import _conclude, _Stop
from nmt.cli.training_display import TrainingDisplay
from nmt.training.progress import Progress
from nmt.training.ranks import Ranks
from nmt.training.trainer import Outcome

TINY = ["--set", "model_size=16", "--set", "ffn_size=16", "--set", "num_heads=2", "--set", "threads=1"]
QUICK = [*TINY, "--preset", "tiny", "--set", "eval_every=20", "--set", "save_every=5", "--set", "log_every=5"]


def line_of(result) -> str:
    """The one line that an error is."""
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1
    return result.err


def test_under_torchrun_settings_are_shown_once(nmt, data_directory, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, shown in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        result = nmt("train", data_directory, "--arch", "gru", "--preset", "tiny", "--dry-run")
        assert (result.code, "[training]" in result.out) == (0, shown)


def test_dry_run_shows_every_setting_and_writes_nothing(nmt, data_directory, tmp_path):
    result = nmt("train", data_directory, "--arch", "gru", "--dry-run", "--set", "lr=0.5", "--out", tmp_path / "m")

    assert result.code == 0
    assert "lr = 0.5" in result.out
    assert "parameters" in result.out.split("\n")[0]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["DATA", "--arch", "transfromer"], 2, "did you mean 'transformer'"),
        (["DATA", "--arch", "gru", "--preset", "smal"], 2, "did you mean 'small'"),
        (["DATA", "--arch", "gru", "--set", "hiden_size=4"], 2, "did you mean 'hidden_size'"),
        (["DATA", "--arch", "transformer", "--set", "num_heads=3"], 2, "must divide model_size"),
        (["DATA"], 2, "choose an architecture"),
        (["DATA", "--arch", "gru", "--max-time", "soon"], 2, "write 90s, 10m or 1h30m"),
        (["DATA", "--arch", "gru", "--max-time", "9" * 400 + "h"], 2, "write 90s, 10m or 1h30m"),
        (["DATA", "--arch", "gru", "--resume", "--force"], 2, "exclude each other"),
        (["DATA", "--arch", "gru", "--device", "cuda:7"], 5, "'cuda:7' is not there"),
        (["DATA", "--arch", "gru", "--device", "gpu"], 2, "choose auto, cpu, cuda"),
        (["nowhere", "--arch", "gru"], 3, "nowhere does not exist"),
        ([".", "--arch", "gru"], 3, "is no data directory"),
        (["DATA", "--arch", "gru", "--resume"], 4, "no training to resume"),
        (["DATA", "--arch", "gru", "--config", "nowhere.toml"], 2, "cannot read nowhere.toml"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(nmt, data_directory, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    given = [str(data_directory) if argument == "DATA" else argument for argument in arguments]
    result = nmt("train", *given, "--out", tmp_path / "m")

    assert says in line_of(result)
    assert result.code == code
    assert not (tmp_path / "m").exists()


def test_a_directory_in_use_is_not_overwritten(nmt, data_directory, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    result = nmt("train", data_directory, "--arch", "gru", "--out", tmp_path / "m")

    assert result.code == 2
    assert "--force" in line_of(result)
    assert "--resume" in result.err
    assert (tmp_path / "m" / "thesis.txt").read_text() == "years of work"


def test_a_setting_without_effect_is_named(nmt, data_directory, monkeypatch):
    def warned(arch: str, *settings: str) -> list[str]:
        words = [word for setting in settings for word in ("--set", setting)]
        result = nmt("train", data_directory, "--arch", arch, *words, "--dry-run")
        assert result.code == 0
        return [line.split()[2] for line in result.err.splitlines() if "has no effect" in line]

    assert warned("attention", "window=3", "score=dot", "attention_size=9") == ["attention_size", "window"]
    assert warned("attention", "scope=local-m", "model.window=3", "score=boxcar", "learn_bandwidth=false") == [
        "learn_bandwidth"
    ]
    assert warned("transformer", "max_positions=9") == ["max_positions"]
    assert warned("transformer", "max_positions=9", "positions=learned") == warned("gru", "dropout=0.1") == []
    monkeypatch.setenv("NMT_WINDOW", "3")
    assert warned("attention") == ["window"]
    assert warned("attention", "scope=local-p", "score=gaussian") == []


def test_force_deletes_an_earlier_run_and_nothing_else(nmt, data_directory, tmp_path, monkeypatch):
    settings = ["--arch", "gru", *QUICK[-6:], "--set", "embedding_size=8", "--set", "hidden_size=8", "--max-updates", 4]
    for _ in range(2):
        assert nmt("train", data_directory, *settings, "--out", tmp_path / "m", "--force").code == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    for out in (data_directory, tmp_path):
        result = nmt("train", data_directory, *settings, "--out", out, "--force")
        assert result.code == 2
        line_of(result)
    (tmp_path / "notes" / "training").mkdir()
    result = nmt("train", data_directory, *settings, "--out", tmp_path / "notes", "--force")
    assert result.code == 0
    assert f"that is now {tmp_path / 'notes.old'}" in result.err
    assert (tmp_path / "notes.old" / "thesis.txt").read_text() == "years of work"
    assert (data_directory / "manifest.json").exists()


def test_time_limit_stops_with_a_model_and_says_how_to_go_on(nmt, data_directory, tmp_path):
    settings = ["--arch", "gru", "--set", "embedding_size=8", "--set", "hidden_size=8", "--set", "threads=1"]
    result = nmt("train", data_directory, *settings, "--max-time", "3s", "--out", tmp_path / "m")

    assert result.code == 0
    assert f"nmt train --resume --out {tmp_path / 'm'}" in result.err
    assert (tmp_path / "m" / "manifest.json").exists()


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NMT_")}
    command = [sys.executable, "-m", "nmt", "train", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment | {"OMP_NUM_THREADS": "1"})


def finish(*arguments: object) -> None:
    process = start(*arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def checkpoints(out: Path) -> set[Path]:
    return set((out / "training").glob("checkpoints/update-*"))


def wait_for_checkpoint(out: Path, seen: set[Path]) -> None:
    """Until there is one that was not there before."""
    deadline = time.monotonic() + 100
    while not checkpoints(out) - seen:
        assert time.monotonic() < deadline
        time.sleep(0.02)


SETTINGS = [*QUICK, "--set", "eval_every=30", "--max-updates", 60]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """A data directory, and a run on it that was left alone."""
    from nmt.preparation import PreparationOptions, prepare

    folder = tmp_path_factory.mktemp("whole")
    lines = [f"Voici le mot numéro {i}.\tHere is word number {i}.\n" for i in range(60)]
    for name, part in (("train", lines[:50]), ("valid", lines[50:])):
        (folder / f"{name}.tsv").write_text("".join(part), encoding="utf-8")
    options = PreparationOptions(vocab_size=300, model_type="bpe")
    prepare([str(folder / "train.tsv")], [str(folder / "valid.tsv")], [], folder / "data", options)
    finish(folder / "data", "--arch", "transformer", *SETTINGS, "--out", folder / "model")
    return folder / "data", folder / "model"


@pytest.mark.slow
def test_signals_lose_nothing(whole, tmp_path):
    """Stopped by one signal after another, even by SIGKILL, and resumed: the same bytes as a run left alone."""
    data, model = whole
    out = tmp_path / "parts"
    begin = [data, "--arch", "transformer", *SETTINGS]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        seen = checkpoints(out)
        process = start(*begin, "--out", out)
        wait_for_checkpoint(out, seen)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        if code > 0:
            assert f"nmt train --resume --out {out}" in err
            assert "Traceback" not in err
        begin = ["--resume"]
    finish("--resume", "--out", out)

    for name in ("model.safetensors", "config.json", "tokenizer.model"):
        assert (tmp_path / "parts" / name).read_bytes() == (model / name).read_bytes()


def test_tensorboard_that_is_not_installed_is_refused_before_anything_begins(
    nmt, data_directory, tmp_path, monkeypatch
):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = nmt("train", data_directory, "--arch", "gru", "--tensorboard", "--out", tmp_path / "m")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "pip install 'nmt[tensorboard]'" in result.err
    assert not (tmp_path / "m").exists()


def test_a_finished_training_is_not_begun_again(nmt, whole):
    _, model = whole
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.name != "lock"}
    result = nmt("train", "--resume", "--out", model)
    assert result.code == 0
    assert "already complete at update" in result.err
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.name != "lock"} == before


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (Ranks(), "nmt train --resume --out 'my run'"),
        (Ranks(0, 2, 0, 2), "torchrun --nproc-per-node 2 -m nmt train --resume --out 'my run'"),
        (Ranks(0, 4, 0, 2), "torchrun as before, on every machine, -m nmt train --resume --out 'my run'"),
    ],
)
def test_the_command_that_goes_on_starts_as_many_processes(capsys, ranks, expected):
    outcome = Outcome(reason="time", progress=Progress(update=7))
    _conclude(outcome, Path("my run"), _Stop(), ranks)
    assert f"saved at update 7; go on with: {expected}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "num_encoder_layers=1000000"], "num_encoder_layers = 1000000 is not possible: it must be 1 to 1000"),
        (["--set", "model_size=1000000000"], "model_size = 1000000000 is not possible: it must be 1 to 65536"),
    ],
)
@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_sizes_have_bounds(nmt, data_directory, tmp_path, words, message, more):
    result = nmt("train", data_directory, "--arch", "transformer", *words, *more, "--out", tmp_path / "m")
    assert (result.code, message in line_of(result)) == (2, True)


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_built(nmt, data_directory, tmp_path):
    huge = ["--set", "model_size=65536", "--set", "ffn_size=65536", "--set", "num_encoder_layers=1000"]
    shown = nmt("train", data_directory, "--arch", "transformer", *huge, "--dry-run")
    assert (shown.code, "parameters" in shown.out) == (0, True)
    result = nmt("train", data_directory, "--arch", "transformer", *huge, "--device", "cpu", "--out", tmp_path / "m")
    assert result.code == 5
    assert "out of memory: the model takes" in line_of(result)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("how", ["flag", "file"])
def test_a_run_keeps_the_precision_that_auto_was_for_it(nmt, whole, tmp_path, how):
    (tmp_path / "c.toml").write_text('precision = "auto"\n')
    more = ["--precision", "auto"] if how == "flag" else ["--config", tmp_path / "c.toml"]
    result = nmt("train", "--resume", "--out", whole[1], *more)
    assert (result.code, "already complete" in result.err) == (0, True)


def test_a_bar_waits_for_other_processes_as_a_signal_would_leave_it_there(monkeypatch):
    begun = []
    monkeypatch.setattr("rich.progress.Progress.start", lambda self: begun.append(True))
    with TrainingDisplay(10):
        assert len(begun) == 1
    with TrainingDisplay(10, at_once=False) as show:
        assert len(begun) == 1
        show({"type": "resumed", "update": 3, "changed": {}})
        assert len(begun) == 2


def test_a_file_is_no_run_to_resume(nmt, tmp_path):
    (tmp_path / "file").touch()
    result = nmt("train", "--resume", "--out", tmp_path / "file")
    assert (result.code, "file is a file, not a directory" in line_of(result)) == (2, True)
    result = nmt("train", "--resume", "--out", tmp_path / "file" / "inner")
    assert (result.code, "file is a file, not a directory" in line_of(result)) == (2, True)


def test_data_that_is_gone_is_asked_for(nmt, whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "elsewhere" / "model")
    result = nmt("train", "--resume", "--out", tmp_path / "elsewhere" / "model")
    assert result.code == 3
    assert "is gone: say where it is now: nmt train DATA --resume --out" in result.err


def test_a_process_interrupted_twice_leaves_whole_checkpoints(whole, tmp_path):
    from nmt.training.state import RunDirectory

    data, _ = whole
    out = tmp_path / "out"
    process = start(data, "--arch", "transformer", *SETTINGS, "--out", out)
    wait_for_checkpoint(out, checkpoints(out))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert RunDirectory(out).examine()
    assert all(trouble is None for _, trouble in RunDirectory(out).examine())


@pytest.mark.parametrize(("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SystemExit)])
def test_a_signal_stops_at_once_while_there_is_nothing_to_save(capfd, name, error):
    with pytest.raises(error):
        _Stop().handle(signal.Signals[name], None)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGINT", None), ("SIGINT", "SIGTERM", 143)])
def test_a_second_signal_stops_at_once(capfd, first, second, code):
    """By an exception, which unwinds: what is half-written is removed on the way."""
    console.set_verbosity(0)  # as it is in a process of its own
    stop = _Stop()
    stop.training = True
    stop.handle(signal.Signals[first], None)
    assert "again to stop at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt if code is None else SystemExit) as stopped:
        stop.handle(signal.Signals[second], None)
    assert code is None or stopped.value.code == code
