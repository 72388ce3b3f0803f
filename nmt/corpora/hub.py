"""Parallel text from the Hugging Face hub, through `datasets`: Parquet repositories, never code.

The files are stored in the cache of `datasets` and memory-mapped, or, when streaming is asked for, read over the
network as they are needed. The commit that was read is recorded.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nmt.corpora.base import LINE_TOO_LONG, Corpus, Reading
from nmt.corpora.files import choose_columns, languages_of
from nmt.errors import DataError, NMTError, UsageError, did_you_mean
from nmt.lines import printable

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_SPEC = re.compile(
    r"hf:(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<config>[^@#/]+))?(?:@(?P<revision>[^#]+))?(?:#(?P<split>.+))?"
)
_SPLIT_NAMES: Final = {"train": ("train",), "valid": ("validation", "valid", "dev"), "test": ("test",)}
"""What repositories call the splits of each role."""


@dataclass(frozen=True)
class HubName:
    """The parts of `hf:REPO[/CONFIG][@REVISION][#SPLIT]`."""

    repo: str
    config: str | None
    revision: str | None
    split: str | None


def parse_name(spec: str) -> HubName:
    """The parts of a spec.

    Raises:
        UsageError: it is not of that form.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or ".." in match["repo"]:
        raise UsageError(f"{printable(spec)} is not hf:REPO[/CONFIG][@REVISION][#SPLIT]")
    return HubName(match["repo"], match["config"], match["revision"], match["split"])


def open_hub(spec: str, reading: Reading) -> Corpus:
    """The split of a hub repository that a spec names; without a split that of the role.

    Raises:
        UsageError: the spec is malformed, or the repository has no such configuration or split.
        DataError: the repository is not there or is not Parquet.
        NMTError: the hub cannot be reached.
    """
    name = parse_name(spec)
    if Path(name.repo).is_dir():
        raise UsageError(f"{spec}: a folder {name.repo} lies here and would be read instead: run it from elsewhere")
    builder = load_builder(name)
    base = str(builder.base_path or "")
    revision = base.rpartition("@")[2].partition("/")[0] if "@" in base else name.revision
    split = _choose_split(spec, name, builder, reading)
    return HubCorpus(spec, reading, builder, split, revision=revision, licence=_licence(name.repo, revision))


def _licence(repo: str, revision: str | None) -> str | None:
    """Licence as the repository's card states it; `None` where it does not, or cannot be asked."""
    import huggingface_hub

    try:
        card = huggingface_hub.HfApi().dataset_info(repo, revision=revision, timeout=10).card_data
    except Exception:  # the text is there, so a missing card stops nothing
        return None
    stated = card.get("license") if card is not None else None
    return ", ".join(stated) if isinstance(stated, list) else stated


def load_builder(name: HubName) -> "DatasetBuilder":
    """What `datasets` knows of the repository; nothing but its description is fetched."""
    import datasets
    import huggingface_hub.utils
    from datasets.packaged_modules.cache.cache import Cache
    from datasets.packaged_modules.parquet.parquet import Parquet

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity(logging.CRITICAL)  # it tells of every retry
    with _one_line(name.repo):
        builder = datasets.load_dataset_builder(name.repo, name.config, revision=name.revision)
    if not isinstance(builder, Parquet | Cache):  # the latter reads what was stored earlier, without a network
        raise DataError(f"hf:{name.repo} is not a Parquet repository: only those are read")
    return builder


@contextmanager
def _one_line(repo: str) -> Iterator[None]:
    """What `datasets` and the hub raise, as one line that says what to do."""
    try:
        yield
    except NMTError:
        raise
    except Exception as error:  # dozens of kinds, from four libraries
        reason = printable(str(error)).split(". ")[0][:300]
        kind = type(error).__name__
        if kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError"):
            message = f"hf:{repo} is not on the hub, not public, or has no such revision ({reason})"
            raise DataError(message) from error
        if isinstance(error, ValueError) and "onfig" in reason:
            raise UsageError(f"hf:{repo}: {reason}; name a configuration as hf:{repo}/CONFIG") from error
        if isinstance(error, RuntimeError) and "script" in reason:
            raise DataError(f"hf:{repo} runs code of its own, which is refused: {reason}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise NMTError(f"cannot store hf:{repo}: {error.strerror}") from error
        hint = "is the network there? What was fetched before is used with HF_HUB_OFFLINE=1"
        raise NMTError(f"cannot read https://huggingface.co/datasets/{repo} ({kind}: {reason}): {hint}") from error


def _choose_split(spec: str, name: HubName, builder: "DatasetBuilder", reading: Reading) -> str:
    known = [str(split) for split in builder.info.splits or builder.config.data_files or ()]
    if name.split is not None:
        base = name.split.partition("[")[0]  # "train[:1000]" is a slice
        if known and base not in known:
            near = did_you_mean(base, known)
            raise UsageError(f"{spec}: no split '{name.split}'{near}: it has {', '.join(known)}")
        return name.split
    candidates = _SPLIT_NAMES[reading.role]
    for split in candidates:
        if split in known:
            return split
    listed = ", ".join(known)
    raise UsageError(f"{spec} has no split for {reading.role}: name one, {spec}#SPLIT, out of {listed}")


class HubCorpus(Corpus):
    """One split of a hub repository, read by way of its builder."""

    def __init__(
        self,
        spec: str,
        reading: Reading,
        builder: "DatasetBuilder",
        split: str,
        *,
        revision: str | None = None,
        licence: str | None = None,
    ) -> None:
        super().__init__(spec, reading, licence=licence, revision=revision)
        self._builder = builder
        self._split = split

    def place(self, number: int) -> str:
        """Repository, split and row."""
        return f"{self.spec} ({self._split}), row {number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Row by row."""
        for row in self._rows():
            self.read += 1
            pair = languages_of(row, self.reading, self.place(self.read))
            if max(map(len, pair)) > self.reading.max_line_bytes:
                self.unusable(LINE_TOO_LONG, self.place(self.read))
            else:
                yield pair
        if self.read == 0:
            raise DataError(f"{self.spec} ({self._split}) is empty")

    def _rows(self) -> Iterator[dict[str, Any]]:
        with _one_line(self.spec.removeprefix("hf:")):
            if self.reading.streaming:
                data: Any = self._builder.as_streaming_dataset(split=self._split)
            else:
                self._builder.download_and_prepare()
                data = self._builder.as_dataset(split=self._split)
            rows = iter(data.select_columns(choose_columns(data.column_names or [], self.reading, self.spec)))
        while True:
            with _one_line(self.spec.removeprefix("hf:")):
                row = next(rows, None)
            if row is None:
                return
            yield row
