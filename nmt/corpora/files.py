"""Parallel text in files: two line files, TSV, JSON lines, Parquet, TMX."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from nmt.corpora.base import INVALID_UTF8, LINE_TOO_LONG, Corpus, Digest, InputFile, Misaligned, Reading
from nmt.errors import DataError, NMTError, did_you_mean
from nmt.files import home_directory, nearest_file, sha256_file
from nmt.lines import COMPRESSIONS, LineReader, is_blank, open_binary, printable, refuse_utf16

FORMATS: Final = (".tsv", ".jsonl", ".parquet", ".tmx")
"""Suffixes that name one file with both languages."""

_PARQUET_ROWS: Final = 1024
_COPIED: Final = 1 << 20


def short_name(path: Path) -> str:
    """The last two parts of a path: enough to recognise it, nothing about whose machine it was.

    Where the first of them is a home directory, only the last.
    """
    own = path.absolute().parent in (home_directory(), *Path("/home").glob("*"))
    return printable("/".join(path.parts[-1 if own else -2 :]))


def open_file_corpus(spec: str, reading: Reading) -> Corpus:
    """The corpus that a path names: one file by its suffix, else a prefix of two.

    Raises:
        DataError: there is no such file.
    """
    path = Path(spec)
    name = path.name
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    suffix = Path(name).suffix.lower()
    if not path.name:
        raise DataError(f"{printable(spec)} is a folder: name a corpus in it")
    if suffix not in FORMATS:
        return PrefixCorpus(short_name(path), reading, *_two_files(path, reading))
    if not path.exists():
        raise DataError(f"{printable(spec)} does not exist{printable(nearest_file(path))}")
    if suffix == ".tsv":
        return TSVCorpus(short_name(path), reading, path)
    if suffix == ".jsonl":
        return JSONLinesCorpus(short_name(path), reading, path)
    if suffix == ".tmx":
        from nmt.corpora.tmx import TMXCorpus

        return TMXCorpus(short_name(path), reading, path)
    return ParquetCorpus(short_name(path), reading, path)


def _two_files(prefix: Path, reading: Reading) -> tuple[Path, Path]:
    """The source and the target file of a prefix, plain before compressed."""
    found = []
    for lang in (reading.source_lang, reading.target_lang):
        names = [prefix.with_name(f"{prefix.name}.{lang}{suffix}") for suffix in ("", *COMPRESSIONS)]
        existing = [name for name in names if name.exists()]
        found.append(existing[0] if existing else None)
    source, target = found
    if source is not None and target is not None:
        return source, target
    langs = (reading.source_lang, reading.target_lang)
    missing = [f"{printable(str(prefix))}.{lang}" for lang, file in zip(langs, found, strict=True) if file is None]
    hint = _nearest_prefix(prefix, langs) if len(missing) == 2 else ""
    if prefix.is_file():
        hint = f": a corpus is two files PREFIX.{langs[0]} and PREFIX.{langs[1]}, or one of {', '.join(FORMATS)}"
        stem = str(prefix)
        for suffix in (*COMPRESSIONS, *(f".{lang}" for lang in langs)):
            stem = stem.removesuffix(suffix)
        if stem != str(prefix):
            hint = f": give the prefix of both files, {printable(stem)}"
    if prefix.is_dir() and not hint:
        hint = f": {printable(str(prefix))} is a folder, name a corpus in it"
    verb = "does not exist" if len(missing) == 1 else "do not exist"
    raise DataError(f"{' and '.join(missing)} {verb} (plain, {', '.join(COMPRESSIONS)}){hint}")


def _nearest_prefix(prefix: Path, langs: tuple[str, str]) -> str:
    try:
        names = [file.name for file in prefix.parent.iterdir()]
    except OSError:
        return ""
    stems = {name[: name.rindex(f".{lang}")] for name in names for lang in langs if f".{lang}" in name}
    singles = {name for name in names if any(suffix in name for suffix in FORMATS)}
    shipped = {"sample"} if prefix.parent == Path() else set()
    return did_you_mean(prefix.name, sorted(map(printable, stems | singles | shipped)))


class TextCorpus(Corpus):
    """A corpus in text files."""

    def __init__(self, spec: str, reading: Reading, *paths: Path) -> None:
        super().__init__(spec, reading)
        self.paths = paths
        """Source and target file, or the one that holds both."""

    def _usable(self, *readers: LineReader) -> bool:
        """Whether the current line of every reader can be used; counted, or an error, if not."""
        for reader, path in zip(readers, self.paths, strict=True):
            where = f"{printable(str(path))}:{reader.number}"
            if reader.cut:
                self.unusable(LINE_TOO_LONG, where)
                return False
            if reader.invalid and self.reading.invalid_utf8 != "replace":
                self.unusable(INVALID_UTF8, where)
                return False
        return True

    @contextmanager
    def _open(self) -> Iterator[list[LineReader]]:
        """A reader of each file; their hashes are known when the block ends well.

        Raises:
            DataError: a file is missing, unreadable, UTF-16 or empty.
        """
        with ExitStack() as stack:
            digests, readers = [], []
            for path in self.paths:
                name = printable(str(path))
                digests.append(Digest(path))
                stream = stack.enter_context(open_binary(path, observe=digests[-1].update))
                refuse_utf16(stream, path)
                readers.append(LineReader(stream, max_bytes=self.reading.max_line_bytes, name=name))
            yield readers
            for reader in readers:
                if reader.number == 0:
                    raise DataError(f"{reader.name} is empty")
        self.files = [digest.result() for digest in digests]


class PrefixCorpus(TextCorpus):
    """Two files with one sentence a line; line n of one translates line n of the other."""

    def place(self, number: int) -> str:
        """Both files and the line."""
        source, target = self.paths
        return f"{printable(str(source))}:{number} and {printable(target.name)}:{number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Line by line from both files; that they end together is known only at the end."""
        with self._open() as (source, target):
            while True:
                src, tgt = source.read(), target.read()
                if src is None or tgt is None:
                    break
                self.read += 1
                if self._usable(source, target):
                    yield src, tgt
            if (src, tgt) != (None, None):
                _stop_misaligned(source, target)


def _stop_misaligned(source: LineReader, target: LineReader) -> None:
    """Raise `Misaligned` with the number of lines of both files."""
    for reader in (source, target):
        while reader.read() is not None:
            pass
    for reader in (source, target):
        if reader.number == 0:
            raise DataError(f"{reader.name} is empty")
    raise Misaligned(f"{source.name} has {source.number} lines, {target.name} {target.number}")


class TSVCorpus(TextCorpus):
    """One file, a pair a line: source, tab, target; further columns are not read."""

    def place(self, number: int) -> str:
        """File and line."""
        return f"{printable(str(self.paths[0]))}:{number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Columns 1 and 2 of every line."""
        with self._open() as (reader,):
            for line in reader:
                self.read += 1
                if not self._usable(reader):
                    continue
                columns = line.split("\t", 2)
                if len(columns) < 2 and not is_blank(line):
                    raise DataError(f"{self.place(self.read)} has no tab: a line is source, tab, target")
                yield columns[0], columns[1] if len(columns) > 1 else ""


class JSONLinesCorpus(TextCorpus):
    """One file, a JSON object a line: keys named after the languages, or a `translation` object with them."""

    def place(self, number: int) -> str:
        """File and line."""
        return f"{printable(str(self.paths[0]))}:{number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Source and target of every line; blank lines count as blank pairs."""
        with self._open() as (reader,):
            for line in reader:
                self.read += 1
                if not self._usable(reader):
                    continue
                yield self._parse(line) if not is_blank(line) else ("", "")

    def _parse(self, line: str) -> tuple[str, str]:
        where = self.place(self.read)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "not readable"
            raise DataError(f"{where} is not JSON: {printable(reason)}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where} is not a JSON object with keys {' and '.join(self.reading.langs)}")
        return languages_of(row, self.reading, where)


class ParquetCorpus(Corpus):
    """One Parquet file with a column a language, or a `translation` column that holds both."""

    def __init__(self, spec: str, reading: Reading, path: Path) -> None:
        super().__init__(spec, reading)
        self._path = path

    def place(self, number: int) -> str:
        """File and row."""
        return f"{printable(str(self._path))}, row {number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Row by row, a batch of rows in memory at a time."""
        name = printable(str(self._path))
        try:
            digest = sha256_file(self._path)
            for row in self._rows():
                self.read += 1
                pair = languages_of(row, self.reading, self.place(self.read))
                if max(map(len, pair)) > self.reading.max_line_bytes:
                    self.unusable(LINE_TOO_LONG, self.place(self.read))
                else:
                    yield pair
            if sha256_file(self._path) != digest:
                raise DataError(f"{name} was changed while it was read")
        except OSError as error:
            raise DataError(f"cannot read {name}: {printable(error.strerror or str(error))}") from error
        if self.read == 0:
            raise DataError(f"{name} is empty")
        self.files = [InputFile(self._path.name, self._path.stat().st_size, digest)]

    def _rows(self) -> Iterator[dict[str, Any]]:
        import pyarrow
        from pyarrow import parquet

        name = printable(str(self._path))
        try:
            with self._plain() as plain, parquet.ParquetFile(plain) as file:
                columns = choose_columns(file.schema_arrow.names, self.reading, name)
                for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            reason = printable(str(error))[:200]
            raise DataError(f"{name} is damaged or no Parquet file, after row {self.read}: {reason}") from error

    @contextmanager
    def _plain(self) -> Iterator[Path | IO[bytes]]:
        """The file, or what it unpacks to, in a temporary one: Parquet is read from its end.

        Raises:
            NMTError: there is no room for that.
        """
        if self._path.suffix.lower() == ".parquet":
            yield self._path
            return
        with ExitStack() as files:
            packed = files.enter_context(open_binary(self._path))
            try:
                unpacked = files.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(packed, unpacked, _COPIED)
                unpacked.seek(0)
            except OSError as error:
                folder, reason = printable(tempfile.gettempdir()), error.strerror or error
                hint = "unpack it yourself, or let TMPDIR name a folder with more room"
                raise NMTError(f"cannot unpack {printable(str(self._path))} in {folder}: {reason}: {hint}") from error
            yield unpacked


def choose_columns(names: Sequence[str], reading: Reading, where: str) -> list[str]:
    """The columns of a table that hold the languages.

    Raises:
        DataError: there are none; the message lists the columns that are there.
    """
    if all(lang in names for lang in reading.langs):
        return list(reading.langs)
    if "translation" in names:
        return ["translation"]
    listed = printable(", ".join(names))[:200]
    raise DataError(f"{where} has no columns {' and '.join(reading.langs)}, and no 'translation': it has {listed}")


def languages_of(row: Mapping[str, Any], reading: Reading, where: str) -> tuple[str, str]:
    """Source and target of a row with a key a language, or a `translation` mapping; null is blank.

    Raises:
        DataError: a language is missing or its value is no text.
    """
    inner = row.get("translation")
    if isinstance(inner, Mapping) and not all(lang in row for lang in reading.langs):
        row = inner
    texts = []
    for lang in reading.langs:
        if lang not in row:
            raise DataError(f"{where} has no '{lang}': it has {printable(', '.join(map(str, row)))[:200]}")
        value = row[lang]
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: '{lang}' is {type(value).__name__}, not text")
        texts.append(value or "")
    return texts[0], texts[1]
