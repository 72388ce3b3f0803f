"""Test sets: lines to translate and what a person made of them, from wherever they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nmt.corpora import Reading, open_corpus
from nmt.dataset import DataDirectory
from nmt.errors import DataError, UsageError
from nmt.lines import is_blank, printable, read_text_lines


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Lines to translate and what a person made of them."""

    __test__ = False  # pytest: not a test class

    name: str
    """File or split, for headings."""
    sources: tuple[str, ...] | None
    """One a line; `None` where only translations are to be scored."""
    refs: tuple[tuple[str, ...], ...]
    """One or more a line."""

    def __post_init__(self) -> None:
        """Check that there are lines and that both sides have as many."""
        if not self.refs:
            raise DataError(f"{self.name} is empty: there is nothing to evaluate")
        if self.sources is not None and len(self.sources) != len(self.refs):
            raise DataError(f"{self.name}: {len(self.sources)} source lines but {len(self.refs)} references")

    @property
    def max_refs(self) -> int:
        """The most references any line has."""
        return max(map(len, self.refs))


def read_references(paths: Sequence[Path]) -> tuple[tuple[str, ...], ...]:
    """References from files: a line of each, and every column of those named `.tsv`.

    Raises:
        DataError: a file is unreadable or empty, or two differ in their number of lines.
    """
    rows: list[tuple[str, ...]] = []
    for path in paths:
        lines = read_text_lines(path)
        if not lines:
            raise DataError(f"{printable(str(path))} is empty")
        columns = [tuple(line.split("\t")) if ".tsv" in path.suffixes else (line,) for line in lines]
        if rows and len(rows) != len(columns):
            counts = f"{paths[0]} has {len(rows)} lines, {path} has {len(columns)}"
            raise DataError(f"the reference files differ: {counts}")
        rows = [old + new for old, new in zip(rows, columns, strict=True)] if rows else columns
    return tuple(_without_blanks(row) for row in rows)


def _without_blanks(refs: tuple[str, ...]) -> tuple[str, ...]:
    """Blank columns are references that are not there; a line without any has one, an empty one."""
    return tuple(ref for ref in refs if not is_blank(ref)) or ("",)


def read_sources(path: Path) -> list[str]:
    """Lines to translate: of a text file, or column 1 of a `.tsv`."""
    lines = read_text_lines(path)
    return [line.split("\t")[0] for line in lines] if ".tsv" in path.suffixes else lines


def read_test_files(source: Path | None, refs: Sequence[Path]) -> TestSet:
    """A test set from a file of sources (column 1 of a `.tsv`) and one or more files of references."""
    if source is not None and ".tsv" in source.suffixes and any(source == ref for ref in refs):
        raise UsageError(f"{source} is given for sources and references, which would take column 1 too: use --test")
    references = read_references(refs)
    sources = None if source is None else tuple(read_sources(source))
    if sources is not None and len(sources) != len(references):
        counts = f"{source} has {len(sources)} lines, {refs[0]} has {len(references)}"
        raise DataError(f"sources and references differ: {counts}")
    return TestSet(name=printable(str(source or refs[0])), sources=sources, refs=references)


def with_references(test: TestSet, paths: Sequence[Path]) -> TestSet:
    """`test` with the references of these files instead of its own.

    Raises:
        DataError: they do not have as many lines.
    """
    refs = read_references(paths)
    if len(refs) != len(test.refs):
        raise DataError(f"{test.name} has {len(test.refs)} lines, {printable(str(paths[0]))} has {len(refs)}")
    return replace(test, refs=refs)


def data_test_set(data: DataDirectory, split: str) -> TestSet:
    """The raw text of one split of a data directory.

    Raises:
        UsageError: splits have other names.
        DataError: it has no such split, or keeps no text of it.
    """
    sources, refs = data.text(split)
    return TestSet(
        name=f"{printable(str(data.path))} {split}",
        sources=tuple(sources),
        refs=tuple((ref,) for ref in refs),
    )


def read_corpus(spec: str, *, source_lang: str, target_lang: str) -> TestSet:
    """A test set from a corpus spec.

    Raises:
        DataError: misaligned, unreadable or empty.
    """
    corpus = open_corpus(spec, Reading(source_lang=source_lang, target_lang=target_lang, role="test"))
    pairs = list(corpus.pairs())
    return TestSet(
        name=printable(spec),
        sources=tuple(source for source, _ in pairs),
        refs=tuple((ref,) for _, ref in pairs),
    )
