"""How fast a model translates a text, and where the time goes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from nmt.bench.machine import synchronise
from nmt.bench.parts import Stopwatch
from nmt.config import DecodingOptions
from nmt.engines.pytorch import TorchEngine
from nmt.lines import is_blank
from nmt.nn.device import peak_memory
from nmt.translator import Translator

WARMUP_LINES: Final = 64
TRANSLATION_PARTS: Final = ("tokenisation", "encoder", "decoder", "search", "text")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A text translated."""

    seconds: float
    source_tokens: int
    target_tokens: int


def as_long_as_the_source(options: DecodingOptions) -> DecodingOptions:
    """A search for translations of as many tokens as their source, whatever the model thinks of it."""
    return replace(options, min_length_ratio=1.0, max_length_ratio=1.0, max_length_extra=0)


def lines_of_length(lines: Sequence[str], words: int) -> list[str]:
    """The same text in lines of `words` words each; what is left over at the end is left out, unless it is all."""
    stock = [word for line in lines for word in line.split()]
    whole = [" ".join(stock[i : i + words]) for i in range(0, len(stock) - words + 1, words)]
    return whole or [" ".join(stock)]


def bench_translation(translator: Translator, lines: Sequence[str], *, name: str) -> dict[str, Any]:
    """Translate `lines` once as they are, then a quarter of them part by part.

    Args:
        translator: ready to translate.
        lines: text in the source language.
        name: of the model, for the table.

    Returns:
        A document for `--json`; see `translation_rows` for what people read.
    """
    engine = translator.engine
    # Of what CTranslate2 does on a GPU torch knows nothing: the process is measured then.
    device = torch.device(engine.device if isinstance(engine, TorchEngine) else "cpu")
    translator.translate(lines[:WARMUP_LINES])
    timed = _translate(translator, lines, device)
    memory = peak_memory(device)
    sample = lines[:: 4 if len(lines) >= 4 else 1]
    parts = _time_parts(translator, sample, device)
    options = translator.options
    return {
        "kind": "translate",
        "model": name,
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "lines": len(lines),
        "beam": options.beam_size,
        "batch_tokens": engine.batch_tokens,
        "seconds": timed.seconds,
        "lines_per_second": len(lines) / timed.seconds,
        "source_tokens_per_second": timed.source_tokens / timed.seconds,
        "target_tokens_per_second": timed.target_tokens / timed.seconds,
        "target_tokens_per_line": timed.target_tokens / max(1, sum(not is_blank(line) for line in lines)),
        "peak_memory_mib": memory,
        "parts_threads": 1 if isinstance(engine, TorchEngine) else None,
        "milliseconds_per_line": {
            part: 1000 * parts[part] / len(sample) for part in TRANSLATION_PARTS if part in parts
        },
    }


def _translate(translator: Translator, lines: Sequence[str], device: torch.device) -> Timed:
    synchronise(device)
    start = time.perf_counter()
    translations = translator.translate(lines)
    synchronise(device)
    seconds = time.perf_counter() - start
    return Timed(
        seconds=seconds,
        source_tokens=sum(len(part.tokens) + 1 for translation in translations for part in translation.parts),
        target_tokens=sum(len(translation.candidates[0].tokens) for translation in translations),
    )


def _time_parts(translator: Translator, lines: Sequence[str], device: torch.device) -> dict[str, float]:
    """Seconds by part, of one thread where ours search; a part is the way from text to text without those inside it."""
    watch = Stopwatch(device)
    engine = translator.engine
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # several batches at a time could not be told apart
        stack.enter_context(watch.watching(translator.tokenizers.source, "encode_batch", "tokenisation"))
        stack.enter_context(watch.watching(engine, "search", "search"))
        if isinstance(engine, TorchEngine):
            stack.enter_context(watch.watching(engine.replicas[0].model, "encode", "encoder"))
            stack.enter_context(watch.watching(engine.replicas[0].model, "step", "decoder"))
        with watch.part("text"):
            translator.translate(lines)
    return watch.seconds


def translation_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What people read of a document."""
    parts = document["milliseconds_per_line"]
    total = sum(parts.values()) or 1.0
    rows = [
        ("model", str(document["model"])),
        ("engine", f"{document['engine']} on {document['device']}, {document['precision']}"),
        ("search", f"beam {document['beam']}, {document['batch_tokens']:,} source tokens a batch"),
        ("text", f"{document['lines']:,} lines, {document['target_tokens_per_line']:.1f} target tokens each"),
        ("speed", f"{document['lines_per_second']:,.1f} lines/s, {document['target_tokens_per_second']:,.0f} tokens/s"),
        ("memory", f"{document['peak_memory_mib']:,.0f} MiB at most"),
    ]
    of = "ms of one thread a line" if document["parts_threads"] == 1 else "ms a line"
    return rows + [(name, f"{time:7.2f} {of}  {time / total:4.0%}") for name, time in parts.items()]
