"""What the computer is like."""

import builtins
import io
import os

import pytest

from nmt import host


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw", False),
        ("flags\t\t: fpu avx2", False),
        ("Features\t: fp asimd", False),
        ("", False),
    ],
)
def test_avx512_is_read_from_the_flags_of_the_processor(monkeypatch, flags, expected):
    monkeypatch.setattr(builtins, "open", lambda *args, **kwargs: io.StringIO(f"processor\t: 0\n{flags}\nbugs\t: x\n"))
    assert host.has_avx512() is expected


def test_a_system_that_does_not_tell_has_none(monkeypatch):
    def refuse(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", refuse)
    assert not host.has_avx512()


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert host.available_cores() == 3
