"""The corpus that ships with the project: written for it, CC0."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nmt.corpora.base import Corpus, InputFile, Reading
from nmt.corpora.files import TSVCorpus
from nmt.corpora.grammar import expand, load_grammar
from nmt.errors import UsageError, did_you_mean
from nmt.files import sha256_file
from nmt.resources import sample_directory

LICENCE: Final = "CC0-1.0"
SPLITS: Final = ("train", "valid", "test")
EXPANSIONS: Final = 30_000
"""Pairs taken from the grammar."""

_GRAMMAR: Final = "grammar.toml"


def open_sample(spec: str, reading: Reading) -> Corpus:
    """The split of the sample corpus that `sample#SPLIT` names; without a split that of the role.

    Raises:
        UsageError: no such split, or languages that the sample does not have.
    """
    _, _, split = spec.partition("#")
    split = split or reading.role
    if split not in SPLITS:
        raise UsageError(f"{spec}: no split '{split}'{did_you_mean(split, SPLITS)}: it has {', '.join(SPLITS)}")
    if sorted(reading.langs) != ["en", "fr"]:
        raise UsageError(f"the sample corpus is French and English, not {' and '.join(reading.langs)}")
    return SampleCorpus(f"sample#{split}", reading, sample_directory(), split)


class SampleCorpus(Corpus):
    """One split; for training, the hand-written pairs and then those of the grammar."""

    def __init__(self, spec: str, reading: Reading, directory: Path, split: str) -> None:
        super().__init__(spec, reading, licence=LICENCE)
        self._grammar = directory / _GRAMMAR if split == "train" else None
        name = "handwritten.tsv" if split == "train" else f"{split}.tsv"
        self._written = TSVCorpus(name, reading, directory / name)

    def place(self, number: int) -> str:
        """File and line, or the number of the expansion."""
        written = self._written.read
        if self._grammar is None or number <= written:
            return self._written.place(number)
        return f"{self._grammar}, expansion {number - written}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """French and English in the order of the languages asked for."""
        for pair in self._all():
            yield pair if self.reading.source_lang == "fr" else (pair[1], pair[0])

    def _all(self) -> Iterator[tuple[str, str]]:
        for pair in self._written.pairs():
            self.read, self.dropped = self._written.read, self._written.dropped
            yield pair
        self.files = list(self._written.files)
        if self._grammar is not None:
            for french, english in expand(load_grammar(self._grammar), EXPANSIONS):
                self.read += 1
                yield french, english
            size = self._grammar.stat().st_size
            self.files.append(InputFile(self._grammar.name, size, sha256_file(self._grammar)))
