import pytest

from nmt.corpora import open_corpus, sample
from nmt.corpora.base import Reading
from nmt.errors import DataError, UsageError
from nmt.resources import sample_directory


@pytest.fixture(autouse=True)
def _few_expansions(monkeypatch):
    monkeypatch.setattr(sample, "EXPANSIONS", 300)


@pytest.mark.parametrize("role", ["train", "valid", "test"])
def test_the_sample_gives_the_split_of_its_role(role):
    corpus = open_corpus("sample", Reading(role=role))
    pairs = list(corpus.pairs())
    assert corpus.read == len(pairs) > 100
    assert corpus.spec == f"sample#{role}"
    assert corpus.licence == "CC0-1.0"
    assert all(src and tgt for src, tgt in pairs)


def test_training_text_is_the_hand_written_pairs_and_those_of_the_grammar():
    corpus = open_corpus("sample", Reading())
    written = (sample_directory() / "handwritten.tsv").read_bytes().count(b"\n")
    assert sum(1 for _ in corpus.pairs()) == written + 300
    assert [file.name for file in corpus.files] == ["handwritten.tsv", "grammar.toml"]
    assert "handwritten.tsv:1" in corpus.place(1)
    assert corpus.place(corpus.read).endswith("grammar.toml, expansion 300")


def test_what_its_file_dropped_is_counted():
    corpus = open_corpus("sample#test", Reading(role="train", max_line_bytes=60))
    kept = len(list(corpus.pairs()))
    assert 0 < kept < corpus.read == kept + sum(corpus.dropped.values())


def test_a_split_can_be_named_whatever_the_role():
    named = open_corpus("sample#valid", Reading(role="train"))
    assert list(named.pairs()) == list(open_corpus("sample", Reading(role="valid")).pairs())


def test_the_languages_can_be_turned_round():
    reading = Reading(role="test", source_lang="en", target_lang="fr")
    turned = list(open_corpus("sample", reading).pairs())
    assert turned == [(en, fr) for fr, en in open_corpus("sample", Reading(role="test")).pairs()]


@pytest.mark.parametrize("spec", ["sample#vaild", "sample#"])
def test_an_unknown_split_is_a_usage_error(spec):
    if spec == "sample#":
        assert open_corpus(spec, Reading()).spec == "sample#train"
        return
    with pytest.raises(UsageError, match="did you mean 'valid'"):
        open_corpus(spec, Reading())


def test_other_languages_are_a_usage_error():
    with pytest.raises(UsageError, match="French and English, not de and en"):
        open_corpus("sample", Reading(source_lang="de"))


def test_a_misspelt_sample_is_recognised_where_a_prefix_would_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"did you mean 'sample'\?"):
        open_corpus("sampel", Reading())
    with pytest.raises(DataError) as caught:
        open_corpus("corpora/sampel", Reading())
    assert "did you mean" not in str(caught.value)
