"""The manifest of a model directory: what it is, what it was made from, and the hash of every file. Loads no torch."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from nmt import __version__
from nmt.errors import ModelError
from nmt.files import follow_links, nearest_file, read_json, refuse_closed, sha256_file, write_if_changed, write_json

FORMAT: Final = "nmt-model"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
CARD: Final = "README.md"


def is_model_directory(directory: Path) -> bool:
    """Whether it was made as one, damaged or not, or a training began in it."""
    return (directory / "training" / "run.json").is_file() or is_said_to_be(directory, FORMAT)


def is_said_to_be(directory: Path, format_: str) -> bool:
    """Whether the manifest in a directory, if there is one that can be read, names that format."""
    try:
        manifest = read_json(directory / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == format_


def vouches_for(directory: Path, path: Path) -> bool:
    """Whether `path` leads to a file that the manifest in a model or data directory names, to it, or to an export."""
    home, target = follow_links(directory), follow_links(path)
    if target.parent == home / "ctranslate2":
        return True
    try:
        manifest = read_json(home / MANIFEST)
    except (OSError, ValueError):
        return False
    named = [manifest.get(key) for key in ("sha256", "files")] if isinstance(manifest, dict) else []
    names = {MANIFEST, *(name for group in named if isinstance(group, dict) for name in group)}
    return target.parent == home and target.name in names


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a model directory.

    Raises:
        ModelError: no such directory, no manifest in it, or one of another format or version.
    """
    if not directory.is_dir():
        what = (
            "it is no directory"
            if directory.exists()
            else f"there is no such directory{nearest_file(directory, folder=True)}"
        )
        raise ModelError(f"no model at {directory}: {what}")
    refuse_closed(directory, ModelError)
    path = directory / MANIFEST
    if not path.is_file():
        if (directory / "training" / "run.json").is_file():
            go_on = f"go on with it (nmt train --resume --out {directory}) up to its first validation"
            raise ModelError(f"{directory} holds a training that has no model yet: {go_on}")
        raise ModelError(f"{directory} is no model directory: it has no {MANIFEST}")
    try:
        manifest = read_json(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelError(f"{directory} is no model directory: {MANIFEST} does not describe one")
    if manifest.get("format_version") != FORMAT_VERSION:
        found = manifest.get("format_version")
        raise ModelError(f"{directory} has format version {found}; nmt {__version__} reads {FORMAT_VERSION}")
    hashes, direction = manifest.get("sha256"), manifest.get("direction")
    if not isinstance(hashes, dict) or not {WEIGHTS, CONFIG} <= hashes.keys() or not isinstance(direction, dict):
        raise ModelError(f"{path} is damaged: it lacks checksums or direction")
    if not all(isinstance(direction.get(side), str) for side in ("source", "target")):
        raise ModelError(f"{path} is damaged: it lacks the direction")
    shapes = {"data": dict, "training": dict, "scores": list}
    if not all(isinstance(manifest.get(key, shape()), shape) for key, shape in shapes.items()):
        raise ModelError(f"{path} is damaged: what it says of data, training or scores is not what nmt writes")
    vocabulary, parameters = manifest.get("vocabulary"), manifest.get("parameters")
    sizes = vocabulary.values() if isinstance(vocabulary, dict) else [None]
    if not all(isinstance(number, int) for number in [parameters, *sizes]):
        raise ModelError(f"{path} is damaged: it lacks the number of parameters or the vocabulary")
    return manifest


def verify_file(directory: Path, name: str, expected: str) -> None:
    """Raise `ModelError` unless the file is there and has the hash of the manifest."""
    path = directory / name
    try:
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise ModelError(f"{path} is missing or not a plain file: copy the model again")
        actual = sha256_file(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelError(f"cannot read a file named in {directory / MANIFEST}: {error}") from error
    if actual != expected:
        raise ModelError(f"{path} is damaged: its checksum is not the one in {MANIFEST}")


def record_scores(directory: Path, scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Note scores in the manifest and card of a model; those of the same set and name are replaced, and returned.

    Args:
        directory: a model directory.
        scores: each with `set` (what was translated, and how), `name`, `value` and `signature`.
    """
    manifest = read_manifest(directory)
    new = {(score["set"], score["name"]): dict(score) for score in scores}
    before = manifest.get("scores", [])
    kept = [score for score in before if (score["set"], score["name"]) not in new]
    manifest["scores"] = [*kept, *new.values()]
    write_if_changed(directory / CARD, model_card(manifest).encode())
    manifest["sha256"][CARD] = sha256_file(directory / CARD)
    write_json(directory / MANIFEST, manifest)
    return [score for score in before if score not in kept]


def model_card(manifest: Mapping[str, Any]) -> str:
    """README of a model directory, from its manifest."""
    direction = manifest["direction"]
    return "\n".join(
        [
            f"# {direction['source']} → {direction['target']}: {manifest['architecture']}",
            "",
            f"{manifest['parameters']:,} parameters, vocabulary of {manifest['vocabulary']['source']:,} (source) and "
            f"{manifest['vocabulary']['target']:,} (target) pieces, made by nmt {manifest['nmt_version']}.",
            "",
            "```sh",
            "nmt translate -m DIRECTORY < input.txt > output.txt",
            "```",
            "",
            *_card_lines(manifest),
        ]
    )


def averaged_text(manifest: Mapping[str, Any]) -> str:
    """What the weights are the mean of, if they are one."""
    parts = manifest.get("averaged")
    if not isinstance(parts, list) or not parts:
        return ""
    models = [str(part.get("name")) for part in parts if isinstance(part, Mapping)]
    if models:
        return f"the mean of {', '.join(models)}; how it was trained is said of {models[0]}"
    return f"the mean of {', '.join(map(str, parts))} of that training"


def _card_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    corpora = manifest.get("data", {}).get("corpora", [])
    if corpora:
        yield from ("## Training data", "")
        for corpus in corpora:
            licence = corpus.get("licence") or "licence not stated"
            yield f"- {corpus['spec']}: {licence}"
        yield ""
    scores = manifest.get("scores", [])
    if scores:
        yield from ("## Quality", "")
        for score in scores:
            yield f"- {score['name']} {score['value']:.2f} on {score['set']} ({score['signature']})"
        yield ""
    training = manifest.get("training", {})
    if training:
        yield from ("## Training", "")
        for key, value in training.items():
            yield f"- {key.replace('_', ' ')}: {value}"
        yield ""
    averaged = averaged_text(manifest)
    if averaged:
        yield from (f"The weights are {averaged}.", "")
