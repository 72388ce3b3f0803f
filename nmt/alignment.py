"""Word alignments: from attention over subwords to links between words, and how far they are from the truth."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nmt.errors import DataError, UsageError, did_you_mean
from nmt.lines import printable, read_text_lines
from nmt.tokenizer import Word

Link = tuple[int, int]
"""Positions of a source word and of a target word, from 0."""
Matrix = NDArray[np.floating[Any]]

Symmetrisation = Literal["intersection", "union", "grow-diag", "grow-diag-final"]
SYMMETRISATIONS: Final[tuple[Symmetrisation, ...]] = get_args(Symmetrisation)

_AROUND: Final = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def by_words(weights: Matrix, source: Sequence[Word], target: Sequence[Word]) -> Matrix:
    """Attention between words (target words, source words) from attention between pieces (T, S).

    What a word gets is the sum over its pieces; what a word gives is the mean over its pieces, so that rows still
    sum to what they summed to. A word without pieces gets and gives nothing.
    """
    columns = [weights[:, start:end].sum(1) for _, start, end in source]
    gets = np.stack(columns, 1) if columns else weights[:, :0]
    nothing = np.zeros(len(source), weights.dtype)
    rows = [gets[start:end].mean(0) if start < end else nothing for _, start, end in target]
    return np.stack(rows) if rows else np.zeros((0, len(source)), weights.dtype)


def links(weights: Matrix) -> list[Link]:
    """The source word with the greatest weight for each target word that has any, as (source, target)."""
    if not weights.size:
        return []
    return [(int(row.argmax()), target) for target, row in enumerate(weights) if row.any()]


def links_back(weights: Matrix) -> list[Link]:
    """The target word that gives each source word the greatest weight, as (source, target)."""
    return [(source, target) for target, source in links(weights.T)]


def symmetrisation(name: str) -> Symmetrisation:
    """The method of a name.

    Raises:
        UsageError: there is none.
    """
    for method in SYMMETRISATIONS:
        if method == name:
            return method
    hint = did_you_mean(name, SYMMETRISATIONS)
    raise UsageError(f"no way to symmetrise is named {printable(name)}{hint}: choose from {', '.join(SYMMETRISATIONS)}")


def symmetrise(forward: Iterable[Link], backward: Iterable[Link], method: Symmetrisation) -> list[Link]:
    """One alignment from those of both directions.

    Och and Ney 2003, section 4, https://aclanthology.org/J03-1002; Koehn, Och and Marcu 2003, section 3,
    https://aclanthology.org/N03-1017. `grow-diag` begins with the intersection and adds links of the union next to one
    it has, diagonally too, while they reach a word that has none; `grow-diag-final` then adds those links of either
    direction that reach a word which still has none.
    """
    there, back = set(forward), set(backward)
    if method == "union":
        return sorted(there | back)
    found = there & back
    if method == "intersection":
        return sorted(found)
    sources, targets = {source for source, _ in found}, {target for _, target in found}

    def add(candidates: Iterable[Link]) -> list[Link]:
        added = []
        for source, target in candidates:
            if (source, target) not in found and (source not in sources or target not in targets):
                found.add((source, target))
                sources.add(source)
                targets.add(target)
                added.append((source, target))
        return added

    fresh = sorted(found)
    while fresh:
        around = [(source + i, target + j) for source, target in fresh for i, j in _AROUND]
        fresh = add(link for link in around if link in there or link in back)
    if method == "grow-diag-final":
        add(sorted(there))
        add(sorted(back))
    return sorted(found)


def diagonal(source_words: int, target_words: int) -> list[Link]:
    """The baseline that knows nothing but the lengths: word t stands where it would in a sentence stretched alike."""
    return [
        (min(source_words - 1, int((target + 0.5) * source_words / target_words)), target)
        for target in range(target_words)
    ]


def pharaoh(found: Iterable[Link]) -> str:
    """`0-0 1-2`: links in the form that most tools read."""
    return " ".join(f"{source}-{target}" for source, target in sorted(found))


@dataclass(frozen=True)
class Gold:
    """What people said of one pair."""

    sure: frozenset[Link]
    possible: frozenset[Link]
    """The sure ones too."""


@dataclass(frozen=True)
class AlignmentScore:
    """How links agree with gold ones, in percent.

    Och and Ney 2003, section 5, https://aclanthology.org/J03-1002: with A the links found, S the sure and P the
    possible ones, precision |A & P| / |A|, recall |A & S| / |S|, and alignment error rate
    1 - (|A & S| + |A & P|) / (|A| + |S|).
    """

    error_rate: float
    precision: float
    recall: float
    links: int


def score_alignments(found: Iterable[Iterable[Link]], gold: Iterable[Gold]) -> AlignmentScore:
    """Over all pairs together.

    Raises:
        DataError: nothing to compare.
    """
    total = sure = in_sure = in_possible = 0
    for mine, truth in zip(found, gold, strict=True):
        mine = frozenset(mine)
        total += len(mine)
        sure += len(truth.sure)
        in_sure += len(mine & truth.sure)
        in_possible += len(mine & truth.possible)
    if not total or not sure:
        raise DataError("no alignments to compare: no links were found, or the gold file has no sure ones")
    return AlignmentScore(
        error_rate=100 * (1 - (in_sure + in_possible) / (total + sure)),
        precision=100 * in_possible / total,
        recall=100 * in_sure / sure,
        links=total,
    )


def read_gold(path: Path) -> list[Gold]:
    """A pair a line: `i-j` for sure links, `i?j` (or `ipj`) for possible ones, source first, from 0.

    Raises:
        DataError: unreadable, or not of that form; with the line.
    """
    return list(_parse(path, read_text_lines(path)))


def _parse(path: Path, lines: Sequence[str]) -> Iterator[Gold]:
    for number, line in enumerate(lines, 1):
        sure: set[Link] = set()
        possible: set[Link] = set()
        for item in line.split():
            kind = next((mark for mark in "-?p" if mark in item), "")
            source, _, target = item.partition(kind or "-")
            if not (kind and source.isdecimal() and target.isdecimal() and len(item) < 20):
                raise DataError(
                    f"{path}:{number}: '{printable(item)[:40]}' is no link: write 3-4, or 3?4 if only possible"
                )
            possible.add((int(source), int(target)))
            if kind == "-":
                sure.add((int(source), int(target)))
        yield Gold(frozenset(sure), frozenset(possible))
