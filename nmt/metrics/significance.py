"""Whether one system is really better than another: paired bootstrap resampling, as sacreBLEU computes it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from nmt.metrics.base import References, reference_columns


class Difference(NamedTuple):
    """A system against the baseline."""

    bleu: float
    """p-value of the difference in BLEU: how often chance alone makes one as large."""
    chrf: float


def paired_bootstrap(systems: Mapping[str, Sequence[str]], refs: References, samples: int) -> dict[str, Difference]:
    """Every system but the first against the first (Koehn 2004, https://aclanthology.org/W04-3250).

    Where scores are equal nothing differs, with p = 1 (sacreBLEU's own count would give 0.001).

    Args:
        systems: translations by name.
        refs: references.
        samples: resamples of the test set.
    """
    hyps = list(systems.items())
    if len(hyps) < 2 or samples < 2:
        return {}
    columns = reference_columns(hyps[0][1], refs)
    metrics = {"BLEU": BLEU(force=True), "chrF2": CHRF()}
    test = PairedTest([(name, list(lines)) for name, lines in hyps], metrics, columns, "bs", samples)  # type: ignore[arg-type]
    _, scores = test()
    pairs = zip(scores["BLEU"][1:], scores["chrF2"][1:], strict=True)
    found = {}
    for (name, _), (bleu, chrf) in zip(hyps[1:], pairs, strict=True):
        p_values = [
            1.0 if result.score == scores[metric][0].score else float(result.p_value)  # type: ignore[union-attr, arg-type]
            for metric, result in (("BLEU", bleu), ("chrF2", chrf))
        ]
        found[name] = Difference(*p_values)
    return found
