import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from nmt.dataset import DataDirectory, EncodedSplit, SplitWriter, is_language, token_type, tokens_name
from nmt.errors import DataError, UsageError
from nmt.preparation import PreparationOptions, prepare

PAIRS = [([5, 6, 7], [8]), ([], [9, 10]), ([65535, 4], [11, 12, 13])]


@pytest.fixture
def split(tmp_path) -> EncodedSplit:
    with SplitWriter(tmp_path, "train", "uint16") as writer:
        for src, tgt in PAIRS:
            writer.append(src, tgt)
    return EncodedSplit.open(tmp_path, "train", "uint16")


def test_what_is_written_is_read(split):
    assert [(split.sources([i]).tolist(), split.targets([i]).tolist()) for i in range(len(split))] == PAIRS
    assert split.sources([2, 0, 2]).tolist() == [65535, 4, 5, 6, 7, 65535, 4]
    assert split.sources([0]).dtype == np.int64
    assert split.src_lengths.tolist() == [3, 0, 2]
    assert split.tgt_lengths.tolist() == [1, 2, 3]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_an_error(split, index):
    with pytest.raises(IndexError):
        split.sources([index])


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
def test_no_file_stays_in_memory(split, tmp_path):
    split.sources([0, 2]), split.targets([1]), split.largest_id("target")
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@linux
def test_files_are_closed_with_their_split(split, tmp_path):
    def held() -> list[str]:
        return [name for file in Path("/proc/self/fd").iterdir() if (name := os.path.realpath(file)).startswith(place)]

    place = os.path.realpath(tmp_path)
    copy = EncodedSplit.open(tmp_path, "train", "uint16")
    assert len(held()) == 4
    del copy
    assert len(held()) == 2


def test_large_files_are_looked_through_piece_by_piece(split, monkeypatch):
    monkeypatch.setattr("nmt.dataset._READ", 2)
    assert (split.largest_id("source"), split.largest_id("target")) == (65535, 13)
    assert split.target_ids() == {8, 9, 10, 11, 12, 13}


def test_a_file_that_becomes_shorter_is_said_to(split, tmp_path):
    os.truncate(tmp_path / tokens_name("train", "source"), 8)
    assert split.sources([0]).tolist() == PAIRS[0][0]
    with pytest.raises(DataError, match="has become shorter"):
        split.sources([0, 2])


def test_a_split_of_nothing_but_empty_sentences_can_be_read(tmp_path):
    with SplitWriter(tmp_path, "valid", "uint32") as writer:
        writer.append([], [])
    split = EncodedSplit.open(tmp_path, "valid", "uint32")
    assert (len(split), split.sources([0]).tolist(), split.largest_id("source")) == (1, [], -1)


@pytest.mark.parametrize(("size", "dtype"), [(65536, "uint16"), (65537, "uint32")])
def test_ids_take_two_bytes_where_they_fit(size, dtype):
    assert token_type(300, size) == dtype


@pytest.mark.parametrize(("name", "good"), [("fr", True), ("pt-BR", True), ("../x", False), ("", False), ("f", False)])
def test_language_codes_make_safe_file_names(name, good):
    assert is_language(name) is good


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")

    def write(name: str, first: int, count: int) -> str:
        lines = [f"Voici le mot numéro {i}.\tHere is word number {i}.\n" for i in range(first, first + count)]
        (folder / name).write_text("".join(lines), encoding="utf-8")
        return str(folder / name)

    specs = ([write("a.tsv", 0, 40)], [write("b.tsv", 100, 3)], [write("c.tsv", 200, 2)])
    prepare(*specs, folder / "data", PreparationOptions(vocab_size=300, model_type="bpe"))
    return folder / "data"


@pytest.fixture
def copy(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "data")


def test_a_data_directory_gives_back_what_was_prepared(prepared):
    data = DataDirectory.open(prepared)
    data.verify()
    assert (data.source_lang, data.target_lang) == ("fr", "en")
    assert [len(data.split(name)) for name in ("train", "valid", "test")] == [40, 3, 2]
    sources, references = data.text("test")
    assert sources == ["Voici le mot numéro 200.", "Voici le mot numéro 201."]
    split = data.split("test")
    assert data.tokenizers.source.decode(split.sources([1]).tolist()) == sources[1]
    assert data.tokenizers.target.decode(split.targets([1]).tolist()) == references[1]


def test_the_fingerprint_is_of_the_content_not_of_the_place(prepared, copy):
    assert DataDirectory.open(prepared).fingerprint == DataDirectory.open(copy).fingerprint


def test_an_unknown_split_is_an_error_with_the_nearest_name(prepared):
    with pytest.raises(
        UsageError, match="unknown split 'vaild' \\(did you mean 'valid'\\?\\): choose train, valid or test"
    ):
        DataDirectory.open(prepared).split("vaild")
    with pytest.raises(DataError, match="no text of 'train'"):
        DataDirectory.open(prepared).text("train")


@pytest.mark.parametrize("name", sorted(["test.en", "tokenizer.model", "train.source.tokens.bin", "valid.fr"]))
@pytest.mark.parametrize("damage", ["missing", "shorter", "changed"])
def test_damage_to_any_file_is_found_and_named(copy, name, damage):
    file = copy / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "shorter" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=name):
        DataDirectory.open(copy).verify()


def test_offsets_that_do_not_fit_are_found_without_hashes(copy):
    offsets = np.fromfile(copy / "train.source.offsets.bin", dtype="<i8")
    offsets[3] = 10**15
    offsets.tofile(copy / "train.source.offsets.bin")
    with pytest.raises(DataError, match="train.source.offsets.bin is damaged"):
        DataDirectory.open(copy).split("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "no data directory"),
        ({"version": 99}, "format version 99, this program reads 1"),
        ({"token_type": "object"}, "damaged"),
        ({"source_lang": "../../etc"}, "damaged"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "damaged"),
        ({"splits": {"../x": {"kept": 1}}}, "damaged"),
        ({"splits": None}, "damaged"),
        ({"corpora": []}, "damaged"),
        ({"tokenizer": {"source_vocab_size": 7, "target_vocab_size": 7}}, "vocabularies of"),
    ],
)
def test_a_manifest_of_something_else_is_refused(copy, change, message):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, **change}), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        DataDirectory.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": "nmt-data", "version": 1}'])
def test_a_manifest_that_is_none_is_refused(copy, text):
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        DataDirectory.open(copy)


def test_what_is_no_data_directory_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="does not exist.*nmt data prepare"):
        DataDirectory.open(tmp_path / "nothing")
    (tmp_path / "text.fr").touch()
    (tmp_path / "text.log").touch()
    with pytest.raises(DataError, match="does not exist.*nmt data prepare"):
        DataDirectory.open(tmp_path / "text")
    (tmp_path / "text.en.gz").touch()
    with pytest.raises(DataError, match="is parallel text: .*nmt data prepare --train .*text "):
        DataDirectory.open(tmp_path / "text")
    with pytest.raises(DataError, match="no data directory.*nmt data prepare"):
        DataDirectory.open(tmp_path)
