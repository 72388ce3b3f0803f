"""`nmt attend`: what a model looked at."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nmt.cli import console
from nmt.cli.streams import check_output, refuse_stdin_twice
from nmt.config import LARGEST_BEAM
from nmt.errors import DataError, UsageError

if TYPE_CHECKING:
    from nmt.alignment import Matrix, Symmetrisation
    from nmt.attending import AttendedPair
    from nmt.checkpoint import LoadedModel

SHADES: Final = " \u2591\u2592\u2593\u2588"
"""From no weight to all of it."""
HEADER: Final = 12
"""Letters of a source word above its column."""
MIN_COLUMNS: Final = 8
"""Source words side by side, however narrow the terminal is."""


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
    src: Annotated[Path | None, typer.Option("--src", help="File of sentences instead of one.")] = None,
    ref: Annotated[
        Path | None,
        typer.Option("--ref", help="File of their translations, line by line; if not given, the model translates."),
    ] = None,
    gold: Annotated[
        Path | None, typer.Option("--gold", help="Links people made: 0-0 1-2 sure, 3?4 possible; one line per pair.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Page or picture to write: FILE.html, .png, .svg or .pdf; of --src a picture per line, FILE-1.png ...",
        ),
    ] = None,
    symmetrise: Annotated[
        str | None,
        typer.Option("--symmetrise", metavar="METHOD", help="intersection, union, grow-diag or grow-diag-final."),
    ] = None,
    reverse: Annotated[
        Path | None,
        typer.Option("--reverse", help="Model of the other direction to symmetrise with, by its alignment layer."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Decoder layer, from 0; the model's alignment layer if not given.")
    ] = None,
    head: Annotated[int | None, typer.Option("--head", help="Head, from 0; the mean of all if not given.")] = None,
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
        nmt attend --src test.fr -o page.html
        nmt attend --src test.fr --ref test.en > test.align
        nmt attend --src dev.fr --ref dev.en --gold dev.align

    Rows are words of the translation, columns words of the source: the brighter, the more weight. With --src and
    --ref the links of each pair are printed as Pharaoh does, or with --gold the alignment error rate of every layer
    and head, beside that of a diagonal. A link goes from each target word to the source word with the greatest
    weight; --symmetrise joins these with links the other way: those of a model that was trained in the other
    direction (--reverse), or from each source word to the target word that gives it the greatest weight.
    """
    if (sentence is None) == (src is None):
        raise UsageError("give a sentence, or --src")
    if ref is not None and src is None:
        raise UsageError("--ref needs --src")
    if src is not None and ref is None and out is None:
        raise UsageError("--src needs --ref, or -o (for links to the model's own words: nmt translate --alignments)")
    if beam is not None and (ref is not None or target is not None):
        raise UsageError("--beam is for the model's own translation: leave it out where one is given")
    if src is not None and target is not None:
        raise UsageError("--target is for one sentence: for a file give --ref")
    if (gold is not None or symmetrise is not None) and (ref is None or out is not None):
        name = "--gold" if gold is not None else "--symmetrise"
        raise UsageError(f"{name} needs --src and --ref, and no -o")
    inputs = [path for path in (src, ref) if path is not None]
    refuse_stdin_twice([*inputs, gold], "--src, --ref and --gold")
    if out is not None:
        check_output("--output", out, inputs, [model])
    if reverse is not None and symmetrise is None:
        raise UsageError("--reverse needs --symmetrise")
    if src is not None and subwords and out is None:
        raise UsageError("--subwords is for what is shown: links are between words")
    if gold is not None and not (layer is None and head is None):
        raise UsageError("--gold shows every layer and head: leave --layer and --head out")
    if src is not None and out is not None and json_output:
        raise UsageError("--json is for links and scores: leave -o out")
    page = out is not None and out.suffix.lower() == ".html"
    if page and (subwords or layer is not None or head is not None):
        raise UsageError("a page shows pieces, every layer and head: leave --subwords, --layer and --head out")
    if out is not None and not page:
        from nmt.plotting import check_plot

        check_plot(out, "--output", others=["html"])
    method = _method(symmetrise)
    loaded = _load(model)
    if src is not None and out is None:
        from nmt.cli.attend_links import Pairs

        assert ref is not None
        back = None if reverse is None else _load_reverse(reverse, loaded)
        pairs = Pairs(loaded, src, ref, method, back)
        if gold is None:
            pairs.print_links(layer, head, json_output=json_output)
        else:
            pairs.print_scores(gold, json_output=json_output)
        return
    if src is not None:
        sources, targets = _read(src, ref)
        if out is not None and not page:
            for number in range(1, len(sources) + 1):
                check_output("--output", _numbered(out, number), inputs, [model])
    else:
        assert sentence is not None
        sources, targets = [_only_line() if sentence == "-" else sentence], [target]
    printing = out is None or (json_output and not page)
    shown = _attended(loaded, src, sources, targets, beam or 5, drawn=out is not None, printing=printing)
    if out is not None and page:
        kept = _write_page(out, sources, shown, several=src is not None)
        shown = iter(kept[:1] if json_output else ())
    elif out is not None:
        shown = iter(list(shown))  # no picture is drawn before all lines are known to fit
    for number, pair in shown:
        matrix = _Matrix(pair, pair.alignment(layer, head), subwords=subwords)
        if out is not None and not page:
            matrix.draw(out if src is None else _numbered(out, number))
        if json_output:
            matrix.print_json()
        elif out is None:
            matrix.print()


def _numbered(out: Path, number: int) -> Path:
    """The picture of a line."""
    return out.with_stem(f"{out.stem}-{number}")


def _read(src: Path, ref: Path | None) -> tuple[list[str], list[str | None]]:
    from nmt.cli.attend_links import read_pairs
    from nmt.lines import read_text_lines

    if ref is None:
        sources = list(read_text_lines(src))
        return sources, [None] * len(sources)
    sources, targets = read_pairs(src, ref)
    return sources, list(targets)


def _attended(
    loaded: "LoadedModel",
    src: Path | None,
    sources: Sequence[str],
    targets: Sequence[str | None],
    beam: int,
    *,
    drawn: bool,
    printing: bool,
) -> "Iterator[tuple[int, AttendedPair]]":
    """Line number and pair, one after the other; of several lines, blank ones are left out."""
    from nmt.attending import LONGEST, READABLE, BlankError, attend_pair

    longest = READABLE if drawn else LONGEST
    several, found = len(sources) > 1, False
    with console.progress_bar("attending", printing=printing) as show:
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
            try:
                yield number, attend_pair(loaded, source, target, beam_size=beam, longest=longest)
                found = True
            except BlankError:
                if not several:
                    raise
            except DataError as error:
                if not several:
                    raise
                raise DataError(f"{src}, line {number}: {error}") from error
            if show is not None:
                show(number, len(sources))
    if not found:
        raise DataError("there is no text to show")


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


def _write_page(
    out: Path, sources: Sequence[str], pairs: "Iterable[tuple[int, AttendedPair]]", *, several: bool
) -> "list[tuple[int, AttendedPair]]":
    """Write the page of all pairs, which are returned; of a file's, titles begin with the number of the line."""
    from nmt.attention_page import Shown, attention_page, check_size
    from nmt.files import atomic_file

    kept, shown = [], []
    for number, pair in pairs:
        text = " ".join(sources[number - 1].split())
        kept.append((number, pair))
        shown.append(
            Shown(
                title=f"{number}. {text}" if several else text,
                source=pair.source,
                target=pair.target,
                maps={kind: weights for kind, weights in pair.maps().items() if weights is not None},
                layer=pair.alignment_layer,
                candidates=pair.candidates,
            )
        )
        check_size(shown)  # before all the others are translated
    page = attention_page(shown)
    with atomic_file(out) as file:
        file.write(page.encode())
    console.note(f"{out}: open it in a browser")
    return kept


def _only_line() -> str:
    """The one sentence on standard input."""
    from nmt.lines import read_text_lines

    lines = [line for line in read_text_lines(Path("-")) if line.strip()]
    if len(lines) != 1:
        raise DataError(f"standard input has {len(lines)} sentences, not one: give --src and --ref for several")
    return lines[0]


class _Matrix:
    """One matrix of weights with what stands at its sides: words, or pieces."""

    def __init__(self, pair: "AttendedPair", weights: "Matrix", *, subwords: bool) -> None:
        from nmt.attending import words_of

        self.columns: Sequence[str] = pair.source
        self.rows: Sequence[str] = pair.target
        self.weights = weights
        if not subwords:
            words = words_of(pair, weights)
            self.columns, self.rows, self.weights = words.source, words.target, words.weights

    def draw(self, out: Path) -> None:
        from nmt.plotting import heat_map

        unknown = heat_map(out, self.weights, self.columns, self.rows)
        console.note(f"{out}: {len(self.rows)} target words by {len(self.columns)} source words")
        if unknown:
            console.warn(f"{out}: no font here has {unknown}: drawn as boxes")

    def print_json(self) -> None:
        from nmt.alignment import links, pharaoh

        document: dict[str, Any] = {
            "source": list(self.columns),
            "target": list(self.rows),
            "weights": [[round(float(weight), 6) for weight in row] for row in self.weights],
            "alignment": pharaoh(links(self.weights)),
        }
        print(console.json_text({"schema": 1, **document}))

    def print(self) -> None:
        """Two cells a source word, its letters standing above; as many words at a time as the terminal is wide."""
        from rich.cells import cell_len

        labels = [console.visible(word) for word in self.rows]
        heads = [console.visible(word)[:HEADER] for word in self.columns]
        margin = max(map(cell_len, labels), default=0)
        room = (shutil.get_terminal_size().columns - margin - 1) // 2 if sys.stdout.isatty() else len(heads)
        for start in range(0, len(heads), max(MIN_COLUMNS, room)):
            block = slice(start, start + max(MIN_COLUMNS, room))
            if start:
                print()
            depth = max(map(len, heads[block]))
            for line in range(depth):
                letters = [
                    head[line - depth + len(head)] if line >= depth - len(head) else " " for head in heads[block]
                ]
                cells = (letter + " " * (2 - cell_len(letter)) for letter in letters)
                print((" " * (margin + 1) + "".join(cells)).rstrip())
            for label, row in zip(labels, self.weights, strict=True):
                shades = "".join(_block(float(weight)) for weight in row[block])
                print(f"{' ' * (margin - cell_len(label))}{label} {shades}")


def _block(weight: float) -> str:
    """A weight as a shade of grey on a terminal with colours, else as a denser or lighter block."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return f"\x1b[48;5;{232 + round(23 * min(1.0, weight))}m  \x1b[0m"
    return 2 * SHADES[min(len(SHADES) - 1, int(weight * (len(SHADES) - 1) + 0.7))]
