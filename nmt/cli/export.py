"""`nmt export`: a model in the form of a faster engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli import console
from nmt.config import LARGEST_BEAM
from nmt.errors import UsageError, did_you_mean
from nmt.files import spare_name

if TYPE_CHECKING:
    from nmt.evaluation import Evaluation
    from nmt.testset import TestSet

FORMATS = ("ctranslate2",)


def export(
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="Model directory; the model that ships if none is named.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="ctranslate2.")] = "ctranslate2",
    quantization: Annotated[
        str, typer.Option(help="Numbers that weights become: float32, int8, int16, float16 or bfloat16.")
    ] = "float32",
    shortlist: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Produce only pieces that the training targets of this data directory have."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an earlier export; anything else in its place is kept as ctranslate2.old."
        ),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Translate a test set with both engines and compare.")
    ] = False,
    test: Annotated[
        str | None, typer.Option("--test", metavar="SPEC", help="Test set for --verify.", show_default="sample")
    ] = None,
    beam: Annotated[
        int | None, typer.Option("--beam", min=1, max=LARGEST_BEAM, help="Beam for --verify.", show_default="5")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a Transformer as CTranslate2 wants it, into a folder of its model directory.

    Examples:
        nmt export -m checkpoints/demo
        nmt export -m checkpoints/demo --quantization int8 --verify --test corpus/dev

    From then on `nmt translate -m checkpoints/demo` takes CTranslate2, where it is installed and can do all that
    is asked for, and does not load torch. int8 is smaller and faster still. --shortlist, with the data that the
    model was trained on, is faster too: it leaves out the pieces that never occur in the training targets, so that
    scores are relative to the remaining ones. --verify says what they cost.
    """
    from nmt.engines.ct2 import FOLDER, read_export
    from nmt.engines.export import export_ctranslate2
    from nmt.manifest import read_manifest
    from nmt.resources import default_model

    if format_ not in FORMATS:
        raise UsageError(f"--format '{format_}' is not one of {', '.join(FORMATS)}{did_you_mean(format_, FORMATS)}")
    if not verify and (test is not None or beam is not None):
        raise UsageError("--test and --beam belong to --verify")
    path = model or default_model()
    test_set = _test_set(path, test or "sample") if verify else None
    read_manifest(path)  # first of all: what is no model says so
    kept_as = spare_name(path / FOLDER)
    folder = export_ctranslate2(path, quantization=quantization, shortlist=shortlist, replace=force)
    console.warn_if_kept(folder, kept_as)
    size = sum(file.stat().st_size for file in folder.iterdir())
    written = read_export(path) or {}
    document: dict[str, Any] = {
        "folder": str(folder),
        "format": format_,
        "quantization": quantization,
        "target_pieces": written["target_pieces"],
        "bytes": size,
    }
    what = quantization if shortlist is None else f"{quantization}, {written['target_pieces']:,} target pieces"
    console.note(f"{folder}: {what}, {size / 1e6:.1f} MB")
    if test_set is not None:
        document["verification"] = _verify(path, test_set, beam or 5)
    if json_output:
        console.print_json(document)
    elif verify:
        _print(document["verification"], what)


def _test_set(path: Path, spec: str) -> "TestSet":
    """What to translate for `--verify`: read before anything is written."""
    from nmt.manifest import read_manifest
    from nmt.testset import read_corpus

    direction = read_manifest(path)["direction"]
    return read_corpus(spec, source_lang=direction["source"], target_lang=direction["target"])


def _verify(path: Path, test_set: "TestSet", beam: int) -> dict[str, Any]:
    """Scores by both engines, and how many translations are the same."""
    from nmt.cli.engine import EngineChoice, decoding_options, load_translator
    from nmt.evaluation import translate_and_evaluate

    options = decoding_options(beam_size=beam)
    found: dict[str, Evaluation] = {}
    texts: dict[str, list[str]] = {}
    for engine in ("torch", "ctranslate2"):
        translator = load_translator(path, options, EngineChoice(engine=engine))
        found[engine], translations = translate_and_evaluate(translator, test_set)
        texts[engine] = [translation.text for translation in translations]
    bleu = {engine: evaluation.scores["bleu"] for engine, evaluation in found.items()}
    return {
        "test": test_set.name,
        "beam": beam,
        "lines": len(test_set.refs),
        "same": sum(a == b for a, b in zip(texts["torch"], texts["ctranslate2"], strict=True)),
        "bleu": {engine: score.value for engine, score in bleu.items()},
        "bleu_difference": bleu["ctranslate2"].value - bleu["torch"].value,
        "signature": bleu["torch"].signature,
    }


def _print(verification: dict[str, Any], what: str) -> None:
    bleu = verification["bleu"]
    console.table(
        [
            ("test set", f"{verification['test']}, {verification['lines']:,} lines, beam {verification['beam']}"),
            ("same translations", f"{verification['same']:,} of {verification['lines']:,}"),
            ("BLEU, torch", f"{bleu['torch']:.2f}"),
            (f"BLEU, {what}", f"{bleu['ctranslate2']:.2f} ({verification['bleu_difference']:+.2f})"),
            ("signature", verification["signature"]),
        ]
    )
