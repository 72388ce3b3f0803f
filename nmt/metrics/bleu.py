"""BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040) as sacreBLEU computes it.

The only BLEU of the project: validation and test both use it. Cased, on detokenised text, tokenizer 13a.
"""

from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU

from nmt.metrics.base import References, Score, score_corpus


def _bleu() -> BLEU:
    return BLEU(force=True)  # force: the warning about tokenised text is ours to give


def corpus_score(hyps: Sequence[str], refs: References, *, bootstrap: int = 0) -> Score:
    """BLEU of a corpus, 0 to 100."""
    return score_corpus(_bleu, "BLEU", hyps, refs, bootstrap)
