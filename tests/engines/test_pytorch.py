import copy
import threading
import time

import pytest
import torch

from nmt.batching import pad_source
from nmt.checkpoint import load_model
from nmt.config import DecodingOptions
from nmt.decoding.search import search
from nmt.engines import pytorch
from nmt.engines.pytorch import TorchEngine
from nmt.errors import DeviceError
from nmt.nn.blocked import BlockedLinears, has_blocks
from tests.tiny import SENTENCES, tiny_model

OPTIONS = DecodingOptions(beam_size=2, max_length_ratio=0.3, max_length_extra=5)


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

    def _search(self, sentences, options, replica, tick):
        vars(self).setdefault("seen", []).append((threading.current_thread(), torch.get_num_threads()))
        vars(self).setdefault("models", []).append(replica.model)
        return super()._search(sentences, options, replica, tick)


def tokens(found):
    return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]


@pytest.mark.skipif(not has_blocks(), reason="this torch has no such operation")
@pytest.mark.parametrize(("precision", "used"), [("fp32", 1), ("bf16", 0)])
def test_products_by_onednn_change_no_translation(loaded, sentences, precision, used, monkeypatch):
    entered = []
    original = BlockedLinears.used
    monkeypatch.setattr(BlockedLinears, "used", lambda self: entered.append(self) or original(self))
    monkeypatch.setattr(pytorch, "blocks_pay", lambda device: False)
    expected = TorchEngine(loaded.model, precision=precision).search(sentences, OPTIONS)
    monkeypatch.setattr(pytorch, "blocks_pay", lambda device: True)
    found = TorchEngine(loaded.model, precision=precision).search(sentences, OPTIONS)
    assert tokens(found) == tokens(expected)
    assert len(entered) == used


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


def test_few_batches_share_the_threads(loaded, sentences, threads, monkeypatch):
    monkeypatch.setattr(pytorch, "LEAST_TOKENS", 140)
    threads(5)
    engine = Watched(loaded.model, batch_tokens=140)
    engine.search(sentences, OPTIONS)
    assert len(engine.seen) == 2
    assert {count for _, count in engine.seen} == {2}


def test_batches_at_work_share_the_memory(loaded, sentences, threads):
    threads(4)
    assert TorchEngine(loaded.model, batch_tokens=4096)._budget(10**6) == 1024
    assert TorchEngine(loaded.model, batch_tokens=4096)._budget(2400) == 600
    assert TorchEngine(loaded.model, batch_tokens=4096)._budget(100) == pytorch.LEAST_TOKENS
    assert TorchEngine(loaded.model, batch_tokens=100)._budget(10**6) == 100
    threads(1)
    assert TorchEngine(loaded.model, batch_tokens=4096)._budget(10**6) == 4096


def test_devices_work_beside_each_other_on_copies_of_the_model(loaded, sentences, threads):
    class Both(Watched):
        """No batch ends before each copy has one."""

        def _search(self, sentences, options, replica, tick):
            self.barrier.wait(20)
            assert not replica.model.training
            return super()._search(sentences, options, replica, tick)

    threads(1)
    model = copy.deepcopy(loaded.model).train()
    engine = Both(model, others=[torch.device("cpu", 0), torch.device("cpu", 1)], batch_tokens=140)
    engine.barrier = threading.Barrier(2)
    assert engine.device == "cpu,cpu:0,cpu:1"
    assert engine._budget(10**6) == 140
    found = engine.search(sentences, OPTIONS)  # two batches: nothing for the third
    assert tokens(found) == tokens(TorchEngine(loaded.model).search(sentences, OPTIONS))
    assert len({id(searched) for searched in engine.models}) == len(engine.models) == len(engine.replicas) == 2
    assert engine.replicas[0].model is model
    assert all(replica.model.training for replica in engine.replicas)
    assert engine.device == "cpu,cpu:0,cpu:1"


def test_one_batch_needs_one_device(loaded, sentences, monkeypatch):
    def full(model, device):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ...")

    monkeypatch.setattr(type(loaded.model), "to", full)
    engine = TorchEngine(loaded.model, others=[torch.device("cuda", 3)])
    assert tokens(engine.search(sentences, OPTIONS)) == tokens(TorchEngine(loaded.model).search(sentences, OPTIONS))
    engine.batch_tokens = 140
    with pytest.raises(DeviceError, match=r"device cuda:3 cannot be used \(CUDA error: out of memory\)"):
        engine.search(sentences, OPTIONS)


def test_what_does_not_fit_on_a_device_of_its_own_ends_the_search(loaded, sentences):
    class Small(Watched):
        def _search(self, sentences, options, replica, tick):
            super()._search(sentences[:1], options, replica, tick)
            raise DeviceError("out of memory")

    engine = Small(loaded.model, others=[torch.device("cpu", 1)], batch_tokens=140)
    with pytest.raises(DeviceError, match="out of memory"):
        engine.search(sentences, OPTIONS)
    assert threading.main_thread() not in {thread for thread, _ in engine.seen}


def test_what_memory_does_not_suffice_for_beside_others_is_searched_alone(loaded, sentences, threads):
    class Scarce(Watched):
        def _search(self, sentences, options, replica, tick):
            if threading.current_thread() is not threading.main_thread() and len(sentences[0]) > 20:
                raise DeviceError("out of memory")
            return super()._search(sentences, options, replica, tick)

    threads(2)
    engine = Scarce(loaded.model, batch_tokens=1)
    found = engine.search(sentences, OPTIONS)
    assert {thread is threading.main_thread() for thread, _ in engine.seen} == {True, False}
    assert tokens(found) == tokens(TorchEngine(loaded.model).search(sentences, OPTIONS))


class Endless(Watched):
    """The first batch fails once the second is under way, which would never end by itself."""

    def _search(self, sentences, options, replica, tick):
        with self.lock:
            first = not vars(self).get("seen")
            super()._search(sentences[:1], options, replica, tick)
        if first:
            assert self.under_way.wait(20)
            raise self.error
        self.under_way.set()
        while True:
            tick()
            time.sleep(0.001)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_in_one_batch_ends_the_others(loaded, sentences, threads, error):
    threads(2)
    engine = Endless(loaded.model, batch_tokens=1)
    engine.lock, engine.under_way, engine.error = threading.Lock(), threading.Event(), error
    with pytest.raises(type(error)):
        engine.search(sentences * 20, OPTIONS)
    assert len(engine.seen) <= 3
    assert torch.get_num_threads() == 2


def test_a_search_ends_when_its_tick_says_so(loaded, sentences):
    def tick():
        calls.append(None)
        if len(calls) == 3:
            raise InterruptedError

    for beam_size in (1, 2):
        calls = []
        src, mask = pad_source(sentences, torch.device("cpu"))
        with pytest.raises(InterruptedError):
            search(loaded.model.eval(), src, mask, DecodingOptions(beam_size=beam_size), tick)
        assert len(calls) == 3
