"""What the computer is like."""

import builtins
import io
import os
import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc on Linux")
def test_free_memory_goes_back_to_the_kernel():
    script = """
from nmt.host import resident_memory as held, return_memory, reuse_memory

reuse_memory()
blocks = [bytearray(2**20) for _ in range(64)]
full = held()
del blocks
kept = held()
assert return_memory()
print(full - kept, kept - held())
"""
    kept, returned = map(int, subprocess.check_output([sys.executable, "-c", script]).split())
    assert kept < 2**22 < 60 * 2**20 < returned


def test_memory_is_none_where_no_system_tells(monkeypatch):
    def refuse(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", refuse)
    assert host.resident_memory() == 0
