"""Several settings, or checkouts, measured in turn: each run is a process of its own.

Measured times wander, on laptops and on shared machines most of all. What is compared is therefore run in rounds,
A B A B ..., and the ratio is that of the medians; the spread is shown beside it.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nmt
from nmt.errors import NMTError, UsageError


@dataclass(frozen=True)
class Contender:
    """One of what is compared."""

    label: str
    arguments: tuple[str, ...]
    """Of `nmt`, without `--json`."""
    checkout: Path | None = None
    """Directory that holds the package to run; this one's own if `None`."""


@dataclass(frozen=True)
class Series:
    """A contender's documents, one a round."""

    contender: Contender
    documents: tuple[dict[str, Any], ...]

    def values(self, key: str) -> list[float]:
        """One figure of every document."""
        return [float(document[key]) for document in self.documents]

    def median(self, key: str) -> float:
        """Median of one figure."""
        return statistics.median(self.values(key))


def alternate(
    contenders: Sequence[Contender], *, rounds: int, report: Callable[[str], object] = lambda line: None
) -> list[Series]:
    """Run every contender once a round, in the order given; `report` gets a line before each run.

    Raises:
        NMTError: a run failed; with its last line and its exit code.
        UsageError: a run measured nothing.
    """
    documents: list[list[dict[str, Any]]] = [[] for _ in contenders]
    for number in range(rounds):
        for contender, found in zip(contenders, documents, strict=True):
            report(f"round {number + 1} of {rounds}: {contender.label}")
            found.append(_run(contender))
    return [Series(contender, tuple(found)) for contender, found in zip(contenders, documents, strict=True)]


def _run(contender: Contender) -> dict[str, Any]:
    environment = dict(os.environ)
    package = contender.checkout or Path(nmt.__file__).parents[1]
    paths = [str(package.resolve()), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-P", "-m", "nmt", *contender.arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or "no message"
        error = NMTError(f"{contender.label}: {last.removeprefix('nmt: error: ')}")
        error.exit_code = done.returncode
        raise error
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise UsageError(f"{contender.label}: that prints no measurement") from error
    return document
