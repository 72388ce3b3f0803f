"""Training state on disk: one folder a checkpoint, written whole, found again without help."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from nmt import __version__
from nmt.checkpoint import named_weights, read_tensors, set_weights, write_tensors
from nmt.errors import ModelError, NMTError, UsageError
from nmt.files import atomic_directory, open_plain, read_json, refuse_file, sha256_file, write_json
from nmt.manifest import CARD, CONFIG, MANIFEST, WEIGHTS
from nmt.models.interface import Seq2Seq
from nmt.settings import restore
from nmt.training.identity import RunIdentity
from nmt.training.log import RunLog
from nmt.training.moments import MOMENTS, optimizer_tensors, restore_optimizer
from nmt.training.progress import Candidate, Progress

FORMAT_VERSION: Final = 3
"""Of a checkpoint, which holds a place in the order of batches: 3 since source lengths go up and down in it."""
_WEIGHTS, _OPTIMIZER, _PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"
_NAME = re.compile(r"update-(\d{8,})")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OtherVersionError(ModelError):
    """A checkpoint that is whole and was written by another version."""


class RunDirectory:
    """The folder `training/` beside the model files."""

    def __init__(self, out: Path) -> None:
        self.path = out / "training"
        self.checkpoints = self.path / "checkpoints"
        self.candidates = self.path / "candidates"
        self.log = self.path / "log.jsonl"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; raises `UsageError` if another process does. The kernel frees it when a process dies."""
        try:
            for folder in (self.checkpoints, self.candidates):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = open_plain(self.path / "lock", os.O_RDWR)
        except OSError as error:
            raise NMTError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 320, 0).decode(errors="replace").strip()
                raise UsageError(f"{self.path.parent} is in use by process {holder}: wait for it or stop it") from error
            except OSError as error:
                raise NMTError(f"cannot lock {self.path / 'lock'}: {error.strerror}") from error
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            except OSError as error:
                raise NMTError(f"cannot write {self.path / 'lock'}: {error.strerror}") from error
            self._sweep()
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)  # who it was is nobody's business afterwards
        finally:
            os.close(descriptor)

    def is_unbegun(self) -> bool:
        """Whether all that lies here was left by a process that was killed before it had written anything."""
        if not self.path.is_dir():
            return False
        files = (path for path in self.path.parent.rglob("*") if not path.is_dir() or path.is_symlink())
        return all(path == self.path / "lock" or path.match(".*.tmp") for path in files)

    def require_unbegun(self) -> None:
        """Raise `UsageError` where a training has begun here, as it may have before the lock was held."""
        if (self.path / "run.json").exists():
            raise UsageError(
                f"{self.path.parent} is not empty: another training has begun there; choose another directory"
            )

    def _sweep(self) -> None:
        """Remove what a killed process left half-written."""
        ours = [
            left
            for name in (WEIGHTS, CONFIG, MANIFEST, CARD, "tokenizer*")
            for left in self._left(self.path.parent, name)
        ]
        for folder in (self.path, self.checkpoints, self.candidates, *self._newest_first()):
            ours += [*self._left(folder, "*"), *folder.glob(".update-*.old.*")]
        for left in ours:
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    @staticmethod
    def _left(folder: Path, name: str) -> Iterator[Path]:
        return folder.glob(f".{name}.*.tmp")

    def clear(self) -> None:
        """Delete the model and the run that lie here, for a new run; the lock must be held."""
        for path in self.path.parent.iterdir():
            if path != self.path:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in self.path.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for folder in (self.checkpoints, self.candidates):
            folder.mkdir()

    def identity(self) -> RunIdentity:
        """What the run was started with.

        Raises:
            ModelError: there is no run here.
        """
        try:
            document = read_json(self.path / "run.json")
            if document.pop("self") != _digest(document):
                raise ValueError("it is not what was written")
            restore(document["config"])
            return RunIdentity(
                config=document["config"],
                data=document["data"],
                data_path=str(document["data_path"]),
                batches=int(document["batches"]),
            )
        except FileNotFoundError:
            raise ModelError(f"no training to resume in {self.path.parent}: train without --resume") from None
        except NotADirectoryError:
            refuse_file(self.path)
            raise
        except OSError as error:
            raise ModelError(f"cannot read {self.path / 'run.json'}: {error.strerror}") from error
        except KeyError as error:
            what = f"lacks {error}: it is damaged, or an earlier nmt wrote it"
            raise ModelError(f"{self.path / 'run.json'} {what}") from error
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise ModelError(f"{self.path / 'run.json'} is damaged: {error}") from error

    def require_space(self, model: nn.Module, *, keep: int, candidates: int) -> None:
        """Raise `NMTError` where the disk has not room for about what a run of `model` leaves here.

        That is `keep` checkpoints and the one that is being written, of weights and two moments each, `candidates` and
        as many more as these checkpoints can still ask for, and the model directory itself, old and new.
        """
        needed = _weight_bytes(model) * (3 * (keep + 1) + (max(1, candidates) + keep) + 2)
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise NMTError(
                f"no space left for this training in {self.path.parent}: it takes about {needed / 2**20:,.0f} MiB, "
                f"{free / 2**20:,.0f} MiB are free"
            )

    def write_identity(self, identity: RunIdentity) -> None:
        """Record what the run is started with."""
        document = dataclasses.asdict(identity)
        write_json(self.path / "run.json", document | {"self": _digest(document)})

    def save(self, progress: Progress, model: Seq2Seq[Any], optimizer: torch.optim.Optimizer, *, keep: int) -> None:
        """Write a checkpoint of this update; once its tensors read back right, delete all but the newest `keep`."""
        if not (self.path / "run.json").is_file():
            raise NMTError(f"{self.path.parent} was deleted while training: nothing can be saved there")
        path = self.checkpoints / f"update-{progress.update:08}"
        with atomic_directory(path, replace=True) as folder:
            tensors = {_WEIGHTS: named_weights(model), _OPTIMIZER: optimizer_tensors(model, optimizer)}
            hashes = {name: write_tensors(folder / name, several) for name, several in tensors.items()}
            _write_progress(folder, progress, hashes)
        for name, expected in hashes.items():
            if sha256_file(path / name) != expected:
                raise NMTError(f"{path / name} is not what was written: the disk may be failing; older ones are kept")
        older = [old for old in self._newest_first() if old != path]
        for old in older[keep - 1 :]:
            shutil.rmtree(old, ignore_errors=True)

    def save_progress(self, progress: Progress) -> None:
        """Rewrite how far the run has come in the checkpoint of this very update; its tensors stay."""
        folder = self.checkpoints / f"update-{progress.update:08}"
        _write_progress(folder, progress, read_json(folder / _PROGRESS)["sha256"])

    def load(self, model: Seq2Seq[Any], optimizer: torch.optim.Optimizer) -> tuple[Progress | None, list[str]]:
        """Restore the newest whole checkpoint; with it, why newer ones were passed over.

        Returns `None` where the run was stopped before its first checkpoint.

        Raises:
            ModelError: there are checkpoints and all are damaged, or one is whole and of another version.
        """
        troubles: list[str] = []
        damaged: list[Path] = []
        for path in self._newest_first():
            try:
                progress = self._load(path, model, optimizer)
            except OtherVersionError:
                raise
            except ModelError as error:
                troubles.append(str(error))
                damaged.append(path)
                continue
            for bad in damaged:  # kept aside: it must not count among the newest
                bad.rename(bad.with_name(f"damaged-{bad.name}-{os.getpid()}"))
            return progress, [f"{trouble}: going on from an older checkpoint" for trouble in troubles]
        if damaged:
            why = "; ".join(troubles)
            raise ModelError(f"no checkpoint in {self.checkpoints} is whole: begin anew with --force ({why})")
        return None, [f"{self.path.parent} was stopped before its first checkpoint: starting from the beginning"]

    def examine(self) -> list[tuple[int, str | None]]:
        """Update of each checkpoint, newest first, and what is wrong with it; `None` for a whole one."""
        found: list[tuple[int, str | None]] = []
        for path in self._newest_first():
            trouble = None
            try:
                self._read(path)
            except NMTError as error:
                if not path.exists():  # a training at work has deleted it
                    continue
                trouble = str(error)
            found.append((int(path.name.removeprefix("update-")), trouble))
        return found

    def _read(self, path: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
        """Progress, weights and optimiser state of a checkpoint, each with the hash that it should have.

        Raises:
            ModelError: it is damaged.
            NMTError: this user may not read it, which is no damage.
        """
        for file in (path, *path.glob("*")):
            if not os.access(file, os.R_OK):
                raise NMTError(f"cannot read {file}: Permission denied")
        progress, hashes = self._read_progress(path)
        try:
            weights = read_tensors(path / _WEIGHTS, sha256=hashes[_WEIGHTS])
            state = read_tensors(path / _OPTIMIZER, sha256=hashes[_OPTIMIZER])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged: {error}") from error
        return progress, weights, state

    @staticmethod
    def _read_progress(path: Path) -> tuple[Progress, dict[str, str]]:
        """Progress of a checkpoint, and the hashes of its tensors."""
        try:
            document = read_json(path / _PROGRESS)
            stated = document.pop("self")
            if stated != _digest(document):
                raise ModelError(f"{path / _PROGRESS} is damaged: its checksum is wrong")
            if document["format_version"] != FORMAT_VERSION:
                found = document["format_version"]
                raise OtherVersionError(
                    f"{path} has format version {found}, nmt {__version__} goes on from {FORMAT_VERSION}: "
                    "go on with the nmt that wrote it, or train anew"
                )
            return Progress.from_dict(document["progress"]), document["sha256"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged: {error}") from error

    def _load(self, path: Path, model: Seq2Seq[Any], optimizer: torch.optim.Optimizer) -> Progress:
        progress, weights, state = self._read(path)
        set_weights(model, weights, path / _WEIGHTS)
        restore_optimizer(model, optimizer, state)
        return progress

    def open_log(self, *, keep_bytes: int, tensorboard: bool) -> RunLog:
        """The log, cut back to its first `keep_bytes`."""
        return RunLog(self.log, keep_bytes=keep_bytes, tensorboard=self.path / "tensorboard" if tensorboard else None)

    def _newest_first(self) -> list[Path]:
        named = [(int(match[1]), path) for path in self.checkpoints.glob("*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(named, reverse=True)]

    def candidate_path(self, candidate: Candidate) -> Path:
        """Where a candidate's weights lie."""
        return self.candidates / f"update-{candidate.update:08}.safetensors"

    def newest(self) -> tuple[Progress, list[str]]:
        """How far the newest checkpoint had come, and why newer ones were passed over; tensors are not looked at.

        Raises:
            ModelError: there is none, or one is of another version.
        """
        troubles: list[str] = []
        for path in self._newest_first():
            try:
                return self._read_progress(path)[0], troubles
            except OtherVersionError:
                raise
            except ModelError as error:
                troubles.append(str(error))
        if troubles:
            raise ModelError(f"no checkpoint in {self.checkpoints} is whole: {'; '.join(troubles)}")
        raise ModelError(f"{self.path.parent} holds no checkpoint of a training")

    def read_candidates(self, progress: Progress) -> tuple[dict[int, dict[str, Tensor]], list[str]]:
        """Weights of the candidates by update, and why damaged ones were passed over."""
        whole: dict[int, dict[str, Tensor]] = {}
        troubles: list[str] = []
        for candidate in progress.candidates:
            try:
                whole[candidate.update] = read_tensors(self.candidate_path(candidate), sha256=candidate.sha256)
            except ModelError as error:
                troubles.append(f"{error}: averaging without it")
        return whole, troubles

    def keep_candidate(self, progress: Progress, candidate: Candidate, model: Seq2Seq[Any], *, most: int) -> bool:
        """Rank a candidate, save it if it is among the best `most`; whether it is the very best."""
        ranked = sorted([*progress.candidates, candidate], key=lambda c: (-c.bleu, c.update))[:most]
        if candidate in ranked:
            self._keep(candidate, model)
        progress.candidates = ranked
        return ranked[0] is candidate

    def _keep(self, candidate: Candidate, model: Seq2Seq[Any]) -> None:
        candidate.sha256 = write_tensors(self.candidate_path(candidate), named_weights(model))

    def prune_candidates(self) -> None:
        """Delete weights that no checkpoint can ask for any more: call after saving."""
        wanted: set[str] = set()
        for checkpoint in self._newest_first():
            try:
                candidates = read_json(checkpoint / _PROGRESS)["progress"]["candidates"]
                wanted |= {self.candidate_path(Candidate(**c)).name for c in candidates}
            except (OSError, ValueError, KeyError, TypeError):
                continue  # damaged: nothing can be resumed from it
        for path in self.candidates.glob("update-*.safetensors"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)


class Bystander(RunDirectory):
    """What the run directory is to a rank that does not lead: it writes nothing there, and reads nothing."""

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The leader holds it."""
        yield

    def clear(self) -> None:
        """The leader does it."""

    def require_unbegun(self) -> None:
        """The leader looks."""

    def require_space(self, model: nn.Module, *, keep: int, candidates: int) -> None:
        """The leader needs it."""

    def write_identity(self, identity: RunIdentity) -> None:
        """The leader does it."""

    def save(self, progress: Progress, model: Seq2Seq[Any], optimizer: torch.optim.Optimizer, *, keep: int) -> None:
        """The leader does it."""

    def save_progress(self, progress: Progress) -> None:
        """The leader does it."""

    def prune_candidates(self) -> None:
        """The leader does it."""

    def open_log(self, *, keep_bytes: int, tensorboard: bool) -> RunLog:
        """A log that keeps nothing."""
        return RunLog(None)

    def _keep(self, candidate: Candidate, model: Seq2Seq[Any]) -> None:
        """The leader does it."""


@contextlib.contextmanager
def explained_full_disk(model: nn.Module) -> Iterator[None]:
    """Add to the error of a full disk how much a checkpoint of `model` takes, and how to go on."""
    try:
        yield
    except NMTError as error:
        if getattr(error.__cause__, "errno", None) not in _NO_ROOM:
            raise
        size = (1 + len(MOMENTS[1:])) * _weight_bytes(model) / 2**20
        raise NMTError(f"{error} (a checkpoint takes {size:,.1f} MiB): make room, then --resume") from error


def _write_progress(folder: Path, progress: Progress, hashes: dict[str, str]) -> None:
    document = {"format_version": FORMAT_VERSION, "sha256": hashes, "progress": dataclasses.asdict(progress)}
    document["self"] = _digest(document)
    write_json(folder / _PROGRESS, document)


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _weight_bytes(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
