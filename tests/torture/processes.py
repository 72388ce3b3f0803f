"""`nmt` in processes of its own, forked from this one, which imports what they need: a start takes milliseconds."""

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PATIENCE = 120.0
"""Seconds until a process counts as hanging."""


@dataclass
class Process:
    """One run of the command line."""

    pid: int
    err: Path
    code: int | None = None
    """As a shell has it: the signal's number, negated, for a process that was killed."""

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code; a process that hangs is killed and told apart by -999."""
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                self.kill(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -999
                break
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def kill(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def said(self) -> str:
        """Its standard error so far."""
        return self.err.read_text(encoding="utf-8", errors="replace")


def start(
    arguments: Sequence[object],
    *,
    err: Path,
    stdin: int | Path = Path(os.devnull),
    stdout: int | Path = Path(os.devnull),
    stopped: bool = False,
    modules: Path | None = None,
) -> Process:
    """Run `nmt ARGUMENTS`; with `stopped`, it waits for SIGCONT first; what it has imported goes to `modules`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Process(pid, err)
    try:
        _become(stdin, stdout, err)
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = _command(arguments)
        if modules is not None:
            modules.write_text("\n".join(sys.modules), encoding="utf-8")
    except SystemExit as ended:  # a signal on the way into or out of the command line
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        os.write(2, f"Traceback: the command line itself failed: {error!r}\n".encode())
        code = 99
    os._exit(code)


def warm(arguments: Sequence[object], folder: Path) -> Process:
    """Run `nmt ARGUMENTS` to its end, and import here what it imported, for all that come after it."""
    process = start(arguments, err=folder / "warm.err", modules=folder / "modules")
    if process.wait() == 0:
        for name in (folder / "modules").read_text(encoding="utf-8").split("\n"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return process


def _become(stdin: int | Path, stdout: int | Path, err: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(stdin, os.O_RDONLY) if isinstance(stdin, Path) else stdin, 0)
    os.dup2(os.open(stdout, writing, 0o666) if isinstance(stdout, Path) else stdout, 1)
    os.dup2(os.open(err, writing, 0o666), 2)
    os.closerange(3, 256)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115


def _command(arguments: Sequence[object]) -> int:
    from nmt import cli

    torch.set_num_threads(1)
    code = cli.main([str(argument) for argument in arguments])
    sys.stdout.flush()
    return code
