"""Lines in as they arrive, whole lines out: what `nmt translate` and `nmt score` read and write."""

import contextlib
import io
import os
import re
import select
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from nmt.cli.console import visible
from nmt.errors import DataError, NMTError, UsageError
from nmt.files import atomic_file, follow_links, nearest_file, require_folder
from nmt.lines import COMPRESSIONS, LineReader, open_binary, refuse_utf16
from nmt.manifest import vouches_for

STDIN: Final = Path("-")
FIRST_CHUNK: Final = 128
"""Lines handed over at first from an input that has more, to whoever waits; each chunk is four times the last ..."""
LARGEST_CHUNK: Final = 8192
"""... up to so many: enough to sort by length, few enough to keep in memory."""
CHUNK_CHARACTERS: Final = 1 << 20
PATIENCE: Final = 0.005
"""Seconds to wait for another line before those that have arrived are handed over."""
ATOMIC: Final = 4096
"""Bytes that a pipe takes whole or not at all (PIPE_BUF on Linux)."""

Write = Callable[[Iterable[str]], None]
"""Writes lines, given without line ends."""


@dataclass(frozen=True)
class Line:
    """One line of an input."""

    text: str
    place: str
    """`FILE:7`, or `line 7` of standard input."""
    cut: bool
    """Whether the line was longer than the reader's limit."""


@runtime_checkable
class _Readable(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


@runtime_checkable
class _Source(_Readable, Protocol):
    def ready(self) -> bool: ...


@runtime_checkable
class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


class Arrivals:
    """Lines of a pipe, a terminal or a file, with the knowledge whether the next one is already there."""

    def __init__(self, descriptor: int, name: str, *, enough: int) -> None:
        self._descriptor = descriptor
        self._name = name
        self._enough = enough  # bytes that are taken for a line even without its end
        self._buffer = bytearray()
        self._ended = False

    def ready(self) -> bool:
        """Whether `readline` would return at once, or nearly so."""
        scanned = 0
        while not self._ended and self._buffer.find(b"\n", scanned) < 0 and len(self._buffer) < self._enough:
            scanned = len(self._buffer)
            try:
                if not select.select([self._descriptor], [], [], PATIENCE)[0]:
                    return False
            except (OSError, ValueError):  # what cannot be asked is read line by line
                return False
            self._fill()
        return True

    def readline(self, size: int = -1, /) -> bytes:
        """The next line with its end, waiting for it; at most `size` bytes of it; empty at the end."""
        scanned = 0
        while True:
            end = self._buffer.find(b"\n", scanned) + 1
            if end or self._ended or 0 <= size <= len(self._buffer):
                end = end or len(self._buffer)
                end = min(end, size) if size >= 0 else end
                line = bytes(self._buffer[:end])
                del self._buffer[:end]
                return line
            scanned = len(self._buffer)
            self._fill()

    def _fill(self) -> None:
        try:
            data = os.read(self._descriptor, 1 << 18)
        except BlockingIOError:  # whoever gave it to us does not wait
            select.select([self._descriptor], [], [])
            return
        except OSError as error:
            raise DataError(f"cannot read {self._name}: {error.strerror}") from error
        self._ended = not data
        self._buffer += data


class _Plain:
    """A stream without a descriptor, or one that is unpacked: all of it counts as arrived."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream

    def ready(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> bytes:
        return self._stream.readline(size)


class Input:
    """A file or standard input as chunks of lines.

    A chunk is what has arrived: a single line from someone who waits for the answer, thousands from a file.

    Args:
        path: a file, plain or compressed, a FIFO, or `-`.
        max_bytes: longer lines are cut there.
        first_chunk: lines handed over at first, if that many have arrived.
    """

    def __init__(self, path: Path, *, max_bytes: int, first_chunk: int = FIRST_CHUNK) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else visible(str(path))
        self._max_bytes, self._first_chunk = max_bytes, first_chunk
        self._reader: LineReader | None = None
        if path != STDIN:
            _check_readable(path, self.name)

    @property
    def invalid_lines(self) -> int:
        """Lines so far with bytes that are not UTF-8."""
        return self._reader.invalid_lines if self._reader else 0

    @property
    def first_invalid(self) -> str:
        """Where the first of them was."""
        return self._place(self._reader.first_invalid or 0) if self._reader else ""

    def chunks(self) -> Iterator[list[Line]]:
        """All lines, in order, nothing held back that is complete."""
        with contextlib.ExitStack() as stack:
            source = self._open(stack)
            reader = self._reader = LineReader(source, max_bytes=self._max_bytes)
            limit = self._first_chunk
            while (text := reader.read()) is not None:
                chunk, characters = [self._line(text)], len(text)
                while len(chunk) < limit and characters < CHUNK_CHARACTERS and source.ready():
                    if (text := reader.read()) is None:
                        break
                    chunk.append(self._line(text))
                    characters += len(text)
                if len(chunk) == limit:
                    limit = min(4 * limit, LARGEST_CHUNK)
                yield chunk

    def count(self) -> int | None:
        """Number of lines, if it can be known beforehand: that of a regular file."""
        if self.path == STDIN or not self.path.is_file():
            return None
        last, lines = b"\n", 0
        with open_binary(self.path) as file:
            while data := file.read(1 << 20):
                lines += data.count(b"\n")
                last = data[-1:]
        return lines + (last != b"\n")

    def _open(self, stack: contextlib.ExitStack) -> _Source:
        if self.path == STDIN:
            stream = sys.stdin.buffer
            descriptor = _descriptor(stream)
            if descriptor is None:
                return _Plain(stream)
        elif self.path.is_file():
            file = stack.enter_context(open_binary(self.path))
            refuse_utf16(file, self.path, certain=True)  # any other bytes are lines, whatever is in them
            return _Plain(file)
        else:
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"cannot read {self.name}: {error.strerror}") from error
            stack.callback(os.close, descriptor)
        return Arrivals(descriptor, self.name, enough=self._max_bytes + 2)

    def _line(self, text: str) -> Line:
        assert self._reader is not None
        return Line(text, self._place(self._reader.number), self._reader.cut)

    def _place(self, number: int) -> str:
        return f"line {number}" if self.path == STDIN else f"{self.name}:{number}"


def _check_readable(path: Path, name: str) -> None:
    """Say what is wrong with a file before the work begins."""
    if not path.exists():
        raise DataError(f"no such file: {name}{visible(nearest_file(path))}")
    if path.is_dir():
        raise DataError(f"{name} is a directory, not a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"cannot read {name}: Permission denied")


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, AttributeError, io.UnsupportedOperation):
        return None


# -- output ------------------------------------------------------------------------------------------------


def appears_whole(output: Path | None) -> bool:
    """Whether what `open_output` writes there is seen by nobody before its end: a file, not a stream."""
    return output is not None and output != STDIN and not _is_special(output)


@contextlib.contextmanager
def open_output(path: Path | None, inputs: Sequence[Input], directories: Iterable[Path | None] = ()) -> Iterator[Write]:
    """Yield what writes lines: to standard output, to a device or FIFO, or to a file that appears whole.

    Raises:
        UsageError: the output is one of the inputs, by whatever name, or a file of the models and data in
            `directories`.
        NMTError: the place cannot be written or is full.
    """
    if path is None or path == STDIN:
        descriptor = _descriptor(sys.stdout.buffer)
        if descriptor is None:
            yield _stream_writer(sys.stdout.buffer)
        else:
            sys.stdout.flush()
            yield _descriptor_writer(descriptor, "standard output")
        return
    name = visible(str(path))
    _refuse_input(path, name, inputs)
    _refuse_part(path, name, directories)
    if path.is_dir():
        raise UsageError(f"{name} is a directory, not a file")
    if path.suffix in COMPRESSIONS:
        raise UsageError(f"{name}: what is written is not compressed: name a plain file, or pipe it through a packer")
    if _is_special(path):
        try:
            descriptor = _open_special(path)
        except OSError as error:
            raise NMTError(f"cannot write {name}: {error.strerror}") from error
        try:
            yield _descriptor_writer(descriptor, name)
        finally:
            os.close(descriptor)
        return
    require_folder(path, f"cannot write {name}")
    with atomic_file(follow_links(path)) as file:
        yield _stream_writer(file)


def _is_special(path: Path) -> bool:
    """Whether a path names something other than a file to be made or replaced: a device, a FIFO, /dev/fd/3."""
    return path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev"))


def _open_special(path: Path) -> int:
    """A descriptor to write to; that of an open standard stream where `path` leads to what it writes to.

    Opened anew, a file that the shell appends to, as by `>> FILE`, would be overwritten from its beginning.
    """
    there = path.stat()
    named = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,9})", str(path))
    for stream in (int(named[1]),) if named else (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(stream), there):
                return os.dup(stream)
    return os.open(path, os.O_WRONLY)


def _refuse_input(path: Path, name: str, inputs: Sequence[Input]) -> None:
    try:
        output = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(output.st_mode):
        return
    for item in inputs:
        try:
            source = os.fstat(sys.stdin.fileno()) if item.path == STDIN else item.path.stat()
        except (OSError, ValueError):
            continue
        if os.path.samestat(source, output):
            raise UsageError(f"{name} is the input itself: choose another name for the output")


def _refuse_part(path: Path, name: str, directories: Iterable[Path | None]) -> None:
    for directory in directories:
        if directory is not None and path.is_file() and vouches_for(directory, path):
            raise UsageError(f"{name} is a file of {visible(str(directory))}: choose another name for the output")


def _stream_writer(stream: _Writable) -> Write:
    def write(lines: Iterable[str]) -> None:
        stream.write(b"".join(_encode(line) for line in lines))
        stream.flush()

    return write


def _descriptor_writer(descriptor: int, name: str) -> Write:
    """Writes past Python's buffers, so that a signal falls between lines and an error is noticed at once."""

    def write(lines: Iterable[str]) -> None:
        try:
            for piece in _pieces(lines):
                _write_whole(descriptor, piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise NMTError(f"cannot write {name}: {error.strerror}") from error

    return write


def _encode(line: str) -> bytes:
    return line.encode(errors="replace") + b"\n"


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes at once."""
    piece = b""
    for line in lines:
        data = _encode(line)
        if piece and len(piece) + len(data) > ATOMIC:
            yield piece
            piece = b""
        piece += data
    if piece:
        yield piece


def _write_whole(descriptor: int, piece: bytes) -> None:
    """Write all of `piece`; what is too long to be atomic is not interrupted by SIGINT or SIGTERM."""
    signals = {signal.SIGINT, signal.SIGTERM}
    if len(piece) <= ATOMIC or not hasattr(signal, "pthread_sigmask"):
        signals = set()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals) if signals else set()
    try:
        while piece:
            try:
                piece = piece[os.write(descriptor, piece) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
    finally:
        if signals:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_output(option: str, path: Path, inputs: Sequence[Path], directories: Iterable[Path | None] = ()) -> None:
    """Raise `UsageError` unless `path` can take results; asked before the work, not after it.

    It must be none of `inputs`, and no file of the models and data in `directories`.
    """
    name = f"{option} {visible(str(path))}"
    if path.is_dir():
        raise UsageError(f"{name} is a directory, not a file")
    require_folder(path, name)
    if path.exists() and not path.is_file():
        raise UsageError(f"{name} is no plain file")
    if path.exists() and any(other.is_file() and other.samefile(path) for other in inputs):
        raise UsageError(f"{name} is an input: choose another name for the output")
    _refuse_part(path, name, directories)


def refuse_stdin_twice(inputs: Iterable[Path | None], options: str) -> None:
    """Raise `UsageError` where more than one of the inputs, those of `options`, is standard input."""
    if sum(path == STDIN for path in inputs) > 1:
        raise UsageError(f"standard input can be only one of {options}")
