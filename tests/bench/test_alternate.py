import subprocess
import sys
from types import SimpleNamespace

import pytest

from nmt.bench import alternate as module
from nmt.bench.alternate import Contender, alternate
from nmt.errors import NMTError, UsageError


@pytest.fixture
def runs(monkeypatch):
    """Stand in for the processes: each answers with its number."""
    seen: list[list[str]] = []

    def run(command, **_):
        seen.append(command)
        return SimpleNamespace(returncode=0, stdout=f'{{"figure": {len(seen)}}}', stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_contenders_take_turns(runs):
    said: list[str] = []
    first, second = alternate([Contender("one", ("a",)), Contender("two", ("b",))], rounds=3, report=said.append)
    assert [command[-2] for command in runs] == ["a", "b", "a", "b", "a", "b"]
    assert first.values("figure") == [1, 3, 5]
    assert second.median("figure") == 4
    assert said[:2] == ["round 1 of 3: one", "round 1 of 3: two"]


def test_another_checkout_is_what_runs(tmp_path):
    package = tmp_path / "nmt"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("print('{\"figure\": 42}')")
    (series,) = alternate([Contender("other", ("bench",), tmp_path)], rounds=1)
    assert series.median("figure") == 42


def test_a_run_that_fails_is_named_with_its_reason(monkeypatch):
    failed = SimpleNamespace(returncode=2, stdout="", stderr="noise\nnmt: error: unknown key\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(NMTError, match="^bad: unknown key$") as raised:
        alternate([Contender("bad", ())], rounds=1)
    assert raised.value.exit_code == 2


def test_the_interpreter_is_this_one(runs):
    alternate([Contender("one", ("a",))], rounds=1)
    assert runs[0][0] == sys.executable


def test_what_is_no_measurement_is_a_usage_error(monkeypatch):
    done = SimpleNamespace(returncode=0, stdout="usage: nmt", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: done)
    with pytest.raises(UsageError, match="one: that prints no measurement"):
        alternate([Contender("one", ())], rounds=1)
