import pytest

from nmt import resources
from nmt.errors import ModelError, NMTError
from nmt.resources import default_model, sample_directory, shipped_model


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty installed package and an empty repository."""
    package, repository = tmp_path / "site" / "nmt", tmp_path / "repository"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    monkeypatch.setattr(resources, "_REPOSITORY", repository)
    return package, repository


def place(file):
    file.parent.mkdir(parents=True)
    file.touch()


def test_nothing_ships_with_an_empty_installation(places):
    assert shipped_model() is None
    with pytest.raises(ModelError, match="nmt train"):
        default_model()
    with pytest.raises(NMTError, match="sample corpus is missing"):
        sample_directory()


def test_the_package_comes_before_the_repository(places):
    package, repository = places
    place(repository / "checkpoints" / "fr-en" / "manifest.json")
    place(repository / "data" / "sample" / "handwritten.tsv")
    assert default_model() == repository / "checkpoints" / "fr-en"
    assert sample_directory() == repository / "data" / "sample"
    place(package / "shipped" / "fr-en" / "manifest.json")
    place(package / "shipped" / "sample" / "handwritten.tsv")
    assert default_model() == package / "shipped" / "fr-en"
    assert sample_directory() == package / "shipped" / "sample"


def test_the_sample_is_in_this_repository():
    assert (sample_directory() / "test.tsv").is_file()
