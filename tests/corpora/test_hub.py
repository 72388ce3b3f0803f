from pathlib import Path

import pytest

from nmt.corpora import hub, known, open_corpus
from nmt.corpora.base import Reading
from nmt.corpora.hub import HubName, parse_name
from nmt.corpora.known import KNOWN, Known, fetch, find_known
from nmt.errors import DataError, NMTError, UsageError

CARD = """---
license: cc0-1.0
configs:
- config_name: en-fr
  data_files:
  - split: train
    path: en-fr/train-*
  - split: validation
    path: en-fr/validation-*
---
"""


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A Parquet repository on disk, which `hf:owner/name` leads to, as it would to one on the hub."""
    import datasets
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    (folder / "en-fr").mkdir(parents=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    for split in ("train", "validation"):
        rows = [{"en": f"Hello {split} {i}", "fr": f"Bonjour {i}"} for i in range(3)]
        table = pyarrow.table({"id": [1, 2, 3], "translation": rows})
        parquet.write_table(table, folder / "en-fr" / f"{split}-00000-of-00001.parquet")
    real = datasets.load_dataset_builder

    def load(repo, config, revision=None):
        assert repo == "owner/name"
        return real(str(folder), config, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    monkeypatch.setattr(hub, "_licence", lambda repo, revision: "cc0-1.0")
    return folder


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("hf:a/b", HubName("a/b", None, None, None)),
        ("hf:old_name", HubName("old_name", None, None, None)),
        ("hf:a/b/en-fr", HubName("a/b", "en-fr", None, None)),
        ("hf:a/b/en-fr@v1.0#validation", HubName("a/b", "en-fr", "v1.0", "validation")),
        ("hf:a/b@refs/convert/parquet", HubName("a/b", None, "refs/convert/parquet", None)),
        ("hf:a/b#train[:10]", HubName("a/b", None, None, "train[:10]")),
    ],
)
def test_the_parts_of_a_spec(spec, name):
    assert parse_name(spec) == name


@pytest.mark.parametrize("spec", ["hf:", "hf:/x", "hf:a/b#", "hf:a b", "hf:../x", "hf:a/b@"])
def test_a_malformed_spec_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="is not hf:REPO"):
        parse_name(spec)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("role", "split"), [("train", "train"), ("valid", "validation")])
def test_the_split_of_the_role_is_read(repository, streaming, role, split):
    corpus = open_corpus("hf:owner/name/en-fr", Reading(role=role, streaming=streaming))
    assert list(corpus.pairs()) == [(f"Bonjour {i}", f"Hello {split} {i}") for i in range(3)]
    assert (corpus.read, corpus.licence) == (3, "cc0-1.0")
    assert corpus.place(2) == f"hf:owner/name/en-fr ({split}), row 2"


def test_a_split_or_a_slice_of_it_can_be_named(repository):
    corpus = open_corpus("hf:owner/name/en-fr#validation[:2]", Reading())
    assert [tgt for _, tgt in corpus.pairs()] == ["Hello validation 0", "Hello validation 1"]


@pytest.mark.parametrize(
    ("spec", "role", "error", "message"),
    [
        ("hf:owner/name/en-fr#vaildation", "train", UsageError, "did you mean 'validation'"),
        ("hf:owner/name/en-fr", "test", UsageError, "no split for test: name one.*out of train, validation"),
        ("hf:owner/name/de-fr", "train", UsageError, "name a configuration"),
    ],
)
def test_an_unknown_split_or_configuration_is_a_usage_error(repository, spec, role, error, message):
    with pytest.raises(error, match=message):
        open_corpus(spec, Reading(role=role))


def test_missing_columns_are_named(repository):
    corpus = open_corpus("hf:owner/name/en-fr", Reading(source_lang="de"))
    with pytest.raises(DataError, match="no 'de': it has en, fr"):
        list(corpus.pairs())


def test_what_is_not_parquet_is_refused(repository):
    for file in repository.rglob("*.parquet"):
        file.unlink()
    (repository / "en-fr" / "train-0.csv").write_text("fr,en\na,b\n", encoding="utf-8")
    (repository / "README.md").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="not a Parquet repository"):
        open_corpus("hf:owner/name", Reading())


def test_a_repository_with_a_script_runs_nothing(repository):
    for file in repository.rglob("*.parquet"):
        file.unlink()
    (repository / "README.md").unlink()
    trap = repository / "trap"
    (repository / "repository.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(NMTError):
        open_corpus("hf:owner/name", Reading())
    assert not trap.exists()


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    import datasets

    def fail(*args, **kwargs):
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(
        NMTError, match="cannot read https://huggingface.co/datasets/a/b .*is the network there"
    ) as caught:
        open_corpus("hf:a/b", Reading())
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_folder_of_the_repositorys_name_is_not_read_instead(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a/b").mkdir(parents=True)
    with pytest.raises(UsageError, match="a folder a/b lies here"):
        open_corpus("hf:a/b", Reading())


@pytest.mark.network
def test_a_real_repository_is_streamed_with_licence_and_revision():
    corpus = open_corpus("hf:Helsinki-NLP/opus-100/en-fr", Reading(role="valid", streaming=True))
    src, tgt = next(corpus.pairs())
    assert src
    assert tgt
    assert corpus.revision
    assert len(corpus.revision) == 40


def test_a_known_corpus_is_written_as_lines(repository, tmp_path, monkeypatch):
    corpus = Known("ours", "hf:owner/name/en-fr", {"train": 3, "valid": 3}, "CC0", "greetings")
    monkeypatch.setattr(known, "KNOWN", (corpus,))
    out, told = tmp_path / "ours", []
    monkeypatch.setattr(known, "_TOLD", 1)
    facts = fetch(find_known("ours"), out, Reading(), max_pairs=2, progress=lambda *args: told.append(args))
    assert (out / "train.fr").read_text() == "Bonjour 0\nBonjour 1\n"
    assert (out / "valid.en").read_text() == "Hello validation 0\nHello validation 1\n"
    assert facts["splits"]["train"] == {"pairs": 2, "stated": 3, "revision": None}
    assert told[-1] == ("valid", 2, 2)
    with pytest.raises(UsageError, match="not empty"):
        fetch(corpus, out, Reading())
    assert fetch(corpus, out, Reading(), replace=True)["splits"]["train"]["pairs"] == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    fetch(corpus, tmp_path / "mine", Reading(), replace=True)
    assert (tmp_path / "mine.old" / "thesis.txt").exists()
    assert next(open_corpus(str(out / "train"), Reading()).pairs()) == ("Bonjour 0", "Hello train 0")


def test_an_unreachable_corpus_leaves_nothing(repository, tmp_path, monkeypatch):
    (repository / "en-fr" / "validation-00000-of-00001.parquet").unlink()
    corpus = Known("ours", "hf:owner/name/en-fr", {"train": 3, "valid": 3}, "CC0", "greetings")
    with pytest.raises(NMTError):
        fetch(corpus, tmp_path / "ours", Reading())
    assert not (tmp_path / "ours").exists()


def test_known_corpora_are_listed_and_misspelt_names_answered():
    assert len({corpus.name for corpus in KNOWN}) == len(KNOWN)
    for corpus in KNOWN:
        assert parse_name(corpus.spec).config in ("en-fr", "fr-en")
        assert corpus.pairs["train"] > 100_000
    with pytest.raises(UsageError, match="did you mean 'opus-books'"):
        find_known("opus-book")


def test_what_was_fetched_before_is_read_without_a_network(repository: Path, tmp_path: Path, monkeypatch) -> None:
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    builder = hub.load_builder(parse_name("hf:owner/name/en-fr"))
    builder.download_and_prepare()
    stored = Path(builder.cache_dir)
    under_its_name = tmp_path / "cache" / "owner___name" / "en-fr" / stored.parent.name / stored.name
    under_its_name.parent.mkdir(parents=True)
    stored.rename(under_its_name)
    for file in under_its_name.glob("repository-*"):
        file.rename(file.with_name(file.name.replace("repository", "name")))
    options = {"repo_id": "owner/name", "config_name": "en-fr", "version": "auto", "hash": "auto"}
    cached = Cache(cache_dir=str(tmp_path / "cache"), dataset_name="name", **options)  # as datasets makes it
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **options: cached)
    corpus = open_corpus("hf:owner/name/en-fr", Reading(source_lang="fr", target_lang="en"))
    assert list(corpus.pairs()) == [(f"Bonjour {i}", f"Hello train {i}") for i in range(3)]


@pytest.mark.parametrize("content", [b"<html>502 Bad Gateway</html>", None])
def test_a_file_that_came_short_or_is_an_error_page_is_one_line(repository: Path, content: bytes | None) -> None:
    for file in repository.rglob("*.parquet"):
        file.write_bytes(content or file.read_bytes()[:-20])
    with pytest.raises(NMTError) as caught:
        list(open_corpus("hf:owner/name/en-fr", Reading(source_lang="fr", target_lang="en")).pairs())
    assert "\n" not in str(caught.value)
    assert "owner/name" in str(caught.value)
