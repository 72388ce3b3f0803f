"""Where parallel text comes from: files, the hub, the sample that ships."""

from nmt.corpora.base import Corpus, Reading
from nmt.errors import UsageError

__all__ = ["Corpus", "Reading", "open_corpus"]


def open_corpus(spec: str, reading: Reading) -> Corpus:
    """The corpus that a spec names.

    `PREFIX` (two files `PREFIX.fr`, `PREFIX.en`), `FILE.tsv`, `FILE.jsonl`, `FILE.parquet`, `FILE.tmx`,
    `hf:REPO[/CONFIG][@REVISION][#SPLIT]`, `sample[#SPLIT]`. Without a split it is that of `reading.role`.

    Raises:
        UsageError: the spec cannot be understood.
        DataError: there is nothing where it points.
    """
    if not spec.strip():
        raise UsageError(
            "an empty corpus spec: give PREFIX, FILE.tsv, FILE.jsonl, FILE.parquet, FILE.tmx, hf:REPO or sample"
        )
    if spec == "sample" or spec.startswith("sample#"):
        from nmt.corpora.sample import open_sample

        return open_sample(spec, reading)
    if spec.startswith("hf:"):
        from nmt.corpora.hub import open_hub

        return open_hub(spec, reading)
    from nmt.corpora.files import open_file_corpus

    return open_file_corpus(spec, reading)
