"""What people read: one-line messages on stderr and plain tables on stdout, nothing raw, no markup.

Importing this module loads nothing heavy; rich is loaded only by `progress_console`.
"""

import contextlib
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

QUIET: Final = -1
NORMAL: Final = 0
VERBOSE: Final = 1

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_ESCAPED_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")  # what json.dumps leaves as it is
_verbosity = NORMAL


def set_verbosity(level: int) -> None:
    """Set how much is said on stderr: `QUIET`, `NORMAL` or `VERBOSE`."""
    global _verbosity
    _verbosity = level


def verbosity() -> int:
    """The current level, `QUIET`, `NORMAL` or `VERBOSE`."""
    return _verbosity


def visible(text: str) -> str:
    r"""`text` with every control, line-separating, direction-changing and surrogate character as an escape.

    What names or contents hold then neither moves the cursor nor ends the line: a tab is shown as `\t`, an
    escape as `\x1b`.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def json_text(document: dict[str, Any], *, indent: int | None = None) -> str:
    """JSON, on one line without `indent`, with no raw control character whatever the strings in it hold."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    text = text.encode(errors="surrogatepass").decode(errors="replace")
    return _ESCAPED_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(document: dict[str, Any]) -> None:
    """Print the one document that `--json` stands for, with its version."""
    print(json_text({"schema": 1, **document}, indent=2))


def warn_if_kept(out: Path, spare: Path) -> None:
    """Warn if what lay in `out` was kept as `spare`, a name that was free before."""
    if spare.exists():
        warn(f"{out} held something else: that is now {spare}")


def is_terminal() -> bool:
    """Whether stderr is a terminal that understands more than plain lines."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed stderr must not end the work
        print(line, file=sys.stderr, flush=True)


def _prefix(kind: str, colour: int) -> str:
    if is_terminal() and not os.environ.get("NO_COLOR"):
        return f"nmt: \x1b[1;{colour}m{kind}:\x1b[0m"
    return f"nmt: {kind}:"


def error(message: str) -> None:
    """Print `nmt: error: …`, one line on stderr."""
    _say(f"{_prefix('error', 31)} {visible(message)}")


def warn(message: str) -> None:
    """Print `nmt: warning: …`, one line on stderr, `-q` or not."""
    _say(f"{_prefix('warning', 33)} {visible(message)}")


def note(message: str) -> None:
    """Print one line on stderr, unless `-q`."""
    if _verbosity > QUIET:
        _say(visible(message))


def detail(message: str) -> None:
    """Print one line on stderr with `-v` only."""
    if _verbosity >= VERBOSE:
        _say(visible(message))


def wants_progress() -> bool:
    """Whether to draw a progress display: stderr is a terminal and `-q` was not given."""
    return _verbosity > QUIET and is_terminal()


@contextlib.contextmanager
def progress_bar(label: str, *, printing: bool = False) -> Iterator[Callable[[int, int], object] | None]:
    """A bar on stderr, moved by calling what is yielded with (done, total); `None` where none is wanted.

    With `printing`, results go to stdout in the block: unless that is a file, they are progress enough, and a pipe may
    lead to the terminal as well.
    """
    if not wants_progress() or (printing and not _is_file(sys.stdout)):
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console(), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(visible(label).replace("[", "\\["), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _is_file(stream: TextIO) -> bool:
    """Whether it leads to a file on a disk."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it is closed, or has no descriptor
        return False


def progress_console() -> "Console":
    """A rich console on stderr for progress displays: colour only on a terminal, `NO_COLOR` honoured."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False, force_terminal=is_terminal())


def say(text: str = "") -> None:
    """Print one line of results on stdout."""
    print(visible(text))


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset(), indent: str = "") -> None:
    """Print rows on stdout as aligned columns, those numbered in `right` flush right."""
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print(indent + "  ".join(padded).rstrip())
