"""What an audit finds, and what it leaves alone."""

import random
import sys
from pathlib import Path

import pytest

from nmt import audit as auditing
from nmt.audit import (
    EXAMPLES,
    LEAK,
    MISALIGNED,
    ODD_CHARACTERS,
    WRONG_LANGUAGE,
    Audit,
    audit,
    is_odd,
    language_guesser,
)
from nmt.corpora import Reading
from nmt.corpora.filters import BLANK, COPY, DUPLICATE, LENGTH_RATIO, Rules
from nmt.errors import DataError

RULES = Rules(max_chars=2000, max_ratio=3.0, deduplicate=True)
GOOD = [
    ("Un homme marche lentement dans la rue.", "A man is walking slowly down the street."),
    ("Deux enfants jouent avec un ballon rouge.", "Two children are playing with a red ball."),
    ("Où est la gare ?", "Where is the station?"),
]


def write(folder: Path, pairs: list[tuple[str, str]], name: str = "x.tsv") -> str:
    (folder / name).write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8", newline="\n")
    return str(folder / name)


def look(folder: Path, pairs: list[tuple[str, str]], against: list[tuple[str, str]] | None = None) -> Audit:
    others = [] if against is None else [write(folder, against, "other.tsv")]
    return audit(write(folder, pairs), others, Reading(invalid_utf8="replace"), RULES)


def counts(found: Audit) -> dict[str, int]:
    return {kind: finding.pairs for kind, finding in found.findings.items()}


def test_nothing_is_found_in_good_text(tmp_path: Path) -> None:
    found = look(tmp_path, GOOD, against=[("Il pleut sans cesse depuis hier.", "It has been raining since yesterday.")])
    assert (found.read, counts(found), found.regions) == (3, {}, [])


def test_each_kind_is_counted_with_its_place(tmp_path: Path) -> None:
    bad = [
        ("", "Nothing on the other side."),
        ("Oui.", "x" * 100),
        ("The same thing on both sides", "The same thing on both sides"),
        GOOD[0],
        ("Ã‰tÃ© comme hiver, il fait froid.", "Summer or winter, it is cold."),
    ]
    found = look(tmp_path, GOOD + bad, against=[("OU EST LA GARE", "where is the station")])
    expected = {BLANK: 1, LENGTH_RATIO: 1, COPY: 1, DUPLICATE: 1, LEAK: 1, ODD_CHARACTERS: 1}
    assert {kind: n for kind, n in counts(found).items() if kind != WRONG_LANGUAGE} == expected
    assert found.findings[COPY].examples[0].place.endswith("x.tsv:6")
    assert found.findings[LEAK].examples[0].source == "Où est la gare ?"
    assert list(found.findings) == [kind for kind in auditing.KINDS if kind in found.findings]


def test_only_a_few_examples_are_kept(tmp_path: Path) -> None:
    found = look(tmp_path, [("", "x")] * 50)
    assert found.findings[BLANK].pairs == 50
    assert len(found.findings[BLANK].examples) == EXAMPLES


def test_other_languages_are_noticed(tmp_path: Path) -> None:
    if language_guesser() is None:
        pytest.skip("py3langid is not installed")
    swapped = [(tgt, src) for src, tgt in GOOD]
    german = [("Ein Mann geht langsam durch die Straßen der Stadt.", GOOD[0][1])]
    found = look(tmp_path, GOOD + swapped + german)
    assert found.languages_checked
    assert found.findings[WRONG_LANGUAGE].pairs == 2 + 1  # "Where is the station?" is too short to say


def test_without_the_package_languages_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    found = look(tmp_path, [(tgt, src) for src, tgt in GOOD])
    assert not found.languages_checked
    assert counts(found) == {}


def test_languages_that_the_package_does_not_know_are_not_checked(tmp_path: Path) -> None:
    spec = write(tmp_path, GOOD)
    found = audit(spec, [], Reading(source_lang="fra", target_lang="eng"), RULES)
    assert not found.languages_checked
    assert counts(found) == {}
    russian = write(tmp_path, [("Привет, как дела сегодня у вас?", GOOD[0][1])], "ru.tsv")
    assert ODD_CHARACTERS not in audit(russian, [], Reading(source_lang="ru"), RULES).findings


def test_a_line_too_long_is_counted_in_every_split(tmp_path: Path) -> None:
    spec = write(tmp_path, [*GOOD, ("x" * 200, "y")])
    found = audit(spec, [spec], Reading(role="test", max_line_bytes=100), RULES)
    assert found.findings["line_too_long"].pairs == 1
    assert found.findings[LEAK].pairs == 3


def shifted(rng: random.Random, lines: int, start: int, end: int) -> list[tuple[str, str]]:
    """Pairs of like lengths, but for those from `start` to `end`, whose targets are the next pair's."""
    lengths = [rng.randrange(2, 60) for _ in range(lines + 1)]
    return [
        (f"{i} " + "mot " * length, f"{i} " + "word " * lengths[i + (start <= i < end)])
        for i, length in enumerate(lengths[:-1])
    ]


def test_regions_that_are_shifted_are_found(tmp_path: Path) -> None:
    found = look(tmp_path, shifted(random.Random(1), 3000, 1000, 1800))
    assert found.regions == [(1001, 1800)]
    assert found.findings[MISALIGNED].pairs == 800


def test_a_region_goes_on_across_blank_pairs(tmp_path: Path) -> None:
    pairs = shifted(random.Random(1), 3000, 0, 3000)
    blank = [pair for i, pair in enumerate(pairs) for pair in ([pair, ("", "")] if i % 10 == 9 else [pair])]
    assert len(look(tmp_path, blank).regions) == 1


def test_sides_of_different_lengths_stop_with_a_hint(tmp_path: Path) -> None:
    pairs = shifted(random.Random(1), 1000, 400, 1000)
    for side, lang in enumerate(("fr", "en")):
        lines = [pair[side] + "\n" for pair in pairs][: 1000 - side]
        (tmp_path / f"y.{lang}").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="they seem to part soon after line 401"):
        audit(str(tmp_path / "y"), [], Reading(), RULES)


@pytest.mark.parametrize(
    "text", ["a\x07b", "a\ufffdb", "\ue000", "Ã© tait", "Itâ€™s", "Привет мир", "a\u2028b", "\ufeffa"]
)
def test_odd_characters(text: str) -> None:
    assert is_odd(text)


@pytest.mark.parametrize(
    "text", ["", "plain", "Où ça ? « Là » — 5 €…", "L'été, π vaut 3,14", "日 is a character", "🙂"]
)
def test_characters_that_are_not_odd(text: str) -> None:
    assert not is_odd(text)
