"""`nmt eval`: translate a test set, or take translations, and score them."""

import dataclasses
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nmt
from nmt.cli import console
from nmt.cli.engine import EngineChoice, decoding_options, load_translator
from nmt.cli.streams import check_output, refuse_stdin_twice
from nmt.config import LARGEST_BEAM, DecodingOptions
from nmt.errors import DataError, UsageError
from nmt.files import follow_links

if TYPE_CHECKING:
    from nmt.evaluation import Evaluation
    from nmt.report import Report
    from nmt.testset import TestSet


def evaluate(
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", help="Model directory; the model that ships if none is named."),
    ] = None,
    src: Annotated[Path | None, typer.Option("--src", help="File of source lines (column 1 of a .tsv).")] = None,
    ref: Annotated[
        list[Path] | None,
        typer.Option("--ref", help="File of references; give several, or a .tsv with several per line."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="SPEC", help="Parallel text: PREFIX, FILE.tsv, hf:…, sample."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data directory to take the text from.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="valid or test, with --data.", show_default="test")
    ] = None,
    hyp: Annotated[
        Path | None, typer.Option("--hyp", help="Score these translations; no model is used. - for stdin.")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option("--beam", min=1, max=LARGEST_BEAM, help="Beam size; 1 is greedy search.", show_default="5"),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option("--length-penalty", help="0 for none, higher for longer.", show_default="1"),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            help="Source tokens per batch.",
            show_default="4096; ctranslate2: 1024, int8 on a CPU 256",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda (all GPUs) or cuda:N.", show_default="auto")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, fp32 or bf16.", show_default="fp32")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="auto, torch or ctranslate2.", show_default="auto")
    ] = None,
    save_hyp: Annotated[Path | None, typer.Option("--save-hyp", help="Write the translations to this file.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report, FILE.md or FILE.html.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Note the scores in the model's manifest and card.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a model, or translations, on a test set: BLEU, chrF2 and TER as sacreBLEU computes them.

    Examples:
        nmt eval -m checkpoints/demo --data data/demo --split test
        nmt eval --test corpus/test --report report.html
        nmt eval -m checkpoints/demo --src test.fr --ref test.en --ref test.second.en
        nmt translate test.fr | nmt eval --hyp - --ref test.en --src test.fr

    Every score comes with its signature and a 95 % bootstrap interval. With sources, BLEU is also shown by
    source length. Looping translations are those that repeat one phrase over and over.
    """
    if report is not None:
        from nmt.report import check_report_path

        check_report_path(report)
    where = Where(src=src, ref=tuple(ref or ()), test=test, data=data, split=split)
    refuse_stdin_twice([src, hyp, *where.ref], "--src, --ref and --hyp")
    inputs = [path for path in (src, hyp, *where.ref, *where.test_files()) if path]
    for option, output in (("--save-hyp", save_hyp), ("--report", report)):
        if output is not None:
            check_output(option, output, inputs, [model, data])
    if save_hyp is not None and report is not None and follow_links(save_hyp) == follow_links(report):
        raise UsageError("--save-hyp and --report are one file: choose another name for one of them")
    search: dict[str, Any] = {
        "--model": model,
        "--beam": beam,
        "--length-penalty": length_penalty,
        "--batch-tokens": batch_tokens,
        "--device": device,
        "--precision": precision,
        "--engine": engine,
        "--save-hyp": save_hyp,
        "--record": record or None,
    }
    if hyp is not None:
        _refuse_with_hyp(search)
        done = _score_file(hyp, where, examples=report is not None)
    else:
        done = _translate(where, search, examples=report is not None)
    if json_output:
        console.print_json(done.document())
    else:
        _print(done.evaluation)
    if save_hyp is not None:
        _save(save_hyp, done.translations)
    if report is not None:
        from nmt.report import write_report

        write_report(report, done.report())
    if record:
        done.record()


@dataclass(frozen=True, kw_only=True)
class Where:
    """The options that say what to evaluate on."""

    src: Path | None
    ref: tuple[Path, ...]
    test: str | None
    data: Path | None
    split: str | None

    def __post_init__(self) -> None:
        """Check that they name one test set."""
        if self.split is not None and self.data is None:
            raise UsageError("--split goes with --data")
        if self.data is not None and self.test is not None:
            raise UsageError("--data and --test both name a test set: give one of them")
        if self.src is not None and (self.data is not None or self.test is not None):
            raise UsageError("--src goes with --ref: leave it out with --data or --test")

    def test_files(self) -> list[Path]:
        """The files that `--test` may name."""
        if self.test is None:
            return []
        path = Path(self.test)
        return [path, *path.parent.glob(f"{glob.escape(path.name)}.*")] if path.name else []

    def read(self, source_lang: str, target_lang: str, *, needs_sources: bool) -> "TestSet":
        """The test set; `--ref` replaces the references of `--data` and `--test`."""
        from nmt.dataset import DataDirectory
        from nmt.testset import data_test_set, read_corpus, read_test_files, with_references

        if self.data is not None:
            data = DataDirectory.open(self.data)
            if needs_sources and (data.source_lang, data.target_lang) != (source_lang, target_lang):
                direction = f"{data.source_lang}-{data.target_lang}"
                raise DataError(f"{self.data} is {direction}, the model translates {source_lang}-{target_lang}")
            found = data_test_set(data, self.split or "test")
        elif self.test is not None:
            found = read_corpus(self.test, source_lang=source_lang, target_lang=target_lang)
        elif not self.ref and not needs_sources:
            raise UsageError("what are the translations to be compared with? give --ref, --test, or --data")
        elif not self.ref:
            raise UsageError("what is to be evaluated? give --src and --ref, --test, or --data")
        elif self.src is None and needs_sources:
            raise UsageError("--ref alone is not enough: give --src to translate, or --hyp to score")
        else:
            return read_test_files(self.src, self.ref)
        return with_references(found, self.ref) if self.ref else found


@dataclass(frozen=True, kw_only=True)
class _Done:
    """An evaluation with what there is to know about its making."""

    evaluation: "Evaluation"
    model: dict[str, Any] | None
    decoding: dict[str, Any] | None
    hyp: str | None
    directory: Path | None = None
    translations: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        made = {"model": self.model, "decoding": self.decoding, "hyp": self.hyp}
        return {"nmt_version": nmt.__version__, **made, **self.evaluation.as_dict()}

    def record(self) -> None:
        """What `--record` does."""
        from nmt.manifest import record_scores

        assert self.directory is not None
        assert self.decoding is not None
        beam, penalty, precision = (self.decoding[key] for key in ("beam_size", "length_penalty", "precision"))
        how = [Path(self.evaluation.test_name).name, f"beam {beam}" if beam > 1 else "greedy"]
        if beam > 1 and penalty != DecodingOptions.length_penalty:
            how.append(f"length penalty {penalty:g}")
        if precision != "fp32":
            how.append(precision)
        scores = [{"set": ", ".join(how), **dataclasses.asdict(s)} for s in self.evaluation.scores.values()]
        for old in record_scores(self.directory, scores):
            console.note(f"recorded in place of {old['name']} {old['value']:.2f} of {old['set']}")

    def report(self) -> "Report":
        """What `--report` writes."""
        from nmt.report import Report

        evaluation = self.evaluation
        facts = [("Test set", evaluation.test_name)]
        subject = self.hyp or ""
        if self.model is not None:
            subject = str(self.model["path"])
            facts.append(("Model", subject))
            facts.append(("Direction", str(self.model["direction"])))
            facts.append(("Architecture", f"{self.model['architecture']}, {self.model['parameters']:,} parameters"))
        else:
            facts.append(("Translations", subject))
        if self.decoding is not None:
            search = f"beam {self.decoding['beam_size']}, length penalty {self.decoding['length_penalty']:g}"
            facts.append(("Search", "greedy" if self.decoding["beam_size"] == 1 else search))
            facts.append(("Engine", f"{self.decoding['engine']}, {self.decoding['precision']}"))
        facts.append(("Made with", f"nmt {nmt.__version__}"))
        return Report(title=f"{subject} on {evaluation.test_name}", facts=tuple(facts), evaluation=evaluation)


def _refuse_with_hyp(search: dict[str, Any]) -> None:
    given = [name for name, value in search.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} has no meaning with --hyp: those translations are already made")


def _score_file(hyp: Path, where: Where, *, examples: bool) -> _Done:
    from nmt.evaluation import evaluate as evaluate_hyps
    from nmt.lines import read_text_lines
    from nmt.report import EXAMPLES

    test = where.read("fr", "en", needs_sources=False)
    hyps = read_text_lines(hyp)
    if len(hyps) != len(test.refs):
        name = "standard input" if str(hyp) == "-" else str(hyp)
        raise DataError(f"{name} has {len(hyps)} lines, {test.name} has {len(test.refs)}")
    _warn_if_tokenised(hyps)
    evaluation = evaluate_hyps(test, hyps, examples=EXAMPLES if examples else 0)
    return _Done(evaluation=evaluation, model=None, decoding=None, hyp=console.visible(str(hyp)))


def _translate(where: Where, search: dict[str, Any], *, examples: bool) -> _Done:
    from nmt.evaluation import translate_and_evaluate
    from nmt.manifest import WEIGHTS, read_manifest
    from nmt.report import EXAMPLES
    from nmt.resources import default_model

    chosen = {"beam_size": search["--beam"], "length_penalty": search["--length-penalty"]}
    options = decoding_options(**{key: value for key, value in chosen.items() if value is not None})
    path = search["--model"] or default_model()
    manifest = read_manifest(path)
    direction = manifest["direction"]
    test = where.read(direction["source"], direction["target"], needs_sources=True)
    if search["--record"] and search["--engine"] not in (None, "torch"):
        raise UsageError("--record notes what the model itself can do: use --engine torch")
    choice = EngineChoice(
        engine=search["--engine"] or ("torch" if search["--record"] else "auto"),
        device=search["--device"] or "auto",
        precision=search["--precision"],
        batch_tokens=search["--batch-tokens"],
        spread=True,
    )
    translator = load_translator(path, options, choice)
    with console.progress_bar("translating") as progress:
        evaluation, translations = translate_and_evaluate(
            translator, test, examples=EXAMPLES if examples else 0, progress=progress
        )
    hyps = [item.text for item in translations]
    _warn_if_tokenised(hyps)
    model = {
        "path": console.visible(str(path)),
        "direction": f"{direction['source']}-{direction['target']}",
        "architecture": manifest["architecture"],
        "parameters": manifest["parameters"],
        "sha256": manifest["sha256"][WEIGHTS],
    }
    engine = translator.engine
    decoding = dataclasses.asdict(options) | {
        "engine": engine.name,
        "precision": engine.precision,
        "batch_tokens": engine.batch_tokens,
    }
    return _Done(evaluation=evaluation, model=model, decoding=decoding, hyp=None, directory=path, translations=hyps)


def _save(path: Path, hyps: Sequence[str]) -> None:
    from nmt.files import atomic_file

    with atomic_file(follow_links(path)) as file:
        file.writelines(f"{hyp}\n".encode() for hyp in hyps)


def _warn_if_tokenised(hyps: list[str]) -> None:
    from nmt.metrics.base import looks_tokenised

    if looks_tokenised(hyps):
        console.warn("many translations end in a detached full stop (' .'): BLEU is made for detokenised text")


def _print(evaluation: "Evaluation") -> None:
    from nmt.report import count_rows, interval_text

    console.say(evaluation.test_name)
    console.say()
    rows = [("metric", "score", "95 % interval", "signature")]
    rows += [(s.name, f"{s.value:.2f}", interval_text(s).strip(), s.signature) for s in evaluation.scores.values()]
    console.table(rows, right=frozenset({1}))
    if evaluation.buckets:
        console.say()
        rows = [("source words", "lines", "BLEU", "95 % interval")]
        rows += [
            (b.label, f"{b.lines:,}", f"{b.bleu.value:.2f}", interval_text(b.bleu).strip()) for b in evaluation.buckets
        ]
        console.table(rows, right=frozenset({1, 2}))
    console.say()
    console.table(count_rows(evaluation))
