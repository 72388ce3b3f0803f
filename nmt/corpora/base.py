"""What a corpus is: pairs of sentences, where they stand, and what may be done with them."""

import hashlib
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nmt.errors import DataError
from nmt.lines import printable

Role = Literal["train", "valid", "test"]
InvalidUTF8 = Literal["error", "replace", "drop"]

LINE_TOO_LONG = "line_too_long"
"""Reason: a line above `Reading.max_line_bytes`, not read whole."""
INVALID_UTF8 = "invalid_utf8"
"""Reason: bytes that are not UTF-8, where those are to be dropped."""


class Misaligned(DataError):
    """The two sides of a corpus differ in length."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a corpus is read."""

    source_lang: str = "fr"
    target_lang: str = "en"
    role: Role = "train"
    invalid_utf8: InvalidUTF8 = "error"
    """What becomes of a pair with bytes that are not UTF-8; evaluation sets never drop one."""
    max_line_bytes: int = 10_000_000
    """A longer line is no sentence: it is dropped from training text and stops in evaluation sets."""
    streaming: bool = False
    """Whether a hub corpus is read over the network as it goes instead of being stored first."""

    @property
    def langs(self) -> tuple[str, str]:
        """Source and target language."""
        return self.source_lang, self.target_lang


@dataclass(frozen=True)
class InputFile:
    """A file that was read: enough to recognise it again, not where it lay."""

    name: str
    bytes: int
    sha256: str


class Digest:
    """Hash and size of a file, fed with its bytes as they are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _state(path)
        self._hash = hashlib.sha256()
        self._bytes = 0

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._hash.update(data)
        self._bytes += len(data)

    def result(self) -> InputFile:
        """Hash and size of all bytes so far.

        Raises:
            DataError: the file is not the one that reading began with.
        """
        if _state(self._path) != self._before:
            raise DataError(f"{printable(str(self._path))} was changed while it was read")
        return InputFile(self._path.name, self._bytes, self._hash.hexdigest())


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written to or replaced; `None` for a pipe, and for what is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


@dataclass
class Corpus(ABC):
    """Parallel text, read from beginning to end, once."""

    spec: str
    """How it was named; a path shortened to its last two parts, as manifests are published."""
    reading: Reading
    licence: str | None = field(default=None, kw_only=True)
    """Licence of the text, where the corpus knows it."""
    revision: str | None = field(default=None, kw_only=True)
    """Version of the text, where it has one."""
    read: int = field(default=0, init=False)
    """Pairs met so far, those dropped here included; while iterating, the number of the current one."""
    dropped: Counter[str] = field(default_factory=Counter, init=False)
    """Pairs dropped while reading, by reason."""
    files: list[InputFile] = field(default_factory=list, init=False)
    """The files read; complete when `pairs` has ended."""

    @abstractmethod
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Source and target of each pair, as they stand in the corpus.

        Raises:
            DataError: naming file and line: unreadable, misaligned, damaged or empty.
        """

    @abstractmethod
    def place(self, number: int) -> str:
        """Where pair `number` (from 1) stands, for messages: "file:line"."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says of this corpus; after reading it."""
        facts: dict[str, Any] = {"spec": self.spec, "licence": self.licence, "read": self.read}
        if self.revision is not None:
            facts["revision"] = self.revision
        if self.files:
            facts["files"] = [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in self.files]
        return facts

    def unusable(self, reason: str, where: str) -> None:
        """Drop the current pair for `reason` if that is allowed, else stop.

        Raises:
            DataError: in an evaluation set, or where invalid UTF-8 is to stop.
        """
        evaluation = self.reading.role != "train"
        if reason == INVALID_UTF8 and (evaluation or self.reading.invalid_utf8 == "error"):
            choices = "--invalid-utf8 replace" if evaluation else "--invalid-utf8 replace or drop"
            raise DataError(f"{where} is not UTF-8: mend it, or give {choices}")
        if reason == LINE_TOO_LONG and evaluation:
            raise DataError(f"{where} is longer than {self.reading.max_line_bytes} bytes: this is no sentence")
        self.dropped[reason] += 1
