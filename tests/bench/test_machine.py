import pytest
import torch

from nmt.bench.machine import Peak, Work, count_work, measure_peak
from nmt.bench.parts import Stopwatch
from nmt.config import GRUConfig, TransformerConfig
from nmt.models.factory import build_model
from tests.models.configs import CONFIGS


def test_work_of_a_transformer_is_twice_its_matrices():
    config = TransformerConfig(model_size=64, ffn_size=128, num_heads=2, num_encoder_layers=2, num_decoder_layers=3)
    work = count_work(build_model(config, 1000, 1000, joint=True))
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 128) + 3 * 2 * 64 * 64  # and keys and values for every decoder layer
    decoder = 3 * (6 * 64 * 64 + 2 * 64 * 128) + 64 * 1000
    # Of the single position's attention, two products of 64 a layer remain.
    assert work.source == pytest.approx(2 * encoder, rel=0.01)
    assert work.target == pytest.approx(2 * decoder, rel=0.01)


def test_work_of_a_recurrent_model_holds_its_gates_and_its_output():
    config = GRUConfig(embedding_size=32, hidden_size=64, bidirectional=False, tie_embeddings="none")
    work = count_work(build_model(config, 500, 500, joint=True))
    assert work.source >= 2 * 3 * 64 * (32 + 64)
    assert work.target >= 2 * 3 * 64 * (32 + 64) + 2 * 32 * 500


@pytest.mark.parametrize("name", CONFIGS)
def test_work_of_every_architecture_can_be_counted(name):
    work = count_work(build_model(CONFIGS[name], 100, 100, joint=CONFIGS[name].tie_embeddings == "all"))
    assert work.source > 0
    assert work.target > 0


def test_training_takes_three_times_the_way_forward():
    assert Work(source=10.0, target=100.0).training(7, 5) == 3 * (70 + 500)


def test_the_roof_is_that_of_the_precision():
    assert Peak(100.0, 300.0).of("bf16") == 300.0
    assert Peak(100.0, 300.0).of("fp32") == 100.0
    assert Peak(100.0, None).of("bf16") == 100.0
    assert Peak(100.0, 300.0).or_better(Peak(90.0, 310.0)) == Peak(100.0, 310.0)
    assert Peak(100.0, None).or_better(Peak(110.0, None)) == Peak(110.0, None)
    assert measure_peak(torch.device("cpu")).fp32 > 1e-3


class Worker:
    def outer(self) -> int:
        return self.inner() + 1

    def inner(self) -> int:
        return 1


def test_an_inner_part_is_not_counted_to_the_outer_one(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 10.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    worker, watch = Worker(), Stopwatch(torch.device("cpu"))
    with watch.watching(worker, "outer", "outer"), watch.watching(worker, "inner", "inner"):
        assert worker.outer() == 2
    assert dict(watch.seconds) == {"inner": 3.0, "outer": 7.0}
    assert vars(worker) == {}
