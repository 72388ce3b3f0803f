import time
from types import SimpleNamespace

import pytest
import torch

import nmt.bench.training
from nmt.bench.machine import MatrixProduct
from nmt.bench.training import TRAINING_PARTS, bench_training, synthetic_pairs, training_rows
from nmt.settings import resolve

TINY = ["model_size=16", "ffn_size=32", "num_heads=2", "batch_tokens=200", "threads=1", "precision=fp32"]


def config(*more: str):
    return resolve("transformer", preset="tiny", environment={}, overrides=[*TINY, *more])


def test_synthetic_sentences_have_the_length_and_vocabulary_asked_for():
    split = synthetic_pairs(50, length=9)
    assert set(split.src_lengths) == set(split.tgt_lengths) == {8}  # and the end mark
    assert split.largest_id("target") < 50
    assert min(split.sources([0])) >= 4


def test_synthetic_sentences_are_as_long_as_captions():
    split = synthetic_pairs(8000)
    assert 15 < split.src_lengths.mean() < 18
    assert split.tgt_lengths.mean() / split.src_lengths.mean() == pytest.approx(0.89, abs=0.02)


def test_figures_of_a_measurement_fit_each_other():
    document = bench_training(config(), None, updates=4, warmup=1, length=10, vocabulary=60)
    rate, seconds = document["target_tokens_per_second"], document["seconds"]
    assert document["target_tokens_per_update"] == 160  # 16 sentences of 10 tokens: 20 would fit, 8 divides 16
    assert rate * seconds == pytest.approx(4 * 160)
    assert document["padding"] == pytest.approx(0.0, abs=1e-9)
    assert document["gflops"] == pytest.approx(rate * document["flop_per_target_token"] / 1e9)
    assert document["share_of_peak"] == pytest.approx(document["gflops"] / document["peak_gflops"]["fp32"])
    assert document["share_in_turn"] == pytest.approx(document["gflops"] / document["gflops_in_turn"])
    assert 0.0 < document["gflops_in_turn"] < 2 * document["peak_gflops"]["fp32"]
    parts = document["milliseconds_per_update"]
    assert tuple(parts) == TRAINING_PARTS
    assert all(value > 0 for value in parts.values())


def test_products_between_updates_do_not_count_as_training(monkeypatch):
    """A clock that each product puts forward by an hour."""
    hours = []

    def slow(self):
        hours.append(3600)
        return 0.5

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + sum(hours))
    monkeypatch.setattr(MatrixProduct, "seconds", slow)
    monkeypatch.setattr(nmt.bench.training, "time", clock)
    document = bench_training(config(), None, updates=3, warmup=0, length=10, vocabulary=60)
    assert 0 < document["seconds"] < 3600
    flop = MatrixProduct(torch.device("cpu"), torch.float32).flop
    assert document["gflops_in_turn"] == pytest.approx(flop / 0.5 / 1e9)
    [text] = [text for name, text in training_rows(document) if name == "in turn"]
    assert text == f"{document['share_in_turn']:.0%} of 0 GFLOP/s, of a product after each update"


def test_padding_is_counted():
    run = config("batch_tokens=6000")
    assert 0.0 < bench_training(run, None, updates=4, warmup=0, vocabulary=60)["padding"] < 0.5
