"""Several models on one test set: what differs, and whether by more than chance."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from nmt.attending import WordAttention, word_attention
from nmt.checkpoint import load_model
from nmt.evaluation import LENGTH_BUCKETS, Evaluation
from nmt.metrics import chrf
from nmt.metrics.base import bootstrap_samples
from nmt.metrics.significance import Difference, paired_bootstrap
from nmt.testset import TestSet

LEVELS: Final = (10, 20, 30, 40, 50, 60)
"""Validation BLEU whose first time is looked up in the logs."""
SHOWN: Final = 10
"""Sentences on which systems differ most."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One model and what came of it."""

    name: str
    architecture: str
    parameters: int
    megabytes: float
    """Of its weights on disk."""
    training_minutes: float | None
    training_tokens_per_second: float | None
    training_memory: float | None
    """Most that it held, MiB."""
    curve: tuple[tuple[float, float], ...]
    """Validations of its training: (minutes, BLEU); empty where no log lies beside the model."""
    engine: str
    memory: float | None
    """Most that this process held while it translated, MiB; `None` where the system does not tell."""
    evaluation: Evaluation
    hyps: tuple[str, ...]

    def minutes_to(self, bleu: float) -> float | None:
        """Minutes of training until validation BLEU was at least so much."""
        return next((minutes for minutes, score in self.curve if score >= bleu), None)


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A sentence that one system translates much better than another."""

    line: int
    source: str
    refs: tuple[str, ...]
    hyps: tuple[str, ...]
    """In the order of the systems."""
    scores: tuple[float, ...]
    """Sentence chrF2 of each."""
    attention: tuple[WordAttention | None, ...] = ()
    """What each looked at for its translation, where it has attention; empty if that was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of it."""

    test: str
    lines: int
    systems: tuple[System, ...]
    differences: dict[str, Difference]
    """Of every system but the first from the first."""
    disagreements: tuple[Disagreement, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "test": self.test,
            "lines": self.lines,
            "systems": [
                {
                    "name": system.name,
                    "architecture": system.architecture,
                    "parameters": system.parameters,
                    "megabytes": system.megabytes,
                    "training_minutes": system.training_minutes,
                    "training_tokens_per_second": system.training_tokens_per_second,
                    "training_memory_mib": system.training_memory,
                    "validations": [{"minutes": m, "bleu": b} for m, b in system.curve],
                    "minutes_to_bleu": {
                        str(level): minutes for level in LEVELS if (minutes := system.minutes_to(level)) is not None
                    },
                    "engine": system.engine,
                    "memory_mib": system.memory,
                    "p_value": self.differences[system.name]._asdict() if system.name in self.differences else None,
                    **system.evaluation.as_dict(),
                }
                for system in self.systems
            ],
            "disagreements": [
                {
                    "line": item.line,
                    "source": item.source,
                    "references": list(item.refs),
                    "translations": list(item.hyps),
                    "chrf": list(item.scores),
                }
                for item in self.disagreements
            ],
        }


def compare(test: TestSet, systems: Sequence[System]) -> Comparison:
    """Bring systems together; the first is what the others are measured against."""
    hyps = {system.name: system.hyps for system in systems}
    return Comparison(
        test=test.name,
        lines=len(test.refs),
        systems=tuple(systems),
        differences=paired_bootstrap(hyps, test.refs, bootstrap_samples(len(test.refs))),
        disagreements=_disagreements(test, systems),
    )


def with_attention(comparisons: Sequence[Comparison], models: Sequence[Path], device: torch.device) -> list[Comparison]:
    """The same, with what each model looked at where they differ most; `models` in the order of the systems."""
    found: list[list[tuple[WordAttention | None, ...]]] = [[() for _ in each.disagreements] for each in comparisons]
    for place, model in enumerate(models):
        loaded = load_model(model, device=device)
        for comparison, seen in zip(comparisons, found, strict=True):
            for number, item in enumerate(comparison.disagreements):
                seen[number] += (word_attention(loaded, item.source, item.hyps[place]),)
    several = (zip(each.disagreements, seen, strict=True) for each, seen in zip(comparisons, found, strict=True))
    items = [tuple(replace(item, attention=maps) for item, maps in pairs) for pairs in several]
    return [replace(each, disagreements=own) for each, own in zip(comparisons, items, strict=True)]


def _disagreements(test: TestSet, systems: Sequence[System]) -> tuple[Disagreement, ...]:
    scores = [chrf.sentence_scores(system.hyps, test.refs) for system in systems]
    spread = [max(several) - min(several) for several in zip(*scores, strict=True)]
    worst = sorted(range(len(spread)), key=lambda i: (-spread[i], i))[:SHOWN]
    sources = test.sources or [""] * len(spread)
    return tuple(
        Disagreement(
            line=i + 1,
            source=sources[i],
            refs=tuple(test.refs[i]),
            hyps=tuple(system.hyps[i] for system in systems),
            scores=tuple(several[i] for several in scores),
        )
        for i in worst
        if spread[i] > 0
    )


def bucket_labels(systems: Sequence[System]) -> list[str]:
    """Labels of the source lengths that the test set has, short ones first."""
    labels = {bucket.label for system in systems for bucket in system.evaluation.buckets}
    known = [f"{low}+" if high is None else f"{low}-{high}" for low, high in LENGTH_BUCKETS]
    return [label for label in known if label in labels]


def read_curve(log: Path) -> tuple[tuple[float, float], ...]:
    """Validations of a training log: (minutes, BLEU); nothing where there is no log, or none that can be read."""
    found = []
    try:
        lines = log.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return ()
    for line in lines:
        try:
            record = json.loads(line) if line else {}
            if record.get("type") == "valid":
                minutes, bleu = float(record["seconds"]) / 60, float(record["bleu"])
                if math.isfinite(minutes) and math.isfinite(bleu):
                    found.append((minutes, bleu))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return tuple(found)
