"""The table of faults names tests and harnesses that there are."""

import ast
import tomllib
from pathlib import Path

import pytest

from tests.torture.__main__ import HARNESSES

TESTS = Path(__file__).parent
TABLE = tomllib.loads((TESTS / "faults.toml").read_text(encoding="utf-8"))
SHOWN = sorted({name for section in TABLE.values() for names in section.values() for name in names})


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
