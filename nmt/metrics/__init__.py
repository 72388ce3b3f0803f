"""Corpus metrics, each from its reference implementation and with its signature."""

from typing import Final

from nmt.metrics import bleu, chrf, ter
from nmt.metrics.base import CorpusScore, Score

METRICS: Final[dict[str, CorpusScore]] = {
    "bleu": bleu.corpus_score,
    "chrf": chrf.corpus_score,
    "ter": ter.corpus_score,
}
"""Every metric by its key in reports, in the order of the columns."""

__all__ = ["METRICS", "CorpusScore", "Score"]
