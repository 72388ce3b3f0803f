"""A pickle that tells whether anybody loaded it."""

import os
import pickle
from pathlib import Path
from typing import Any


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled_canary(path: Path, protocol: int) -> bytes:
    """Whoever unpickles these bytes makes the folder `path`."""
    return pickle.dumps(_Canary(path), protocol)
