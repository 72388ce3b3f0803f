"""A data directory whose targets are its sources: a task that every architecture can learn."""

import random
from pathlib import Path

import pytest

from nmt.dataset import DataDirectory
from nmt.preparation import PreparationOptions, prepare
from nmt.tokenizer import ModelType

WORDS = ["chat", "chien", "maison", "jardin", "rouge", "petit", "mange", "dort", "voit", "le", "la", "un", "dans"]


def write_pairs(path: Path, count: int, seed: int) -> str:
    rng = random.Random(seed)
    lines = (" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(count))
    path.write_text("".join(f"{line}\t{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def copying_data(directory: Path, *, pairs: int = 300, seed: int = 1, model_type: ModelType = "bpe") -> DataDirectory:
    train = write_pairs(directory / "train.tsv", pairs, seed)
    valid = write_pairs(directory / "valid.tsv", 20, seed + 1)
    vocab_size = 310 if model_type == "bpe" else 290  # the most that the text allows the unigram model is 292
    options = PreparationOptions(vocab_size=vocab_size, model_type=model_type, remove_leaks=False, deduplicate=False)
    prepare([train], [valid], [], directory / "data", options)
    return DataDirectory.open(directory / "data")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataDirectory:
    return copying_data(tmp_path_factory.mktemp("copying"))


@pytest.fixture(scope="session")
def unigram_data(tmp_path_factory: pytest.TempPathFactory) -> DataDirectory:
    return copying_data(tmp_path_factory.mktemp("unigram"), model_type="unigram")
