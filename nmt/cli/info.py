"""`nmt info`: what a model or data directory is."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nmt.cli import console
from nmt.errors import ModelError


def info(
    directory: Annotated[
        Path | None,
        typer.Argument(help="Model or data directory; the model that ships if none is named.", show_default=False),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a model directory or a data directory is.

    Examples:
        nmt info
        nmt info checkpoints/demo
        nmt info data/demo --json

    A model with missing or damaged files is described all the same, but the exit code is 4.
    """
    from nmt.resources import default_model

    path = directory or default_model()
    document = model_facts(path) if kind_of(path) == "model" else data_facts(path)
    if json_output:
        console.print_json(document)
    else:
        _print(document, path)
    for message in document.get("damaged", []):
        if not message.startswith(f"{path / 'README.md'} "):  # the card may be edited: no translation depends on it
            raise ModelError(message)


def _print(document: dict[str, Any], path: Path) -> None:
    try:
        rows = _model_rows(document) if document["kind"] == "model" else _data_rows(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the manifest of {path} is damaged: {type(error).__name__} {error}") from error
    console.table(rows)


def kind_of(path: Path) -> Literal["model", "data"]:
    """What the manifest in a directory says it is.

    Raises:
        ModelError: it is neither a model nor a data directory.
    """
    from nmt import dataset
    from nmt.files import nearest_file, read_json
    from nmt.manifest import FORMAT, MANIFEST

    if not path.is_dir():
        raise ModelError(
            f"{path} is {'a file, not a directory' if path.exists() else f'not there{nearest_file(path)}'}"
        )
    try:
        manifest = read_json(path / MANIFEST)
    except FileNotFoundError:
        inner = [entry.name for entry in path.iterdir() if (entry / MANIFEST).is_file()] if path.is_dir() else []
        hint = f"; did you mean {path / min(inner)}?" if inner else ""
        raise ModelError(f"{path} is no model or data directory: it has no {MANIFEST}{hint}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path / MANIFEST}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path / MANIFEST} is damaged: {error}") from error
    format_ = manifest.get("format") if isinstance(manifest, dict) else None
    if format_ == dataset.FORMAT:
        return "data"
    if format_ == FORMAT:
        return "model"
    raise ModelError(f"{path} is no model or data directory: {MANIFEST} describes something else")


def model_facts(path: Path) -> dict[str, Any]:
    """What the manifest of a model directory says, and whether its files are as it says.

    Raises:
        ModelError: no model directory, or of another version.
    """
    from nmt.files import read_json
    from nmt.manifest import CONFIG, read_manifest, verify_file

    manifest = read_manifest(path)
    damaged = []
    for name, expected in manifest["sha256"].items():
        try:
            verify_file(path, name, expected)
        except ModelError as error:
            damaged.append(str(error))
    config = None if any(CONFIG in text for text in damaged) else read_json(path / CONFIG)
    sizes = {name: (path / name).stat().st_size for name in manifest["sha256"] if (path / name).is_file()}
    return {
        "kind": "model",
        "path": str(path),
        **manifest,
        "config": config,
        "bytes": sizes,
        "damaged": damaged,
    }


def data_facts(path: Path) -> dict[str, Any]:
    """What the manifest of a data directory says.

    Raises:
        DataError: no data directory, or damaged.
    """
    from nmt.dataset import DataDirectory

    data = DataDirectory.open(path)
    return {"kind": "data", "path": str(path), **data.manifest, "fingerprint": data.fingerprint}


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def _corpus_rows(title: str, corpora: list[dict[str, Any]]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for corpus in corpora:
        licence = corpus.get("licence") or "licence not stated"
        kept = corpus.get("kept")
        pairs = "" if kept is None else f", {kept:,} pairs"
        rows.append(("" if rows else title, f"{corpus.get('spec')}: {licence}{pairs}"))
    return rows


def _model_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    direction, vocabulary = facts["direction"], facts.get("vocabulary", {})
    config = facts["config"] or {}
    preset = f", preset {config['preset']}" if "preset" in config else ""
    rows = [
        ("Model", facts["path"]),
        ("Direction", f"{direction['source']} → {direction['target']}"),
        ("Architecture", f"{facts.get('architecture')}{preset}"),
        ("Parameters", f"{facts.get('parameters', 0):,}"),
        (
            "Vocabulary",
            f"{vocabulary.get('source', 0):,} source, {vocabulary.get('target', 0):,} target pieces",
        ),
        ("Size", _size(sum(facts["bytes"].values()))),
        ("Made by", f"nmt {facts.get('nmt_version')}, format {facts.get('format_version')}"),
    ]
    settings = [f"{key} {value}" for key, value in (config.get("model") or {}).items()]
    rows += [("Settings" if i == 0 else "", ", ".join(settings[i : i + 5])) for i in range(0, len(settings), 5)]
    rows += _corpus_rows("Trained on", (facts.get("data") or {}).get("corpora") or [])
    from nmt.manifest import averaged_text

    for i, (key, value) in enumerate((facts.get("training") or {}).items()):
        rows.append(("" if i else "Training", f"{str(key).replace('_', ' ')}: {value}"))
    if averaged := averaged_text(facts):
        rows.append(("Weights", averaged))
    for score in facts.get("scores") or []:
        rows.append((score["name"], f"{score['value']:.2f} on {score.get('set')} ({score['signature']})"))
    rows.append(("Files", "; ".join(facts["damaged"]) or f"all {len(facts['sha256'])} as the manifest says"))
    return rows


def _data_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    tokenizer = facts["tokenizer"]
    sizes = f"{tokenizer['source_vocab_size']:,} source, {tokenizer['target_vocab_size']:,} target pieces"
    rows = [
        ("Data", facts["path"]),
        ("Direction", f"{facts['source_lang']} → {facts['target_lang']}"),
        ("Vocabulary", sizes),
        ("Size", _size(sum(entry["bytes"] for entry in facts["files"].values()))),
        ("Fingerprint", facts["fingerprint"]),
    ]
    for name, split in facts["splits"].items():
        dropped = {str(key): value for key, value in (split.get("dropped") or {}).items() if value}
        why = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in dropped.items())
        read = f" of {split['read']:,} read" if "read" in split else ""
        rows.append((name, f"{split['kept']:,} pairs{read}" + (f"; dropped: {why}" if why else "")))
        rows += _corpus_rows("", (facts.get("corpora") or {}).get(name) or [])
    return rows
