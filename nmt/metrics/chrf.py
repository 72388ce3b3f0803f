"""chrF2: F-score of character n-grams, recall counting double.

Popović 2015, https://aclanthology.org/W15-3049, as sacreBLEU computes it.
"""

from collections.abc import Sequence

from sacrebleu.metrics.chrf import CHRF

from nmt.metrics.base import References, Score, score_corpus


def corpus_score(hyps: Sequence[str], refs: References, *, bootstrap: int = 0) -> Score:
    """chrF2 of a corpus, 0 to 100."""
    return score_corpus(CHRF, "chrF2", hyps, refs, bootstrap)


def sentence_scores(hyps: Sequence[str], refs: References) -> list[float]:
    """chrF2 of each line alone, against the reference that suits it best."""
    metric = CHRF()
    scores = []
    for hyp, entry in zip(hyps, refs, strict=True):
        several = [entry] if isinstance(entry, str) else list(entry)
        scores.append(float(metric.sentence_score(hyp, several or [""]).score))
    return scores
