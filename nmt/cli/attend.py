"""`nmt attend`: what a model looked at."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nmt.cli import console
from nmt.config import LARGEST_BEAM
from nmt.errors import DataError, UsageError

if TYPE_CHECKING:
    from nmt.alignment import Gold, Link, Matrix, Symmetrisation
    from nmt.attending import AttendedPair
    from nmt.checkpoint import LoadedModel

SHADES: Final = " \u2591\u2592\u2593\u2588"
"""From no weight to all of it."""
HEADER: Final = 12
"""Letters of a source word above its column."""


def attend(
    sentence: Annotated[
        str | None, typer.Argument(help="A sentence in the source language; - for that on stdin.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="Model directory; the model that ships if none is named.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Its translation; if not given, the model translates.")
    ] = None,
    src: Annotated[Path | None, typer.Option("--src", help="File of source lines, with --ref.")] = None,
    ref: Annotated[Path | None, typer.Option("--ref", help="File of their translations, line by line.")] = None,
    gold: Annotated[
        Path | None, typer.Option("--gold", help="Links people made: 0-0 1-2 sure, 3?4 possible; a line a pair.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page or picture to write: FILE.html, .png, .svg or .pdf.")
    ] = None,
    symmetrise: Annotated[
        str | None,
        typer.Option("--symmetrise", metavar="METHOD", help="intersection, union, grow-diag or grow-diag-final."),
    ] = None,
    reverse: Annotated[
        Path | None,
        typer.Option("--reverse", help="Model of the other direction to symmetrise with, by its alignment layer."),
    ] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="Decoder layer, from 0.")] = None,
    head: Annotated[int | None, typer.Option("--head", help="Head, from 0; all together if not given.")] = None,
    subwords: Annotated[bool, typer.Option("--subwords", help="Show pieces instead of words.")] = False,
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", min=1, max=LARGEST_BEAM, help="Beam size of the model's own translation; 5 if not given."
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show attention: where the model looked for each word, and how well that aligns words.

    Examples:
        nmt attend "Où est la gare ?"
        nmt attend -m checkpoints/demo "Un homme marche." --target "A man walks." -o man.png
        nmt attend "Je ne sais pas." -o page.html
        nmt attend --src test.fr --ref test.en > test.align
        nmt attend --src dev.fr --ref dev.en --gold dev.align

    Rows are words of the translation, columns words of the source: the brighter, the more weight. With --src and
    --ref the links of each pair are printed as Pharaoh does, or with --gold the alignment error rate of every layer
    and head, beside that of a diagonal. A link goes from each target word to the source word with the greatest
    weight; --symmetrise joins these with links the other way: those of a model that was trained in the other
    direction (--reverse), or from each source word to the target word that gives it the greatest weight.
    """
    if (src is None) != (ref is None):
        raise UsageError("--src and --ref go together (for the model's own translations: nmt translate --alignments)")
    if (sentence is None) == (src is None):
        raise UsageError("give a sentence, or --src and --ref")
    if beam is not None and (src is not None or target is not None):
        raise UsageError("--beam is for the model's own translation: leave it out where one is given")
    if gold is not None and src is None:
        raise UsageError("--gold needs --src and --ref")
    if src is None and symmetrise is not None:
        raise UsageError("--symmetrise needs --src and --ref")
    if reverse is not None and symmetrise is None:
        raise UsageError("--reverse needs --symmetrise")
    if src is not None and (out is not None or target is not None or subwords):
        raise UsageError("--output, --target and --subwords are for one sentence")
    if gold is not None and not (layer is None and head is None):
        raise UsageError("--gold shows every layer and head: leave --layer and --head out")
    page = out is not None and out.suffix.lower() == ".html"
    if page and (subwords or layer is not None or head is not None):
        raise UsageError("a page shows pieces, every layer and head: leave --subwords, --layer and --head out")
    if out is not None and not page:
        from nmt.plotting import check_plot

        check_plot(out, "--output")
    method = _method(symmetrise)
    loaded = _load(model)
    if src is not None and ref is not None:
        pairs = _Pairs(loaded, src, ref, method, None if reverse is None else _load_reverse(reverse, loaded))
        if gold is None:
            pairs.print_links(layer, head, json_output=json_output)
        else:
            pairs.print_scores(gold, json_output=json_output)
        return
    assert sentence is not None
    if sentence == "-":
        sentence = _only_line()
    from nmt.attending import attend_pair, words_of
    from nmt.config import DecodingOptions

    pair = attend_pair(loaded, sentence, target, DecodingOptions(beam_size=beam or 5))
    weights = pair.alignment(layer, head)
    words = words_of(pair, weights)
    shown = _Shown(pair.source, pair.target, weights) if subwords else _Shown(words.source, words.target, words.weights)
    if out is not None and page:
        _write_page(out, pair)
    elif out is not None:
        shown.draw(out)
    if json_output:
        shown.print_json(words.weights)
    elif out is None:
        shown.print()


def _load(model: Path | None) -> "LoadedModel":
    from nmt.checkpoint import load_model
    from nmt.resources import default_model

    return load_model(model or default_model())


def _method(name: str | None) -> "Symmetrisation | None":
    if name is None:
        return None
    from nmt.alignment import symmetrisation

    return symmetrisation(name)


def _load_reverse(path: Path, loaded: "LoadedModel") -> "LoadedModel":
    """A model from the target language to the source language of another."""
    reverse = _load(path)
    if (reverse.source_lang, reverse.target_lang) != (loaded.target_lang, loaded.source_lang):
        given, wanted = (
            f"{a} to {b}"
            for a, b in ((reverse.source_lang, reverse.target_lang), (loaded.target_lang, loaded.source_lang))
        )
        raise UsageError(f"{path} translates {given}: --reverse needs a model of {wanted}")
    return reverse


def _write_page(out: Path, pair: "AttendedPair") -> None:
    from nmt.attention_page import attention_page
    from nmt.files import atomic_file

    maps = {"cross": pair.cross, "encoder": pair.encoder, "decoder": pair.decoder}
    page = attention_page(
        title="".join(pair.source[:-1]).replace("\u2581", " ").strip(),
        source=pair.source,
        target=pair.target,
        maps={kind: weights for kind, weights in maps.items() if weights is not None},
        layer=pair.alignment_layer,
        candidates=pair.candidates,
    )
    with atomic_file(out) as file:
        file.write(page.encode())
    console.note(f"{out}: open it in a browser")


def _only_line() -> str:
    """The one sentence on standard input."""
    from nmt.lines import read_text_lines

    lines = [line for line in read_text_lines(Path("-")) if line.strip()]
    if len(lines) != 1:
        raise DataError(f"standard input has {len(lines)} sentences, not one: give --src and --ref for several")
    return lines[0]


class _Shown:
    """One matrix of weights with the words at its sides."""

    def __init__(self, columns: Sequence[str], rows: Sequence[str], weights: "Matrix") -> None:
        self.columns, self.rows, self.weights = columns, rows, weights

    def draw(self, out: Path) -> None:
        from nmt.plotting import heat_map

        heat_map(out, self.weights, self.columns, self.rows)
        console.note(f"{out}: {len(self.rows)} target words by {len(self.columns)} source words")

    def print_json(self, words: "Matrix") -> None:
        from nmt.alignment import links, pharaoh

        document: dict[str, Any] = {
            "schema": 1,
            "source": list(self.columns),
            "target": list(self.rows),
            "weights": [[round(float(weight), 6) for weight in row] for row in self.weights],
            "alignment": pharaoh(links(words)),
        }
        print(console.json_text(document))

    def print(self) -> None:
        """Two characters a source word, its letters standing above."""
        labels = [console.visible(word) for word in self.rows]
        margin = max(map(len, labels), default=0)
        heads = [console.visible(word)[:HEADER] for word in self.columns]
        depth = max(map(len, heads), default=0)
        for line in range(depth):
            letters = [head[line - depth + len(head)] if line >= depth - len(head) else " " for head in heads]
            print((" " * (margin + 1) + " ".join(letters)).rstrip())
        for label, row in zip(labels, self.weights, strict=True):
            print(f"{label.rjust(margin)} " + "".join(_block(float(weight)) for weight in row))


def _block(weight: float) -> str:
    """A weight as a shade of grey on a terminal with colours, else as a denser or lighter block."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return f"\x1b[48;5;{232 + round(23 * min(1.0, weight))}m  \x1b[0m"
    return 2 * SHADES[min(len(SHADES) - 1, int(weight * (len(SHADES) - 1) + 0.7))]


def _read(src: Path, ref: Path) -> tuple[list[str], list[str]]:
    from nmt.lines import read_text_lines

    sources, targets = read_text_lines(src), read_text_lines(ref)
    if len(sources) != len(targets):
        raise DataError(f"{src} has {len(sources)} lines, {ref} has {len(targets)}")
    return sources, targets


def _attend_all(loaded: "LoadedModel", sources: Sequence[str], targets: Sequence[str]) -> "list[AttendedPair | None]":
    """One a pair; `None` where a side is blank."""
    from nmt.attending import attend_pair
    from nmt.config import DecodingOptions

    pairs: list[AttendedPair | None] = []
    with console.progress_bar("attending") as show:
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
            if not source.split() or not target.split():
                pairs.append(None)
            else:
                try:
                    pair = attend_pair(loaded, source, target, DecodingOptions())
                except DataError as error:
                    raise DataError(f"pair {number}: {error}") from error
                pairs.append(replace(pair, encoder=None, decoder=None, candidates=()))  # a whole file is kept
            if show is not None:
                show(number, len(sources))
    return pairs


class _Pairs:
    """Pairs of two files, attended to; blank ones have no links."""

    def __init__(
        self,
        loaded: "LoadedModel",
        src: Path,
        ref: Path,
        method: "Symmetrisation | None",
        reverse: "LoadedModel | None",
    ) -> None:
        self.src, self.ref, self.method = src, ref, method
        self.sources, self.targets = _read(src, ref)
        self.pairs = _attend_all(loaded, self.sources, self.targets)
        self.back = None if reverse is None else _attend_all(reverse, self.targets, self.sources)

    def links(self, layer: int | None, head: int | None) -> "list[list[Link]]":
        """Of each pair, by one layer and head."""
        from nmt.alignment import links, links_back, symmetrise
        from nmt.attending import words_of

        found: list[list[Link]] = []
        for number, pair in enumerate(self.pairs):
            weights = None if pair is None else words_of(pair, pair.alignment(layer, head)).weights
            if weights is None or self.method is None:
                found.append([] if weights is None else links(weights))
                continue
            other = None if self.back is None else self.back[number]
            if other is None:
                backward = links_back(weights)
            else:
                backward = [(source, target) for target, source in links(words_of(other, other.alignment()).weights)]
            found.append(symmetrise(links(weights), backward, self.method))
        return found

    def print_links(self, layer: int | None, head: int | None, *, json_output: bool) -> None:
        from nmt.alignment import pharaoh

        lines = [pharaoh(found) for found in self.links(layer, head)]
        if json_output:
            console.print_json({"pairs": len(lines), "symmetrised": self.method, "alignments": lines})
        else:
            for line in lines:
                print(line)

    def print_scores(self, gold: Path, *, json_output: bool) -> None:
        from nmt.alignment import diagonal, read_gold, score_alignments

        truth: list[Gold] = read_gold(gold)
        if len(truth) != len(self.sources):
            raise DataError(f"{gold} has {len(truth)} lines, {self.src} has {len(self.sources)}")
        first = next((pair for pair in self.pairs if pair is not None), None)
        if first is None:
            raise DataError(f"{self.src} and {self.ref} hold no text")
        layers, heads = first.cross.shape[:2]
        found = {}
        for layer in range(layers):
            found[f"layer {layer}"] = self.links(layer, None)
            for head in range(heads) if heads > 1 else ():
                found[f"layer {layer}, head {head}"] = self.links(layer, head)
        lengths = [(len(s.split()), len(t.split())) for s, t in zip(self.sources, self.targets, strict=True)]
        found["diagonal"] = [diagonal(*both) if all(both) else [] for both in lengths]
        scores = {name: score_alignments(candidates, truth) for name, candidates in found.items()}
        if json_output:
            figures = {
                name: {
                    "aer": score.error_rate,
                    "precision": score.precision,
                    "recall": score.recall,
                    "links": score.links,
                }
                for name, score in scores.items()
            }
            console.print_json({"pairs": len(self.pairs), "symmetrised": self.method, "alignments": figures})
            return
        rows = [("attention", "AER", "precision", "recall", "links")]
        rows += [
            (name, f"{s.error_rate:.1f}", f"{s.precision:.1f}", f"{s.recall:.1f}", f"{s.links:,}")
            for name, s in scores.items()
        ]
        console.table(rows, right=frozenset({1, 2, 3, 4}))
