"""Public French–English corpora on the Hugging Face hub, and a way to get one."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nmt.corpora import Reading, open_corpus
from nmt.corpora.base import Role
from nmt.corpora.filters import normalise
from nmt.errors import UsageError, did_you_mean
from nmt.files import atomic_directory, refuse_non_empty, write_json
from nmt.lines import printable

FACTS: Final = "corpus.json"
"""What was fetched, and from which revision."""
_TOLD: Final = 1000
"""Pairs between two reports of progress."""


@dataclass(frozen=True)
class Known:
    """A corpus that has a name here."""

    name: str
    spec: str
    """As `open_corpus` takes it."""
    pairs: Mapping[Role, int]
    """By split, as its card counts them."""
    licence: str
    about: str


KNOWN: Final = (
    Known(
        "opus-100",
        "hf:Helsinki-NLP/opus-100/en-fr",
        {"train": 1_000_000, "valid": 2_000, "test": 2_000},
        "not stated",
        "a sample of all of OPUS (Zhang et al. 2020)",
    ),
    Known("opus-books", "hf:Helsinki-NLP/opus_books/en-fr", {"train": 127_085}, "other: see its card", "novels"),
    Known(
        "news-commentary",
        "hf:Helsinki-NLP/news_commentary/en-fr",
        {"train": 209_479},
        "not stated",
        "opinions on politics and economics",
    ),
    Known("un", "hf:Helsinki-NLP/un_pc/en-fr", {"train": 30_340_652}, "not stated", "the United Nations' documents"),
    Known(
        "wmt14",
        "hf:wmt/wmt14/fr-en",
        {"train": 40_836_715, "valid": 3_000, "test": 3_003},
        "not stated",
        "the benchmark of Bahdanau 2015 and Vaswani 2017: parliament, news, the web",
    ),
)


def find_known(name: str) -> Known:
    """The corpus of that name.

    Raises:
        UsageError: there is none.
    """
    names = [known.name for known in KNOWN]
    for known in KNOWN:
        if known.name == name:
            return known
    hint = did_you_mean(name, names)
    raise UsageError(
        f"no corpus is known as {printable(name)}{hint}: there are {', '.join(names)}; hf:REPO reads others"
    )


def is_fetched(out: Path) -> bool:
    """Whether `fetch` made it."""
    return (out / FACTS).is_file()


def fetch(
    known: Known,
    out: Path,
    reading: Reading,
    *,
    max_pairs: int | None = None,
    replace: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Write the splits of a corpus as `out`/SPLIT.fr and `out`/SPLIT.en; what is noted of it.

    Args:
        known: which.
        out: directory to make, all at once.
        reading: languages, and whether to read over the network as it goes.
        max_pairs: so many pairs of each split at most.
        replace: whether what lies there may be replaced; what is no earlier fetch is kept under its `spare_name`.
        progress: told the split, how many pairs of it are written, and of how many.

    Raises:
        UsageError: `out` is not empty.
        DataError: the corpus is no longer there, or no longer Parquet.
        NMTError: the hub cannot be reached.
    """
    refuse_non_empty(out, replace=replace)
    with atomic_directory(out, replace=replace, keep=not is_fetched(out)) as directory:
        facts: dict[str, Any] = {"name": known.name, "spec": known.spec, "licence": known.licence, "splits": {}}
        for role, count in known.pairs.items():
            corpus = open_corpus(known.spec, dataclasses.replace(reading, role=role))
            wanted = count if max_pairs is None else min(count, max_pairs)
            written = 0
            with ExitStack() as stack:
                files = [stack.enter_context((directory / f"{role}.{lang}").open("wb")) for lang in reading.langs]
                for pair in corpus.pairs():
                    for file, text in zip(files, pair, strict=True):
                        file.write(normalise(text).encode() + b"\n")
                    written += 1
                    if progress is not None and written % _TOLD == 0:
                        progress(role, written, wanted)
                    if written == max_pairs:
                        break
            facts["splits"][role] = {"pairs": written, "stated": count, "revision": corpus.revision}
        write_json(directory / FACTS, facts)
    return facts
