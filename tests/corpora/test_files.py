import bz2
import gzip
import json
import lzma
from hashlib import sha256

import pytest

from nmt.corpora import open_corpus
from nmt.corpora.base import Corpus, Reading
from nmt.errors import DataError, NMTError, UsageError

PAIRS = [("Où est la gare ?", "Where is the station?"), ("Oui.", "Yes."), ("Séparé\u2028ici", "Split\u0085here")]


def write_prefix(folder, pairs=PAIRS, pack=None, suffix=""):
    for side, lang in enumerate(("fr", "en")):
        data = "".join(f"{pair[side]}\n" for pair in pairs).encode()
        (folder / f"x.{lang}{suffix}").write_bytes(pack(data) if pack else data)
    return str(folder / "x")


def write_tsv(folder, pairs=PAIRS, pack=None, suffix=""):
    data = "".join(f"{src}\t{tgt}\tthird\tfourth\n" for src, tgt in pairs).encode()
    (folder / f"x.tsv{suffix}").write_bytes(pack(data) if pack else data)
    return str(folder / f"x.tsv{suffix}")


def write_jsonl(folder, pairs=PAIRS, pack=None, suffix=""):
    rows = [{"id": 1, "en": tgt, "fr": src} for src, tgt in pairs]
    rows[1::2] = [{"translation": {"fr": row["fr"], "en": row["en"]}} for row in rows[1::2]]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / f"x.jsonl{suffix}").write_bytes(pack(data) if pack else data)
    return str(folder / f"x.jsonl{suffix}")


def write_parquet(folder, pairs=PAIRS, pack=None, suffix="", nested=False):
    import pyarrow
    from pyarrow import parquet

    rows = [{"en": tgt, "fr": src} for src, tgt in pairs]
    table = pyarrow.table({"id": list(range(len(rows))), "translation": rows}) if nested else None
    parquet.write_table(table or pyarrow.Table.from_pylist(rows), folder / "x.parquet")
    if pack is None:
        return str(folder / "x.parquet")
    packed = folder / f"x.parquet{suffix}"
    packed.write_bytes(pack((folder / "x.parquet").read_bytes()))
    return str(packed)


def write_nested_parquet(folder):
    return write_parquet(folder, nested=True)


def open_(spec, **options) -> Corpus:
    return open_corpus(spec, Reading(**options))


@pytest.mark.parametrize("write", [write_prefix, write_tsv, write_jsonl, write_parquet, write_nested_parquet])
def test_every_format_gives_its_pairs(write, tmp_path):
    corpus = open_(write(tmp_path))
    assert list(corpus.pairs()) == PAIRS
    assert corpus.read == 3
    for file in corpus.files:
        data = (tmp_path / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), sha256(data).hexdigest())


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("write", [write_prefix, write_tsv, write_jsonl, write_parquet])
def test_compressed_files_are_read_and_hashed_as_they_are(write, suffix, pack, tmp_path):
    corpus = open_(write(tmp_path, PAIRS, pack, suffix))
    assert list(corpus.pairs()) == PAIRS
    for file in corpus.files:
        assert file.sha256 == sha256((tmp_path / file.name).read_bytes()).hexdigest()


@pytest.mark.parametrize("write", [write_prefix, write_tsv, write_jsonl, write_parquet])
def test_the_languages_can_be_turned_round(write, tmp_path):
    if write is write_tsv:
        pytest.skip("columns have no names")
    corpus = open_(write(tmp_path), source_lang="en", target_lang="fr")
    assert list(corpus.pairs()) == [(tgt, src) for src, tgt in PAIRS]


def test_crlf_bom_and_a_missing_final_newline_on_one_side_change_nothing(tmp_path):
    spec = write_prefix(tmp_path)
    path = tmp_path / "x.fr"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert list(open_(spec).pairs()) == PAIRS


def test_a_spec_in_a_manifest_names_no_home_directory(tmp_path):
    assert open_(write_tsv(tmp_path)).spec == f"{tmp_path.name}/x.tsv"


def test_a_file_in_a_home_directory_is_named_without_it(tmp_path, monkeypatch):
    spec = write_tsv(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_(spec).spec == "x.tsv"
    monkeypatch.chdir(tmp_path)
    assert open_("x.tsv").spec == "x.tsv"


@pytest.mark.parametrize("write", [write_prefix, write_tsv, write_jsonl])
@pytest.mark.parametrize("change", ["written to", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_an_error(write, change, tmp_path):
    corpus = open_(write(tmp_path))
    pairs = corpus.pairs()
    next(pairs)
    path = next(iter(tmp_path.iterdir()))
    data = path.read_bytes()
    if change == "written to":
        with path.open("ab") as file:
            file.write(data)
    else:
        (tmp_path / "other").write_bytes(data)
        (tmp_path / "other").replace(path)
    with pytest.raises(DataError, match="was changed while it was read|lines"):
        list(pairs)


@pytest.mark.parametrize(("french", "english"), [(1000, 999), (999, 1000), (3, 1)])
def test_different_numbers_of_lines_name_both_files_and_counts(french, english, tmp_path):
    (tmp_path / "x.fr").write_bytes(b"a\n" * french)
    (tmp_path / "x.en").write_bytes(b"b\n" * english)
    with pytest.raises(DataError, match=rf"x\.fr has {french} lines, .*x\.en {english}$"):
        list(open_(str(tmp_path / "x")).pairs())


@pytest.mark.parametrize("empty", ["x.fr", "x.en"])
def test_an_empty_file_is_named(empty, tmp_path):
    spec = write_prefix(tmp_path)
    (tmp_path / empty).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{empty} is empty"):
        list(open_(spec).pairs())


@pytest.mark.parametrize("write", [write_tsv, write_jsonl, write_parquet])
def test_an_empty_single_file_is_named(write, tmp_path):
    path = write(tmp_path)
    if write is write_parquet:
        write_parquet(tmp_path, PAIRS[:1])
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"fr": pyarrow.array([], "string"), "en": pyarrow.array([], "string")}), path)
    else:
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        list(open_(path).pairs())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("y", "y.fr and .*y.en do not exist .plain"),
        ("xx", "did you mean 'x'"),
        ("x.fr", "give the prefix of both files, .*x$"),
        ("y.tsv", "y.tsv does not exist"),
        ("folder", "is a folder"),
    ],
)
def test_what_is_not_there_is_named_with_what_was_probably_meant(spec, message, tmp_path):
    write_prefix(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=message):
        open_(str(tmp_path / spec))


def test_one_missing_side_is_named(tmp_path):
    spec = write_prefix(tmp_path)
    (tmp_path / "x.en").unlink()
    with pytest.raises(DataError, match=r"x\.en does not exist"):
        open_(spec)


@pytest.mark.parametrize("spec", ["", "  "])
def test_an_empty_spec_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="an empty corpus spec"):
        open_(spec)


def test_a_compressed_parquet_file_that_is_cut_short_is_named(tmp_path):
    spec = write_parquet(tmp_path, PAIRS, gzip.compress, ".gz")
    (tmp_path / "x.parquet.gz").write_bytes((tmp_path / "x.parquet.gz").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.parquet\.gz is cut short"):
        list(open_(spec).pairs())


def test_a_parquet_file_that_there_is_no_room_to_unpack_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    spec = write_parquet(tmp_path, PAIRS, gzip.compress, ".gz")
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(NMTError, match=r"cannot unpack .*x\.parquet\.gz in .*: No space.*TMPDIR") as caught:
        list(open_(spec).pairs())
    assert caught.value.exit_code == 1


def test_a_file_that_is_a_directory_is_named(tmp_path):
    (tmp_path / "x.tsv").mkdir()
    with pytest.raises(DataError, match=r"x\.tsv"):
        list(open_(str(tmp_path / "x.tsv")).pairs())


def test_a_tsv_line_without_a_tab_stops_with_its_number_but_a_blank_one_is_a_blank_pair(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n\nc\td\n", encoding="utf-8")
    assert list(open_(str(path)).pairs()) == [("a", "b"), ("", ""), ("c", "d")]
    path.write_text("a\tb\nno tab here\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"{path}:2 has no tab"):
        list(open_(str(path)).pairs())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ('["a", "b"]', "not a JSON object"),
        ('{"fr": "a", "de": "b"}', "no 'en': it has fr, de"),
        ('{"fr": "a", "en": 3}', "'en' is int, not text"),
        ('{"translation": {"fr": "a"}}', "no 'en'"),
    ],
)
def test_a_bad_json_line_stops_with_its_number(line, message, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"fr": "a", "en": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"x.jsonl:2.*{message}"):
        list(open_(str(path)).pairs())


def test_json_null_is_blank(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"fr": null, "en": "b"}\n', encoding="utf-8")
    assert list(open_(str(path)).pairs()) == [("", "b")]


def test_parquet_without_the_columns_lists_what_it_has(tmp_path):
    with pytest.raises(DataError, match="no columns fr and de.*it has en, fr"):
        list(open_(write_parquet(tmp_path), target_lang="de").pairs())


@pytest.mark.parametrize("data", [b"", b"PAR1", b"text\n" * 100])
def test_a_damaged_parquet_file_is_named(data, tmp_path):
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.parquet"):
        list(open_(str(tmp_path / "x.parquet")).pairs())


def spoil(folder, name):
    data = (folder / name).read_bytes().split(b"\n")
    data[1] = data[1].replace(b"e", b"\xe9", 1)
    (folder / name).write_bytes(b"\n".join(data))


@pytest.mark.parametrize(("write", "name"), [(write_prefix, "x.en"), (write_tsv, "x.tsv"), (write_jsonl, "x.jsonl")])
def test_invalid_utf8_stops_is_replaced_or_dropped(write, name, tmp_path):
    spec = write(tmp_path)
    spoil(tmp_path, name)
    with pytest.raises(DataError, match=f"{tmp_path / name}:2 is not UTF-8.*--invalid-utf8 replace or drop"):
        list(open_(spec).pairs())
    dropping = open_(spec, invalid_utf8="drop")
    assert list(dropping.pairs()) == [PAIRS[0], PAIRS[2]]
    assert dict(dropping.dropped) == {"invalid_utf8": 1}
    assert dropping.read == 3
    if write is not write_jsonl:
        assert list(open_(spec, invalid_utf8="replace").pairs())[1][1] == "Y\ufffds."
    with pytest.raises(DataError, match=":2 is not UTF-8"):
        list(open_(spec, invalid_utf8="drop", role="valid").pairs())


@pytest.mark.parametrize("write", [write_prefix, write_tsv, write_jsonl, write_parquet])
def test_a_line_too_long_is_dropped_from_training_and_stops_an_evaluation_set(write, tmp_path):
    spec = write(tmp_path, [PAIRS[0], ("x" * 5000, "long"), PAIRS[1]])
    corpus = open_(spec, max_line_bytes=1000)
    assert list(corpus.pairs()) == [PAIRS[0], PAIRS[1]]
    assert (corpus.read, dict(corpus.dropped)) == (3, {"line_too_long": 1})
    with pytest.raises(DataError, match="2.* is longer than 1000 bytes"):
        list(open_(spec, max_line_bytes=1000, role="test").pairs())


def test_a_place_names_file_and_line(tmp_path):
    assert open_(write_tsv(tmp_path)).place(7) == f"{tmp_path}/x.tsv:7"
    assert open_(write_prefix(tmp_path)).place(7) == f"{tmp_path}/x.fr:7 and x.en:7"
    assert open_(write_parquet(tmp_path)).place(7) == f"{tmp_path}/x.parquet, row 7"
