"""How hypotheses of different lengths are compared."""

from typing import Any, TypeVar

Score = TypeVar("Score")
"""A number or a tensor; torch is not loaded for it."""


def normalise(score: Score, length: Any, length_penalty: float) -> Score:
    """Log P(tgt | src) / length**length_penalty, where `length` counts EOS.

    Every token makes a hypothesis less probable, so the sum alone prefers short ones. Division by the
    length (Cho et al. 2014, "On the Properties of Neural Machine Translation", where the beam search is
    described, https://arxiv.org/abs/1409.1259) mends that. The exponent sets how much: 0 leaves the sum,
    1 is the mean log-probability of a token, more prefers long. Marian (`--normalize`) and fairseq
    (`--lenpen`) use the same form. Wu et al. 2016 (equation 14, https://arxiv.org/abs/1609.08144) divide
    by ((5 + length) / 6)**alpha instead, which is weaker on short sentences.
    """
    return score / length ** float(length_penalty)  # type: ignore[no-any-return]


def highest_normalised(score: Score, longest: Any, length_penalty: float) -> Score:
    """What a live hypothesis of this score can reach at best, whatever follows.

    Log-probabilities only lower the score, which is at most 0, and dividing by a greater length only
    raises it: no end lies above score / longest**length_penalty.
    """
    return normalise(score, longest, length_penalty)
