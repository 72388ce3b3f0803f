"""The real process in surroundings that are not as they should be: limits, odd variables, missing places."""

import ast
import ctypes
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nmt
from nmt.checkpoint import load_model
from nmt.engines.export import export_ctranslate2
from nmt.errors import ModelError
from nmt.training.state import RunDirectory
from tests.cli.conftest import FEW_PAIRS, few_pairs
from tests.tiny import SENTENCES, tiny_model

PACKAGE = Path(nmt.__file__).parent
SMALL = ["--preset", "tiny", "--set", "model_size=16", "--set", "ffn_size=16", "--set", "num_heads=2"]
SECRET = "hf_nobodyshouldseethis"
TRANSLATE = ["translate", "--engine", "torch", "--beam", "1"]
LINE = "Où est la gare ?\n"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
"""From linux/prctl.h and linux/capability.h."""
BRIEF = ["--set", "threads=1", "--set", "eval_every=1000", "--set", "save_every=20", "--set", "log_every=1"]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("environment") / "model")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what does not depend on the engine: without torch, a process begins four times as fast."""
    pytest.importorskip("ctranslate2")
    path = tiny_model(tmp_path_factory.mktemp("environment") / "exported")
    export_ctranslate2(path)
    return path


@pytest.fixture(scope="module")
def answer(small_model: Path) -> str:
    """The translation of `LINE` where nothing is wrong."""
    result = run(*TRANSLATE, "-m", small_model, lines=LINE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def words(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "nmt", *map(str, arguments)]


def surroundings(**variables: str) -> dict[str, str]:
    """The environment, without settings of its own, one thread unless said otherwise."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NMT_")}
    return kept | {"OMP_NUM_THREADS": "1"} | variables


def run(
    *arguments: object, lines: str = "", limit: Callable[[], None] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*arguments),
        input=lines,
        capture_output=True,
        text=True,
        env=surroundings(**variables),
        preexec_fn=limit,
        timeout=120,
        check=False,
    )


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def limits() -> None:
    """Few descriptors and processes, and 4 GiB of addresses."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_NPROC, (50, 50))
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        ({"OMP_NUM_THREADS": "-1", "HOME": "/nowhere", "TMPDIR": "/nowhere"}, None),
        ({"OMP_NUM_THREADS": "10000", "PYTHONOPTIMIZE": "2", "TERM": "dumb", "COLUMNS": "1"}, limits),
    ],
)
def test_a_translation_does_not_depend_on_its_surroundings(
    small_model: Path, answer: str, variables: dict[str, str], limit: Callable[[], None] | None
) -> None:
    """Nothing is written beside the model, either."""
    before = files(small_model)
    result = run(*TRANSLATE, "-m", small_model, lines=LINE, limit=limit, **variables)
    assert (result.returncode, result.stdout) == (0, answer), result.stderr
    assert "Traceback" not in result.stderr
    assert files(small_model) == before


def test_an_evaluation_does_not_depend_on_its_surroundings(nmt, small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in FEW_PAIRS["test"]), encoding="utf-8")
    command = ["eval", "-m", small_model, "--test", tmp_path / "test.tsv", "--engine", "torch", "--beam", "1", "--json"]
    there = json.loads(run(*command, LC_ALL="tr_TR.UTF-8", OMP_NUM_THREADS="2").stdout)
    assert there["scores"] == json.loads(nmt(*command).out)["scores"]


def without_powers() -> None:
    """Permissions hold for root too: it loses the capabilities to pass over them, which others have not."""
    cdll = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        cdll.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_a_model_and_a_working_directory_may_be_read_only(
    small_model: Path, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_model, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    paths = [*(tmp_path / "model").iterdir(), tmp_path / "model", tmp_path]
    for path in paths:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        for name in ("model/x", "x"):
            tried = [sys.executable, "-c", f"open({name!r}, 'w')"]
            refused = subprocess.run(tried, preexec_fn=without_powers, capture_output=True, text=True, check=False)
            assert "Permission denied" in refused.stderr
        result = run(*TRANSLATE, "-m", "model", lines=LINE, limit=without_powers)
        assert (result.returncode, result.stdout) == (0, answer), result.stderr
        refused = run("average", "model", "model", "--out", "averaged", limit=without_powers)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "Permission denied" in refused.stderr
    finally:
        for path in reversed(paths):
            path.chmod(0o700)


@pytest.mark.parametrize(("closed", "code"), [("<&-", 3), (">&-", 1), ("2>&-", 0), ("<&- >&- 2>&-", 3)])
def test_closed_streams_are_one_line(exported: Path, closed: str, code: int) -> None:
    command = shlex.join(words("translate", "--engine", "ctranslate2", "-m", exported))
    result = subprocess.run(
        ["bash", "-c", f"exec {command} {closed}"],
        input=LINE,
        capture_output=True,
        text=True,
        env=surroundings(),
        timeout=120,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == (code != 0 and "2>&-" not in closed)
    assert result.stdout.count("\n") == (code == 0)


def test_modules_in_the_working_directory_are_not_imported(
    small_model: Path, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor code beside the model, which may be the working directory."""
    shutil.copytree(small_model, tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    for name in ("torch", "numpy", "json", "safetensors", "sentencepiece", "typer", "rich", "regex", "sitecustomize"):
        Path(f"{name}.py").write_text("raise SystemExit(99)\n")
    for name in ("model.py", "pytorch_model.bin", "optimizer.pt", "rng.pkl"):
        Path(name).write_bytes(b"cos\nsystem\n(S'exit 99'\ntR.")
    result = run(*TRANSLATE, "-m", ".", lines=LINE)
    assert (result.returncode, result.stdout) == (0, answer), result.stderr


def test_a_limit_on_file_sizes_ends_a_training_with_one_line(nmt, data_directory: Path, tmp_path: Path) -> None:
    """What was saved before stays whole, and is gone on from."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    out = tmp_path / "m"
    begin = ["train", data_directory, "--arch", "transformer", *SMALL, *BRIEF, "--max-updates", "20", "--out", out]
    assert nmt(*begin).code == 0
    resume = ["train", "--resume", "--out", out, "--max-updates", "40"]
    result = run(*resume, limit=limit)
    assert result.returncode == 1
    errors = [line for line in result.stderr.split("\n") if line.startswith("nmt: error: ")]
    assert len(errors) == 1
    assert "File too large (a checkpoint takes " in errors[0]
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("**/*.tmp"))
    assert RunDirectory(out).examine() == [(20, None)]
    assert nmt(*resume).code == 0
    assert RunDirectory(out).examine() == [(40, None), (20, None)]


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without terminal, standard input and output, its messages going to a full device; paused for a while.

    No permission is masked, and there is a secret in the environment.
    """
    folder = tmp_path_factory.mktemp("unheard")
    more = ["--arch", "transformer", *SMALL, *BRIEF, "--max-updates", "60", "--out", folder / "m"]

    def begin() -> None:
        os.close(1)
        os.umask(0)

    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            words("train", few_pairs(folder), *more),
            stdin=subprocess.DEVNULL,
            stderr=full,
            env=surroundings(HF_TOKEN=SECRET),
            start_new_session=True,
            preexec_fn=begin,
        )
        try:
            log = folder / "m" / "training" / "log.jsonl"
            deadline = time.monotonic() + 60
            while not log.exists() or not log.stat().st_size:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            process.send_signal(signal.SIGCONT)
            assert state == "T"  # stopped, not over
            assert process.wait(timeout=100) == 0
        finally:
            process.kill()
            process.wait()
    return folder / "m"


def test_a_training_nobody_listens_to_goes_on(unheard: Path) -> None:
    assert (unheard / "manifest.json").exists()
    assert len((unheard / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()) >= 60


def test_no_file_can_be_written_by_all(unheard: Path) -> None:
    assert {path.name for path in unheard.rglob("*") if path.stat().st_mode & 0o002} == set()


def test_a_run_can_be_published_as_it_is(unheard: Path) -> None:
    """No secret of the environment, no place, no sentence it was trained or validated on."""
    names = [SECRET, str(unheard.parent), str(Path.home()) + "/"]
    sentences = [sentence for pairs in FEW_PAIRS.values() for pair in pairs for sentence in pair]
    for path in unheard.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for private in (*names, *sentences):
            assert private.encode() not in data, path


def test_no_check_is_an_assertion() -> None:
    """`python -O` drops assertions: they may tell the type checker what is known, and guard nothing."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                told = ast.unparse(node.test)
                assert told.endswith("is not None") or "isinstance(" in told, f"{path}: {told}"


def test_no_shell_is_ever_called() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("os.system", "os.popen", "subprocess.getoutput"), path
                assert all(keyword.arg != "shell" for keyword in node.keywords), path


def test_a_model_can_be_moved_and_its_path_be_any(
    nmt, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a shell would make the file
    moved = tmp_path / "a b; $(touch oops) [bold]"
    moved.mkdir()
    for file in small_model.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert nmt("info", moved).code == 0
    assert not list(tmp_path.glob("**/oops"))


def test_a_name_too_long_is_one_line(nmt, data_directory: Path, tmp_path: Path) -> None:
    result = nmt("train", data_directory, "--arch", "gru", "--out", tmp_path / ("x" * 300))
    assert result.code == 1
    assert result.err.startswith("nmt: error: ")
    assert result.err.count("\n") == 1


def test_what_is_no_file_in_place_of_a_model_file_is_not_waited_for(small_model: Path, tmp_path: Path) -> None:
    for file in small_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    signal.alarm(60)  # SIGALRM ends the tests, were one waited for
    try:
        for name in ("config.json", "manifest.json", "model.safetensors", "tokenizer.model"):
            kept = (tmp_path / name).read_bytes()
            (tmp_path / name).unlink()
            os.mkfifo(tmp_path / name)
            with pytest.raises(ModelError):
                load_model(tmp_path)
            (tmp_path / name).unlink()
            (tmp_path / name).write_bytes(kept)
    finally:
        signal.alarm(0)


@pytest.mark.slow
def test_fifty_processes_share_one_model(small_model: Path) -> None:
    command = [*TRANSLATE, "-m", small_model]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words(*command), env=surroundings(), **streams) for _ in range(50)]
    answers = {process.communicate(LINE, timeout=500) for process in processes}
    assert {process.returncode for process in processes} == {0}
    alone = run(*command, lines=LINE)
    assert answers == {(alone.stdout, alone.stderr)}


def killed_while_it_writes(folder: Path, *arguments: object, lines: Path) -> None:
    """Start a command whose input never ends; SIGKILL it when its temporary file or folder is there."""
    os.mkfifo(lines)
    process = subprocess.Popen(words(*arguments), stderr=subprocess.DEVNULL, env=surroundings())
    try:
        with lines.open("w") as pipe:
            pipe.write(LINE)
            pipe.flush()
            deadline = time.monotonic() + 60
            while not list(folder.glob(".*.tmp")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_translation_killed_leaves_the_old_output(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    command = [*TRANSLATE, "-m", small_model, "-o", tmp_path / "out"]
    killed_while_it_writes(tmp_path, *command, tmp_path / "in", lines=tmp_path / "in")
    assert (tmp_path / "out").read_text() == "old"


def test_a_preparation_killed_leaves_no_directory_and_can_be_begun_again(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("".join(f"{line}\n" for line in SENTENCES[5:]))
    for name in ("valid.fr", "valid.en"):
        (tmp_path / name).write_text("Rien.\n")
    command = ["data", "prepare", "--train", tmp_path / "train", "--valid", tmp_path / "valid", "--out", tmp_path / "d"]
    killed_while_it_writes(tmp_path, *command, lines=tmp_path / "train.fr")
    assert not (tmp_path / "d").exists()
    (tmp_path / "train.fr").unlink()
    (tmp_path / "train.fr").write_text("".join(f"{line}\n" for line in SENTENCES[:5]))
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "d" / "manifest.json").exists()


def test_a_line_of_a_mebibyte_is_answered_in_little_memory(small_model: Path) -> None:
    result = run(*TRANSLATE, "-m", small_model, lines=f"{'x' * 2**20}\n{LINE}")
    assert (result.returncode, result.stdout.count("\n")) == (0, 2)
    assert "line 1" in result.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2**20  # KiB, of the largest child so far
