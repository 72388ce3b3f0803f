"""`nmt compare`: several models on one or more test sets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli import console
from nmt.cli.engine import EngineChoice, decoding_options, load_translator
from nmt.cli.eval import Where
from nmt.cli.streams import check_output, refuse_stdin_twice
from nmt.config import LARGEST_BEAM
from nmt.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    from nmt.comparison import Comparison, System
    from nmt.config import DecodingOptions
    from nmt.testset import TestSet


def compare(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Model directories, the baseline first.")],
    src: Annotated[Path | None, typer.Option("--src", help="File of source lines.")] = None,
    ref: Annotated[list[Path] | None, typer.Option("--ref", help="File of references; give several.")] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", metavar="SPEC", help="Parallel text; give several.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data directory to take the text from.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="valid or test, with --data.", show_default="test")
    ] = None,
    beam: Annotated[int, typer.Option("--beam", min=1, max=LARGEST_BEAM, help="Beam size; 1 is greedy search.")] = 5,
    engine: Annotated[str, typer.Option("--engine", help="auto, torch or ctranslate2.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    report: Annotated[Path | None, typer.Option("--report", help="Write a report, FILE.md or FILE.html.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare models: scores with paired bootstrap, BLEU by length, cost, and where they differ.

    Examples:
        nmt compare checkpoints/gru checkpoints/attention --data data/demo
        nmt compare checkpoints/* --test corpus/test --report ladder.html
        nmt compare old new --test corpus/test other/test --json

    p is how often chance alone makes a difference as large as that from the first model (paired bootstrap, 1,000
    resamples). Training time and speed come from the models' manifests and logs.
    """
    if report is not None:
        from nmt.report import check_report_path

        check_report_path(report)
    if len(models) < 2:
        raise UsageError("give at least two models")
    from nmt.comparison import compare as bring_together
    from nmt.manifest import read_manifest
    from nmt.nn.device import select_device

    refs = tuple(ref or ())
    if refs and len(test or []) > 1:
        raise UsageError("--ref is for one test set")
    specs: Sequence[str | None] = test or [None]
    places = [Where(src=src, ref=refs, test=spec, data=data, split=split) for spec in specs]
    refuse_stdin_twice([src, *refs], "--src and --ref")
    if report is not None:
        inputs = [*refs, *([src] if src else []), *(f for p in places for f in p.test_files())]
        check_output("--report", report, inputs, [*models, data])
    directions = [read_manifest(model)["direction"] for model in models]
    for model, direction in zip(models, directions, strict=True):
        if direction != directions[0]:
            first = "-".join(directions[0].values())
            raise DataError(f"{model} translates {'-'.join(direction.values())}, {models[0]} {first}")
    source, target = directions[0]["source"], directions[0]["target"]
    tests = [where.read(source, target, needs_sources=True) for where in places]
    choice = EngineChoice(engine=engine, device=device)
    options = decoding_options(beam_size=beam)
    names = _names(models)
    chosen, found, after_first = select_device(device), [], 0.0
    for number, (model, name) in enumerate(zip(models, names, strict=True)):
        # The first leaves behind what every model needs; what comes to it later is not counted to those after it.
        held = _held(chosen)
        after_first = held if number < 2 else after_first
        found.append(_evaluate(model, name, tests, options, choice, held - after_first))
    comparisons = [bring_together(test, systems) for test, systems in zip(tests, zip(*found, strict=True), strict=True)]
    if json_output:
        console.print_json({"tests": [comparison.as_dict() for comparison in comparisons]})
    else:
        _print(comparisons)
    if report is not None:
        from nmt.comparison import with_attention
        from nmt.comparison_report import write_comparison

        if report.suffix == ".html":
            comparisons = with_attention(comparisons, models, select_device(device))
        write_comparison(report, comparisons)


def _print(comparisons: "Sequence[Comparison]") -> None:
    from nmt.comparison_report import length_table, model_table, score_table, signature

    tables = [model_table(comparisons[0])]
    for comparison in comparisons:
        console.say(f"{comparison.test}, {comparison.lines:,} lines, {signature(comparison)}")
        for header, rows in (score_table(comparison), *tables, length_table(comparison, intervals=False)):
            console.say()
            console.table([header, *rows], right=frozenset(range(1, len(header))))
        tables = []
        if comparison is not comparisons[-1]:
            console.say()


def _names(models: Sequence[Path]) -> list[str]:
    """The last part of each path, or all of it where that is not enough to tell them apart."""
    last = [model.resolve().name for model in models]
    counts = Counter(last)
    names = [name if counts[name] == 1 else str(model) for name, model in zip(last, models, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError("the same model was given twice")
    return names


def _evaluate(
    model: Path, name: str, tests: "Sequence[TestSet]", options: "DecodingOptions", choice: EngineChoice, left: float
) -> "list[System]":
    """One a test set; `left` is memory in use that is not counted, MiB."""
    from nmt.comparison import System, read_curve
    from nmt.evaluation import translate_and_evaluate
    from nmt.manifest import WEIGHTS, read_manifest
    from nmt.nn.device import forget_peak_memory, peak_memory, select_device

    manifest: dict[str, Any] = read_manifest(model)
    device = select_device(choice.device)
    translator = load_translator(model, options, choice)
    training = manifest.get("training") or {}
    seconds, tokens = _positive(training.get("seconds")), _positive(training.get("target_tokens"))
    curve = read_curve(model / "training" / "log.jsonl")
    systems = []
    for test in tests:
        counted = forget_peak_memory(device)
        with console.progress_bar(name) as progress:
            evaluation, translations = translate_and_evaluate(translator, test, progress=progress)
        systems.append(
            System(
                name=name,
                architecture=str(manifest["architecture"]),
                parameters=int(manifest["parameters"]),
                megabytes=(model / WEIGHTS).stat().st_size / 1e6,
                training_minutes=None if seconds is None else seconds / 60,
                training_tokens_per_second=None if seconds is None or tokens is None else tokens / seconds,
                training_memory=_positive(training.get("peak_memory_mib")),
                curve=curve,
                engine=translator.engine.name,
                memory=peak_memory(device) - left if counted else None,
                evaluation=evaluation,
                hyps=tuple(translation.text for translation in translations),
            )
        )
    return systems


def _held(device: "torch.device") -> float:
    """Memory in use now, MiB."""
    from nmt.nn.device import forget_peak_memory, peak_memory

    forget_peak_memory(device)
    return peak_memory(device)


def _positive(value: object) -> float | None:
    """A number from a manifest, if it is one that can be divided by."""
    return float(value) if isinstance(value, int | float) and value > 0 else None
