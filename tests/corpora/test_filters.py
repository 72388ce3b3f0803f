import itertools
import random

import numpy as np
import pytest

from nmt.corpora.filters import (
    AlignmentWatch,
    Leaks,
    Rules,
    SeenPairs,
    drop_reason,
    leak_key,
    normalise,
)

RULES = Rules(max_chars=100, max_ratio=3.0, deduplicate=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301te\u0301", "été"),
        ("  a\u00a0b \u3000", "a\u00a0b"),
        ("a\nb\r\nc\rd", "a b c d"),
        ("a\u2028b", "a\u2028b"),
        ("half \ud800 pair", "half ? pair"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("src", "tgt", "reason"),
    [
        ("Bonjour.", "Hello.", None),
        ("", "Hello.", "blank"),
        ("Bonjour.", "\u200b\u00a0", "blank"),
        ("Bon\0jour.", "Hello.", "nul"),
        ("x" * 101, "y" * 100, "too_long"),
        ("x" * 100, "y" * 100, None),
        ("Va !", "x" * 37, None),
        ("Va !", "x" * 38, "length_ratio"),
        ("x" * 88, "y" * 20, "length_ratio"),
        ("OK, Google", "OK, Google", None),
        ("one two three four", "one two three four", "copy"),
    ],
)
def test_why_a_pair_is_dropped(src, tgt, reason):
    assert drop_reason(src, tgt, RULES) == reason
    if reason != "nul":
        assert drop_reason(tgt, src, RULES) == reason


def test_a_leak_is_found_whatever_its_case_accents_punctuation_and_spacing():
    assert leak_key("Où est l'ÉCOLE ?") == leak_key("ou est l’école") == "ouestlecole"
    assert leak_key("Mon cœur, n° 5") == leak_key("MON COEUR N° 5!")
    assert leak_key("un") != leak_key("une")


def leaks() -> Leaks:
    found = Leaks()
    found.add("Où est la gare ?", "Where is it?")
    found.add("Merci.", "Thanks.")
    found.add("!", "?")
    return found


@pytest.mark.parametrize(
    ("src", "tgt", "leaks_"),
    [
        ("ou est la gare", "where is it", True),  # the pair
        ("Où est la gare", "Where's the station?", True),  # a long side alone: four words
        ("Dis, où est-ce ?", "Where is it?", False),  # a short side alone: three words
        ("MERCI !", "Thanks", True),
        ("Merci.", "Thank you.", False),
        ("...", "--", False),
        ("Une autre phrase ici.", "Another sentence here.", False),
    ],
)
def test_which_training_pairs_leak(src, tgt, leaks_):
    assert leaks().finds(src, tgt) is leaks_


def test_duplicates_are_found_across_chunks_of_any_size_and_the_first_stays():
    rng = random.Random(1)
    stream = [(str(rng.randrange(3000)), "x") for _ in range(10_000)]
    seen, known, position = SeenPairs(), set(), 0
    while position < len(stream):
        chunk = stream[position : position + rng.choice([1, 7, 100, 900])]
        position += len(chunk)
        for pair, is_new in zip(chunk, seen.add(chunk), strict=True):
            assert is_new == (pair not in known)
            known.add(pair)


def test_a_pair_is_remembered_in_eight_bytes():
    seen = SeenPairs()
    for start in range(0, 10_000, 500):
        seen.add([(str(i), "x") for i in range(start, start + 500)])
    assert sum(run.nbytes for run in seen._runs) == 8 * 10_000
    assert len(seen._runs) < 10


def test_the_border_between_source_and_target_counts():
    assert SeenPairs().add([("a", "b c"), ("a b", "c"), ("a", "b c")]).tolist() == [True, True, False]


def test_an_empty_chunk_is_no_trouble():
    seen = SeenPairs()
    assert seen.add([]).tolist() == []
    assert seen.add([("a", "b")]).tolist() == [True]


def lengths(count: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(1)
    sources = random.integers(20, 150, count)
    targets = sources * random.uniform(0.8, 1.2, count)
    return [("x" * int(s), "y" * int(t)) for s, t in zip(sources, targets, strict=True)]


def first_suspicious(pairs: list[tuple[str, str]]) -> int | None:
    watch = AlignmentWatch()
    for number, (src, tgt) in enumerate(pairs, 1):
        watch.add(number, src, tgt)
    return watch.first_suspicious


def test_a_shift_by_one_line_is_noticed_near_where_it_starts():
    pairs = lengths(2000)
    assert first_suspicious(pairs) is None
    shifted = pairs[:1000] + [(src, tgt) for (src, _), (_, tgt) in itertools.pairwise(pairs[1000:])]
    found = first_suspicious(shifted)
    assert found is not None
    assert 801 <= found <= 1201


def test_text_of_one_length_is_not_suspicious():
    assert first_suspicious([("x" * 30, "y" * (28 + i % 3)) for i in range(1000)]) is None
