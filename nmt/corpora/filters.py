"""Rules that say which sentence pairs are worth training on: pure functions, and the memory they need."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nmt.lines import is_blank

BLANK: Final = "blank"
NUL: Final = "nul"
TOO_LONG: Final = "too_long"
LENGTH_RATIO: Final = "length_ratio"
COPY: Final = "copy"
DUPLICATE: Final = "duplicate"
LEAK: Final = "leak"
TOO_MANY_TOKENS: Final = "too_many_tokens"

REASONS: Final = {
    "line_too_long": "line too long to be read",
    "invalid_utf8": "not UTF-8",
    BLANK: "a side is blank",
    NUL: "zero bytes",
    TOO_LONG: "of too many characters",
    LENGTH_RATIO: "lengths differ too much",
    COPY: "both sides are the same",
    DUPLICATE: "exact duplicate",
    LEAK: "in valid or test too",
    TOO_MANY_TOKENS: "of too many tokens",
}
"""What each reason for dropping a pair means, in the order in which the rules are applied."""

LONG_WORDS: Final = 4
"""Words from which one side alone, found again elsewhere, is no coincidence."""

RATIO_SLACK: Final = 25
"""Characters by which lengths may differ on top of the ratio: short sentences are allowed more."""

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Text as it is kept: NFC, one line, no space at either end. SentencePiece does the rest."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = text.encode(errors="replace").decode() if _has_surrogate(text) else text
    if "\n" in text or "\r" in text:
        text = text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    return text.strip()


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which training pairs are kept."""

    max_chars: int
    """Longest side, in characters."""
    max_ratio: float
    """How many times longer one side may be, plus `RATIO_SLACK`."""
    deduplicate: bool


def drop_reason(src: str, tgt: str, rules: Rules) -> str | None:
    """Why a normalised pair is not worth training on, looking at nothing but the pair; `None` if it is."""
    if is_blank(src) or is_blank(tgt):
        return BLANK
    if "\0" in src or "\0" in tgt:
        return NUL
    shorter, longer = sorted((len(src), len(tgt)))
    if longer > rules.max_chars:
        return TOO_LONG
    if longer > rules.max_ratio * shorter + RATIO_SLACK:
        return LENGTH_RATIO
    if src == tgt and len(src.split()) >= LONG_WORDS:
        return COPY
    return None


def leak_key(text: str) -> str:
    """Letters and digits of `text` without case or accents: equal for what readers call the same sentence."""
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.replace("œ", "oe").replace("æ", "ae"))
    return _NOT_ALPHANUMERIC.sub("", text)  # accents, now apart from their letters, go as well


@dataclass
class Leaks:
    """The sentences of the evaluation sets, to find them again in training text."""

    _pairs: set[tuple[str, str]] = field(default_factory=set)
    _sources: set[str] = field(default_factory=set)
    _targets: set[str] = field(default_factory=set)

    def add(self, src: str, tgt: str) -> None:
        """Remember a pair of an evaluation set."""
        keys = leak_key(src), leak_key(tgt)
        if any(keys):
            self._pairs.add(keys)
        for key, text, long in ((keys[0], src, self._sources), (keys[1], tgt, self._targets)):
            if key and len(text.split()) >= LONG_WORDS:
                long.add(key)

    def finds(self, src: str, tgt: str) -> bool:
        """Whether the pair stands in an evaluation set, or one of its sides does and has four words or more."""
        keys = leak_key(src), leak_key(tgt)
        return keys in self._pairs or keys[0] in self._sources or keys[1] in self._targets


class SeenPairs:
    """Which pairs have been seen before, in 8 bytes a pair.

    Sorted arrays of 64-bit hashes, merged when of like size, so that there are never more than log2(n) of them.
    Two different pairs are taken for equal with a probability of n/2^64: once in 10^11 among 10^8 pairs.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
        """Remember the pairs; which of them are new (the first of several equal ones is)."""
        hashes = _hashes(pairs)
        unique, first = np.unique(hashes, return_index=True)
        known = np.zeros(len(unique), dtype=bool)
        for run in self._runs:
            at = np.searchsorted(run, unique)
            known |= run[np.minimum(at, len(run) - 1)] == unique
        new = np.zeros(len(hashes), dtype=bool)
        new[first[~known]] = True
        self._insert(unique[~known])
        return new

    def _insert(self, run: NDArray[np.uint64]) -> None:
        if len(run) == 0:
            return
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort()
        self._runs.append(run)


def _hashes(pairs: Iterable[tuple[str, str]]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(f"{src}\n{tgt}".encode(), digest_size=8).digest() for src, tgt in pairs)
    return np.frombuffer(digests, dtype="<u8")


class AlignmentWatch:
    """Notices where two sides stop translating each other, by their lengths.

    Lengths of a sentence and of its translation go together (correlation of their logarithms about 0.9), those of
    neighbours hardly do. A side that has lost or gained a line shows as a block of pairs without correlation.
    """

    BLOCK: Final = 200
    SMOOTHING: Final = 10
    """Characters added to each length, so that "Oui." against "Yes." says little."""
    THRESHOLD: Final = 0.4
    """Correlation; aligned corpora of eleven kinds stayed above 0.5, the same shifted by a line mostly below 0.2."""
    SPREAD: Final = 0.15
    """Standard deviation of logarithms below which lengths are too alike to compare, as in text sorted by length."""

    def __init__(self) -> None:
        self._lengths: list[tuple[int, int]] = []
        self._start = 1
        self._suspicious_before = False
        self.suspicious: list[tuple[int, int]] = []
        """Numbers of the first and last pair of each region that does not look aligned."""

    @property
    def first_suspicious(self) -> int | None:
        """Number of the first pair of the first such region."""
        return self.suspicious[0][0] if self.suspicious else None

    def add(self, number: int, src: str, tgt: str) -> None:
        """Look at pair `number`."""
        if not src or not tgt:
            return
        if not self._lengths:
            self._start = number
        self._lengths.append((len(src), len(tgt)))
        if len(self._lengths) == self.BLOCK:
            is_suspicious = self._looks_misaligned()
            if is_suspicious:
                first = self.suspicious.pop()[0] if self._suspicious_before else self._start
                self.suspicious.append((first, number))
            self._suspicious_before = is_suspicious
            self._lengths.clear()

    def _looks_misaligned(self) -> bool:
        lengths = np.log(np.array(self._lengths, dtype=np.float64) + self.SMOOTHING).T
        if lengths.std(axis=1).min() < self.SPREAD:
            return False
        return bool(np.corrcoef(lengths)[0, 1] < self.THRESHOLD)
