"""`nmt score`: how probable a model finds translations that are already there."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final

import typer

from nmt.cli import console
from nmt.cli.engine import EngineChoice, load_scorer
from nmt.cli.streams import STDIN, Input, Line, Write, appears_whole, open_output
from nmt.cli.translate import MAX_LINE_BYTES, Troubles
from nmt.errors import DataError, UsageError

Pair = tuple[Line, str, str]
"""Where it is, source, translation."""

CHUNK: Final = 2048


def score(
    pairs: Annotated[
        Path | None, typer.Argument(help="TSV: source, tab, translation; - or nothing for standard input.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", help="Model directory; the model that ships if none is named."),
    ] = None,
    src: Annotated[Path | None, typer.Option("--src", help="File of source lines, with --ref.")] = None,
    ref: Annotated[Path | None, typer.Option("--ref", help="File of their translations, line by line.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file, which appears when complete.")
    ] = None,
    per_token: Annotated[
        bool, typer.Option("--per-token", help="Divide by the number of tokens, so that lengths compare.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document, one line per pair.")] = False,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per batch.", show_default="4096")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
) -> None:
    r"""Score given translations: log P(translation | source) in nats, one number a line.

    Examples:
        nmt score --src test.fr --ref test.en
        printf 'Merci.\tThank you.\n' | nmt score --per-token
        paste crawl.fr crawl.en | nmt score --json > scores.json

    The end of a sentence counts as a token. 0 would be certain; the lower, the less probable.
    """
    if (src is None) != (ref is None):
        raise UsageError("--src and --ref go together")
    if src is not None and pairs is not None:
        raise UsageError(f"give either {console.visible(str(pairs))} or --src and --ref")
    paths = [src, ref] if src is not None and ref is not None else [pairs or STDIN]
    if len(paths) == 2 and paths[0] == paths[1] == STDIN:
        raise UsageError("--src and --ref cannot both be standard input: give tab-separated pairs instead")
    inputs = [Input(path, max_bytes=MAX_LINE_BYTES) for path in paths]
    whole = json_output and not appears_whole(out)  # a JSON document is printed whole, or an error alone
    with open_output(out, inputs, [model]) as shown, _held(shown) if whole else nullcontext(shown) as write:
        choice = EngineChoice(engine="torch", device=device, precision=precision, batch_tokens=batch_tokens)
        scorer = load_scorer(model, choice)
        troubles, done = Troubles(), 0
        if json_output:
            write(['{"schema": 1, "pairs": ['])
        for chunk in _from_columns(inputs[0]) if len(inputs) == 1 else _from_files(*inputs):
            results = scorer.score([(source, target) for _, source, target in chunk])
            lines = []
            for number, ((line, _, _), result) in enumerate(zip(chunk, results, strict=True), done + 1):
                if result.cut or line.cut:
                    troubles.add("scored", line.place)
                mean = result.log_prob / result.tokens
                document = {"log_prob": result.log_prob, "tokens": result.tokens, "per_token": mean}
                document |= {"cut": result.cut or line.cut}
                plain = f"{mean if per_token else result.log_prob:.4f}"
                comma = ", " if number > 1 else ""
                lines.append(comma + console.json_text({"line": number, **document}) if json_output else plain)
            write(lines)
            done += len(chunk)
        if json_output:
            write(["]}"])
        troubles.conclude(inputs)


@contextmanager
def _held(write: Write) -> Iterator[Write]:
    """Yield what keeps lines in a temporary file; `write` gets them when the block ends well."""
    with TemporaryFile("w+", encoding="utf-8", newline="\n") as file:
        yield lambda lines: file.writelines(f"{line}\n" for line in lines)
        file.seek(0)
        write(line.removesuffix("\n") for line in file)


def _from_columns(item: Input) -> Iterator[list[Pair]]:
    for chunk in item.chunks():
        pairs = []
        for line in chunk:
            source, tab, rest = line.text.partition("\t")
            if not tab:
                raise DataError(f"{line.place}: no tab between source and translation")
            pairs.append((line, source, rest.partition("\t")[0]))
        yield pairs


def _from_files(src: Input, ref: Input) -> Iterator[list[Pair]]:
    """Pairs of equally numbered lines.

    Raises:
        DataError: one file has more lines than the other.
    """
    chunk: list[Pair] = []
    sources = targets = 0
    for source, target in zip_longest(_lines(src), _lines(ref)):
        sources += source is not None
        targets += target is not None
        if source is not None and target is not None:
            chunk.append((source, source.text, target.text))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if sources != targets:
        raise DataError(f"{src.name} has {sources} lines, {ref.name} has {targets}")
    if chunk:
        yield chunk


def _lines(item: Input) -> Iterator[Line]:
    for chunk in item.chunks():
        yield from chunk
