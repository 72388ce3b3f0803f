"""The part of `nmt attend` that aligns the words of two files, and scores that against what people said."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from nmt.alignment import (
    Link,
    Symmetrisation,
    diagonal,
    links,
    links_back,
    pharaoh,
    read_gold,
    score_alignments,
    symmetrise,
)
from nmt.attending import AttendedPair, BlankError, attend_pair, words_of
from nmt.checkpoint import LoadedModel
from nmt.cli import console
from nmt.errors import DataError
from nmt.lines import read_text_lines


def read_pairs(src: Path, ref: Path) -> tuple[list[str], list[str]]:
    """Lines of two files; raises `DataError` where they have not as many."""
    sources, targets = list(read_text_lines(src)), list(read_text_lines(ref))
    if len(sources) != len(targets):
        raise DataError(f"{src} has {len(sources)} lines, {ref} has {len(targets)}")
    return sources, targets


class _Seen(NamedTuple):
    """A pair as one model saw it, and the links of a model of the other direction, if there is one."""

    pair: AttendedPair
    back: list[Link] | None


class Pairs:
    """Pairs of two files, attended to one after the other; blank ones have no links.

    Args:
        loaded: a model with attention.
        src: file of source lines.
        ref: file of their translations.
        method: how to join the links of both directions; `None` for those of `loaded` alone.
        reverse: a model of the other direction; `None` to read the weights of `loaded` by columns.

    Raises:
        DataError: the files have not as many lines.
    """

    def __init__(
        self, loaded: LoadedModel, src: Path, ref: Path, method: Symmetrisation | None, reverse: LoadedModel | None
    ) -> None:
        self.loaded, self.src, self.method, self.reverse = loaded, src, method, reverse
        self.sources, self.targets = read_pairs(src, ref)

    def print_links(self, layer: int | None, head: int | None, *, json_output: bool) -> None:
        """A line a pair, as soon as it is known."""
        lines = []
        for seen in self._each():
            lines.append("" if seen is None else pharaoh(self._links(seen, layer, head)))
            if not json_output:
                print(lines.pop())
        if json_output:
            console.print_json({"pairs": len(lines), "symmetrised": self.method, "alignments": lines})

    def print_scores(self, gold: Path, *, json_output: bool) -> None:
        """Alignment error rate of every layer and head, and of the diagonal."""
        truth = read_gold(gold)
        if len(truth) != len(self.sources):
            raise DataError(f"{gold} has {len(truth)} lines, {self.src} has {len(self.sources)}")
        lengths = [(len(s.split()), len(t.split())) for s, t in zip(self.sources, self.targets, strict=True)]
        for number, (source, target), known in zip(count(1), lengths, truth, strict=False):
            for link in sorted(known.possible):
                if link[0] >= source or link[1] >= target:
                    words = f"{source} source and {target} target words, counted from 0"
                    raise DataError(f"{gold}:{number}: {link[0]}-{link[1]} is not among {words}")
        found: dict[str, list[list[Link]]] = defaultdict(list)
        names: dict[str, tuple[int, int | None]] = {}
        for number, seen in enumerate(self._each()):
            if seen is not None and not names:
                names = _layers_and_heads(seen.pair)
                found |= {name: [[] for _ in range(number)] for name in names}
            for name, place in names.items():
                found[name].append([] if seen is None else self._links(seen, *place))
        if not names:
            raise DataError(f"{self.src} and its translations hold no text")
        found["diagonal"] = [diagonal(*both) if all(both) else [] for both in lengths]
        scores = {name: score_alignments(candidates, truth) for name, candidates in found.items()}
        if json_output:
            figures = {
                name: {"aer": s.error_rate, "precision": s.precision, "recall": s.recall, "links": s.links}
                for name, s in scores.items()
            }
            console.print_json({"pairs": len(self.sources), "symmetrised": self.method, "alignments": figures})
            return
        rows = [("attention", "AER", "precision", "recall", "links")]
        rows += [
            (name, f"{s.error_rate:.1f}", f"{s.precision:.1f}", f"{s.recall:.1f}", f"{s.links:,}")
            for name, s in scores.items()
        ]
        console.table(rows, right=frozenset({1, 2, 3, 4}))

    def _each(self) -> Iterator[_Seen | None]:
        with console.progress_bar("attending", printing=True) as show:
            for number, (source, target) in enumerate(zip(self.sources, self.targets, strict=True), 1):
                try:
                    yield self._attend(source, target)
                except BlankError:
                    yield None
                except DataError as error:
                    raise DataError(f"pair {number}: {error}") from error
                if show is not None:
                    show(number, len(self.sources))

    def _attend(self, source: str, target: str) -> _Seen:
        pair = attend_pair(self.loaded, source, target, candidates=False)
        if self.reverse is None:
            return _Seen(pair, None)
        back = attend_pair(self.reverse, target, source, candidates=False)
        return _Seen(pair, [(s, t) for t, s in links(words_of(back, back.alignment()).weights)])

    def _links(self, seen: _Seen, layer: int | None, head: int | None) -> list[Link]:
        """Of a pair, by one layer and head."""
        weights = words_of(seen.pair, seen.pair.alignment(layer, head)).weights
        if self.method is None:
            return links(weights)
        return symmetrise(links(weights), links_back(weights) if seen.back is None else seen.back, self.method)


def _layers_and_heads(pair: AttendedPair) -> dict[str, tuple[int, int | None]]:
    layers, heads = pair.cross.shape[:2]
    names: dict[str, tuple[int, int | None]] = {}
    for layer in range(layers):
        names[f"layer {layer}"] = layer, None
        names |= {f"layer {layer}, head {head}": (layer, head) for head in range(heads) if heads > 1}
    return names
