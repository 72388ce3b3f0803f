from pathlib import Path

import pytest

from nmt.cli import app
from tests.tiny import tiny_model


class Result:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def nmt(capsys):
    """Run a command line in this process: `nmt("eval", "--help")`."""
    import typer

    from nmt.cli import frame

    def run(*args: object) -> Result:
        capsys.readouterr()
        code = frame.run(typer.main.get_command(app), [str(arg) for arg in args])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model directory with random weights; tests only read it."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


FEW_PAIRS = {
    name: [(f"Voici le mot numéro {i}.", f"Here is word number {i}.") for i in range(first, first + count)]
    for name, first, count in (("train", 0, 40), ("valid", 100, 3), ("test", 200, 3))
}


def few_pairs(folder: Path) -> Path:
    """Prepare a data directory of a few pairs, three of them for testing, in `folder`."""
    from nmt.preparation import PreparationOptions, prepare

    specs = []
    for name, pairs in FEW_PAIRS.items():
        (folder / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
        specs.append([str(folder / f"{name}.tsv")])
    options = PreparationOptions(vocab_size=300, model_type="bpe")
    prepare(*specs, folder / "data", options)
    return folder / "data"


@pytest.fixture
def data_directory(tmp_path) -> Path:
    """A data directory of a few pairs, three of them for testing."""
    return few_pairs(tmp_path)
