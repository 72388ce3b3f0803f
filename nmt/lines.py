"""Lines of text as bytes hold them: split at LF and nowhere else, whatever else is in them.

Unicode knows a dozen further line ends (VT, FF, FS, GS, RS, NEL, U+2028, U+2029, a lone CR). Treating any of
them as one shifts every line behind it against the other language, so nothing here does.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from nmt.errors import DataError
from nmt.files import nearest_file

COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files. The content decides how a file is read, not the suffix."""

MAX_SMALL_FILE: Final = 256 * 1024 * 1024
"""Bytes (unpacked) above which `read_text_lines` refuses a file."""

MAX_SKIPPED: Final = 1024 * 1024 * 1024
"""Bytes of one line after which a bounded reader stops: that is no text but a decompression bomb."""

_SPACE_LIKE = re.compile("[\t\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM: Final = b"\xef\xbb\xbf"


def printable(text: str) -> str:
    """`text` as one line without control characters (C0, DEL, C1) or U+2028, U+2029.

    Those that separate words or lines become one space, the others go; half a surrogate pair, which no file
    can hold, becomes U+FFFD.
    """
    if text.isprintable():  # true of nearly all text; false for every character handled below
        return text
    return _CONTROL.sub("", _SPACE_LIKE.sub(" ", _SURROGATE.sub("\ufffd", text)))


def is_blank(text: str) -> bool:
    """Whether there is nothing in `text` to translate: only spaces, control and zero-width characters."""
    return not text.strip(_BLANK)


_BLANK: Final = (
    "".join(map(chr, [*range(0x21), *range(0x7F, 0xA1)]))
    + "\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u3000\u3164\ufeff\uffa0\u2800"
    + "".join(map(chr, [*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070)]))
)


@runtime_checkable
class _Readline(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


class LineReader:
    """Lines of a binary stream, as text without their line ends.

    One trailing CR and the stream's byte order mark are dropped; bytes that are not UTF-8 become U+FFFD and
    are counted. A line is given out as soon as its LF has arrived, so pipes and terminals are answered at once.

    Args:
        stream: anything with `readline`.
        max_bytes: a longer line is cut there, the rest of it skipped without being held in memory.
        name: of the stream, for messages.
    """

    def __init__(self, stream: _Readline, *, max_bytes: int | None = None, name: str = "the input") -> None:
        self._stream = stream
        self.name = name
        """What messages call the stream."""
        self._max_bytes = max_bytes
        self.number = 0
        """Number of the current line, from 1."""
        self.invalid = False
        """Whether the current line held bytes that are not UTF-8."""
        self.cut = False
        """Whether the current line was longer than `max_bytes`."""
        self.invalid_lines = 0
        """Lines so far with bytes that are not UTF-8."""
        self.first_invalid: int | None = None
        """Number of the first of them."""

    def __iter__(self) -> Iterator[str]:
        while (line := self.read()) is not None:
            yield line

    def read(self) -> str | None:
        """The next line, or `None` at the end."""
        limit = -1 if self._max_bytes is None else self._max_bytes + 2
        data = self._stream.readline(limit)
        if not data:
            return None
        self.number += 1
        self.cut = False
        if data.endswith(b"\n"):
            data = data[:-1]
        elif len(data) == limit:
            self._skip_rest()
        if data.endswith(b"\r"):
            data = data[:-1]
        if self._max_bytes is not None and len(data) > self._max_bytes:
            self.cut = True
            data = data[: self._max_bytes]
        if self.number == 1 and data.startswith(_BOM):
            data = data[len(_BOM) :]
        return self._decode(data)

    def _decode(self, data: bytes) -> str:
        try:
            text = data.decode()
            self.invalid = False
        except UnicodeDecodeError:
            text = data.decode(errors="replace")
            self.invalid = not self.cut  # a cut may fall inside a character
        if self.invalid:
            self.invalid_lines += 1
            self.first_invalid = self.first_invalid or self.number
        return text

    def _skip_rest(self) -> None:
        """Read to the end of the current line, holding none of it."""
        skipped = 0
        while data := self._stream.readline(1 << 20):
            skipped += len(data)
            if data.endswith(b"\n"):
                return
            if skipped > MAX_SKIPPED:
                raise DataError(f"{self.name}:{self.number} is longer than {MAX_SKIPPED >> 20} MiB: this is not text")


def open_binary(path: Path, *, observe: Callable[[bytes], object] | None = None) -> io.BufferedReader:
    """Open a file for reading, unpacked if its content says gzip, bzip2, xz or Zstandard.

    Args:
        path: the file.
        observe: called with every piece of the file's own (packed) bytes as it is read, to hash it.

    Raises:
        DataError: at opening or later at reading, naming the file: missing, unreadable, damaged.
    """
    try:
        raw: io.RawIOBase = io.FileIO(path, "rb")
    except OSError as error:
        near = printable(nearest_file(path)) if isinstance(error, FileNotFoundError) else ""
        raise DataError(f"cannot read {printable(str(path))}: {error.strerror}{near}") from error
    packed: io.BufferedReader[Any] = io.BufferedReader(_Named(raw, path, observe), 1 << 18)
    head = packed.peek(10)[:10]
    unpack = _unpacker(head, path)
    if unpack is None:
        return packed
    return io.BufferedReader(_Named(unpack(packed), path, None, owner=packed), 1 << 18)


def _unpacker(head: bytes, path: Path) -> Callable[[io.BufferedReader], Any] | None:
    """What unpacks a file that starts with the bytes `head`; `None` for a plain one."""
    if head.startswith(b"\x1f\x8b\x08"):
        return lambda file: gzip.GzipFile(fileobj=file, mode="rb")
    if head[:3] == b"BZh" and head[4:] in (b"1AY&SY", b"\x17rE8P\x90"):  # a block, or the end of an empty file
        return lambda file: bz2.BZ2File(file, "rb")
    if head.startswith(b"\xfd7zXZ\x00"):
        return lambda file: lzma.LZMAFile(file, "rb")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import zstandard
        except ImportError:
            hint = "install the package zstandard (pip install zstandard), or unpack it first"
            raise DataError(f"{printable(str(path))} is Zstandard-compressed: {hint}") from None
        return lambda file: _Zstandard(file, zstandard.ZstdDecompressor().decompressobj)
    return None


class _Zstandard:
    """Unpacks all frames of a Zstandard file; zstandard's own reader takes one that is cut short for its end."""

    _STEP: Final = 2048  # packed bytes at a time: they unpack to 64 MiB at worst

    def __init__(self, packed: io.BufferedReader, new_frame: Callable[[], Any]) -> None:
        self._packed = packed
        self._new_frame = new_frame
        self._frame: Any = None
        self._ready = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while not (result := self._ready.read(size)):
            data = self._packed.read(self._STEP)
            if not data and self._frame is not None and not self._frame.eof:
                raise EOFError
            if not data:
                return b""
            unpacked = []
            while data:
                if self._frame is None or self._frame.eof:
                    self._frame = self._new_frame()
                unpacked.append(self._frame.decompress(data))
                data = self._frame.unused_data
            self._ready = io.BytesIO(b"".join(unpacked))
        return result

    def close(self) -> None:
        """Nothing is held but the packed file, which its owner closes."""


class _Named(io.RawIOBase):
    """A raw stream whose every failure is a `DataError` with the file's name."""

    def __init__(
        self,
        inner: Any,
        path: Path,
        observe: Callable[[bytes], object] | None,
        owner: io.BufferedReader | None = None,
    ) -> None:
        self._inner = inner
        self._path = path
        self._observe = observe
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer)) or b""
        except DataError:
            raise
        except EOFError:
            raise DataError(f"{printable(str(self._path))} is cut short: its compressed data ends early") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"cannot read {printable(str(self._path))}: {printable(reason)}") from error
        except (zlib.error, lzma.LZMAError, ValueError) as error:
            raise DataError(f"{printable(str(self._path))} is damaged: {printable(str(error))}") from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # zstandard is optional: its class cannot be named above
                raise
            raise DataError(f"{printable(str(self._path))} is damaged: {printable(str(error))}") from error
        if self._observe is not None:
            self._observe(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            if self._owner is not None:
                self._owner.close()
        super().close()


def refuse_utf16(stream: io.BufferedIOBase, path: Path, *, certain: bool = False) -> None:
    """Raise `DataError` if the stream, at its start, is UTF-16 or UTF-32.

    Args:
        stream: a buffered reader that has read nothing yet; any other is let pass.
        path: its name.
        certain: only if it has both the mark and the zero bytes of Latin text; else either is enough.
    """
    if not isinstance(stream, io.BufferedReader):
        return
    head = stream.peek(64)[:64]
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    text = head[2:] if marked else head
    even, odd = any(text[::2]), any(text[1::2])
    zeros = even != odd and len(head) >= 8
    if (marked and zeros) if certain else (marked or zeros):
        name = printable(str(path))
        raise DataError(f"{name} is UTF-16 or UTF-32, not UTF-8: convert it (iconv -f UTF-16 -t UTF-8)")


def read_text_lines(path: Path) -> list[str]:
    """All lines of a small text file, also a compressed one, or of standard input for `-`.

    Raises:
        DataError: the file is missing, unreadable, damaged, not UTF-8, or larger than `MAX_SMALL_FILE`.
    """
    stdin = str(path) == "-"
    name = "standard input" if stdin else printable(str(path))
    if stdin and sys.stdin is None:
        raise DataError("standard input is closed")
    opened: Any = contextlib.nullcontext(sys.stdin.buffer) if stdin else open_binary(path)
    with opened as stream:
        refuse_utf16(stream, Path(name))
        reader = LineReader(_Bounded(stream, Path(name)))
        lines = list(reader)
    if reader.first_invalid is not None:
        raise DataError(f"{name}:{reader.first_invalid} is not UTF-8")
    return lines


class _Bounded:
    """`readline` over a stream that raises `DataError` beyond `MAX_SMALL_FILE` bytes."""

    def __init__(self, stream: io.BufferedIOBase, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = MAX_SMALL_FILE

    def readline(self, size: int = -1, /) -> bytes:
        line = self._stream.readline(self._left + 1 if size < 0 else size)
        self._left -= len(line)
        if self._left < 0:
            limit = f"{MAX_SMALL_FILE >> 20} MiB"
            raise DataError(f"{printable(str(self._path))} is larger than {limit} unpacked")
        return line
