"""Text in, translations out: encode, search, decode, restore the order. Loads no torch."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis
from nmt.decoding.repetition import is_looping
from nmt.engines import Engine, Progress
from nmt.lines import is_blank
from nmt.splitting import split_text
from nmt.tokenizer import TokenizerPair

MAX_SOURCE_TOKENS: Final = 256
"""Longer lines are translated in parts."""
MAX_LINE_TOKENS: Final = 32768
"""The end of a longer line is not translated."""
MAX_PIECE_CHARACTERS: Final = 16
"""SentencePiece's longest piece: so many characters a token are enough to fill a line's limit."""


RETRY_NGRAM: Final = 4
"""A line whose translation is empty or looping is translated once more with no so long n-gram twice."""


class Part(NamedTuple):
    """What is translated at a time."""

    text: str
    """As it stands in the line."""
    tokens: tuple[int, ...]
    """Without EOS."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the n best translations of a line."""

    text: str
    score: float
    """What candidates are ranked by: log-probability / length**length_penalty."""
    log_prob: float
    """Sum of the tokens' log-probabilities, nats."""
    parts: tuple[Hypothesis, ...]
    """What was found for each part of the line."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Target tokens of all parts, each with its EOS."""
        return tuple(token for part in self.parts for token in part.tokens)


@dataclass(frozen=True, eq=False)
class Translation:
    """What became of one line."""

    source: str
    parts: tuple[Part, ...]
    """What was translated at a time: one part for all but very long lines, none of a blank one."""
    candidates: tuple[Candidate, ...]
    """The n best, best first; a single empty one for a blank line.

    Of a line in parts, each is made of what has its rank in every part, so that scores need not fall.
    """
    source_cut: bool
    """Whether the line was so long that its end was not translated."""
    looping: bool
    """Whether the translation repeats one phrase over and over and the source does not."""
    retried: bool
    """Whether (a part of) it is a second translation, as the first was empty or looping."""

    @property
    def text(self) -> str:
        """The best translation."""
        return self.candidates[0].text

    @property
    def score(self) -> float:
        """Score of the best translation, by which it was ranked."""
        return self.candidates[0].score

    @property
    def source_tokens(self) -> tuple[int, ...]:
        """Source tokens of all parts."""
        return tuple(token for part in self.parts for token in part.tokens)

    @property
    def stopped(self) -> bool:
        """Whether (a part of) the best translation had not ended at the greatest length."""
        return not all(part.finished for part in self.candidates[0].parts)

    @property
    def empty(self) -> bool:
        """Whether there is no translation though there was something to translate."""
        return bool(self.parts) and not self.text

    @property
    def cut(self) -> bool:
        """Whether something is missing: the end of the source, or of the translation."""
        return self.source_cut or self.stopped


class Translator:
    """An engine with the tokenizers of its model and the way to search.

    A line's translation depends on the line alone: not on what else is translated, nor in which batches.

    Args:
        engine: what computes translations.
        tokenizers: of source and target language.
        options: how to search.
        max_source_tokens: a longer line is translated in parts, sentence by sentence, joined by spaces.
        max_line_tokens: what exceeds this much of a line is not translated.
        retry: translate once more what was empty or looping.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizers: TokenizerPair,
        options: DecodingOptions,
        *,
        max_source_tokens: int = MAX_SOURCE_TOKENS,
        max_line_tokens: int = MAX_LINE_TOKENS,
        retry: bool = True,
    ) -> None:
        self.engine = engine
        self.tokenizers = tokenizers
        self.options = options
        self.max_source_tokens = max_source_tokens
        self.max_line_tokens = max_line_tokens
        self.retry = retry

    @property
    def max_line_characters(self) -> int:
        """No line needs more characters than that: the rest would be cut anyway."""
        return MAX_PIECE_CHARACTERS * self.max_line_tokens

    def translate(self, lines: Sequence[str], progress: Progress | None = None) -> list[Translation]:
        """One translation a line, in order. A blank line gives a blank one and never meets the model."""
        sources = self._encode(lines)
        distinct = list(dict.fromkeys(ids for parts, _ in sources for _, ids in parts))
        found = dict(zip(distinct, self.engine.search(distinct, self.options, progress), strict=True))
        failed = {part: found[part] for part in distinct if self._failed(part, found[part])} if self.retry else {}
        better = self._retry(failed)
        found |= better
        return [
            self._assemble(line, parts, [found[ids] for _, ids in parts], source_cut=cut, again=better.keys())
            for line, (parts, cut) in zip(lines, sources, strict=True)
        ]

    # -- runaway output ------------------------------------------------------------------------------------

    def _failed(self, part: tuple[int, ...], hypotheses: list[Hypothesis]) -> bool:
        """Whether the best translation is empty, or loops where the source does not."""
        best = hypotheses[0]
        if not self.tokenizers.target.decode(best.tokens).strip():
            return True
        return is_looping(best.tokens) and not is_looping(part)

    def _retry(self, failed: dict[tuple[int, ...], list[Hypothesis]]) -> dict[tuple[int, ...], list[Hypothesis]]:
        """One more translation of each, never empty and without any `RETRY_NGRAM`-gram twice; those that are good."""
        rule = min(self.options.no_repeat_ngram or RETRY_NGRAM, RETRY_NGRAM)
        options = replace(self.options, no_repeat_ngram=rule, min_length=max(self.options.min_length, 2))
        if not failed or options == self.options:
            return {}
        again = dict(zip(failed, self.engine.search(list(failed), options), strict=True))
        return {
            part: hypotheses
            for part, hypotheses in again.items()
            if hypotheses[0].finished and not self._failed(part, hypotheses)
        }

    # -- encoding ------------------------------------------------------------------------------------------

    def _encode(self, lines: Sequence[str]) -> list[tuple[tuple[Part, ...], bool]]:
        """Parts of each line, none for a blank one, and whether its end was cut off."""
        longest = self.max_line_characters
        texts = ["" if is_blank(line) else line if len(line) <= longest else line.lstrip()[:longest] for line in lines]
        encoded = self.tokenizers.source.encode_batch(texts)
        sources: list[tuple[tuple[Part, ...], bool]] = []
        for line, text, ids in zip(lines, texts, encoded, strict=True):
            too_long = bool(text) and len(text) < len(line.strip())
            if len(ids) > self.max_source_tokens or too_long:
                sources.append(self._encode_parts(text, too_long=too_long))
            else:
                sources.append(((Part(text, tuple(ids)),) if ids else (), False))
        return sources

    def _encode_parts(self, text: str, *, too_long: bool) -> tuple[tuple[Part, ...], bool]:
        encode = self.tokenizers.source.encode
        pieces = split_text(text, lambda piece: len(encode(piece)), self.max_source_tokens)
        parts: list[Part] = []
        total = 0
        for piece, ids in zip(pieces, self.tokenizers.source.encode_batch(pieces), strict=True):
            total += len(ids)
            if total > self.max_line_tokens:
                return tuple(parts), True
            if ids:
                parts.append(Part(piece, tuple(ids)))
        return tuple(parts), too_long

    # -- decoding ------------------------------------------------------------------------------------------

    def _assemble(
        self,
        line: str,
        parts: tuple[Part, ...],
        found: Sequence[list[Hypothesis]],
        *,
        source_cut: bool,
        again: Set[tuple[int, ...]],
    ) -> Translation:
        """Candidate i of a line joins candidate i of every part (the last where a part has fewer).

        `again` holds the tokens of parts that were translated once more.
        """
        ranks = max(map(len, found), default=1)
        candidates = tuple(
            self._candidate(tuple(hypotheses[min(rank, len(hypotheses) - 1)] for hypotheses in found))
            for rank in range(ranks)
        )
        loops = is_looping(candidates[0].tokens)
        return Translation(
            source=line,
            parts=parts,
            candidates=candidates,
            source_cut=source_cut,
            retried=any(part.tokens in again for part in parts),
            looping=loops and not is_looping([token for part in parts for token in part.tokens]),
        )

    def _candidate(self, parts: tuple[Hypothesis, ...]) -> Candidate:
        texts = [self.tokenizers.target.decode(part.tokens).strip() for part in parts]
        whole = Hypothesis(tuple(t for p in parts for t in p.tokens), sum((part.score for part in parts), 0.0), None)
        score = whole.normalised(self.options.length_penalty)
        return Candidate(" ".join(filter(None, texts)), score, whole.score, parts)
