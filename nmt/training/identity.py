"""What makes two calls of `nmt train` the same run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nmt.errors import UsageError
from nmt.files import home_directory
from nmt.settings import restore

MAY_CHANGE: Final = frozenset(
    {
        *("max_updates", "eval_every", "save_every", "log_every", "patience", "keep_last", "average_best"),
        *("device", "threads", "accumulation"),
    }
)
"""Training settings that a resumed run may have otherwise; of `accumulation`, only its product with the ranks stays."""


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a run to continue."""

    config: dict[str, Any]
    data: str
    """Fingerprint of the data directory."""
    data_path: str
    """Where it lay, as `place_of` tells it; may change."""
    batches: int
    """Of an update, over all ranks."""


def place_of(data: Path, *, seen_from: Path) -> str:
    """Where `data` lies: relative, or from `~` where the way there would tell the name of a home directory."""
    data, home = data.resolve(), home_directory().resolve()
    if data.is_relative_to(home) and not seen_from.resolve().is_relative_to(home):
        return f"~/{data.relative_to(home)}"
    return os.path.relpath(data, seen_from.resolve())


def find_place(told: str, *, seen_from: Path) -> Path:
    """The inverse of `place_of`."""
    return home_directory() / told[2:] if told.startswith("~/") else seen_from / told


def check_resumable(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, each as it was and as it is; one that is new had its default before.

    Raises:
        UsageError: some of them may not; it names them.
    """
    before = restore(before).as_dict()
    changed = {key: (before.get(key), now.get(key)) for key in ("arch",) if before.get(key) != now.get(key)}
    for section in ("model", "training"):
        old, new = before.get(section, {}), now.get(section, {})
        differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        changed |= {key: (old.get(key), new.get(key)) for key in differing}
    refused = [key for key in changed if key not in MAY_CHANGE]
    if refused:
        raise UsageError(f"cannot resume with other settings than the run was started with: {', '.join(refused)}")
    return changed
