import threading

import pytest
import torch

from nmt.checkpoint import load_model
from nmt.config import DecodingOptions
from nmt.engines.pytorch import TorchEngine
from tests.tiny import SENTENCES, tiny_model

OPTIONS = DecodingOptions(beam_size=2, max_length_extra=5)


@pytest.fixture
def threads():
    """A way to set torch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(tiny_model(tmp_path_factory.mktemp("engine") / "model"))


@pytest.fixture
def sentences(loaded):
    return [tuple(loaded.tokenizers.source.encode(sentence)) for sentence in SENTENCES]


class Watched(TorchEngine):
    """An engine that notes where its batches are searched."""

    def _search(self, sentences, options):
        vars(self).setdefault("seen", []).append((threading.current_thread(), torch.get_num_threads()))
        return super()._search(sentences, options)


def tokens(found):
    return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]


def test_batches_are_searched_several_at_a_time_on_one_thread_each(loaded, sentences, threads):
    threads(1)
    alone = Watched(loaded.model, batch_tokens=20)
    expected = alone.search(sentences, OPTIONS)
    assert len(alone.seen) > 3
    assert {thread for thread, _ in alone.seen} == {threading.main_thread()}
    threads(3)
    together, told = Watched(loaded.model, batch_tokens=20), []
    found = together.search(sentences, OPTIONS, lambda done, all_: told.append((done, all_)))
    assert tokens(found) == tokens(expected)
    assert len(together.seen) == len(alone.seen)
    assert {count for _, count in together.seen} == {1}
    assert threading.main_thread() not in {thread for thread, _ in together.seen}
    assert torch.get_num_threads() == 3
    assert told == sorted(told)
    assert told[-1] == (len(sentences), len(sentences))


def test_one_batch_has_all_threads(loaded, sentences, threads):
    threads(2)
    engine = Watched(loaded.model)
    engine.search(sentences, OPTIONS)
    assert engine.seen == [(threading.main_thread(), 2)]


def test_an_error_in_one_batch_ends_the_search(loaded, sentences, threads):
    class Broken(Watched):
        def _search(self, sentences, options):
            super()._search(sentences, options)
            raise ValueError("broken")

    threads(2)
    engine = Broken(loaded.model, batch_tokens=1)
    with pytest.raises(ValueError, match="broken"):
        engine.search(sentences * 20, OPTIONS)
    assert len(engine.seen) < 10
    assert torch.get_num_threads() == 2
