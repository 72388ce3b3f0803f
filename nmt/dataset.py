"""A data directory: tokenizer, encoded splits, evaluation text and a manifest that vouches for all of them.

An encoded split is flat: the token ids of all its sentences one after the other, and the offsets between them,
for each side. Ids are read from the file when they are asked for, so the size of a corpus hardly shows in memory: of
each pair 24 bytes stay, its lengths and places in the files (and 12 of the order of an epoch).
"""

import glob
import hashlib
import json
import os
import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nmt.errors import DataError, ModelError, unknown
from nmt.files import nearest_file, read_json, refuse_closed, sha256_file
from nmt.lines import printable, read_text_lines
from nmt.manifest import is_said_to_be
from nmt.tokenizer import TokenizerPair

FORMAT: Final = "nmt-data"
_TWO_LETTERS: Final = re.compile(r"\.[a-z][a-z](\.(gz|bz2|xz|zst))?")  # as text of a language ends
FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
SPLITS: Final = ("train", "valid", "test")
SIDES: Final = ("source", "target")
TOKEN_TYPES: Final = ("uint16", "uint32")

Side = Literal["source", "target"]

_READ: Final = 1 << 20  # tokens of a file that are looked at at a time
_REMAKE: Final = "prepare it again with `nmt data prepare`"
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")


def is_language(name: str) -> bool:
    """Whether `name` can be a language code: it becomes part of file names."""
    return _LANGUAGE.fullmatch(name) is not None


def token_type(*vocab_sizes: int) -> str:
    """Smallest type of `TOKEN_TYPES` that holds the ids of all the vocabularies."""
    return "uint16" if max(vocab_sizes) <= 1 << 16 else "uint32"


def tokens_name(split: str, side: str) -> str:
    """File with the token ids of one side of a split."""
    return f"{split}.{side}.tokens.bin"


def offsets_name(split: str, side: str) -> str:
    """File with the int64 offsets between the sentences of one side: their number and one more."""
    return f"{split}.{side}.offsets.bin"


class SplitWriter:
    """Writes an encoded split, sentence pair by sentence pair.

    Args:
        directory: where the four files go; it must exist.
        name: of the split.
        dtype: of the token ids, one of `TOKEN_TYPES`.
    """

    def __init__(self, directory: Path, name: str, dtype: str) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._tokens = [(directory / tokens_name(name, side)).open("wb") for side in SIDES]
        self._offsets = [(directory / offsets_name(name, side)).open("wb") for side in SIDES]
        self.pairs = 0
        """Pairs written so far."""
        self.totals = [0, 0]
        """Tokens written so far on each side."""
        self.longest = [0, 0]
        """Tokens of the longest sentence of each side."""
        for file in self._offsets:
            file.write(bytes(8))

    def append(self, src_ids: Sequence[int], tgt_ids: Sequence[int]) -> None:
        """Add one pair, without BOS or EOS."""
        for side, ids in enumerate((src_ids, tgt_ids)):
            self._tokens[side].write(np.asarray(ids, self._dtype).tobytes())
            self.totals[side] += len(ids)
            self.longest[side] = max(self.longest[side], len(ids))
            self._offsets[side].write(self.totals[side].to_bytes(8, "little"))
        self.pairs += 1

    def close(self) -> None:
        """Complete the files."""
        for file in (*self._tokens, *self._offsets):
            file.close()

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TokenFile:
    """The token ids of a file, read from it whenever they are asked for.

    Nothing of it stays in memory, where the pages of a mapped file would count as the process's own; and reading two
    hundred sentences from all over a large file takes a third of a millisecond, mapping their pages anew eight.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path, self._dtype = path, dtype
        with _reading(path):
            self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        with _reading(path):
            self._size = _entries(path, os.fstat(self._file).st_size, dtype)

    def __len__(self) -> int:
        return self._size

    def spans(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
        """The ids from each start up to its end, one span after the other.

        Raises:
            DataError: the file cannot be read, or has become shorter.
        """
        width = self._dtype.itemsize
        sizes = ((ends - starts) * width).tolist()
        with _reading(self._path):
            found = b"".join(map(os.pread, repeat(self._file), sizes, (starts * width).tolist()))
        if len(found) != sum(sizes):
            raise DataError(f"{printable(str(self._path))} has become shorter; {_REMAKE}")
        return np.frombuffer(found, self._dtype)


class EncodedSplit:
    """Sentence pairs as token ids, fetched when asked for.

    Args:
        tokens: ids of all the sentences, one after the other: of the source side, of the target side.
        offsets: where each sentence begins in them, and where the last ends; as many on both sides.
    """

    def __init__(self, tokens: Sequence[NDArray[Any] | TokenFile], offsets: Sequence[NDArray[np.int64]]) -> None:
        self._tokens, self._offsets = tuple(tokens), tuple(offsets)
        self.src_lengths: NDArray[np.int32] = np.diff(self._offsets[0]).astype(np.int32)
        """Tokens of each source sentence, without BOS or EOS."""
        self.tgt_lengths: NDArray[np.int32] = np.diff(self._offsets[1]).astype(np.int32)
        """Tokens of each target sentence, without BOS or EOS."""

    @staticmethod
    def open(directory: Path, name: str, dtype: str) -> "EncodedSplit":
        """Open the files of a split; token ids are read when asked for.

        Args:
            directory: the data directory.
            name: of the split.
            dtype: of the token ids on disk.

        Raises:
            DataError: a file is missing, or the files do not fit each other.
        """
        sides: list[TokenFile] = []
        bounds: list[NDArray[np.int64]] = []
        for side in SIDES:
            tokens = TokenFile(directory / tokens_name(name, side), np.dtype(dtype).newbyteorder("<"))
            offsets = _read(directory / offsets_name(name, side), np.dtype("<i8"))
            if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
                path = printable(str(directory / offsets_name(name, side)))
                raise DataError(f"{path} is damaged: it does not fit its tokens; {_REMAKE}")
            sides.append(tokens)
            bounds.append(offsets)
        pairs, others = (len(offsets) - 1 for offsets in bounds)
        if pairs != others:
            raise DataError(f"{printable(str(directory))} is damaged: {name} has {pairs} sources, {others} targets")
        return EncodedSplit(sides, bounds)

    def __len__(self) -> int:
        return len(self.src_lengths)

    def sources(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids of source sentences, without EOS, one sentence after the other."""
        return self._sentences(0, indices)

    def targets(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids of target sentences, without BOS or EOS, one sentence after the other."""
        return self._sentences(1, indices)

    def _sentences(self, side: int, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        pairs = np.asarray(indices, dtype=np.int64)
        outside = pairs[(pairs < 0) | (pairs >= len(self))]
        if len(outside):
            raise IndexError(f"pair {outside[0]} of {len(self)}")
        return self._spans(side, self._offsets[side][pairs], self._offsets[side][pairs + 1]).astype(np.int64)

    def target_ids(self) -> set[int]:
        """Every id that occurs in a target sentence. Reads the whole file, a piece at a time."""
        found = set[int]()
        for piece in self._pieces(1):
            found.update(np.unique(piece).tolist())
        return found

    def largest_id(self, side: Side) -> int:
        """The largest token id of a side; -1 if it has none. Reads the whole file, a piece at a time."""
        return max((int(piece.max()) for piece in self._pieces(SIDES.index(side))), default=-1)

    def _pieces(self, side: int) -> Iterator[NDArray[Any]]:
        size = len(self._tokens[side])
        for start in range(0, size, _READ):
            yield self._spans(side, np.array([start]), np.array([min(start + _READ, size)]))

    def _spans(self, side: int, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
        tokens = self._tokens[side]
        if isinstance(tokens, TokenFile):
            return tokens.spans(starts, ends)
        lengths = ends - starts
        before = np.cumsum(lengths) - lengths  # tokens of the spans before each
        found: NDArray[Any] = tokens[np.repeat(starts - before, lengths) + np.arange(lengths.sum())]
        return found


def _read(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    with _reading(path):
        _entries(path, path.stat().st_size, dtype)
        return np.fromfile(path, dtype)


def _entries(path: Path, size: int, dtype: np.dtype[Any]) -> int:
    """How many numbers a file of `size` bytes has."""
    if size % dtype.itemsize:
        raise DataError(f"{printable(str(path))} is damaged: {size} bytes are no whole number of entries; {_REMAKE}")
    return size // dtype.itemsize


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {printable(str(path))}: {error.strerror}; {_REMAKE}") from error


class DataDirectory:
    """What `nmt data prepare` wrote. Made by `open`."""

    def __init__(self, path: Path, manifest: dict[str, Any], tokenizers: TokenizerPair) -> None:
        self.path = path
        self.manifest = manifest
        self.tokenizers = tokenizers
        self.source_lang: str = manifest["source_lang"]
        self.target_lang: str = manifest["target_lang"]
        hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        self.fingerprint: str = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
        """Hash over the hashes of all files: equal for equal data, wherever it lies."""

    @staticmethod
    def open(path: Path) -> "DataDirectory":
        """Read the manifest and the tokenizers; check that every file is there in its full size.

        Raises:
            DataError: `path` is no data directory, of another version, or damaged.
        """
        manifest = _read_manifest(path)
        for name, entry in manifest["files"].items():
            file = path / name
            if not file.is_file():
                raise DataError(f"{printable(str(file))} is missing: {_REMAKE}")
            if (size := file.stat().st_size) != entry["bytes"]:
                raise DataError(
                    f"{printable(str(file))} is damaged: {size} bytes instead of {entry['bytes']}; {_REMAKE}"
                )
        try:
            tokenizers = TokenizerPair.load(path)
        except ModelError as error:
            raise DataError(f"{error}; {_REMAKE}") from error
        sizes = (tokenizers.source.vocab_size, tokenizers.target.vocab_size)
        stated = (manifest["tokenizer"]["source_vocab_size"], manifest["tokenizer"]["target_vocab_size"])
        if sizes != stated:
            raise DataError(
                f"{printable(str(path))} is damaged: vocabularies of {sizes} pieces instead of {stated}; {_REMAKE}"
            )
        return DataDirectory(path, manifest, tokenizers)

    def split(self, name: str) -> EncodedSplit:
        """An encoded split: "train", "valid" or "test".

        Raises:
            UsageError: splits have other names.
            DataError: it has none of that name, or it is damaged.
        """
        self._require(name)
        return EncodedSplit.open(self.path, name, self.manifest["token_type"])

    def text(self, name: str) -> tuple[list[str], list[str]]:
        """Source lines and references of "valid" or "test", in NFC, in the order of the encoded split.

        Raises:
            UsageError: splits have other names.
            DataError: no text is kept of that split, or it is damaged.
        """
        self._require(name)
        names = [f"{name}.{lang}" for lang in (self.source_lang, self.target_lang)]
        if not all(file in self.manifest["files"] for file in names):
            raise DataError(f"{printable(str(self.path))} keeps no text of '{name}', only of evaluation splits")
        sources, references = (read_text_lines(self.path / file) for file in names)
        if not len(sources) == len(references) == self.manifest["splits"][name]["kept"]:
            raise DataError(
                f"{printable(str(self.path))} is damaged: {names[0]} has {len(sources)} lines, "
                f"{names[1]} {len(references)}; {_REMAKE}"
            )
        return sources, references

    def verify(self) -> None:
        """Check the hash of every file, and that every token id is in its vocabulary.

        Raises:
            DataError: naming the file that differs from what was prepared.
        """
        for name, entry in self.manifest["files"].items():
            try:
                digest = sha256_file(self.path / name)
            except OSError as error:
                raise DataError(f"cannot read {printable(str(self.path / name))}: {error.strerror}") from error
            if digest != entry["sha256"]:
                raise DataError(f"{printable(str(self.path / name))} is damaged (checksum differs): {_REMAKE}")
        sizes = {"source": self.tokenizers.source.vocab_size, "target": self.tokenizers.target.vocab_size}
        for name in self.manifest["splits"]:
            split = self.split(name)
            for side in ("source", "target"):
                largest = split.largest_id(side)
                if largest >= sizes[side]:
                    raise DataError(
                        f"{printable(str(self.path))}: {name} has token {largest}, "
                        f"the {side} vocabulary {sizes[side]} pieces; {_REMAKE}"
                    )

    def _require(self, name: str) -> None:
        known = list(self.manifest["splits"])
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        if name not in known:
            raise DataError(f"{printable(str(self.path))} has no split '{name}': it has {', '.join(known)}")


def is_data_directory(path: Path) -> bool:
    """Whether it was made as one, damaged or not."""
    return is_said_to_be(path, FORMAT)


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a data directory, its shape checked."""
    name = printable(str(path))
    if not path.exists():
        sides = path.parent.glob(f"{glob.escape(path.name)}.[a-z][a-z]*") if path.name else ()
        if len({side for file in sides if _TWO_LETTERS.fullmatch(side := file.name[len(path.name) :])}) > 1:
            raise DataError(f"{name} is parallel text: encode it with `nmt data prepare --train {name} ... --out DIR`")
        near = printable(nearest_file(path, folder=True))
        how = f"nmt data prepare --train SPEC --valid SPEC --out {name}"
        raise DataError(f"{name} does not exist{near}: make it with `{how}`")
    refuse_closed(path, DataError)
    if not (path / MANIFEST_NAME).is_file():
        raise DataError(f"{name} is no data directory (no {MANIFEST_NAME}): make one with `nmt data prepare`")
    try:
        manifest = read_json(path / MANIFEST_NAME)
    except OSError as error:
        raise DataError(f"cannot read {name}/{MANIFEST_NAME}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{name}/{MANIFEST_NAME} is damaged: {printable(str(error))}; {_REMAKE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{name} is no data directory: its {MANIFEST_NAME} is of something else")
    if manifest.get("version") != FORMAT_VERSION:
        version = printable(str(manifest.get("version")))
        raise DataError(f"{name} has format version {version}, this program reads {FORMAT_VERSION}: {_REMAKE}")
    if not _well_formed(manifest):
        raise DataError(f"{name}/{MANIFEST_NAME} is damaged: {_REMAKE}")
    return manifest


def _well_formed(manifest: dict[str, Any]) -> bool:
    """Whether the manifest has what opening a data directory relies on, and names no file outside it."""
    files, splits, tokenizer = (manifest.get(key) for key in ("files", "splits", "tokenizer"))
    languages = [manifest.get(key) for key in ("source_lang", "target_lang")]
    if not (isinstance(files, dict) and isinstance(splits, dict) and isinstance(tokenizer, dict)):
        return False
    return (
        all(isinstance(lang, str) and is_language(lang) for lang in languages)
        and isinstance(manifest.get("corpora", {}), dict)
        and manifest.get("token_type") in TOKEN_TYPES
        and all(isinstance(tokenizer.get(f"{side}_vocab_size"), int) for side in SIDES)
        and all(name in SPLITS and isinstance(s, dict) and isinstance(s.get("kept"), int) for name, s in splits.items())
        and all(Path(name).name == name and _is_file_entry(entry) for name, entry in files.items())
    )


def _is_file_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
