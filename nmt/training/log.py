"""The log of a run: one JSON object a line, cut back to the checkpoint when a run is resumed."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from nmt.errors import NMTError
from nmt.files import open_plain


class RunLog:
    """Appends records; the same to TensorBoard where that is installed and asked for.

    Args:
        path: of the file; `None` for a log that keeps nothing.
        keep_bytes: of what is there already.
        tensorboard: folder for its events.
    """

    def __init__(self, path: Path | None, *, keep_bytes: int = 0, tensorboard: Path | None = None) -> None:
        self._path = path or Path(os.devnull)
        try:
            if path is None:
                self._file = self._path.open("ab")
            else:
                self._file = os.fdopen(open_plain(path, os.O_WRONLY | os.O_APPEND), "ab")
                os.ftruncate(self._file.fileno(), min(keep_bytes, self._file.tell()))
        except OSError as error:
            raise NMTError(f"cannot write {path}: {error.strerror}") from error
        self._board: Any = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(tensorboard)

    def write(self, record: dict[str, Any]) -> int:
        """Append one record; the log's size in bytes after it."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise NMTError(f"cannot write {self._path}: {error.strerror}") from error
        if self._board is not None:
            for key, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{record['type']}/{key}", value, record["update"])
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Flush and close."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            self._board.close()
