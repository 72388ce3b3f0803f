"""`nmt bench`: how fast training and translation are here, and what changes it."""

import itertools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nmt.cli import console
from nmt.cli.streams import STDIN, check_output
from nmt.config import LARGEST_BEAM
from nmt.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from nmt.bench.alternate import Contender, Series

app = typer.Typer(rich_markup_mode=None)

Against = Annotated[
    str | None,
    typer.Option("--against", metavar="OPTIONS", help="Compare with the same command and these options added."),
]
Checkout = Annotated[
    Path | None,
    typer.Option("--against-checkout", metavar="DIR", help="Compare with the nmt that lies in this directory."),
]
Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="Times each side of a comparison is run.", show_default="3")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw a sweep: FILE.png, .svg or .pdf.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True)
class _Sweep:
    """What `--sweep` varies."""

    option: str
    """Option that each value is given to, `{}` standing for it."""
    values: tuple[int, ...]
    unit: str


TRAINING_SWEEPS: Final = {
    "length": _Sweep("--length {}", (8, 16, 32, 64, 128), "tokens a sentence"),
    "batch": _Sweep("--set batch_tokens={}", (512, 1024, 2048, 4096, 8192), "tokens a batch"),
    "vocab": _Sweep("--vocab {}", (2000, 4000, 8000, 16000, 32000), "pieces"),
}
TRANSLATION_SWEEPS: Final = {
    "length": _Sweep("--length {}", (5, 10, 20, 40, 80), "words a line"),
    "batch": _Sweep("--batch-tokens {}", (64, 256, 1024, 4096, 16384), "source tokens a batch"),
    "beam": _Sweep("--beam {}", (1, 2, 4, 8, 16), "beam"),
}


@app.callback()
def _bench() -> None:
    """Measure speed, memory and where the time goes.

    Examples:
        nmt bench train data/demo --arch transformer --preset tiny
        nmt bench translate -m checkpoints/demo --against "--beam 1"
    """


@app.command()
def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Argument(help="Data directory; synthetic sentences if not given.")] = None,
    arch: Annotated[str, typer.Option(help="gru, attention or transformer.")] = "transformer",
    preset: Annotated[str | None, typer.Option(help="As for nmt train.", show_default="small")] = None,
    config: Annotated[Path | None, typer.Option(help="As for nmt train.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as for nmt train.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates that are timed.")] = 40,
    warmup: Annotated[int, typer.Option(min=0, help="Updates before.")] = 10,
    length: Annotated[int | None, typer.Option(min=2, help="Tokens of every synthetic sentence.")] = None,
    vocab: Annotated[
        int | None, typer.Option(min=16, help="Pieces of the synthetic vocabulary.", show_default="8000")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Show how cost grows: length, batch or vocab.")] = None,
    plot: Plot = None,
    against: Against = None,
    checkout: Checkout = None,
    rounds: Rounds = None,
    json_output: Json = False,
) -> None:
    """Time the updates of training, weights and data as they would be in `nmt train`.

    Examples:
        nmt bench train data/demo --arch attention
        nmt bench train --sweep length --plot length.png
        nmt bench train --against "--precision fp32" --rounds 5
        nmt bench train data/demo --against-checkout ../nmt-before

    The roof is the best rate of a large matrix product on this machine, measured before and after; on a CPU one is
    also timed in turn with the updates. Work is counted without padding and without the products of attention.
    Comparisons run in turn, A B A B, each in a process of its own; the ratio is that of the medians. Nothing is saved.
    """
    if data is not None and (length is not None or vocab is not None or sweep in ("length", "vocab")):
        raise UsageError("--length and --vocab shape synthetic sentences: leave DATA out")
    arguments = _Arguments("bench", "train")
    arguments.add(
        None if data is None else str(data), "--arch", arch, "--updates", str(updates), "--warmup", str(warmup)
    )
    for option, value in (("--preset", preset), ("--config", config), ("--device", device), ("--precision", precision)):
        arguments.add_option(option, value)
    for item in overrides or []:
        arguments.add("--set", item)
    arguments.add_option("--length", length)
    arguments.add_option("--vocab", vocab)
    driver = _Driver(context, arguments, TRAINING_SWEEPS, sweep, plot, against, checkout, rounds, json_output)

    def measure() -> tuple[dict[str, Any], list[tuple[str, str]]]:
        from nmt.bench.training import SYNTHETIC_VOCABULARY, bench_training, training_rows
        from nmt.dataset import DataDirectory
        from nmt.settings import resolve

        flags = {"device": device, "precision": precision}
        run = resolve(arch, preset=preset, file=config, overrides=overrides or [], flags=flags)
        document = bench_training(
            run,
            None if data is None else DataDirectory.open(data),
            updates=updates,
            warmup=warmup,
            length=length,
            vocabulary=vocab or SYNTHETIC_VOCABULARY,
        )
        return document, training_rows(document)

    driver.run(measure, "target_tokens_per_second", "target tokens/s")


@app.command()
def translate(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Text, one sentence per line; the sample's test set if not given.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="Model directory; the model that ships if none is named.")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option("--beam", min=1, max=LARGEST_BEAM, help="Beam size; 1 is greedy search.", show_default="5"),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Source tokens per batch.", show_default="4096; ctranslate2: 1024, int8 on a CPU 256"),
    ] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Cut the text into lines of this many words.")] = None,
    as_long: Annotated[
        bool, typer.Option("--as-long", help="Make translations have as many tokens as their source (torch only).")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.", show_default="fp32")] = None,
    engine: Annotated[str, typer.Option(help="auto, torch or ctranslate2.")] = "auto",
    sweep: Annotated[str | None, typer.Option(help="Show how cost grows: length, batch or beam.")] = None,
    plot: Plot = None,
    against: Against = None,
    checkout: Checkout = None,
    rounds: Rounds = None,
    json_output: Json = False,
) -> None:
    """Time translation, from text to text, the model already loaded.

    Examples:
        nmt bench translate
        nmt bench translate test.fr -m checkpoints/demo --sweep beam
        nmt bench translate test.fr --against "--precision bf16"
    """
    arguments = _Arguments("bench", "translate")
    arguments.add(None if file is None else str(file), "--device", device, "--engine", engine)
    arguments.add("--as-long" if as_long else None)
    arguments.add_option("--precision", precision)
    given = ("--model", model), ("--beam", beam), ("--batch-tokens", batch_tokens), ("--length", length)
    for option, value in given:
        arguments.add_option(option, value)
    inputs = [] if file is None else [file]
    driver = _Driver(
        context, arguments, TRANSLATION_SWEEPS, sweep, plot, against, checkout, rounds, json_output, inputs
    )
    if file is not None and driver.runs_several and (file == STDIN or (file.exists() and not file.is_file())):
        raise UsageError(f"{file} can be read once only: a sweep or a comparison needs a plain file")

    def measure() -> tuple[dict[str, Any], list[tuple[str, str]]]:
        from nmt.bench.translation import as_long_as_the_source, bench_translation, lines_of_length, translation_rows
        from nmt.cli.engine import EngineChoice, decoding_options, load_translator
        from nmt.resources import default_model

        lines = _lines(file, model or default_model())
        if length is not None:
            lines = lines_of_length(lines, length)
        options = decoding_options(beam_size=beam or 5)
        if as_long:
            options = as_long_as_the_source(options)
        choice = EngineChoice(engine=engine, device=device, precision=precision, batch_tokens=batch_tokens)
        translator = load_translator(model, options, choice)
        translator.retry = not as_long  # a second search would be timed as part of the first
        document = bench_translation(translator, lines, name=(model or default_model()).name)
        return document, translation_rows(document)

    driver.run(measure, "lines_per_second", "lines/s")


def _lines(file: Path | None, model: Path) -> list[str]:
    """Those of a file, or of the sample in the language that the model reads."""
    from nmt.lines import read_text_lines
    from nmt.manifest import read_manifest
    from nmt.testset import read_corpus

    if file is not None:
        lines = read_text_lines(file)
    else:
        source, target = (read_manifest(model)["direction"][side] for side in ("source", "target"))
        if {source, target} != {"fr", "en"}:
            raise UsageError(f"{model} translates {source} to {target}, the sample is in fr and en: name a FILE")
        lines = list(read_corpus("sample", source_lang=source, target_lang=target).sources or ())
    if not any(line.strip() for line in lines):
        raise DataError(f"{file} holds no text")
    return lines


class _Arguments(list[str]):
    """A command line being put together."""

    def __init__(self, *words: str) -> None:
        super().__init__(words)

    def add(self, *words: str | None) -> None:
        self.extend(word for word in words if word is not None)

    def add_option(self, option: str, value: object) -> None:
        if value is not None:
            self.extend([option, str(value)])


_DRIVING: Final = ("--sweep", "--plot", "--against", "--against-checkout", "--rounds")
"""Options that ask for several measurements, or belong to them."""


class _Driver:
    """One measurement, a sweep of them, or a comparison."""

    def __init__(
        self,
        context: typer.Context,
        arguments: Sequence[str],
        sweeps: dict[str, _Sweep],
        sweep: str | None,
        plot: Path | None,
        against: str | None,
        checkout: Path | None,
        rounds: int | None,
        json_output: bool,
        inputs: Sequence[Path] = (),
    ) -> None:
        if sweep is not None and sweep not in sweeps:
            raise UsageError(f"--sweep '{sweep}' is not one of {', '.join(sweeps)}{did_you_mean(sweep, sweeps)}")
        if sweep is not None:
            option, _, key = sweeps[sweep].option.removesuffix("{}").partition(" ")
            if any(word == option and value.startswith(key) for word, value in itertools.pairwise(arguments)):
                given = f"{option} {key}".strip().removesuffix("=")
                raise UsageError(f"--sweep {sweep} sets {given} by itself: leave that out")
        compares = against is not None or checkout is not None
        if sweep is not None and compares:
            raise UsageError("--sweep and --against exclude each other")
        if plot is not None and sweep is None:
            raise UsageError("--plot draws a sweep: give --sweep too")
        if rounds is not None and not compares:
            raise UsageError("--rounds is for a comparison: give --against or --against-checkout too")
        if checkout is not None and not (checkout / "nmt" / "__init__.py").is_file():
            raise UsageError(f"--against-checkout {checkout}: there is no nmt package in it")
        try:
            self.extra = shlex.split(against or "")
        except ValueError as error:
            raise UsageError(f"--against {against}: {error}") from error
        for word in self.extra:
            if word.partition("=")[0] in _DRIVING:
                raise UsageError(f"--against says how the other side is run: leave {word} out of it")
        if self.extra and checkout is None:  # that one may know other options
            context.command.make_context(context.info_name, [*arguments[2:], *self.extra], parent=context.parent)
        if plot is not None:
            from nmt.plotting import check_plot

            check_plot(plot, "--plot")
            check_output("--plot", plot, inputs)
        self.arguments, self.sweeps, self.sweep, self.plot = list(arguments), sweeps, sweep, plot
        self.against, self.checkout, self.rounds, self.json_output = against, checkout, rounds or 3, json_output

    @property
    def runs_several(self) -> bool:
        """Whether it starts processes, each of which reads what there is to read."""
        return self.sweep is not None or self.against is not None or self.checkout is not None

    def run(self, measure: Callable[[], tuple[dict[str, Any], list[tuple[str, str]]]], key: str, unit: str) -> None:
        """Do what was asked for and print it; `key` is the figure that is compared."""
        if self.sweep is not None:
            self._print_sweep(self.sweeps[self.sweep], key, unit)
        elif self.runs_several:
            self._print_comparison(key, unit)
        else:
            document, rows = measure()
            self._print(document, lambda: console.table(rows))

    def _print(self, document: dict[str, Any], show: Callable[[], None]) -> None:
        if self.json_output:
            console.print_json(document)
        else:
            show()

    def _print_sweep(self, sweep: _Sweep, key: str, unit: str) -> None:
        from nmt.bench.alternate import Contender

        contenders = [
            Contender(f"{value:,} {sweep.unit}", (*self.arguments, *sweep.option.format(value).split()))
            for value in sweep.values
        ]
        series = _alternate(contenders, 1)
        rates = [item.median(key) for item in series]
        memory = [item.median("peak_memory_mib") for item in series]
        if self.plot is not None:
            from nmt.plotting import Line, line_plot

            lines = [Line(unit, [float(v) for v in sweep.values], rates)]
            line_plot(self.plot, lines, x_label=sweep.unit, y_label=unit, log=True)
        document = {
            "kind": "sweep",
            "of": self.sweep,
            "runs": [{"value": value, **item.documents[0]} for value, item in zip(sweep.values, series, strict=True)],
        }
        header = (sweep.unit, unit, "memory MiB")
        rows = [
            (f"{value:,}", f"{rate:,.1f}", f"{held:,.0f}")
            for value, rate, held in zip(sweep.values, rates, memory, strict=True)
        ]
        self._print(document, lambda: console.table([header, *rows], right=frozenset({0, 1, 2})))

    def _print_comparison(self, key: str, unit: str) -> None:
        from nmt.bench.alternate import Contender

        extra = self.extra
        label = " ".join([*extra, *([f"in {self.checkout}"] if self.checkout else [])])
        contenders = [
            Contender("as given", tuple(self.arguments)),
            Contender(label, (*self.arguments, *extra), self.checkout),
        ]
        series = _alternate(contenders, self.rounds)
        ratio = series[0].median(key) / series[1].median(key)
        document = {
            "kind": "comparison",
            "figure": key,
            "ratio": ratio,
            "sides": [{"label": item.contender.label, "runs": list(item.documents)} for item in series],
        }

        def show() -> None:
            console.table([("", unit, "from", "to", "memory MiB"), *map(row, series)], right=frozenset({1, 2, 3, 4}))
            console.say(f"ratio {ratio:.2f} ({self.rounds} rounds in turn, medians)")

        def row(item: "Series") -> tuple[str, ...]:
            values = item.values(key)
            figures = item.median(key), min(values), max(values), item.median("peak_memory_mib")
            return (item.contender.label, *(f"{value:,.1f}" for value in figures))

        self._print(document, show)


def _alternate(contenders: Sequence["Contender"], rounds: int) -> "list[Series]":
    from nmt.bench.alternate import alternate

    return alternate(contenders, rounds=rounds, report=console.note)
