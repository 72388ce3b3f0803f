"""Files that are whole or not there: temporary name, fsync, rename; hashes; JSON."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nmt.errors import NMTError, UsageError, did_you_mean


def fsync_directory(path: Path) -> None:
    """Make the names inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _default_mode(path: Path, kind: int) -> None:
    """Give `path` the permissions that the umask leaves of `kind` (tempfile makes private ones)."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(kind & ~umask)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` only when the block ends well.

    Raises:
        NMTError: `path`'s folder does not exist or cannot be written, or the disk is full.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=_temporary_prefix(path), suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise NMTError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _default_mode(temporary, 0o666)
        temporary.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        raise NMTError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `path` only when the block ends well.

    Args:
        path: the folder to make.
        replace: whether one with something in it may lie there.
        keep: whether that one is kept under its `spare_name`, as it is not ours to delete.

    Raises:
        UsageError: `path` exists, is not an empty folder, and `replace` is false.
        NMTError: the disk is full or the place cannot be written.
    """
    refuse_non_empty(path, replace=replace)
    if path.exists() and path.samefile(os.curdir):
        raise UsageError(f"{path} is where you are: choose another directory, or run this from elsewhere")
    if path.is_symlink() and not (keep and _holds_something(path)):  # what it leads to is replaced, not the link
        path = follow_links(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_temporary_prefix(path), suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise NMTError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _default_mode(temporary, 0o777)
        fsync_directory(temporary)
        refuse_non_empty(path, replace=replace)  # once more: somebody else may have made one meanwhile
        _take_name(temporary, path, replace=replace, keep=keep and _holds_something(path))
        fsync_directory(path.parent)
    except OSError as error:
        raise NMTError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, path: Path, *, replace: bool, keep: bool) -> None:
    """Rename a folder over another; if that fails half-way, the old one has its name again."""
    if not replace or not path.is_dir():
        temporary.rename(path)  # fails where a folder with something in it lies there
        return
    aside = spare_name(path) if keep else path.with_name(f"{_temporary_prefix(path)}old.{os.getpid()}")
    path.rename(aside)
    try:
        temporary.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    if not keep:
        shutil.rmtree(aside)


def _temporary_prefix(path: Path) -> str:
    """What hidden names beside `path` begin with: short enough for a name, whatever that of `path`."""
    return f".{path.name[:50]}."


def _holds_something(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def follow_links(path: Path) -> Path:
    """What `path` leads to, as an absolute path; it need not be there.

    Raises:
        UsageError: links lead in a circle.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path} is a symbolic link that leads in a circle") from error
    try:
        return path.resolve()
    except OSError as error:
        raise NMTError(f"cannot follow {path}: {error.strerror}") from error


def _sync(path: Path) -> None:
    if path.is_dir():
        fsync_directory(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def refuse_file(path: Path) -> None:
    """Raise `UsageError` if `path` cannot be a folder, as it or a folder that it names is a file."""
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file, not a directory")


def refuse_non_empty(path: Path, *, replace: bool = False) -> None:
    """Raise `UsageError` if `path` is a file, or a folder with something in it and not `replace`."""
    refuse_file(path)
    if not replace and path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty: choose another directory, or give --force to replace it")


def refuse_closed(folder: Path, kind: type[NMTError]) -> None:
    """Raise an error of a kind if it is a folder whose files this user may not read."""
    if folder.is_dir() and not os.access(folder, os.X_OK):
        raise kind(f"cannot read {folder}: Permission denied")


def require_folder(path: Path, name: str) -> None:
    """Raise `UsageError`, which begins with `name`, unless the folder is there that `path` is to lie in."""
    if not path.parent.is_dir():
        raise UsageError(f"{name}: there is no folder {path.parent}")


def spare_name(path: Path) -> Path:
    """`PATH.old`, or the first of `PATH.old2`, `PATH.old3`, ... that is not there yet."""
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in (0, *range(2, 10_000)))
    return next(name for name in names if not name.exists() and not name.is_symlink())


def nearest_file(path: Path, *, folder: bool = False) -> str:
    """`" (did you mean 'x'?)"` for the name beside a path that is nearest to its own, or an empty string.

    Args:
        path: of what is not there.
        folder: whether a folder is wanted, and no file.
    """
    try:
        others = [other.name for other in path.parent.iterdir() if (other.is_dir() if folder else other.exists())]
        return did_you_mean(path.name, others)
    except OSError:
        return ""


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all; leave one that already holds `data` alone."""
    if path.is_file() and path.read_bytes() == data:
        return
    with atomic_file(path) as file:
        file.write(data)


def home_directory() -> Path:
    """The user's own; where there is none, as in some containers, a path that nothing lies in."""
    return Path(os.path.expanduser("~")).absolute()


def open_plain(path: Path, flags: int) -> int:
    """A descriptor of a file, made if it is missing, that is a file and no link to one, nor a FIFO.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file")
    return descriptor


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, document: Any) -> None:
    r"""Write `document` as indented UTF-8 JSON, whole or not at all.

    A name of a file that is no UTF-8 is in it as Python has it, with escapes as \udcff.
    """
    try:
        data = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False).encode()
    except UnicodeEncodeError:
        data = json.dumps(document, indent=2, allow_nan=False).encode()
    write_if_changed(path, data + b"\n")


def read_json(path: Path) -> Any:
    """Parse a UTF-8 JSON file; raises `OSError` or `ValueError` for the caller to explain.

    What is no plain file is an `OSError` too, and not waited for, as a FIFO would have to be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    with open(descriptor, encoding="utf-8") as file:
        text = file.read()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
