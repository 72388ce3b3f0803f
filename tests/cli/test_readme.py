import pytest

from nmt.cli import readme
from nmt.errors import UsageError

STALE = "# x\n\n<!-- help: nmt info -->\nold\n<!-- /help -->\n\nrest\n"


def test_blocks_are_filled_with_the_help_page(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(STALE, encoding="utf-8")

    assert readme.main([str(path)]) == 0

    text = path.read_text(encoding="utf-8")
    assert text.startswith("# x\n\n<!-- help: nmt info -->\n\n```text\nShow what")
    assert text.endswith("```\n\n<!-- /help -->\n\nrest\n")
    assert "Usage: nmt info [OPTIONS] [DIRECTORY]" in text
    assert readme.fill(text) == text


def test_check_fails_on_a_stale_block_and_changes_nothing(tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text(STALE, encoding="utf-8")

    assert readme.main(["--check", str(path)]) == 1
    assert path.read_text(encoding="utf-8") == STALE
    assert "stale" in capsys.readouterr().err

    readme.main([str(path)])
    assert readme.main(["--check", str(path)]) == 0


def test_page_has_a_fixed_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    narrow = readme.help_page(["average"])
    monkeypatch.setenv("COLUMNS", "200")

    assert readme.help_page(["average"]) == narrow
    assert 80 < max(map(len, narrow.split("\n"))) <= readme.WIDTH


def test_root_and_unknown_commands():
    assert "Commands:" in readme.help_page([])
    with pytest.raises(UsageError, match="did you mean 'info'"):
        readme.help_page(["inof"])
