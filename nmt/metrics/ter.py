"""TER: edits, shifts included, a reference word.

Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25, as sacreBLEU computes it.
"""

from collections.abc import Sequence

from sacrebleu.metrics.ter import TER

from nmt.metrics.base import References, Score, score_corpus


def corpus_score(hyps: Sequence[str], refs: References, *, bootstrap: int = 0) -> Score:
    """TER of a corpus: 0 for a perfect match, lower is better; can exceed 100."""
    return score_corpus(TER, "TER", hyps, refs, bootstrap)
