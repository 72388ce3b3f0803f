"""Text in, translations out: encode, search in batches of like length, decode, restore the order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from nmt.batching import length_batches, pad_source
from nmt.checkpoint import LoadedModel
from nmt.config import DecodingOptions
from nmt.decoding import search
from nmt.decoding.forced import forced_scores
from nmt.decoding.hypothesis import Hypothesis
from nmt.decoding.repetition import is_looping
from nmt.errors import DeviceError
from nmt.lines import is_blank
from nmt.models.interface import Seq2Seq
from nmt.nn.device import autocast
from nmt.special import BOS
from nmt.splitting import split_text
from nmt.tokenizer import TokenizerPair

BATCH_TOKENS: Final = 4096
"""Source tokens of a batch, padding included."""
MAX_SOURCE_TOKENS: Final = 256
"""Longer lines are translated in parts."""
MAX_LINE_TOKENS: Final = 32768
"""The end of a longer line is not translated."""
MAX_SCORED: Final = 1024
"""Tokens a side of what forced decoding scores."""
MAX_PIECE_CHARACTERS: Final = 16
"""SentencePiece's longest piece: so many characters a token are enough to fill a line's limit."""

Progress = Callable[[int, int], object]
"""Called with (sentences translated, sentences in all) after each batch."""


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
    parts: tuple[tuple[int, ...], ...]
    """Source tokens, without EOS, of what was translated at a time: one part for all but very long lines."""
    candidates: tuple[Candidate, ...]
    """The n best, best first; a single empty one for a blank line."""
    source_cut: bool
    """Whether the line was so long that its end was not translated."""
    looping: bool
    """Whether the translation repeats one phrase over and over and the source does not."""

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
        return tuple(token for part in self.parts for token in part)

    @property
    def stopped(self) -> bool:
        """Whether (a part of) the best translation had not ended at the greatest length."""
        return not all(part.finished for part in self.candidates[0].parts)

    @property
    def cut(self) -> bool:
        """Whether something is missing: the end of the source, or of the translation."""
        return self.source_cut or self.stopped


@dataclass(frozen=True)
class ForcedScore:
    """What the model gives for a translation that was already there."""

    log_prob: float
    """Sum of the tokens' log-probabilities, EOS included, nats."""
    tokens: int
    """Target tokens, EOS included."""
    cut: bool
    """Whether a side was so long that only its beginning was scored."""


class Translator:
    """A model with its tokenizers and the way to search.

    A line's translation depends on the line alone: not on its batch, nor on the batch size (up to rounding,
    which in float32 decides only between hypotheses whose scores differ by less than some 1e-5).

    Args:
        model: any architecture; put into evaluation mode while it works.
        tokenizers: of source and target language.
        options: how to search.
        device: where the model is; by default that of its first weight.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: source tokens of a batch, padding included; a beam makes `beam_size` rows of each.
        max_source_tokens: a longer line is translated in parts, sentence by sentence, joined by spaces.
        max_line_tokens: what exceeds this much of a line is not translated.
        keep_attention: leave its attention with every hypothesis (for long texts, the larger part of memory).
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        tokenizers: TokenizerPair,
        options: DecodingOptions,
        *,
        device: torch.device | None = None,
        precision: str = "fp32",
        batch_tokens: int = BATCH_TOKENS,
        max_source_tokens: int = MAX_SOURCE_TOKENS,
        max_line_tokens: int = MAX_LINE_TOKENS,
        keep_attention: bool = False,
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.options = options
        first = next(model.parameters(), None)
        self.device = device or (torch.device("cpu") if first is None else first.device)
        self.precision = precision
        self.batch_tokens = batch_tokens
        self.max_source_tokens = max_source_tokens
        self.max_line_tokens = max_line_tokens
        self.keep_attention = keep_attention

    @classmethod
    def from_loaded(cls, loaded: LoadedModel, options: DecodingOptions, **settings: Any) -> "Translator":
        """A translator for a loaded model directory; `settings` as for the class itself."""
        return cls(loaded.model, loaded.tokenizers, options, **settings)

    @property
    def max_line_characters(self) -> int:
        """No line needs more characters than that: the rest would be cut anyway."""
        return MAX_PIECE_CHARACTERS * self.max_line_tokens

    def translate(self, lines: Sequence[str], progress: Progress | None = None) -> list[Translation]:
        """One translation a line, in order. A blank line gives a blank one and never meets the model."""
        sources = self._encode(lines)
        distinct = list(dict.fromkeys(part for parts, _ in sources for part in parts))
        found = dict(zip(distinct, self._search_all(distinct, progress), strict=True))
        return [
            self._assemble(line, parts, [found[part] for part in parts], source_cut=cut)
            for line, (parts, cut) in zip(lines, sources, strict=True)
        ]

    # -- encoding ------------------------------------------------------------------------------------------

    def _encode(self, lines: Sequence[str]) -> list[tuple[tuple[tuple[int, ...], ...], bool]]:
        """Parts of each line as token ids, none for a blank one, and whether its end was cut off."""
        texts = ["" if is_blank(line) else line[: self.max_line_characters] for line in lines]
        encoded = self.tokenizers.source.encode_batch(texts)
        sources: list[tuple[tuple[tuple[int, ...], ...], bool]] = []
        for line, text, ids in zip(lines, texts, encoded, strict=True):
            too_long = bool(ids) and len(text) < len(line)
            if len(ids) > self.max_source_tokens or too_long:
                sources.append(self._encode_parts(text, too_long=too_long))
            else:
                sources.append(((tuple(ids),) if ids else (), False))
        return sources

    def _encode_parts(self, text: str, *, too_long: bool) -> tuple[tuple[tuple[int, ...], ...], bool]:
        encode = self.tokenizers.source.encode
        pieces = split_text(text, lambda piece: len(encode(piece)), self.max_source_tokens)
        parts: list[tuple[int, ...]] = []
        total = 0
        for ids in self.tokenizers.source.encode_batch(pieces):
            total += len(ids)
            if total > self.max_line_tokens:
                return tuple(parts), True
            if ids:
                parts.append(tuple(ids))
        return tuple(parts), too_long

    # -- searching -----------------------------------------------------------------------------------------

    def _search_all(self, parts: Sequence[tuple[int, ...]], progress: Progress | None) -> list[list[Hypothesis]]:
        """Hypotheses of each part, searched longest first, so that memory runs out early if it does."""
        results: list[list[Hypothesis]] = [[]] * len(parts)
        lengths = np.array([len(part) + 1 for part in parts], dtype=np.int64)
        done = 0
        with evaluating(self.model):
            for batch in reversed(length_batches(lengths, self.batch_tokens)):
                found = self._search([parts[i] for i in batch])
                for i, hypotheses in zip(batch, found, strict=True):
                    results[i] = hypotheses
                done += len(batch)
                if progress is not None:
                    progress(done, len(parts))
        return results

    def _search(self, parts: Sequence[tuple[int, ...]]) -> list[list[Hypothesis]]:
        """Hypotheses of one batch; where memory does not suffice, of its halves.

        Raises:
            DeviceError: memory does not suffice for a single sentence.
        """
        try:
            with autocast(self.device, self.precision):
                found = search(self.model, *pad_source(parts, self.device), self.options)
            return [[self._kept(hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(parts) == 1:
                what = f"one sentence of {len(parts[0])} tokens"
                raise DeviceError(f"out of memory translating {what}: use a smaller --beam") from error
        half = len(parts) // 2
        return self._search(parts[:half]) + self._search(parts[half:])

    def _kept(self, hypothesis: Hypothesis) -> Hypothesis:
        attention = hypothesis.attention if self.keep_attention else None
        return replace(hypothesis, attention=None if attention is None else attention.cpu())

    # -- decoding ------------------------------------------------------------------------------------------

    def _assemble(
        self,
        line: str,
        parts: tuple[tuple[int, ...], ...],
        found: Sequence[list[Hypothesis]],
        *,
        source_cut: bool,
    ) -> Translation:
        """Candidate i of a line joins candidate i of every part (the last where a part has fewer)."""
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
            looping=loops and not is_looping([token for part in parts for token in part]),
        )

    def _candidate(self, parts: tuple[Hypothesis, ...]) -> Candidate:
        texts = [self.tokenizers.target.decode(part.tokens).strip() for part in parts]
        whole = Hypothesis(tuple(t for p in parts for t in p.tokens), sum((part.score for part in parts), 0.0), None)
        score = whole.normalised(self.options.length_penalty)
        return Candidate(" ".join(filter(None, texts)), score, whole.score, parts)

    # -- scoring -------------------------------------------------------------------------------------------

    def score(self, pairs: Sequence[tuple[str, str]], progress: Progress | None = None) -> list[ForcedScore]:
        """Forced decoding: how probable the model finds each given (source, target)."""
        limit = self.max_line_characters
        src = self.tokenizers.source.encode_batch([source[:limit] for source, _ in pairs])
        tgt = self.tokenizers.target.encode_batch([target[:limit] for _, target in pairs])
        kept = [(s[:MAX_SCORED], t[:MAX_SCORED]) for s, t in zip(src, tgt, strict=True)]
        lengths = np.array([max(len(s), len(t)) + 1 for s, t in kept], dtype=np.int64)
        scores = np.zeros(len(pairs))
        done = 0
        with evaluating(self.model):
            for batch in reversed(length_batches(lengths, self.batch_tokens)):
                scores[batch] = self._score([kept[i] for i in batch])
                done += len(batch)
                if progress is not None:
                    progress(done, len(pairs))
        return [
            ForcedScore(
                log_prob=float(score),
                tokens=min(len(t), MAX_SCORED) + 1,
                cut=max(len(s), len(t)) > MAX_SCORED or max(map(len, pair)) > limit,
            )
            for score, s, t, pair in zip(scores, src, tgt, pairs, strict=True)
        ]

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
        src, src_mask = pad_source([source for source, _ in pairs], self.device)
        tgt_out, tgt_mask = pad_source([target for _, target in pairs], self.device)
        tgt_in = torch.cat([torch.full_like(tgt_out[:, :1], BOS), tgt_out[:, :-1]], 1)
        with autocast(self.device, self.precision):
            return forced_scores(self.model, src, src_mask, tgt_in, tgt_out, tgt_mask).cpu().numpy()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "alloc" in str(error) and "memory" in str(error)


@contextmanager
def evaluating(model: Seq2Seq[Any]) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
