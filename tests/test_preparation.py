import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from nmt import preparation
from nmt.dataset import DataDirectory
from nmt.errors import DataError, NMTError, UsageError
from nmt.preparation import PreparationOptions, auto_vocab_size, prepare

NOUNS = [
    ("le chat", "the cat"),
    ("le chien", "the dog"),
    ("la fille", "the girl"),
    ("l'école", "the school"),
    ("mon frère", "my brother"),
    ("cette maison", "this house"),
]
VERBS = [("regarde", "watches"), ("aime", "likes"), ("cherche", "looks for"), ("trouve", "finds")]
OPTIONS = PreparationOptions(vocab_size=320)


def sentences(count: int, seed: int = 1) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        (a, x), (b, y), (c, z) = rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS)
        pairs.append((f"Numéro {seed}-{i} : {a} {b} {c}.", f"Number {seed}-{i}: {x} {y} {z}."))
    return pairs


def tsv(path: Path, pairs: Iterable[tuple[str, str]]) -> str:
    path.write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8", newline="\n")
    return str(path)


@pytest.fixture
def specs(tmp_path):
    return (
        [tsv(tmp_path / "train.tsv", sentences(200))],
        [tsv(tmp_path / "valid.tsv", sentences(10, 2))],
        [tsv(tmp_path / "test.tsv", sentences(10, 3))],
    )


def run(specs, out: Path, **options):
    return prepare(*specs, out, dataclasses.replace(OPTIONS, **options))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def train_texts(folder: Path) -> list[tuple[str, str]]:
    data = DataDirectory.open(folder)
    split = data.split("train")
    source, target = data.tokenizers.source, data.tokenizers.target
    return [
        (source.decode(split.sources([i]).tolist()), target.decode(split.targets([i]).tolist()))
        for i in range(len(split))
    ]


def test_every_pair_comes_through_in_order(specs, tmp_path):
    manifest = run(specs, tmp_path / "out")
    assert train_texts(tmp_path / "out") == sentences(200)
    data = DataDirectory.open(tmp_path / "out")
    data.verify()
    assert list(zip(*data.text("valid"), strict=True)) == sentences(10, 2)
    assert data.manifest == manifest
    assert manifest["splits"]["train"]["kept"] == 200
    assert manifest["tokenizer"]["source_vocab_size"] == 320
    assert manifest["warnings"] == []


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("joint", [True, False])
def test_the_same_input_gives_the_same_bytes(specs, tmp_path, model_type, joint):
    size = 320 if joint else 310
    run(specs, tmp_path / "a", model_type=model_type, joint=joint, vocab_size=size)
    run(specs, tmp_path / "b", model_type=model_type, joint=joint, vocab_size=size)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    data = DataDirectory.open(tmp_path / "a")
    assert data.tokenizers.joint is joint
    assert train_texts(tmp_path / "a") == sentences(200)


def test_only_what_belongs_there_is_in_the_directory_and_nothing_beside_it(specs, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    run(specs, tmp_path / "out")
    encoded = {f"{s}.{side}.{k}.bin" for s in ("train", "valid", "test") for side in ("source", "target") for k in
               ("tokens", "offsets")}  # fmt: skip
    assert set(files(tmp_path / "out")) == encoded | {
        *("valid.fr", "valid.en", "test.fr", "test.en"),
        *("tokenizer.model", "manifest.json"),
    }
    assert {path.name for path in tmp_path.iterdir()} == before | {"out"}


def test_the_manifest_names_no_place_and_no_time(specs, tmp_path):
    run(specs, tmp_path / "out")
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["corpora"]["train"][0]["spec"] == f"{tmp_path.name}/train.tsv"


def test_what_is_dropped_is_counted_by_reason(specs, tmp_path):
    valid, test = sentences(10, 2), sentences(10, 3)
    noise = [
        ("", "blank source"),
        ("cible vide", " "),
        ("zéro\0", "zero"),
        ("x" * 3000, "y" * 3000),
        ("Oui.", "This is by far too long to be a translation of one word."),
        ("same words on both sides", "same words on both sides"),
        sentences(1)[0],
        (valid[0][0].upper(), valid[0][1].replace(" ", "  ")),
        ("Autre chose que la référence.", test[4][1]),
        (" ".join("1234567890" * 9), " ".join("0987654321" * 9)),
    ]
    train = tsv(tmp_path / "noisy.tsv", [*sentences(100), *noise, *sentences(50, 4)])
    manifest = prepare([train], *specs[1:], tmp_path / "out", dataclasses.replace(OPTIONS, max_tokens=80))
    reasons = ["blank", "nul", "too_long", "length_ratio", "copy", "duplicate", "leak", "too_many_tokens"]
    dropped = dict(zip(reasons, [2, 1, 1, 1, 1, 1, 2, 1], strict=True))
    split = manifest["splits"]["train"]
    assert split["dropped"] == manifest["corpora"]["train"][0]["dropped"] == dropped
    assert list(split["dropped"]) == list(dropped)
    assert (split["read"], split["kept"]) == (160, 150)
    assert train_texts(tmp_path / "out") == [*sentences(100), *sentences(50, 4)]


def test_duplicates_and_leaks_stay_when_asked_for(specs, tmp_path):
    train = tsv(tmp_path / "noisy.tsv", [*sentences(100), sentences(1)[0], sentences(1, 2)[0]])
    options = dataclasses.replace(OPTIONS, deduplicate=False, remove_leaks=False)
    assert prepare([train], *specs[1:], tmp_path / "out", options)["splits"]["train"]["kept"] == 102


def test_duplicates_are_found_across_corpora_and_counted_where_they_are_dropped(specs, tmp_path):
    more = tsv(tmp_path / "more.tsv", [*sentences(20), *sentences(5, 9)])
    manifest = prepare([*specs[0], more], *specs[1:], tmp_path / "out", OPTIONS)
    first, second = manifest["corpora"]["train"]
    assert (first["kept"], first["dropped"]) == (200, {})
    assert (second["read"], second["kept"], second["dropped"]) == (25, 5, {"duplicate": 20})


def test_evaluation_sets_keep_every_pair(specs, tmp_path):
    pairs = [*sentences(3, 2), sentences(1, 2)[0], ("Oui.", "x" * 500), ("Le même ici encore.", "Le même ici encore.")]
    valid = tsv(tmp_path / "odd.tsv", pairs)
    run((specs[0], [valid], []), tmp_path / "out")
    data = DataDirectory.open(tmp_path / "out")
    assert list(zip(*data.text("valid"), strict=True)) == pairs
    assert len(data.split("valid")) == len(pairs)
    assert "test" not in data.manifest["splits"]


def test_a_blank_line_of_an_evaluation_set_is_kept_and_warned_of(specs, tmp_path):
    valid = tsv(tmp_path / "odd.tsv", [*sentences(2, 2), ("", "Something."), *sentences(1, 5)])
    manifest = run((specs[0], [valid], []), tmp_path / "out")
    assert manifest["splits"]["valid"]["blank"] == 1
    assert "odd.tsv:3: a side is blank" in manifest["warnings"][0]
    data = DataDirectory.open(tmp_path / "out")
    assert data.text("valid")[0][2] == ""
    assert data.split("valid").src_lengths.tolist()[2] == 0
    with pytest.raises(DataError, match="odd.tsv:3: a side is blank"):
        run((specs[0], [valid], []), tmp_path / "strict", strict=True)


def test_line_ends_inside_lines_keep_files_and_encoding_in_step(specs, tmp_path):
    ends = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
    pairs = [(f"Avant {i}{end}après", f"Before {i}{end}after") for i, end in enumerate(ends)]
    for side, lang in enumerate(("fr", "en")):
        (tmp_path / f"v.{lang}").write_bytes("".join(f"{p[side]}\r\n" for p in pairs).encode())
    run((specs[0], [str(tmp_path / "v")], []), tmp_path / "out")
    data = DataDirectory.open(tmp_path / "out")
    assert len(data.split("valid")) == len(pairs)
    assert list(zip(*data.text("valid"), strict=True)) == pairs


def test_composed_and_decomposed_text_are_the_same(specs, tmp_path):
    train = tsv(tmp_path / "nfd.tsv", [*sentences(100), ("De\u0301ja\u0300 vu.", "Seen."), ("Déjà vu.", "Seen.")])
    manifest = prepare([train], *specs[1:], tmp_path / "out", OPTIONS)
    assert manifest["splits"]["train"]["dropped"] == {"duplicate": 1}


@pytest.mark.parametrize(
    ("pairs", "size"),
    [(1, 1000), (2000, 1000), (30_000, 8000), (160_000, 8000), (500_000, 16_000), (10_000_000, 32_000)],
)
def test_the_vocabulary_grows_with_the_corpus(pairs, size):
    assert auto_vocab_size(pairs) == size


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("count", [1, 10])
def test_a_tiny_corpus_gets_the_vocabulary_that_it_allows(specs, tmp_path, model_type, count):
    train = tsv(tmp_path / "tiny.tsv", sentences(count))
    out = tmp_path / "out"
    manifest = prepare([train], *specs[1:], out, PreparationOptions(model_type=model_type))
    assert 260 < manifest["tokenizer"]["source_vocab_size"] < 1000
    assert train_texts(out) == sentences(count)


def test_a_vocabulary_asked_for_but_impossible_is_refused(specs, tmp_path):
    with pytest.raises(UsageError, match="32000 is too large, the largest possible is"):
        run(specs, tmp_path / "out", vocab_size=32_000)
    assert not (tmp_path / "out").exists()


def test_the_vocabulary_is_learnt_from_a_sample_that_the_seed_chooses(specs, tmp_path):
    models = [
        run(specs, tmp_path / str(i), tokenizer_sentences=100, seed=seed, vocab_size=None)["files"]["tokenizer.model"]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert models[0] == models[1] != models[2]


def breaking(tmp_path: Path, name: str):
    """A training corpus that cannot be read, and what is said of it."""
    path = tmp_path / "bad.tsv"
    good = "".join(f"{a}\t{b}\n" for a, b in sentences(5000)).encode()
    match name:
        case "missing":
            return str(tmp_path / "nothing.tsv"), "nothing.tsv does not exist"
        case "empty":
            path.write_bytes(b"")
            return str(path), "bad.tsv is empty"
        case "no tab":
            path.write_bytes(good + b"no tab\n")
            return str(path), "bad.tsv:5001 has no tab"
        case "invalid":
            path.write_bytes(good + b"caf\xe9\tcoffee\n")
            return str(path), "bad.tsv:5001 is not UTF-8"
        case "utf-16":
            path.write_bytes(good.decode().encode("utf-16"))
            return str(path), "bad.tsv is UTF-16"
        case "blank":
            path.write_bytes(b"\t\n" * 3)
            return str(path), "nothing is left of the training text: 3 a side is blank"
        case "leaks":
            tsv(path, sentences(3, 2))
            return str(path), "nothing is left of the training text: 3 in valid or test too"
        case "misaligned":
            for lang, count in (("fr", 1000), ("en", 999)):
                (tmp_path / f"bad.{lang}").write_bytes(b"Une ligne.\n" * count)
            return str(tmp_path / "bad"), "bad.fr has 1000 lines, .*bad.en 999"
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["missing", "empty", "no tab", "invalid", "utf-16", "blank", "leaks", "misaligned"])
def test_what_cannot_be_used_stops_with_its_place_and_leaves_nothing(specs, tmp_path, name):
    train, message = breaking(tmp_path, name)
    before = set(os.listdir(tmp_path))
    with pytest.raises(DataError, match=message):
        prepare(
            [*specs[0], train] if name not in ("blank", "leaks") else [train], *specs[1:], tmp_path / "out", OPTIONS
        )
    assert set(os.listdir(tmp_path)) == before


def lengths_vary(count: int) -> list[tuple[str, str]]:
    rng = random.Random(5)
    return [(" ".join(["mot"] * n) + f" {i}.", " ".join(["word"] * n) + f" {i}.")
            for i, n in enumerate(rng.choices(range(3, 25), k=count))]  # fmt: skip


def test_a_lost_line_is_located_by_the_lengths(specs, tmp_path):
    pairs = lengths_vary(3000)
    (tmp_path / "x.fr").write_text("".join(f"{src}\n" for src, _ in pairs), encoding="utf-8")
    english = [tgt for _, tgt in pairs]
    del english[1500]
    (tmp_path / "x.en").write_text("".join(f"{tgt}\n" for tgt in english), encoding="utf-8")
    with pytest.raises(DataError, match="has 3000 lines, .* 2999; they seem to part soon after line 1[3-7]01"):
        prepare([str(tmp_path / "x")], *specs[1:], tmp_path / "out", OPTIONS)
    (tmp_path / "x.en").write_text("".join(f"{tgt}\n" for tgt in [*english, "Word."]), encoding="utf-8")
    manifest = prepare([str(tmp_path / "x")], *specs[1:], tmp_path / "out", PreparationOptions())
    assert "x.en:1" in manifest["warnings"][0]
    with pytest.raises(DataError, match="do not look like translations"):
        prepare([str(tmp_path / "x")], *specs[1:], tmp_path / "strict", dataclasses.replace(OPTIONS, strict=True))


def test_an_interruption_leaves_nothing(specs, tmp_path, monkeypatch):
    before = set(os.listdir(tmp_path))

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "train_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(specs, tmp_path / "out")
    assert set(os.listdir(tmp_path)) == before


def test_a_full_disk_leaves_nothing(specs, tmp_path, monkeypatch):
    before = set(os.listdir(tmp_path))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation.SplitWriter, "append", full)
    with pytest.raises(NMTError, match="No space left on device") as caught:
        run(specs, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert set(os.listdir(tmp_path)) == before


def test_a_directory_with_something_in_it_is_refused_and_deleted_only_if_it_is_a_data_directory(specs, tmp_path):
    out = tmp_path / "out"
    run(specs, out)
    with pytest.raises(UsageError, match="not empty"):
        run(specs, out)
    run(specs, out, force=True, joint=False, vocab_size=310)
    assert not DataDirectory.open(out).tokenizers.joint
    other = tmp_path / "photos"
    other.mkdir()
    (other / "photo.jpg").touch()
    (tmp_path / "photos.old").touch()
    run(specs, other, force=True)
    assert (tmp_path / "photos.old2" / "photo.jpg").exists()
    DataDirectory.open(other)
    other = tmp_path / "model"
    other.mkdir()
    (other / "manifest.json").write_text('{"format": "nmt-model"}')
    run(specs, other, force=True)
    assert (tmp_path / "model.old" / "manifest.json").exists()


def test_input_that_lies_in_the_output_is_not_overwritten(specs, tmp_path):
    run(specs, tmp_path / "out")
    inside = tmp_path / "out" / "valid"
    with pytest.raises(UsageError, match="lies in .*out, which is to be written"):
        run(([str(inside)], *specs[1:]), tmp_path / "out", force=True)
    assert inside.with_name("valid.fr").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 3}, "vocab_size = 3 is not possible: it must be 8 to"),
        ({"max_tokens": 0}, "max_tokens = 0 is not possible: it must be 1 to"),
        ({"max_ratio": float("nan")}, "max_ratio"),
        ({"source_lang": "../x"}, "no language code"),
        ({"source_lang": "en"}, "both 'en'"),
        ({"seed": -1}, "seed = -1 is not possible: it must be 0 to"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        PreparationOptions(**options)


@pytest.mark.parametrize("missing", [0, 1])
def test_training_and_validation_text_are_both_needed(specs, tmp_path, missing):
    specs = [names if i != missing else [] for i, names in enumerate(specs)]
    with pytest.raises(UsageError, match="both needed"):
        run(specs, tmp_path / "out")


def test_the_licence_is_noted_where_the_corpus_states_none(specs, tmp_path):
    manifest = prepare(*specs[:1], ["sample"], [], tmp_path / "out", dataclasses.replace(OPTIONS, licence="CC BY 2.0"))
    assert manifest["corpora"]["train"][0]["licence"] == "CC BY 2.0"
    assert manifest["corpora"]["valid"][0]["licence"] == "CC0-1.0"


def test_progress_is_reported_to_the_end(specs, tmp_path):
    calls = []
    prepare(*specs, tmp_path / "out", OPTIONS, progress=lambda *call: calls.append(call))
    assert calls == [("reading", 200, None), ("learning the vocabulary", 0, None), ("encoding", 200, 200)]


PEAK = """
import resource, sys
from pathlib import Path
from nmt.preparation import PreparationOptions, prepare
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
manifest = prepare([str(folder / "train")], [str(folder / "dev")], [], Path(sys.argv[2]), PreparationOptions())
assert manifest["splits"]["train"]["read"] > 400_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


@pytest.mark.real
@pytest.mark.slow
def test_half_a_million_pairs_take_less_than_half_a_gibibyte(tmp_path):
    folder = os.environ.get("NMT_REAL_DATA")
    if not folder:
        pytest.skip("NMT_REAL_DATA names no folder")
    command = [sys.executable, "-c", PEAK, str(Path(folder) / "canada-laws"), str(tmp_path / "out")]
    mebibytes = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert mebibytes < 512
