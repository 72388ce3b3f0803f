import bz2
import contextlib
import gzip
import io
import lzma
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt import lines
from nmt.errors import DataError
from nmt.lines import LineReader, is_blank, open_binary, printable, read_text_lines, refuse_utf16

OTHER_LINE_ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"]


def read(data: bytes, **options) -> list[str]:
    return list(LineReader(io.BytesIO(data), **options))


@pytest.mark.parametrize("end", OTHER_LINE_ENDS)
def test_only_lf_ends_a_line(end):
    assert read(f"a{end}b\nc\n".encode()) == [f"a{end}b", "c"]


def test_the_number_of_lines_is_that_of_wc_and_one_for_an_unfinished_line():
    assert read(b"") == []
    assert read(b"\n") == [""]
    assert read(b"a\n\nb") == ["a", "", "b"]


def test_one_cr_before_lf_and_a_byte_order_mark_at_the_start_are_dropped():
    assert read(b"\xef\xbb\xbfa\r\nb\r\r\n\xef\xbb\xbfc\r") == ["a", "b\r", "\ufeffc"]


def test_bytes_that_are_not_utf8_are_replaced_and_counted():
    reader = LineReader(io.BytesIO(b"a\n\xff\nb\n\xc3\n"))
    assert list(reader) == ["a", "\ufffd", "b", "\ufffd"]
    assert (reader.invalid_lines, reader.first_invalid) == (2, 2)


@given(st.binary(max_size=200))
def test_no_bytes_add_or_drop_a_line(data):
    expected = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    assert len(read(data)) == len(read(data, max_bytes=5)) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut(end):
    reader = LineReader(io.BytesIO(b"x" * 10 + end), max_bytes=10)
    assert (reader.read(), reader.cut) == ("x" * 10, False)
    reader = LineReader(io.BytesIO(b"x" * 11 + end + (b"next\n" if end else b"")), max_bytes=10)
    assert (reader.read(), reader.cut) == ("x" * 10, True)
    assert (reader.read(), reader.cut) == (("next", False) if end else (None, True))


def test_a_cut_inside_a_character_is_no_invalid_line():
    reader = LineReader(io.BytesIO("é".encode() * 10 + b"\n"), max_bytes=5)
    reader.read()
    assert (reader.cut, reader.invalid_lines) == (True, 0)


def test_a_long_line_is_skipped_in_pieces():
    class Endless:
        largest = 0

        def __init__(self):
            self.left = 50_000_000

        def readline(self, size=-1, /):
            assert size >= 0
            self.largest = max(self.largest, size)
            size = min(size, self.left)
            self.left -= size
            return b"x" * size

    stream = Endless()
    assert read_all(stream) == ["x" * 1000]
    assert stream.largest <= 1 << 20


def read_all(stream) -> list[str]:
    return list(LineReader(stream, max_bytes=1000))


def test_a_line_without_end_stops_as_a_bomb(monkeypatch):
    monkeypatch.setattr(lines, "MAX_SKIPPED", 3 << 20)
    with pytest.raises(DataError, match="bomb.txt:1 is longer than 3 MiB"):
        list(LineReader(io.BytesIO(bytes(8 << 20)), max_bytes=1000, name="bomb.txt"))


def test_a_line_is_given_out_as_soon_as_its_end_has_arrived():
    out, into = os.pipe()
    got = threading.Event()
    received = []

    def listen():
        with os.fdopen(out, "rb") as stream:
            for line in LineReader(stream):
                received.append(line)
                got.set()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        os.write(into, b"first\nsec")
        assert got.wait(10)
        assert received == ["first"]
    finally:
        os.close(into)
        thread.join(10)
    assert received == ["first", "sec"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 日本", "plain é 日本"),
        ("a\tb\nc\u2028d\x85e", "a b c d e"),
        ("a\r\nb", "a b"),
        ("\x1b[31mred\x07\x00\x7f\x9b", "[31mred"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("no\u00a0break", "no\u00a0break"),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected


@given(st.text(alphabet=st.characters()))
def test_what_is_printable_has_no_control_character_and_can_be_written(text):
    import unicodedata

    result = printable(text)
    result.encode()
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in result)


@pytest.mark.parametrize("text", ["", " ", "\t\u00a0\u202f\u3000", "\u200b\ufeff", "\x00\x85", "\u2028"])
def test_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", [".", "\u200ba", "é", "0", "👍"])
def test_not_blank(text):
    assert not is_blank(text)


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_files_are_known_by_their_content(kind, tmp_path):
    path = tmp_path / "text.txt"
    packed = PACKERS[kind]("un é\ndeux\n".encode())
    path.write_bytes(packed)
    assert read_text_lines(path) == ["un é", "deux"]
    seen = []
    with open_binary(path, observe=seen.append) as stream:
        stream.read()
    assert b"".join(seen) == packed


@pytest.mark.parametrize("kind", PACKERS)
def test_parts_packed_one_after_the_other_are_all_read(kind, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(PACKERS[kind](b"one\n") + PACKERS[kind](b"two\n"))
    assert read_text_lines(path) == ["one", "two"]


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "plain"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_named(kind, damage, tmp_path):
    path = tmp_path / "text"
    packed = PACKERS[kind](os.urandom(5000).hex().encode())
    data = packed[: len(packed) // 2]
    path.write_bytes(data if damage == "cut" else data + bytes(40) + packed[len(packed) // 2 + 40 :])
    with pytest.raises(DataError, match=str(path)):
        read_text_lines(path)


def test_without_zstandard_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "text.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(DataError, match="pip install zstandard"):
        open_binary(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_refused_with_a_hint(encoding, tmp_path):
    path = tmp_path / "text"
    path.write_bytes("Bonjour tout le monde".encode(encoding))
    with pytest.raises(DataError, match="iconv"):
        read_text_lines(path)


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        ("Bonjour".encode("utf-16"), True),
        (b"\xfe\xff" + "Bonjour".encode("utf-16-be"), True),
        ("Bonjour".encode("utf-16-le"), False),
        (b"\xff\xfe bonjour\nle chat\n", False),
        (b"\0\n\0\n\0\n\0\n\0\n", False),
    ],
)
def test_only_what_is_certainly_utf16_is_refused_where_any_bytes_may_come(data, refused, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(data)
    expected = pytest.raises(DataError, match="iconv") if refused else contextlib.nullcontext()
    with open_binary(path) as stream, expected:
        refuse_utf16(stream, path, certain=True)


@pytest.mark.parametrize("data", [b"BZh alors\n", b"BZh9\n", b"\x1f\x8b\n", b"\xfd7zX\n"])
def test_text_that_begins_as_an_archive_does_is_text(data, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(data)
    with open_binary(path) as stream:
        assert stream.read() == data


def test_an_empty_archive_holds_nothing(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(bz2.compress(b""))
    assert read_text_lines(path) == []


@pytest.mark.parametrize("data", [b"", b"a", b"\0a\0b", "été à Paris".encode(), b"a\0b\0c and so on"])
def test_utf8_is_not_taken_for_utf16(data, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(data)
    with open_binary(path) as stream:
        refuse_utf16(stream, path)


@pytest.mark.parametrize(("make", "reason"), [(None, "No such file"), (Path.mkdir, "directory")])
def test_what_cannot_be_read_is_named(make, reason, tmp_path):
    path = tmp_path / "text"
    if make:
        make(path)
    with pytest.raises(DataError, match=f"cannot read {path}.*{reason}"):
        read_text_lines(path)


def test_a_file_that_is_not_there_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "test.fr").touch()
    with pytest.raises(
        DataError, match=r"cannot read .*tset\.fr: No such file or directory \(did you mean 'test\.fr'\?\)"
    ):
        open_binary(tmp_path / "tset.fr")


def test_a_small_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match=f"{path}:2 is not UTF-8"):
        read_text_lines(path)


def test_a_file_too_large_to_be_small_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_SMALL_FILE", 1000)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(DataError, match="larger than"):
        read_text_lines(path)
