import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

import nmt
from nmt.cli import app, console, frame
from nmt.errors import DataError, ModelError

ROOT = str(Path(nmt.__file__).parents[1])
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHON", "NMT_"))}
ENVIRONMENT["PYTHONPATH"] = ROOT


class Boom(Exception):
    pass


FAILURES = {
    "data": DataError("corpus.fr:7 is odd"),
    "model": ModelError("no model"),
    "interrupt": KeyboardInterrupt(),
    "pipe": BrokenPipeError(32, "Broken pipe"),
    "full": OSError(28, "No space left on device", "out.txt"),
    "network": ConnectionRefusedError(111, "Connection refused"),
    "memory": MemoryError(),
    "allocator": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    "bug": Boom("first line\nsecond \x1b[31m line [/red]"),
    "names": DataError("cannot read a\nb\x1b]0;x\x07\u2028c[/red]"),
    "exit": SystemExit(7),
    "typer-exit": typer.Exit(6),
    "package": ModuleNotFoundError("No module named 'ctranslate2'", name="ctranslate2"),
}


def toy() -> object:
    """A program with one command that fails in every way."""
    program = typer.Typer(cls=frame.Root, rich_markup_mode=None)

    @program.callback()
    def _root(quiet: frame.Quiet = False, verbose: frame.Verbose = False, version: frame.Version = False) -> None:
        pass

    def fail(
        how: Annotated[str, typer.Argument()],
        count: Annotated[int, typer.Option("--count", min=1)] = 1,
        colour: Annotated[str, typer.Option("--colour")] = "red",
    ) -> None:
        """Fail.

        Examples:
            nmt fail data   # spaces   kept
        """
        if how in FAILURES:
            raise FAILURES[how]
        print(f"{how} {count} {colour} {console.verbosity()}")

    program.command("fail", cls=frame.Command)(fail)
    program.command("other", cls=frame.Command)(fail)
    return typer.main.get_command(program)


def run(capsys, *args):
    code = frame.run(toy(), args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("data", 3, "nmt: error: corpus.fr:7 is odd\n"),
        ("model", 4, "nmt: error: no model\n"),
        ("interrupt", 130, ""),
        ("pipe", 141, ""),
        ("full", 1, "nmt: error: out.txt: No space left on device\n"),
        ("network", 1, "nmt: error: ConnectionRefusedError: Connection refused\n"),
        ("memory", 5, "nmt: error: out of memory: try smaller batches (batch_tokens) or a smaller model\n"),
        ("allocator", 5, "nmt: error: out of memory: try smaller batches (batch_tokens) or a smaller model\n"),
        ("names", 3, "nmt: error: cannot read a\\nb\\x1b]0;x\\x07\\u2028c[/red]\n"),
        ("exit", 7, ""),
        ("typer-exit", 6, ""),
        (
            "package",
            1,
            "nmt: error: the Python package 'ctranslate2' is missing: nmt doctor says how to install it\n",
        ),
    ],
)
def test_exit_code_and_one_line(capsys, how, code, message):
    assert run(capsys, "fail", how) == (code, "", message)


def test_unexpected_error_is_one_line_that_names_verbose(capsys):
    code, _, err = run(capsys, "fail", "bug")

    assert code == 1
    assert err.startswith("nmt: error: Boom: first line second \\x1b[31m line [/red] (this is a bug in nmt")
    assert err.endswith("; give -v to see where)\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("args", [("-v", "fail", "bug"), ("fail", "bug", "-v"), ("fail", "-v", "bug")])
def test_verbose_shows_where(capsys, args):
    code, _, err = run(capsys, *args)

    assert code == 1
    assert "test_frame.py" in err
    assert "\x1b" not in err
    assert err.rstrip("\n").split("\n")[-1].startswith("nmt: error: Boom")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--verbos"], "no such option --verbos (did you mean '--verbose'?)"),
        (["fial"], "no such command 'fial' (did you mean 'fail'?)"),
        (["zzz"], "no such command 'zzz': choose from fail, other"),
        (["fail", "x", "--cuont", "2"], "no such option --cuont (did you mean '--count'?)"),
        (["fail", "x", "--zzzzzz"], "no such option --zzzzzz: see nmt fail --help"),
        (["fail", "x", "-z"], "no such option -z"),
        (["fail"], "missing argument 'how'"),
        (["fail", "x", "--count"], "option '--count' requires an argument"),
        (["fail", "x", "--count", "many"], "invalid value for '--count'"),
        (["fail", "x", "--count", "0"], "invalid value for '--count'"),
        (["fail", "x", "y\n\x1b"], "got unexpected extra argument(s)"),
    ],
)
def test_usage_errors_are_one_line(capsys, args, message):
    code, out, err = run(capsys, *args)

    assert (code, out) == (2, "")
    assert err.startswith(f"nmt: error: {message}")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_verbosity_before_and_after_the_command(capsys):
    assert run(capsys, "fail", "x")[1] == "x 1 red 0\n"
    assert run(capsys, "-q", "fail", "x")[1] == "x 1 red -1\n"
    assert run(capsys, "fail", "x", "-q")[1] == "x 1 red -1\n"
    assert run(capsys, "fail", "-v", "x")[1] == "x 1 red 1\n"
    assert run(capsys, "fail", "x")[1] == "x 1 red 0\n"


@pytest.mark.parametrize("args", [["--version"], ["info", "--version"]])
def test_version(args):
    result = CliRunner().invoke(app, args)

    assert (result.exit_code, result.stdout) == (0, f"nmt {nmt.__version__}\n")


def test_help_has_examples_before_usage_and_keeps_their_spaces(capsys):
    code, out, err = run(capsys, "fail", "--help")

    assert (code, err) == (0, "")
    assert out.index("Fail.") < out.index("Examples:") < out.index("Usage:") < out.index("--count")
    assert "  nmt fail data   # spaces   kept\n" in out
    assert out == run(capsys, "fail", "-h")[1]


def test_no_command_prints_the_help_on_stderr(capsys):
    code, out, err = run(capsys)

    assert (code, out) == (2, "")
    assert "Usage: nmt" in err


@pytest.mark.parametrize("name", ["train", "translate", "score", "eval", "info", "doctor", "average", "data prepare"])
def test_every_command_has_help_with_an_example(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"])

    assert result.exit_code == 0
    assert f"nmt {name}" in result.stdout.partition("Usage:")[0]


def test_messages_have_no_colour_off_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.warn("careful")
    console.note("by the way")

    assert capsys.readouterr().err == "nmt: warning: careful\nby the way\n"


def test_table_aligns_and_tames(capsys):
    console.table([("a", "1"), ("long\tname", "22")], right=frozenset({1}))

    assert capsys.readouterr().out == "a            1\nlong\\tname  22\n"


# -- as a process ------------------------------------------------------------------------------------------


def nmt_process(*args, **options):
    command = [sys.executable, "-m", "nmt", *args]
    return subprocess.run(command, capture_output=True, timeout=60, env=ENVIRONMENT | {"COLUMNS": "80"}, **options)


def test_help_is_quick_and_loads_nothing_heavy():
    heavy = ("torch", "datasets", "numpy", "rich", "sacrebleu", "sentencepiece", "pydantic")
    code = "import sys; from nmt.cli import main; main(['--help']); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert result.stdout.rstrip().endswith("[]")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6  # 0.1 s on an idle machine


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_output_is_utf8_whatever_the_locale(locale):
    command = [sys.executable, "-m", "nmt", "--help"]
    result = subprocess.run(command, capture_output=True, env=ENVIRONMENT | locale, check=True)

    assert "Où est la gare ?" in result.stdout.decode("utf-8")


def test_a_missing_package_is_one_line():
    code = "import sys; sys.modules['typer'] = None; from nmt.__main__ import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=ENVIRONMENT)

    assert result.returncode == 1
    assert result.stderr == b"nmt: error: the package typer is missing: install nmt again\n"


def test_full_disk_is_noticed():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "nmt", "--version"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT)

    assert result.returncode == 1
    assert result.stderr == b"nmt: error: standard input or output: No space left on device\n"


def test_closed_reader_ends_quietly():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "nmt", "--help"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(write)

    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_unwind_and_give_their_code(tmp_path, number, code):
    program = (
        "import sys, time\nfrom nmt.cli import frame\nimport typer\n"
        "app = typer.Typer(cls=frame.Root, rich_markup_mode=None)\n"
        "def wait():\n    try:\n        print('ready', flush=True)\n        time.sleep(30)\n"
        "    finally:\n        print('unwound')\n"
        "app.command('wait', cls=frame.Command)(wait)\napp.command('b', cls=frame.Command)(lambda: None)\n"
        "frame.prepare_process()\nsys.exit(frame.run(typer.main.get_command(app), ['wait']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (code, b"unwound\n", b"")


def test_shell_completion_is_offered():
    environment = ENVIRONMENT | {"_NMT_COMPLETE": "complete_bash", "COMP_WORDS": "nmt inf", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "nmt"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (result.returncode, result.stdout.split()) == (0, ["info"])


def test_an_interrupt_while_it_starts_is_silent(monkeypatch, capsys) -> None:
    from nmt import __main__

    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmt.cli.main", interrupted)
    assert __main__.main() == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("at_once", [False, True])
def test_a_process_waits_for_no_thread_where_it_is_to_end_at_once(monkeypatch, at_once) -> None:
    from nmt import __main__, host

    left = []
    monkeypatch.setattr("nmt.cli.main", lambda: 143)
    monkeypatch.setattr("os._exit", left.append)
    monkeypatch.setattr(host._Ending, "at_once", False)
    if at_once:
        host.end_at_once()
    assert __main__.main() == 143
    assert left == [143] * at_once


def test_characters_that_nobody_sees_are_escaped() -> None:
    assert console.visible("a\u200b\u2060\ufeff\U000e0041b") == "a\\u200b\\u2060\\ufeff\\U000e0041b"
    seen = "Où est l’œuvre\u00a0? می\u200cخواهم 👩\u200d💻"
    assert console.visible(seen) == seen


def test_what_cannot_be_read_is_left_to_who_reads_it():
    """Exit code 3 or 4, not 2: `nmt` checks no path as it parses."""

    def commands(command):
        yield command
        for inner in getattr(command, "commands", {}).values():
            yield from commands(inner)

    every = [parameter for command in commands(typer.main.get_command(app)) for parameter in command.params]
    paths = [parameter for parameter in every if hasattr(parameter.type, "readable")]
    assert len(paths) > 30
    assert not any(parameter.type.readable for parameter in paths)


def test_a_number_of_a_range_is_asked_for_with_both_ends(nmt):
    result = nmt("translate", "--beam", "many")
    assert (result.code, result.err) == (
        2,
        "nmt: error: invalid value for '--beam': 'many' is no whole number of at least 1 and at most 1000\n",
    )
    result = nmt("data", "prepare", "--max-chars", "x", "--train", "a", "--valid", "a", "--out", "b")
    assert result.err == "nmt: error: invalid value for '--max-chars': 'x' is no whole number of at least 1\n"
