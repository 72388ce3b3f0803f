"""Lines as they arrive, whole lines out: on real descriptors."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nmt.cli.streams import FIRST_CHUNK, LARGEST_CHUNK, STDIN, Arrivals, Input, appears_whole, open_output
from nmt.errors import DataError, NMTError
from nmt.lines import LineReader


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)


def test_readline_over_any_fragments(pipe) -> None:
    read, write = pipe
    arrivals = Arrivals(read, "pipe", enough=100)
    os.write(write, b"one\ntwo\nthr")
    assert arrivals.readline() == b"one\n"
    assert arrivals.ready()
    assert arrivals.readline() == b"two\n"
    assert not arrivals.ready()
    os.write(write, b"ee\nfour")
    assert arrivals.ready()
    assert arrivals.readline() == b"three\n"
    os.close(write)
    assert arrivals.ready()
    assert arrivals.readline() == b"four"
    assert arrivals.ready()
    assert arrivals.readline() == b""


def test_readline_waits_for_the_end_of_a_line(pipe) -> None:
    read, write = pipe
    arrivals = Arrivals(read, "pipe", enough=100)
    os.write(write, b"be")
    later = threading.Timer(0.05, lambda: os.write(write, b"gun\n"))
    later.start()
    assert arrivals.readline() == b"begun\n"
    later.join()
    os.close(write)


def test_a_line_without_end_is_handed_over_in_bounded_pieces(pipe) -> None:
    read, write = pipe
    os.write(write, b"x" * 1000 + b"\nnext\n")
    os.close(write)
    reader = LineReader(Arrivals(read, "pipe", enough=12), max_bytes=10)
    assert reader.read() == "x" * 10
    assert reader.cut
    assert reader.read() == "next"
    assert not reader.cut
    assert reader.read() is None


def test_what_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(DataError, match="cannot read it"):
        Arrivals(directory, "it", enough=10).readline()
    os.close(directory)


def test_a_file_comes_in_growing_chunks(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("x\n" * 11_500)
    source = Input(path, max_bytes=100)
    sizes = [len(chunk) for chunk in source.chunks()]
    assert sizes[:4] == [FIRST_CHUNK, 4 * FIRST_CHUNK, 16 * FIRST_CHUNK, LARGEST_CHUNK]
    assert sum(sizes) == source.count() == 11_500
    assert max(sizes) == LARGEST_CHUNK


def test_who_does_not_wait_gets_many_lines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("x\n" * 700)
    assert [len(chunk) for chunk in Input(path, max_bytes=100, first_chunk=600).chunks()] == [600, 100]


def test_only_a_file_appears_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert appears_whole(tmp_path / "new.en")
    assert not any(appears_whole(output) for output in (None, STDIN, pipe, Path("/dev/stdout")))


def test_what_the_shell_appends_to_is_appended_to(tmp_path: Path) -> None:
    """As by `nmt translate -o /dev/stdout >> out.en`."""
    output = tmp_path / "out.en"
    output.write_text("header\n")
    code = "import sys\nfrom nmt.cli.streams import open_output as o\nfrom pathlib import Path\n"
    code += "with o(Path(sys.argv[1]), []) as write: write(['line'])"
    with output.open("ab") as file:
        subprocess.run([sys.executable, "-c", code, "/dev/stdout"], stdout=file, check=True)
        number = file.fileno()
        subprocess.run([sys.executable, "-c", code, f"/dev/fd/{number}"], pass_fds=[number], check=True)
    assert output.read_text() == "header\nline\nline\n"


def test_long_lines_make_small_chunks(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text(("x" * 400_000 + "\n") * 7)
    assert [len(chunk) for chunk in Input(path, max_bytes=1 << 20).chunks()] == [3, 3, 1]


def test_places_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo")
    [chunk] = Input(path, max_bytes=10).chunks()
    assert [line.place for line in chunk] == [f"{path}:1", f"{path}:2"]
    assert Input(path, max_bytes=10).count() == 2


def test_lines_longer_than_a_pipe_takes_arrive_whole(pipe, monkeypatch) -> None:
    read, write = pipe
    lines = ["a" * 10, "b" * 300_000, "c" * 5000, *["d" * 100] * 100]
    received: list[bytes] = []

    def receive() -> None:
        with open(read, "rb", closefd=False) as file:
            received.append(file.read())

    reader = threading.Thread(target=receive)
    reader.start()
    os.set_blocking(write, False)
    with open_output(Path(f"/dev/fd/{write}"), []) as put:
        put(lines)
    os.close(write)
    reader.join()
    assert received == ["".join(f"{line}\n" for line in lines).encode()]


def test_short_writes_lose_nothing(monkeypatch, tmp_path: Path) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:3]))
    os.mkfifo(tmp_path / "fifo")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    with open_output(tmp_path / "fifo", []) as put:
        put(["one two three", "été"])
    reader.join()
    assert received == ["one two three\nété\n".encode()]


def test_no_space_is_an_error_with_the_name() -> None:
    with (
        pytest.raises(NMTError, match="cannot write /dev/full: No space left"),
        open_output(Path("/dev/full"), []) as put,
    ):
        put(["x"])
