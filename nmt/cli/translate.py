"""`nmt translate`: lines in, lines out."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nmt.cli import console
from nmt.cli.engine import EngineChoice, decoding_options, load_translator
from nmt.cli.streams import FIRST_CHUNK, LARGEST_CHUNK, STDIN, Input, Line, Write, appears_whole, open_output
from nmt.config import LARGEST_BEAM, DecodingOptions
from nmt.errors import UsageError
from nmt.special import EOS

if TYPE_CHECKING:
    from nmt.tokenizer import TokenizerPair
    from nmt.translator import Candidate, Translation, Translator

DEFAULT: Final = DecodingOptions()
SHOWN: Final = 5
"""Warnings of one kind that are printed at once."""
NAMED: Final = 50
"""Lines of the rest that are named in one warning."""

_TROUBLE: Final = {
    "parts": "too long to translate at once: translated in parts",
    "source": "too long: its end was not translated",
    "stopped": "the translation did not end and was cut at its greatest length",
    "looping": "the translation repeats itself",
    "empty": "the translation is empty",
    "retried": "the first translation was empty or repeated itself: this is a second one",
    "scored": "too long: only its beginning was scored",
}


def translate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Text, one sentence per line; - or nothing for standard input.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", help="Model directory; the model that ships if none is named."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file, which appears when complete.")
    ] = None,
    beam: Annotated[
        int, typer.Option("--beam", min=1, max=LARGEST_BEAM, help="Beam size; 1 is greedy search.")
    ] = DEFAULT.beam_size,
    length_penalty: Annotated[
        float,
        typer.Option(help="Scores are divided by length to this power: 0 for none, higher for longer."),
    ] = DEFAULT.length_penalty,
    n_best: Annotated[
        int, typer.Option("--n-best", min=1, help="Number of translations per line, best first.")
    ] = DEFAULT.n_best,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Add links from source to target words, as 0-0 1-2, after a tab.")
    ] = False,
    max_length_ratio: Annotated[
        float, typer.Option(help="Longest translation, in tokens, as a multiple of the source ...")
    ] = DEFAULT.max_length_ratio,
    max_length_extra: Annotated[int, typer.Option(help="... plus this many.")] = DEFAULT.max_length_extra,
    min_length_ratio: Annotated[
        float, typer.Option(help="Shortest translation, in tokens, as a multiple of the source.")
    ] = DEFAULT.min_length_ratio,
    no_repeat_ngram: Annotated[
        int, typer.Option(min=0, help="Never produce an n-gram of this many tokens twice; 0 for no rule.")
    ] = DEFAULT.no_repeat_ngram,
    max_source_tokens: Annotated[
        int | None,
        typer.Option(min=8, help="Longer lines are translated in parts.", show_default="256"),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Source tokens per batch.", show_default="4096; ctranslate2: 1024, int8 on a CPU 256"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda (all GPUs) or cuda:N.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, or bf16: faster where the device has it, but rounding may differ with the batch.",
            show_default="fp32",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="auto, torch, or ctranslate2 (after nmt export); auto takes it where it can.")
    ] = "auto",
) -> None:
    """Translate text line by line: as many lines out as in, in order; a blank line stays blank.

    Examples:
        echo "Où est la gare ?" | nmt translate
        nmt translate letter.fr -o letter.en
        nmt translate -m checkpoints/demo --beam 1 < test.fr > test.en
        nmt translate --n-best 3 --json test.fr.gz

    Lines end at LF alone. With --n-best above 1 and without --json, every translation is a line of four
    columns, separated by tabs: number of the source line, rank, score, translation. The score is the
    log-probability divided by length ** length-penalty. A pipe or terminal is answered line by line. A line
    whose translation is empty or repeats itself is translated once more, under a rule that no sequence of four
    tokens comes twice; the second translation is taken if it ends and is neither.
    """
    if n_best > beam:
        raise UsageError(f"--n-best {n_best} needs a --beam of at least as many (it is {beam})")
    options = decoding_options(
        beam_size=beam,
        length_penalty=length_penalty,
        n_best=n_best,
        max_length_ratio=max_length_ratio,
        max_length_extra=max_length_extra,
        min_length_ratio=min_length_ratio,
        no_repeat_ngram=no_repeat_ngram,
    )
    choice = EngineChoice(
        engine=engine,
        device=device,
        precision=precision,
        batch_tokens=batch_tokens,
        spread=True,
        keep_attention=alignments,
    )
    first = LARGEST_CHUNK if appears_whole(out) else FIRST_CHUNK  # nobody sees its first lines before the last
    inputs = [Input(path, max_bytes=MAX_LINE_BYTES, first_chunk=first) for path in files or [STDIN]]
    with open_output(out, inputs, [model]) as write:
        translator = load_translator(model, options, choice, max_source_tokens=max_source_tokens)
        if sys.stdin.isatty() and any(item.path == STDIN for item in inputs):
            console.note("one sentence a line; Ctrl-D ends")
        tokenizers = translator.tokenizers if alignments else None
        form = _Format(n_best=n_best, as_json=json_output, tokenizers=tokenizers)
        _run(translator, inputs, write, form, whole=appears_whole(out))


MAX_LINE_BYTES: Final = 4 << 20
"""Bytes of a line that are read: more than `MAX_LINE_TOKENS` can use."""


def _run(translator: "Translator", inputs: Sequence[Input], write: Write, form: "_Format", *, whole: bool) -> None:
    """Translate all; `whole` where results appear in a file at the end, so that a bar is in nobody's way."""
    troubles = Troubles()
    total = _total(inputs)
    done = 0
    # No bar where the end is not in sight: it would only stand in a typist's way.
    running = whole or not sys.stdout.isatty()  # or translations would run into the bar
    with console.progress_bar("translating") if running and total is not None else nullcontext() as show:

        def progress(part: int, parts: int) -> None:
            if show is not None and total is not None:
                show(done + size * part // parts, total)

        def translate(chunk: list[Line]) -> None:  # a function, so that nothing is left of one chunk in the next
            translations = translator.translate([line.text for line in chunk], progress)
            write(form.lines(done + 1, translations))
            for line, translation in zip(chunk, translations, strict=True):
                _note(troubles, line, translation)

        for item in inputs:
            for chunk in item.chunks():
                size = len(chunk)
                translate(chunk)
                done += size
    troubles.conclude(inputs)


def _total(inputs: Sequence[Input]) -> int | None:
    """Lines to come, for the bar, if there is to be one."""
    if not console.wants_progress():
        return None
    counts = [item.count() for item in inputs]
    return None if None in counts else sum(count for count in counts if count is not None)


def _note(troubles: "Troubles", line: Line, translation: "Translation") -> None:
    if translation.source_cut or line.cut:
        troubles.add("source", line.place)
    elif len(translation.parts) > 1:
        troubles.add("parts", line.place)
    if translation.stopped:
        troubles.add("stopped", line.place)
    for kind in ("looping", "empty", "retried"):
        if getattr(translation, kind):
            troubles.add(kind, line.place)


class Troubles:
    """What the user should know of single lines: the first few of a kind at once, the others named many at a time."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._later: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, place: str) -> None:
        """Note trouble with the line at `place`."""
        self._counts[kind] += 1
        if self._counts[kind] <= SHOWN:
            console.warn(f"{place}: {_TROUBLE[kind]}")
            return
        self._later[kind].append(place)
        if len(self._later[kind]) == NAMED:
            self._name(kind)

    def _name(self, kind: str) -> None:
        if places := self._later.pop(kind, []):
            console.warn(f"{', '.join(places)}: {_TROUBLE[kind]}")

    def conclude(self, inputs: Sequence[Input]) -> None:
        """Print what is left to say."""
        for kind in self._counts:
            self._name(kind)
        invalid = [item for item in inputs if item.invalid_lines]
        count = sum(item.invalid_lines for item in invalid)
        if count:
            lines = "1 line was" if count == 1 else f"{count} lines were"
            first = invalid[0].first_invalid
            console.warn(f"{lines} not UTF-8: bad bytes read as U+FFFD (first: {first})")


class _Format:
    """How translations are printed; with `tokenizers`, their word alignments too."""

    def __init__(self, *, n_best: int, as_json: bool, tokenizers: "TokenizerPair | None" = None) -> None:
        self._n_best = n_best
        self._as_json = as_json
        self._tokenizers = tokenizers

    def lines(self, first: int, translations: Sequence["Translation"]) -> Iterator[str]:
        """Lines for translations of the source lines from number `first` on."""
        for number, translation in enumerate(translations, first):
            if self._as_json:
                yield console.json_text(self._document(number, translation))
            elif self._n_best == 1:
                yield self._aligned(translation.text, translation, translation.candidates[0])
            else:
                for rank, candidate in enumerate(translation.candidates, 1):
                    line = f"{number}\t{rank}\t{candidate.score:.4f}\t{candidate.text}"
                    yield self._aligned(line, translation, candidate)

    def _aligned(self, line: str, translation: "Translation", candidate: "Candidate") -> str:
        """`line`, and the links behind a tab if they are asked for."""
        return f"{line}\t{self._links(translation, candidate)}" if self._tokenizers is not None else line

    def _links(self, translation: "Translation", candidate: "Candidate") -> str:
        """Links between the words of the line and of its translation, as `str.split` has them."""
        from nmt.alignment import by_words, links, pharaoh

        assert self._tokenizers is not None
        found: list[tuple[int, int]] = []
        place = target_words = 0
        for part, hypothesis in zip(translation.parts, candidate.parts, strict=True):
            if hypothesis.attention is None:
                raise UsageError("--alignments needs a model with attention")
            place = translation.source.index(part.text, place)
            before = translation.source[:place]
            within = bool(before) and not before[-1].isspace()  # a part may begin within a word
            source_words = len(before.split()) - within
            place += len(part.text)
            source = self._tokenizers.source.encode_words(part.text)[1]
            target = self._tokenizers.target.decode_words([token for token in hypothesis.tokens if token != EOS])
            between = links(by_words(hypothesis.attention.numpy(), source, target))
            found += [(s + source_words, t + target_words) for s, t in between]
            target_words += len(target)
        return pharaoh(found)

    def _describe(self, translation: "Translation", candidate: "Candidate") -> dict[str, Any]:
        document = {
            "translation": candidate.text,
            "score": candidate.score,
            "log_prob": candidate.log_prob,
            "tokens": len(candidate.tokens),
        }
        if self._tokenizers is not None:
            document["alignment"] = self._links(translation, candidate)
        return document

    def _document(self, number: int, translation: "Translation") -> dict[str, Any]:
        document = {
            "schema": 1,
            "line": number,
            "source": translation.source,
            **self._describe(translation, translation.candidates[0]),
            "source_tokens": len(translation.source_tokens),
            "parts": len(translation.parts),
            "cut": translation.cut,
            "looping": translation.looping,
            "empty": translation.empty,
            "retried": translation.retried,
        }
        if self._n_best > 1:
            document["n_best"] = [self._describe(translation, candidate) for candidate in translation.candidates]
        return document
