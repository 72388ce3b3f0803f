"""What every metric takes and gives; the numbers come from sacreBLEU (Post 2018, https://aclanthology.org/W18-6319)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from nmt.errors import DataError, UsageError

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

References = Sequence[str | Sequence[str]]
"""One entry a line: its reference, or several. Lines may differ in how many they have."""

BOOTSTRAP_SAMPLES: Final = 1000
BOOTSTRAP_BUDGET: Final = 10_000_000
"""Most lines resampled in all: sacreBLEU holds 72 bytes for each at once."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A corpus score with what is needed to compute it again."""

    name: str
    value: float
    """0 to 100 (TER: 0 and up, lower is better)."""
    signature: str
    low: float | None = None
    """Lower end of the 95 % bootstrap confidence interval (Koehn 2004), if asked for."""
    high: float | None = None


@runtime_checkable
class CorpusScore(Protocol):
    """A metric: hypotheses and references to a `Score`."""

    def __call__(self, hyps: Sequence[str], refs: References, *, bootstrap: int = 0) -> Score:
        """Score a corpus; `bootstrap` resamples give the interval, 0 none."""


def bootstrap_samples(lines: int) -> int:
    """Resamples for a test set of so many lines: 1,000, or fewer where memory would not do, at last 0."""
    samples = min(BOOTSTRAP_SAMPLES, BOOTSTRAP_BUDGET // max(lines, 1))
    return samples if samples >= 100 and lines > 1 else 0


def looks_tokenised(hyps: Sequence[str]) -> bool:
    """Whether 100 lines (sacreBLEU's rule), or half of at least ten, end in a detached full stop."""
    detached = sum(hyp.endswith(" .") for hyp in hyps)
    return detached >= 100 or (detached >= 10 and 2 * detached >= len(hyps))


def reference_columns(hyps: Sequence[str], refs: References) -> list[list[str | None]]:
    """References as sacreBLEU wants them: one column each, `None` where a line has fewer.

    A blank reference counts only where the line has no other.
    """
    if len(hyps) != len(refs):
        raise DataError(f"{len(hyps)} translations but {len(refs)} references")
    if not hyps:
        raise DataError("there is nothing to score: no lines")
    rows = []
    for entry in refs:
        several = [entry] if isinstance(entry, str) else list(entry)
        rows.append([ref for ref in several if ref.strip()] or [""])
    width = max(map(len, rows))
    return [[row[i] if i < len(row) else None for row in rows] for i in range(width)]


def _use_plain_numbers(metric: "Metric") -> None:
    """Have resamples scored in Python's floats.

    sacreBLEU 2.6 passes rows of float32; a metric that then returns its constant 0.0 for some of them makes
    `statistics.mean` fail on the mixture (chrF, TER).
    """
    compute = metric._compute_score_from_stats

    def compute_plain(stats: Any) -> Any:
        return compute(stats if isinstance(stats, list) else stats.tolist())

    metric._compute_score_from_stats = compute_plain  # type: ignore[method-assign]


def score_corpus(
    make: Callable[[], "Metric"], name: str, hyps: Sequence[str], refs: References, bootstrap: int
) -> Score:
    """Score a corpus with a sacreBLEU metric.

    Raises:
        DataError: no lines, or not as many references as hypotheses.
        UsageError: `SACREBLEU_SEED` is no seed.
    """
    columns = reference_columns(hyps, refs)
    metric = make()
    _use_plain_numbers(metric)
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if bootstrap > 1 and not (seed.isdecimal() or seed.lower() == "none"):
        raise UsageError(f"environment variable SACREBLEU_SEED = '{seed}' is not a whole number")
    result = metric.corpus_score(list(hyps), columns, n_bootstrap=bootstrap)  # type: ignore[arg-type]
    low = high = None
    if bootstrap > 1:
        low, high = max(0.0, float(result._mean - result._ci)), float(result._mean + result._ci)
    return Score(name=name, value=float(result.score), signature=str(metric.get_signature()), low=low, high=high)
