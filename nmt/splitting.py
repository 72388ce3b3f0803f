"""Cut a line that is too long for a model into pieces that are not, at sentence ends where it has any."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Final

_SPACE = re.compile(r"\s+")
_LINE_LIKE: Final = frozenset("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
_ENDS: Final = (".", "!", "?", "…")
_CLOSERS: Final = "\"'»”’)] \u00a0\u202f"
_OPENERS: Final = "\"'«“‘([—–-¿¡"
_ABBREVIATIONS: Final = frozenset(
    {
        *("art", "av", "bd", "cf", "chap", "dr", "éd", "ex", "fig", "mgr", "mlle", "mlles", "mm", "mme", "mmes"),
        *("no", "op", "pp", "pr", "prof", "réf", "st", "ste", "tél", "vol", "vs"),
    }
)
_LAST_WORD = re.compile(r"(\w+)\.$")


def split_text(text: str, count: Callable[[str], int], limit: int) -> list[str]:
    """Pieces of `text` of at most `limit` tokens, in order, without the space between them.

    A piece is a sentence; one that is too long is cut after a comma, semicolon or colon, or at a space, or,
    where there is none, anywhere.

    Args:
        text: a line, not blank.
        count: number of tokens of a piece of it.
        limit: the most tokens a piece may have (a single character may have more).
    """
    return [piece for sentence in sentences(text) for piece in _fit(sentence, count, limit)]


def sentences(text: str) -> Iterator[str]:
    """Sentences of `text`: they end at . ! ? … before a space and a capital, digit or opening quote.

    "M. Dupont", "art. 5" and initials do not end one.
    """
    start = 0
    for space in _SPACE.finditer(text):
        if not _LINE_LIKE.isdisjoint(space[0]) or _is_end(text, space.start(), space.end()):
            if text[start : space.start()].strip():
                yield text[start : space.start()].strip()
            start = space.end()
    if text[start:].strip():
        yield text[start:].strip()


def _is_end(text: str, before: int, after: int) -> bool:
    """Whether a sentence ends at the space between positions `before` and `after`."""
    head = text[max(0, before - 24) : before].rstrip(_CLOSERS)
    if not head.endswith(_ENDS) or after == len(text):
        return False
    first = text[after]
    if not (first.isupper() or first.isdigit() or first in _OPENERS):
        return False
    word = _LAST_WORD.search(head)
    return word is None or (len(word[1]) > 1 and word[1].lower() not in _ABBREVIATIONS)


def _fit(text: str, count: Callable[[str], int], limit: int) -> list[str]:
    """`text` in as few pieces of like length as its tokens need."""
    tokens = count(text)
    if tokens <= limit or len(text) < 2:
        return [text]
    size = math.ceil(len(text) / max(2, math.ceil(1.1 * tokens / limit)))
    pieces, start = [], 0
    while start < len(text):
        end = _cut(text, start, size)
        pieces.append(text[start:end].strip())
        start = end
    return [part for piece in pieces if piece for part in _fit(piece, count, limit)]


def _cut(text: str, start: int, size: int) -> int:
    """Where to cut, some `size` characters after `start`: the last good place from half to a tenth more."""
    end = start + size
    if end >= len(text):
        return len(text)
    middle = start + size // 2
    for marks in ((", ", "; ", ": "), (" ",)):
        place = max(text.rfind(mark, middle, end + size // 10) + len(mark) for mark in marks)
        if place > middle:
            return place
    return end
