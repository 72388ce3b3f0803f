"""Where the files that ship with the project lie: in the installed package, or in the repository."""

from pathlib import Path
from typing import Final

from nmt.errors import ModelError, NMTError

_PACKAGE: Final = Path(__file__).resolve().parent
_REPOSITORY: Final = _PACKAGE.parent
MODEL_NAME: Final = "fr-en"
"""Name of the model that is used when none is named."""


def shipped_model() -> Path | None:
    """Directory of the default model, or `None` where none ships."""
    for path in (_PACKAGE / "shipped" / MODEL_NAME, _REPOSITORY / "checkpoints" / MODEL_NAME):
        if (path / "manifest.json").is_file():
            return path
    return None


def default_model() -> Path:
    """Directory of the model that is used when none is named.

    Raises:
        ModelError: none ships with this installation.
    """
    path = shipped_model()
    if path is None:
        raise ModelError("no model ships with this installation: name one with -m DIR (nmt train makes one)")
    return path


def sample_directory() -> Path:
    """Directory of the sample corpus.

    Raises:
        NMTError: it is missing from this installation.
    """
    candidates = (_PACKAGE / "shipped" / "sample", _REPOSITORY / "data" / "sample")
    for path in candidates:
        if (path / "handwritten.tsv").is_file():
            return path
    raise NMTError(f"the sample corpus is missing from this installation: no {candidates[-1]}/handwritten.tsv")
