"""What is wrong with a corpus, counted by kind and with examples; nothing is changed."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nmt.corpora import Corpus, Reading, open_corpus
from nmt.corpora.base import LINE_TOO_LONG
from nmt.corpora.filters import (
    BLANK,
    COPY,
    DUPLICATE,
    LEAK,
    LENGTH_RATIO,
    NUL,
    REASONS,
    TOO_LONG,
    AlignmentWatch,
    Leaks,
    Rules,
    SeenPairs,
    drop_reason,
    normalise,
)
from nmt.corpora.selection import chunks, watched
from nmt.errors import DataError

Progress = Callable[[int], object]
"""Called with the number of pairs looked at, from time to time."""

MISALIGNED: Final = "misaligned"
WRONG_LANGUAGE: Final = "wrong_language"
ODD_CHARACTERS: Final = "odd_characters"

KINDS: Final = {
    MISALIGNED: "in regions that do not look like translations, by their lengths",
    **{kind: REASONS[kind] for kind in (LINE_TOO_LONG, BLANK, NUL, TOO_LONG, LENGTH_RATIO, COPY)},
    DUPLICATE: "exact duplicate of an earlier pair",
    LEAK: "in a corpus of --against too",
    WRONG_LANGUAGE: "a side is in another language",
    ODD_CHARACTERS: "control or private characters, broken encoding, another script",
}
"""What is looked for."""

EXAMPLES: Final = 3
"""Examples of each kind that are kept."""
SHOWN: Final = 200
"""Characters of each side of an example."""
WORDS: Final = 5
"""Words from which the language of a side is guessed."""
CERTAINTY: Final = 0.95
"""Probability of another language from which it is believed: no false alarm among 7,000 captions and speeches."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffd\ue000-\uf8ff\u2028\u2029]")
_BROKEN = re.compile("Ã[\x80-\xbf\u0152-\u0178\u2018-\u203a]|â€|Â[\x80-\xbf]")
"""UTF-8 that was read as Latin-1 or Windows-1252 and written again."""


@dataclass(frozen=True)
class Example:
    """A pair, and where it stands."""

    place: str
    source: str
    target: str


@dataclass
class Finding:
    """Pairs of one kind."""

    pairs: int = 0
    examples: list[Example] = field(default_factory=list)
    """The first few."""


@dataclass
class Audit:
    """What was found in a corpus."""

    facts: dict[str, Any]
    """The corpus, as manifests have it."""
    read: int
    findings: dict[str, Finding]
    """By kind, in the order of `KINDS`; kinds of which there are none are left out."""
    regions: list[tuple[int, int]]
    """First and last pair of each region that looks misaligned."""
    languages_checked: bool
    """False where the package that knows languages is not installed, or does not know these."""


def audit(
    spec: str,
    against: Sequence[str],
    reading: Reading,
    rules: Rules,
    *,
    progress: Progress | None = None,
) -> Audit:
    """Look at every pair of a corpus.

    Args:
        spec: the corpus.
        against: corpora of which nothing should stand in it, such as test sets.
        reading: how it is read.
        rules: what is too long or too unlike in length.
        progress: told how far it has come.

    Raises:
        DataError: a corpus is missing, unreadable or empty, or its sides differ in length.
        UsageError: a spec is wrong.
    """
    leaks = Leaks()
    for other in against:
        for src, tgt in _forgiving(other, replace(reading, role="test")).pairs():
            leaks.add(normalise(src), normalise(tgt))
    corpus = _forgiving(spec, reading)
    found = _Findings(corpus)
    guess = language_guesser(reading.langs)
    latin = [lang in LATIN_SCRIPT for lang in reading.langs]
    seen, watch = SeenPairs(), AlignmentWatch()
    pairs_of = watched(corpus, lambda warning: None, watch)
    for chunk in chunks((corpus.read, src, tgt) for src, tgt in pairs_of):
        numbers = [number for number, _, _ in chunk]
        pairs = [(normalise(src), normalise(tgt)) for _, src, tgt in chunk]
        new = seen.add(pairs).tolist()
        for number, raw, (src, tgt), is_new in zip(numbers, chunk, pairs, new, strict=True):
            reason = drop_reason(src, tgt, rules)
            if reason is not None:
                found.add(reason, number, src, tgt)
            if reason == BLANK:
                continue
            if not is_new:
                found.add(DUPLICATE, number, src, tgt)
            if leaks.finds(src, tgt):
                found.add(LEAK, number, src, tgt)
            if guess is not None and (
                _foreign(guess, src, reading.source_lang) or _foreign(guess, tgt, reading.target_lang)
            ):
                found.add(WRONG_LANGUAGE, number, src, tgt)
            if any(is_odd(text, latin=script) for text, script in zip(raw[1:], latin, strict=True)):
                found.add(ODD_CHARACTERS, number, src, tgt)
        if progress is not None:
            progress(corpus.read)
    for first, last in watch.suspicious:
        found.add(MISALIGNED, first, "", "", pairs=last - first + 1)
    found.kinds[LINE_TOO_LONG].pairs += corpus.dropped[LINE_TOO_LONG]
    if corpus.read == 0:
        raise DataError(f"{spec} holds no pairs")
    present = {kind: finding for kind, finding in found.kinds.items() if finding.pairs}
    return Audit(corpus.facts(), corpus.read, present, watch.suspicious, guess is not None)


def _forgiving(spec: str, reading: Reading) -> Corpus:
    """A corpus whose unreadable lines are counted, whatever split it is."""
    corpus = open_corpus(spec, reading)
    corpus.reading = replace(reading, role="train")
    return corpus


class _Findings:
    """Counts by kind, and the first examples of each."""

    def __init__(self, corpus: Corpus) -> None:
        self.kinds = {kind: Finding() for kind in KINDS}
        self._corpus = corpus

    def add(self, kind: str, number: int, src: str, tgt: str, *, pairs: int = 1) -> None:
        """Count pair `number`."""
        finding = self.kinds[kind]
        finding.pairs += pairs
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(Example(self._corpus.place(number), src[:SHOWN], tgt[:SHOWN]))


LATIN_SCRIPT: Final = frozenset(
    ("ca", "cs", "da", "de", "en", "es", "et", "fi", "fr", "hu", "it", "nl", "no", "pl", "pt", "ro", "sv", "tr")
)
"""Languages in which letters of another script are odd."""


def is_odd(text: str, *, latin: bool = True) -> bool:
    """Whether `text` has characters that hardly belong into text: see `ODD_CHARACTERS`; `latin` is its script."""
    if text.isascii():
        return _CONTROL.search(text) is not None
    if _CONTROL.search(text) or _BROKEN.search(text):
        return True
    if not latin:
        return False
    letters = [c for c in text if c.isalpha()]
    return sum(not unicodedata.name(c, "").startswith("LATIN") for c in letters) * 2 > len(letters)


Guess = Callable[[str], tuple[str, float]]
"""A language code and its probability."""


def language_guesser(langs: Sequence[str] = ()) -> Guess | None:
    """What tells languages apart; `None` where py3langid is not installed, or does not know all of `langs`."""
    try:
        from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    identifier = LanguageIdentifier.from_modelpath(MODEL_DIR / MODEL_FILE, norm_probs=True)
    if not {_base(lang) for lang in langs} <= set(identifier.labels):
        return None
    guess: Guess = identifier.classify
    return guess


def _base(lang: str) -> str:
    """`fr` of `fr-CA`."""
    return lang.replace("_", "-").partition("-")[0].lower()


def _foreign(guess: Guess, text: str, lang: str) -> bool:
    """Whether a side is surely in another language than it should be."""
    if len(text.split()) < WORDS:
        return False
    found, probability = guess(text[:SHOWN])
    return found != _base(lang) and float(probability) >= CERTAINTY
