"""The training pairs worth keeping out of several corpora, in one pass, and what became of the others."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from nmt.corpora.base import Corpus, Misaligned
from nmt.corpora.filters import (
    DUPLICATE,
    LEAK,
    REASONS,
    AlignmentWatch,
    Leaks,
    Rules,
    SeenPairs,
    drop_reason,
    normalise,
)
from nmt.errors import DataError

Pair = tuple[str, str]
T = TypeVar("T", bound=tuple[Any, ...])

_CHUNK: Final = 4096  # pairs handled at once ...
_CHUNK_CHARS: Final = 1 << 24  # ... or so many characters and one pair


class Part:
    """What became of one training corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.kept = 0
        """Pairs that `Selection` kept."""
        self.chars = 0
        """Characters of both sides of those."""
        self.dropped: Counter[str] = Counter()
        """Pairs dropped by reason; who drops more of them later counts them here too."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says, when all is done."""
        kept = self.corpus.read - self.dropped.total()
        return {**self.corpus.facts(), "kept": kept, "dropped": in_order(self.dropped)}


class Selection:
    """Applies the rules to one corpus after another; duplicates are found across all of them."""

    def __init__(self, rules: Rules, leaks: Leaks) -> None:
        self._rules = rules
        self._leaks = leaks
        self._seen = SeenPairs()
        self.parts: list[Part] = []
        """One for each corpus so far."""

    @property
    def read(self) -> int:
        """Pairs read so far."""
        return sum(part.corpus.read for part in self.parts)

    def pairs(self, corpus: Corpus, warn: Callable[[str], None]) -> Iterator[list[Pair]]:
        """The pairs of `corpus` to keep, normalised, some thousands at a time."""
        part = Part(corpus)
        self.parts.append(part)
        for chunk in chunks(watched(corpus, warn)):
            pairs = self._judge(chunk, part)
            part.kept += len(pairs)
            part.chars += sum(len(src) + len(tgt) for src, tgt in pairs)
            yield pairs
        part.dropped.update(corpus.dropped)

    def _judge(self, chunk: Sequence[Pair], part: Part) -> list[Pair]:
        pairs = []
        for raw_src, raw_tgt in chunk:
            src, tgt = normalise(raw_src), normalise(raw_tgt)
            reason = drop_reason(src, tgt, self._rules)
            if reason is None:
                pairs.append((src, tgt))
            else:
                part.dropped[reason] += 1
        if self._rules.deduplicate:
            is_new = self._seen.add(pairs)
            part.dropped[DUPLICATE] += len(pairs) - int(is_new.sum())
            pairs = list(itertools.compress(pairs, is_new))
        clean = [pair for pair in pairs if not self._leaks.finds(*pair)]
        part.dropped[LEAK] += len(pairs) - len(clean)
        return clean


def watched(corpus: Corpus, warn: Callable[[str], None], watch: AlignmentWatch | None = None) -> Iterator[Pair]:
    """Pairs of a corpus, with an eye on whether its sides belong together: that of `watch`, for who wants to know more.

    Raises:
        DataError: as `corpus.pairs`; of two sides of different lengths it says where they seem to part.
    """
    watch = watch or AlignmentWatch()
    try:
        for src, tgt in corpus.pairs():
            watch.add(corpus.read, src, tgt)
            yield src, tgt
    except Misaligned as error:
        if watch.first_suspicious is None:
            raise
        raise DataError(f"{error}; they seem to part soon after line {watch.first_suspicious}") from error
    if watch.first_suspicious is not None:
        place = corpus.place(watch.first_suspicious)
        warn(f"{place}: from about here the two sides do not look like translations, by their lengths")


def chunks(pairs: Iterable[T]) -> Iterator[list[T]]:
    """The pairs, some thousands at a time, or fewer long ones; each ends in source and target."""
    chunk: list[T] = []
    chars = 0
    for pair in pairs:
        chunk.append(pair)
        chars += len(pair[-2]) + len(pair[-1])
        if len(chunk) == _CHUNK or chars > _CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def total_dropped(parts: Iterable[Part]) -> Counter[str]:
    """Pairs dropped from all corpora, by reason."""
    return sum((part.dropped for part in parts), Counter())


def in_order(dropped: Counter[str]) -> dict[str, int]:
    """Counts above zero, in the order of the rules."""
    return {reason: dropped[reason] for reason in REASONS if dropped[reason]}


def explain(dropped: Counter[str]) -> str:
    """The counts in words, for a message."""
    return ", ".join(f"{count} {REASONS[reason]}" for reason, count in in_order(dropped).items()) or "no pairs"
