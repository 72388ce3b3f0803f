"""How fast a model trains: the trainer's own update step on given or synthetic pairs."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import numpy as np
import torch

import nmt.training.step
from nmt.batching import Batch, batch_stream
from nmt.bench.machine import MatrixProduct, Peak, count_work, measure_peak, synchronise
from nmt.bench.parts import Stopwatch
from nmt.config import RunConfig
from nmt.dataset import DataDirectory, EncodedSplit
from nmt.models.factory import build_to_train, count_parameters
from nmt.nn.device import (
    forget_peak_memory,
    peak_memory,
    prepare_to_train,
    select_device,
    select_precision,
    set_threads,
)
from nmt.special import EOS
from nmt.training.step import UpdateStep
from nmt.training.subwords import segmentations

SYNTHETIC_PAIRS: Final = 20_000
SYNTHETIC_VOCABULARY: Final = 8000
_CAUTION: Final = 100
"""The rate is a hundredth: untrained weights must not leave the numbers that a float can hold."""
TRAINING_PARTS: Final = ("data", "encoder", "decoder", "output and loss", "backward", "optimiser")


def synthetic_pairs(vocabulary: int, *, length: int | None = None) -> EncodedSplit:
    """Random tokens, frequent ones more often, in sentences of `length` or as long as captions are.

    Lengths, where not given, are drawn like those of Multi30k in 8,000 pieces: 17 source tokens in the mean,
    0.9 target tokens for each, both log-normal.
    """
    rng = np.random.default_rng(1)
    pairs = SYNTHETIC_PAIRS
    if length is None:
        src = np.clip(rng.lognormal(2.74, 0.35, pairs), 2, 100).round().astype(np.int64)
        tgt = np.clip(src * rng.lognormal(-0.13, 0.15, pairs), 2, 100).round().astype(np.int64)
    else:
        src = tgt = np.full(pairs, max(1, length - 1))  # the end mark is a token too
    tokens, offsets = [], []
    for lengths in (src, tgt):
        total = int(lengths.sum())
        ranks = rng.pareto(1.0, total).astype(np.int64) % (vocabulary - EOS - 1)
        tokens.append((ranks + EOS + 1).astype(np.uint32))
        offsets.append(np.concatenate([[0], np.cumsum(lengths)]))
    return EncodedSplit(tokens, offsets)


def bench_training(
    config: RunConfig,
    data: DataDirectory | None,
    *,
    updates: int,
    warmup: int,
    length: int | None = None,
    vocabulary: int = SYNTHETIC_VOCABULARY,
) -> dict[str, Any]:
    """Train for some updates and say how fast it went.

    Args:
        config: model and training, as for `nmt train`.
        data: where to take the pairs from; synthetic ones if `None`.
        updates: that are timed as they run, then a quarter of them once more, part by part.
        warmup: updates before.
        length: tokens of every synthetic sentence, end mark included.
        vocabulary: of the synthetic pairs, joint.

    Returns:
        A document for `--json`; see `training_rows` for what people read.
    """
    options = config.training
    device = select_device(options.device)
    precision = select_precision(options.precision, device)
    threads = set_threads(options.threads)
    prepare_to_train()
    peak = measure_peak(device)
    forget_peak_memory(device)  # that of the roof's own matrices
    torch.manual_seed(options.seed)
    if data is None:
        split = synthetic_pairs(vocabulary, length=length)
        pairs: Callable[[int], EncodedSplit] = lambda epoch: split  # noqa: E731
        sizes, joint = (vocabulary, vocabulary), True
    else:
        tokenizers = data.tokenizers
        pairs, joint = segmentations(data.split("train"), data, options), tokenizers.joint
        sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build_to_train(config.model, *sizes, joint=joint, device=device)
    step = UpdateStep(model, options, precision)
    stream = (planned.fetch() for planned in batch_stream(pairs, options.batch_tokens, seed=options.seed))
    _run(step, stream, warmup, device, None)
    # A processor that others use too is not always as fast: what it can do is measured in turn with the updates.
    dtype = torch.bfloat16 if precision == "bf16" and peak.bf16 else torch.float32
    product = MatrixProduct(device, dtype) if device.type == "cpu" else None
    source, target, padded, seconds, in_turn = _run(step, stream, updates, device, product)
    memory = peak_memory(device)
    peak = peak.or_better(measure_peak(device))
    part_updates = max(1, updates // 4)
    parts = _time_parts(step, stream, part_updates, device)
    work = count_work(model)
    gflops = work.training(source, target) / seconds / 1e9
    return {
        "kind": "train",
        "architecture": config.arch,
        "preset": config.preset,
        "parameters": count_parameters(model),
        "data": "synthetic" if data is None else data.path.name,
        "device": device.type,
        "precision": precision,
        "threads": threads,
        "updates": updates,
        "seconds": seconds,
        "target_tokens_per_second": target / seconds,
        "source_tokens_per_second": source / seconds,
        "target_tokens_per_update": target / updates,
        "padding": 1 - (source + target) / padded,
        "flop_per_target_token": work.training(source, target) / target,
        "gflops": gflops,
        "peak_gflops": {"fp32": peak.fp32, "bf16": peak.bf16},
        "share_of_peak": gflops / peak.of(precision),
        "gflops_in_turn": in_turn,
        "share_in_turn": gflops / in_turn if in_turn else None,
        "peak_memory_mib": memory,
        "milliseconds_per_update": {name: 1000 * parts[name] / part_updates for name in TRAINING_PARTS},
    }


class _Ran(NamedTuple):
    source: int
    """Tokens."""
    target: int
    """Tokens."""
    places: int
    """Of tokens, padding included."""
    seconds: float
    in_turn: float | None
    """GFLOP/s of the products between."""


def _run(
    step: UpdateStep, stream: Iterator[Batch], updates: int, device: torch.device, product: MatrixProduct | None
) -> _Ran:
    """Make some updates, with the product after each, if one is given."""
    source = target = places = 0
    waited = multiplied = 0.0
    synchronise(device)
    start = time.perf_counter()
    for _ in range(updates):
        batches = [next(stream) for _ in range(step.options.accumulation)]
        for batch in batches:
            source += int(batch.src_mask.sum())
            target += batch.target_tokens
            places += batch.src.numel() + batch.tgt_in.numel()
        step([batch.to(device) for batch in batches], step.options.lr / _CAUTION)
        if product is not None:
            begun = time.perf_counter()
            product.seconds()  # brings its matrices into the caches
            multiplied += product.seconds()
            waited += time.perf_counter() - begun
    synchronise(device)
    seconds = time.perf_counter() - start - waited
    in_turn = None if product is None else updates * product.flop / multiplied / 1e9
    return _Ran(source, target, places, seconds, in_turn)


def _time_parts(step: UpdateStep, stream: Iterator[Batch], updates: int, device: torch.device) -> dict[str, float]:
    """Seconds by part; waiting for each part costs a GPU a little."""
    watch = Stopwatch(device)
    step.model.train()
    with ExitStack() as stack:
        stack.enter_context(watch.watching(step.model, "encode", "encoder"))
        stack.enter_context(watch.watching(step.model, "real_features", "decoder"))
        stack.enter_context(watch.watching(nmt.training.step, "batch_loss", "output and loss"))
        for _ in range(updates):
            step.optimizer.zero_grad(set_to_none=True)
            for _ in range(step.options.accumulation):
                with watch.part("data"):
                    batch = next(stream).to(device)
                with watch.part("backward"):  # what is left of it when the way forward is counted elsewhere
                    step.add_gradient(batch, batch.target_tokens)
            with watch.part("optimiser"):
                step.apply(step.options.lr / _CAUTION)
    return watch.seconds


def roof_text(document: dict[str, Any]) -> str:
    """`132 of 340 GFLOP/s (39 %)`."""
    peak = document["peak_gflops"]
    roof = Peak(**peak).of(document["precision"])
    return f"{document['gflops']:,.0f} of {roof:,.0f} GFLOP/s ({document['share_of_peak']:.0%})"


def _in_turn(document: dict[str, Any]) -> list[tuple[str, str]]:
    rate, share = document["gflops_in_turn"], document["share_in_turn"]
    return [("in turn", f"{share:.0%} of {rate:,.0f} GFLOP/s, of a product after each update")] if rate else []


def training_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What people read of a document."""
    parts = document["milliseconds_per_update"]
    total = sum(parts.values())
    peak = document["peak_gflops"]
    rows = [
        ("model", f"{document['architecture']}, {document['preset']}: {document['parameters']:,} parameters"),
        ("device", f"{document['device']}, {document['precision']}, {document['threads']} threads"),
        ("target tokens", f"{document['target_tokens_per_second']:,.0f}/s, padding not counted"),
        ("batch", f"{document['target_tokens_per_update']:,.0f} target tokens, {document['padding']:.1%} padding"),
        ("work", f"{document['flop_per_target_token'] / 1e6:,.1f} MFLOP a target token"),
        ("matrix products", f"{roof_text(document)}"),
        *_in_turn(document),
        ("roof", f"fp32 {peak['fp32']:,.0f}" + (f", bf16 {peak['bf16']:,.0f}" if peak["bf16"] else "") + " GFLOP/s"),
        ("memory", f"{document['peak_memory_mib']:,.0f} MiB at most"),
    ]
    return rows + [(name, f"{time:7.1f} ms an update  {time / total:4.0%}") for name, time in parts.items()]
