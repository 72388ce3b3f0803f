"""Files that are whole or not there."""

import json
import os
from pathlib import Path

import pytest

from nmt.errors import NMTError, UsageError
from nmt.files import (
    atomic_directory,
    atomic_file,
    follow_links,
    nearest_file,
    read_json,
    refuse_non_empty,
    spare_name,
    write_json,
)


def test_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"é": [1, None]})
    assert read_json(tmp_path / "x.json") == {"é": [1, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_json_nested_too_deeply_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "x.json")


def test_numbers_that_json_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", json.loads("NaN"))
    assert not any(tmp_path.iterdir())


def fill(path: Path) -> None:
    """Write as to a full disk."""
    with atomic_file(path) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(NMTError, match="cannot write .*x: No space"):
        fill(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def replace_half(path: Path) -> None:
    with atomic_directory(path, replace=True) as folder:
        (folder / "x").write_text("newer")
        raise KeyError


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "d", replace=True) as folder:
            (folder / "x").write_text(content)
    assert (tmp_path / "d" / "x").read_text() == "new"
    with pytest.raises(KeyError):
        replace_half(tmp_path / "d")
    assert (tmp_path / "d" / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").touch()
    (tmp_path / "link").symlink_to("real")
    with atomic_directory(tmp_path / "link", replace=True) as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_what_is_not_ours_is_kept_under_a_free_name(tmp_path: Path) -> None:
    for expected in ("x.old", "x.old2"):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "thesis").touch()
        with atomic_directory(tmp_path / "x", replace=True, keep=True):
            assert spare_name(tmp_path / "x").name == expected
        assert (tmp_path / expected / "thesis").exists()
        assert not any((tmp_path / "x").iterdir())


def test_a_link_to_what_is_not_ours_is_kept_under_a_free_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "thesis").touch()
    (tmp_path / "x").symlink_to("real")
    with atomic_directory(tmp_path / "x", replace=True, keep=True) as folder:
        (folder / "new").touch()
    assert (tmp_path / "x.old" / "thesis").exists()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]
    assert (tmp_path / "real" / "thesis").exists()


def test_an_empty_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with atomic_directory(tmp_path / "x", keep=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_nearest_name_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    assert nearest_file(tmp_path / "chekpoint") == " (did you mean 'checkpoint'?)"
    assert nearest_file(tmp_path / "zzz") == nearest_file(tmp_path / "nowhere" / "x") == ""


def test_names_that_are_no_utf8_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xff\xc3\xa9")
    write_json(tmp_path / "x.json", {"name": name})
    assert read_json(tmp_path / "x.json") == {"name": name}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path, make) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(OSError, match="no plain file"):
        read_json(tmp_path / "x.json")


def test_a_folder_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    making = atomic_directory(path)
    (making.__enter__() / "new").touch()
    path.mkdir()
    (path / "precious").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        making.__exit__(None, None, None)
    assert [item.name for item in tmp_path.rglob("*")] == ["x", "precious"]


def test_a_folder_that_became_somebody_elses_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomic_directory(path, replace=True, keep=True) as folder:
        (folder / "new").touch()
        path.mkdir()
        (path / "precious").touch()
    assert (path / "new").exists()
    assert (tmp_path / "x.old" / "precious").exists()


def test_names_may_be_as_long_as_the_system_has_them(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    path.unlink()
    for replace in (False, True):
        with atomic_directory(path, replace=replace) as folder:
            (folder / "new").touch()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.symlink_to(path)
    with pytest.raises(UsageError, match="in a circle"):
        follow_links(path)
    with pytest.raises(UsageError, match="in a circle"), atomic_directory(path):
        pass
    assert nearest_file(path) == ""


def test_where_you_are_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(), tmp_path):
        with pytest.raises(UsageError, match="where you are"), atomic_directory(path):
            pass


def test_a_file_is_no_folder_to_write_in(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file, not a directory"):
        refuse_non_empty(tmp_path / "file" / "a" / "b")
