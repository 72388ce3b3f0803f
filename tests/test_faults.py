"""The table of faults names tests and harnesses that there are, and leaves no case open."""

import ast
import tomllib
from pathlib import Path

import pytest

from tests.torture.__main__ import HARNESSES

TESTS = Path(__file__).parent
TABLE = tomllib.loads((TESTS / "faults.toml").read_text(encoding="utf-8"))
CATALOGUE = {"T": 30, "C": 17, "D": 23, "X": 27, "E": 11, "U": 17, "R": 14, "S": 17}
"""How many cases there are under each letter."""
CASES = {number: entry for section in TABLE.values() for number, entry in section.items()}
SHOWN = sorted({name for entry in CASES.values() for name in entry.get("shown", [])})


@pytest.mark.parametrize("name", SHOWN)
def test_what_shows_a_fault_is_there(name: str) -> None:
    if name.startswith("torture "):
        assert name.removeprefix("torture ") in {harness.name for harness in HARNESSES}
        return
    file, _, function = name.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_harness_shows_something() -> None:
    assert {f"torture {harness.name}" for harness in HARNESSES} <= set(SHOWN)


@pytest.mark.parametrize("section", TABLE)
def test_every_case_is_shown_or_explained(section: str) -> None:
    numbers = list(TABLE[section])
    letter = numbers[0][0]
    assert numbers == [f"{letter}{number:02}" for number in range(1, CATALOGUE[letter] + 1)]
    for number in numbers:
        assert TABLE[section][number].keys() in ({"case", "shown"}, {"case", "why"}), number
        assert all(TABLE[section][number].values()), number
