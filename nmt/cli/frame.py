"""The frame around every command: common options, help with examples first, errors on one line, exit codes.

Typer parses; this module decides what is printed and what the process returns, for the console script and for
Typer's test runner alike.
"""

import contextlib
import errno
import io
import os
import re
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

import nmt
from nmt.cli import console
from nmt.cli.help_page import plain_usage, short_help, write_help
from nmt.errors import NMTError, did_you_mean, is_out_of_memory

BROKEN_PIPE: Final = 141
INTERRUPTED: Final = 130
TERMINATED: Final = 143
HELP_WIDTH: Final = 100
_STREAM_ERRORS: Final = (errno.EBADF, errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)
"""What writing to (or reading from) a standard stream can fail with."""
CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH}


# -- common options ----------------------------------------------------------------------------------------


def _quiet(value: bool) -> bool:
    if value:
        console.set_verbosity(console.QUIET)
    return value


def _verbose(value: bool) -> bool:
    if value:
        console.set_verbosity(console.VERBOSE)
        warnings.simplefilter("default")
    return value


def _version(value: bool) -> bool:
    if value:
        print(f"nmt {nmt.__version__}")
        raise typer.Exit
    return value


Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Say nothing but warnings and errors.", callback=_quiet, is_eager=True),
]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say more; show where an error arose.", callback=_verbose, is_eager=True),
]
Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
]


def _common_options(quiet: Quiet = False, verbose: Verbose = False, version: Version = False) -> None:
    """Options that every command understands, before its name and after it."""


def _common_parameters() -> list[Any]:
    """The options of `_common_options`; their callbacks act, their values go nowhere."""
    holder = typer.Typer(add_completion=False, rich_markup_mode=None)
    holder.command()(_common_options)
    parameters: list[Any] = list(typer.main.get_command(holder).params)
    for parameter in parameters:
        parameter.expose_value = False
        parameter.hidden = parameter.name == "version"
    return parameters


# -- commands ----------------------------------------------------------------------------------------------


class Command(TyperCommand):
    """A command that also takes the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Typer's; adds the common options that the command does not define itself."""
        super().__init__(*args, **kwargs)
        taken = {name for parameter in self.params for name in parameter.opts}
        self.params += [parameter for parameter in _common_parameters() if taken.isdisjoint(parameter.opts)]
        for parameter in self.params:
            if hasattr(parameter.type, "readable"):
                parameter.type.readable = False  # a file that cannot be read is no wrong option: who reads it says so
        self.context_settings = {**CONTEXT_SETTINGS, **self.context_settings}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; several SPECs may follow one option, as a shell makes of a pattern."""
        rest: list[str] = super().parse_args(ctx, self._one_each(args))
        return rest

    def _one_each(self, args: list[str]) -> list[str]:
        """`--train A B` as `--train A --train B`: where no argument of the command's own is still to come."""
        several = {
            name for p in self.params if getattr(p, "multiple", False) and p.metavar == "SPEC" for name in p.opts
        }
        valued = {name for p in self.params if not getattr(p, "is_flag", False) for name in p.opts}
        awaited = sum(p.param_type_name == "argument" for p in self.params)
        found = ["-", "-"]  # stands for two words before the first
        for number, word in enumerate(args):
            if word == "--":
                found += args[number:]
                break
            if not word.startswith("-") and found[-1] not in valued:  # no option's value
                if found[-2] in several and awaited <= 0:
                    found.append(found[-2])
                else:
                    awaited -= 1
            found.append(word)
        return found[2:]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Words of the usage line: `NAME` for a required argument, `[NAME]` for another."""
        return plain_usage(super().collect_usage_pieces(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        write_help(self, ctx, formatter)

    def getshort_help_str(self, limit: int = 45) -> str:
        """What `nmt --help` says of it."""
        return short_help(self)


class Group(TyperGroup):
    """A command made of commands, such as `nmt data`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Typer's, with the common options and our settings."""
        super().__init__(*args, **kwargs)
        taken = {name for parameter in self.params for name in parameter.opts}
        self.params += [parameter for parameter in _common_parameters() if taken.isdisjoint(parameter.opts)]
        self.context_settings = {**CONTEXT_SETTINGS, **self.context_settings}

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Words of the usage line: `NAME` for a required argument, `[NAME]` for another."""
        return plain_usage(super().collect_usage_pieces(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        write_help(self, ctx, formatter)

    def getshort_help_str(self, limit: int = 45) -> str:
        """What `nmt --help` says of it."""
        return short_help(self)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, groups first."""
        return sorted(self.commands, key=lambda name: not isinstance(self.commands[name], TyperGroup))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; without any argument the help is printed on stderr, as a usage error."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            raise typer.Exit(2)
        rest: list[str] = super().parse_args(ctx, args)
        return rest


class Root(Group):
    """`nmt` itself: running it returns an exit code and never shows a traceback unasked."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run and exit; what Typer's test runner calls."""
        raise SystemExit(run(self, sys.argv[1:] if args is None else args))


# -- running -----------------------------------------------------------------------------------------------


def run(root: Any, args: Sequence[str]) -> int:
    """Run a command line; print what went wrong on one line of stderr; return the exit code."""
    console.set_verbosity(console.NORMAL)
    _use_utf8()
    try:
        try:
            root._main_shell_completion({}, "nmt")
            with root.make_context("nmt", list(args)) as context:
                root.invoke(context)
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException as error:
        return _report(error)
    return 0


def _report(error: BaseException) -> int:
    """Say what went wrong, if it is worth a word, and return the exit code."""
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _abandon_stdout()
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _abandon_stdout()
        return BROKEN_PIPE
    if console.verbosity() >= console.VERBOSE:
        for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
            console.detail(line)
    if isinstance(error, OSError):
        _abandon_stdout()
    message, code = _explain(error)
    console.error(message)
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for an error, and its exit code."""
    if isinstance(error, NMTError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage_message(error), error.exit_code
    if is_out_of_memory(error):
        return "out of memory: try smaller batches (batch_tokens) or a smaller model", 5
    if isinstance(error, OSError) and error.strerror:
        stream = "standard input or output" if error.errno in _STREAM_ERRORS else type(error).__name__
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else stream
        return f"{name}: {error.strerror}", 1
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("nmt"):
        return f"the Python package '{error.name}' is missing: nmt doctor says how to install it", 1
    what = " ".join(str(error).split())
    hint = "" if console.verbosity() >= console.VERBOSE else "; give -v to see where"
    return f"{type(error).__name__}{': ' if what else ''}{what[:300]} (this is a bug in nmt{hint})", 1


def _usage_message(error: typer.TyperException) -> str:
    """Typer's message in our words: lower case, no full stop, the nearest option, command or value."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    page = f"{context.command_path} --help" if context is not None else "nmt --help"
    if hasattr(error, "possibilities") and context is not None:
        known = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        return f"no such option {option}{did_you_mean(str(option), known) or f': see {page}'}"
    unknown = re.match(r"No such command '(.*?)'\.", error.message)
    if unknown and context is not None:
        known = context.command.list_commands(context)
        near = did_you_mean(unknown[1], known) or f": choose from {', '.join(known)}"
        return f"no such command '{unknown[1]}'{near}"
    text = re.sub(r"\s*\n\s*", " ", error.format_message()).strip().rstrip(".")
    text = re.sub(r"\. Choose from: ", ": choose from ", text)
    text = re.sub(r"is not a valid (int|float)( range)?$", lambda found: _wanted(found[1], error), text)
    return f"{text[:1].lower()}{text[1:]}{_nearest_choice(error)}"


def _wanted(kind: str, error: typer.TyperException) -> str:
    """What a value is not: a number, whole or not, and of which range."""
    type_ = getattr(getattr(error, "param", None), "type", None)
    bounds = [getattr(type_, name, None) for name in ("min", "max")]
    words = zip(("at least", "at most"), bounds, strict=True)
    of_range = " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None)
    number = "whole number" if kind == "int" else "number"
    return f"is no {number} of {of_range}" if of_range else f"is no {number}"


def _nearest_choice(error: typer.TyperException) -> str:
    descriptor = getattr(getattr(error, "param", None), "type_descriptor", None)
    value = re.match(r"'(.*?)' is not one of", error.message)
    choices = [str(getattr(choice, "value", choice)) for choice in getattr(descriptor, "choices", None) or ()]
    return did_you_mean(value[1], choices) if value else ""


# -- the process -------------------------------------------------------------------------------------------


def prepare_process() -> None:
    """Make a real process safe to work in: open standard streams, SIGTERM, thread settings, no warnings."""
    _open_missing_streams()
    signal.signal(signal.SIGTERM, _terminate)
    os.umask(os.umask(0o077) | 0o002)  # no file that all may write
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    if not re.fullmatch(r"[1-9][0-9]{0,2}(,[0-9]+)*", threads):
        del os.environ["OMP_NUM_THREADS"]
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _terminate(number: int, frame: types.FrameType | None) -> None:
    """First SIGTERM: unwind, so that temporary files go, and exit with 143. Second: die at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(TERMINATED)


def _open_missing_streams() -> None:
    """Give closed standard streams a descriptor, so that no file of ours takes their numbers.

    Each is opened the wrong way round: using it is an error that is reported, as if it were still closed.
    A closed stderr swallows.
    """
    for number, name, mode, flags in (
        (0, "stdin", "r", os.O_WRONLY),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_WRONLY),
    ):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _use_utf8() -> None:
    """Standard streams are UTF-8 with LF line ends, whatever the locale says."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def _abandon_stdout() -> None:
    """Send what is still buffered for stdout nowhere, so that the interpreter's last flush is quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stdout.fileno()
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, descriptor)
        os.close(sink)
