"""Translate a test set, score it, and count what went wrong; the figures behind `nmt eval`."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nmt.decoding.repetition import is_looping
from nmt.errors import DataError
from nmt.lines import is_blank
from nmt.metrics import METRICS, Score, bleu, chrf
from nmt.metrics.base import bootstrap_samples
from nmt.testset import TestSet

if TYPE_CHECKING:
    from nmt.translator import Translation, Translator

LENGTH_BUCKETS: Final = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30), (31, 50), (51, None))
"""Words of the source line, both ends included."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The lines whose source has `low` to `high` words (`None`: and more)."""

    low: int
    high: int | None
    lines: int
    bleu: Score

    @property
    def label(self) -> str:
        """`6-10`, `51+`."""
        return f"{self.low}+" if self.high is None else f"{self.low}-{self.high}"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long the model took, loading left out."""

    seconds: float
    sentences_per_second: float
    source_tokens_per_second: float
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """One line of the test set with its translation."""

    line: int
    """Number from 1."""
    source: str | None
    hyp: str
    refs: tuple[str, ...]
    chrf: float
    """Sentence chrF2."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that is known about the translations of one test set."""

    test_name: str
    lines: int
    max_refs: int
    scores: dict[str, Score]
    """By key of `METRICS`."""
    buckets: tuple[Bucket, ...]
    """BLEU by source length; empty without sources."""
    empty: int
    """Blank translations of lines that are not blank."""
    looping: int
    """Translations that repeat one phrase over and over (`nmt.decoding.repetition`)."""
    cut: int | None
    """Lines that were cut because they were too long; `None` where no model translated."""
    length_ratio: float
    """Words of the translations over words of the references (mean where there are several)."""
    lengths: tuple[tuple[int, int, int], ...]
    """(words, translations that long, first references that long), for the histogram."""
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
    speed: Speed | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the examples and the histogram."""
        document = dataclasses.asdict(self)
        for key in ("best", "worst", "lengths"):
            del document[key]
        return document


# -- scoring -----------------------------------------------------------------------------------------------


def evaluate(
    test: TestSet,
    hyps: Sequence[str],
    *,
    translations: "Sequence[Translation] | None" = None,
    speed: Speed | None = None,
    examples: int = 0,
) -> Evaluation:
    """Score translations against a test set.

    Args:
        test: references, and sources for BLEU by length.
        hyps: one translation a line.
        translations: where they come from, if a model made them: tells which lines were cut.
        speed: how long that took.
        examples: so many of the best and of the worst lines, by sentence chrF2, are kept.

    Raises:
        DataError: not as many translations as references.
    """
    if len(hyps) != len(test.refs):
        raise DataError(f"{len(hyps)} translations but {len(test.refs)} lines in {test.name}")
    bootstrap = bootstrap_samples(len(hyps))
    scores = {key: metric(hyps, test.refs, bootstrap=bootstrap) for key, metric in METRICS.items()}
    best, worst = _examples(test, hyps, examples)
    return Evaluation(
        test_name=test.name,
        lines=len(hyps),
        max_refs=test.max_refs,
        scores=scores,
        buckets=_buckets(test, hyps),
        empty=sum(is_blank(hyp) and not is_blank(text) for hyp, text in zip(hyps, _texts(test), strict=True)),
        looping=_count_looping(test, hyps, translations),
        cut=None if translations is None else sum(item.cut for item in translations),
        length_ratio=_length_ratio(hyps, test.refs),
        lengths=_lengths(hyps, test.refs),
        best=best,
        worst=worst,
        speed=speed,
    )


def translate_and_evaluate(
    translator: "Translator",
    test: TestSet,
    *,
    examples: int = 0,
    progress: Callable[[int, int], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> "tuple[Evaluation, list[Translation]]":
    """Translate a test set's sources, then score the translations.

    Raises:
        DataError: the test set has no sources.
    """
    if test.sources is None:
        raise DataError(f"{test.name} has no source lines to translate")
    start = clock()
    translations = translator.translate(test.sources, progress)
    seconds = max(clock() - start, 1e-9)
    tokens = sum(len(item.source_tokens) for item in translations)
    speed = Speed(
        seconds=seconds,
        sentences_per_second=len(translations) / seconds,
        source_tokens_per_second=tokens / seconds,
        device=translator.engine.device,
        precision=translator.engine.precision,
    )
    hyps = [item.text for item in translations]
    return evaluate(test, hyps, translations=translations, speed=speed, examples=examples), translations


def _texts(test: TestSet) -> Sequence[str]:
    """What each line should say: the source, or its first reference."""
    return test.sources if test.sources is not None else [refs[0] for refs in test.refs]


def _count_looping(test: TestSet, hyps: Sequence[str], translations: "Sequence[Translation] | None") -> int:
    """Looping translations of lines that do not loop themselves."""
    flags = [False] * len(hyps) if translations is None else [item.looping for item in translations]
    return sum(
        flag or (is_looping(hyp.split()) and not is_looping(text.split()))
        for flag, hyp, text in zip(flags, hyps, _texts(test), strict=True)
    )


def _buckets(test: TestSet, hyps: Sequence[str]) -> tuple[Bucket, ...]:
    if test.sources is None:
        return ()
    words = [len(source.split()) for source in test.sources]
    buckets = []
    for low, high in LENGTH_BUCKETS:
        rows = [i for i, count in enumerate(words) if low <= count and (high is None or count <= high)]
        if rows:
            score = bleu.corpus_score(
                [hyps[i] for i in rows], [test.refs[i] for i in rows], bootstrap=bootstrap_samples(len(rows))
            )
            buckets.append(Bucket(low=low, high=high, lines=len(rows), bleu=score))
    return tuple(buckets)


def _length_ratio(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> float:
    hyp_words = sum(len(hyp.split()) for hyp in hyps)
    ref_words = sum(sum(len(ref.split()) for ref in several) / len(several) for several in refs)
    return hyp_words / ref_words if ref_words else 0.0


def _lengths(hyps: Sequence[str], refs: Sequence[Sequence[str]]) -> tuple[tuple[int, int, int], ...]:
    hyp_counts: dict[int, int] = {}
    ref_counts: dict[int, int] = {}
    for hyp, several in zip(hyps, refs, strict=True):
        for counts, text in ((hyp_counts, hyp), (ref_counts, several[0])):
            words = len(text.split())
            counts[words] = counts.get(words, 0) + 1
    return tuple((n, hyp_counts.get(n, 0), ref_counts.get(n, 0)) for n in sorted({*hyp_counts, *ref_counts}))


def _examples(test: TestSet, hyps: Sequence[str], count: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The best and the worst lines by sentence chrF2, none twice, long ones first among equals."""
    if not count:
        return (), ()
    values = chrf.sentence_scores(hyps, test.refs)
    order = sorted(range(len(hyps)), key=lambda i: (-values[i], -len(test.refs[i][0]), i))
    half = min(count, len(order) // 2)  # no line is both

    def example(i: int) -> Example:
        source = None if test.sources is None else test.sources[i]
        return Example(line=i + 1, source=source, hyp=hyps[i], refs=test.refs[i], chrf=values[i])

    best = [example(i) for i in order[: max(half, 1)]]
    worst = [example(i) for i in reversed(order[len(order) - half :])]
    return tuple(best), tuple(worst)
