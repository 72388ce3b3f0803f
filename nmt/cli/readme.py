"""Keep the `--help` pages in the README equal to what the program prints.

`python -m nmt.cli.readme README.md` rewrites every block between `<!-- help: nmt translate -->` and
`<!-- /help -->`; with `--check` it only says, by its exit code, whether one is stale.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import typer

from nmt.cli import app, console
from nmt.errors import UsageError, did_you_mean
from nmt.files import atomic_file

WIDTH: Final = 100
_BLOCK = re.compile(r"(<!-- help: nmt(?P<words>[^\n]*?) *-->\n).*?(<!-- /help -->)", re.DOTALL)


def help_page(words: Sequence[str]) -> str:
    """What `nmt WORDS --help` prints on a terminal of 100 columns.

    Raises:
        UsageError: there is no such command.
    """
    command: Any = typer.main.get_command(app)
    settings = {"resilient_parsing": True, "terminal_width": WIDTH}
    context = command.make_context("nmt", [], **settings)
    for word in words:
        commands = getattr(command, "commands", {})
        if word not in commands:
            raise UsageError(f"help of 'nmt {' '.join(words)}': no such command{did_you_mean(word, commands)}")
        command = commands[word]
        context = command.make_context(word, [], parent=context, **settings)
    return str(command.get_help(context))


def fill(text: str) -> str:
    """`text` with every help block as it should be."""

    def block(match: re.Match[str]) -> str:
        page = help_page(match["words"].split())
        return f"{match[1]}\n```text\n{page}\n```\n\n{match[3]}"

    return _BLOCK.sub(block, text)


def main(args: Sequence[str]) -> int:
    """Rewrite or check the files named; 1 if one is stale under `--check`."""
    check = "--check" in args
    stale = False
    for path in (Path(arg) for arg in args if arg != "--check"):
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if new == old:
            continue
        stale = True
        if check:
            console.error(f"the help pages in {path} are stale: run python -m nmt.cli.readme {path}")
        else:
            with atomic_file(path) as file:
                file.write(new.encode())
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
