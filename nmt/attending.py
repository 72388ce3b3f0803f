"""What a model looked at: the attention behind a translation, by pieces or by words."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from nmt.alignment import Matrix, by_words
from nmt.batching import pad_source
from nmt.checkpoint import LoadedModel
from nmt.config import DecodingOptions
from nmt.decoding.selection import log_probabilities
from nmt.engines.pytorch import TorchEngine
from nmt.errors import DataError, UsageError
from nmt.lines import printable
from nmt.special import BOS, EOS
from nmt.tokenizer import Word
from nmt.translator import Translator

END: Final = "</s>"
CANDIDATES: Final = 5
READABLE: Final = 256
"""Tokens of a side beyond which nobody could read a picture."""
LONGEST: Final = 1024
"""Tokens of a side beyond which its maps would fill the memory."""


class BlankError(DataError):
    """A side of a pair has no tokens."""


@dataclass(frozen=True, eq=False)
class AttendedPair:
    """One sentence pair, and every weight that the model computed for it. EOS is the last piece of each side."""

    source: tuple[str, ...]
    """Pieces, as SentencePiece writes them."""
    target: tuple[str, ...]
    source_words: tuple[Word, ...]
    target_words: tuple[Word, ...]
    cross: np.ndarray
    """(L, H, T, S): target positions over the source."""
    encoder: np.ndarray | None
    """(L, H, S, S)"""
    decoder: np.ndarray | None
    """(L, H, T, T): target positions over what the decoder had read, BOS and the target but for its last piece."""
    alignment_layer: int
    """Of `cross`: the one that `step` reports, mean over its heads."""
    candidates: tuple[tuple[tuple[str, float], ...], ...]
    """The most probable pieces at each target position, with their probabilities, if they were asked for."""

    def maps(self) -> dict[str, np.ndarray | None]:
        """All weights, by what looks where."""
        return {"cross": self.cross, "encoder": self.encoder, "decoder": self.decoder}

    def alignment(self, layer: int | None = None, head: int | None = None) -> Matrix:
        """One matrix (T, S): of a layer (the alignment layer if not given) and head (the mean of all if not given).

        Raises:
            UsageError: there is no such layer or head.
        """
        layers, heads = self.cross.shape[:2]
        for name, value, count in (("layer", layer, layers), ("head", head, heads)):
            if value is not None and not 0 <= value < count:
                raise UsageError(f"--{name} {value}: this model has {name}s 0 to {count - 1}")
        chosen = self.cross[self.alignment_layer if layer is None else layer]
        found: Matrix = chosen.mean(0) if head is None else chosen[head]
        return found


@dataclass(frozen=True, eq=False)
class WordAttention:
    """One matrix between words, EOS left out."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: Matrix
    """(target words, source words)"""


def words_of(pair: AttendedPair, weights: Matrix) -> WordAttention:
    """`weights` (T, S) between pieces as weights between words."""
    return WordAttention(
        tuple(printable(word.text) for word in pair.source_words),
        tuple(printable(word.text) for word in pair.target_words),
        by_words(weights, pair.source_words, pair.target_words),
    )


@torch.inference_mode()
def attend_pair(
    loaded: LoadedModel,
    source: str,
    target: str | None,
    *,
    beam_size: int = 5,
    longest: int = LONGEST,
    candidates: bool = True,
) -> AttendedPair:
    """The attention behind a translation: of the model's own, or of the one given.

    Args:
        loaded: a model with attention.
        source: one sentence.
        target: its translation; if `None`, the model translates as `nmt translate` would, but never in parts.
        beam_size: of that search.
        longest: tokens of a side, at most.
        candidates: find the most probable pieces too.

    Raises:
        UsageError: the model has no attention.
        BlankError: there is nothing in a side, or in the model's own translation.
        DataError: a side is longer than `longest`.
    """
    tokenizers = loaded.tokenizers
    _check_length(tokenizers.source.encode(source), longest)
    src_ids, src_words = tokenizers.source.encode_words(source)
    if not (src_ids and src_words):
        raise BlankError("the sentence is blank")
    device = next(loaded.model.parameters()).device
    src, src_mask = pad_source([src_ids], device)
    if target is None:
        tgt_ids = _translate(loaded, source, beam_size)
        tgt_words = tokenizers.target.decode_words(tgt_ids)
        if not tgt_words:
            raise BlankError("the model's own translation is blank: give one")
    else:
        _check_length(tokenizers.target.encode(target), longest)
        tgt_ids, tgt_words = tokenizers.target.encode_words(target)
        if not (tgt_ids and tgt_words):
            raise BlankError("the translation is blank")
    _check_length(tgt_ids, longest)
    tgt_in = torch.tensor([[BOS, *tgt_ids]], device=device)
    maps = loaded.model.maps(src, src_mask, tgt_in)
    if maps.cross is None:
        raise UsageError(f"{loaded.path} has no attention to show: {loaded.config.arch} sees one vector of the source")
    return AttendedPair(
        source=(*tokenizers.source.pieces(src_ids), END),
        target=(*tokenizers.target.pieces(tgt_ids), END),
        source_words=tuple(src_words),
        target_words=tuple(tgt_words),
        cross=maps.cross[:, 0].cpu().numpy(),
        encoder=None if maps.encoder is None else maps.encoder[:, 0].cpu().numpy(),
        decoder=None if maps.decoder is None else maps.decoder[:, 0].cpu().numpy(),
        alignment_layer=maps.alignment_layer,
        candidates=_candidates(loaded, loaded.model(src, src_mask, tgt_in)[0]) if candidates else (),
    )


def word_attention(loaded: LoadedModel, source: str, target: str) -> WordAttention | None:
    """Weights between the words of a pair; `None` for a model without attention.

    `None` too where a side is blank, or so long that its maps would fill the memory (or was translated in parts).
    """
    if loaded.config.arch == "gru":
        return None
    sides = ((loaded.tokenizers.source, source), (loaded.tokenizers.target, target))
    if max(len(tokenizer.encode(text)) for tokenizer, text in sides) > READABLE:
        return None
    try:
        pair = attend_pair(loaded, source, target, candidates=False)
    except BlankError:
        return None
    return words_of(pair, pair.alignment())


def _candidates(loaded: LoadedModel, logits: torch.Tensor) -> tuple[tuple[tuple[str, float], ...], ...]:
    best = log_probabilities(logits).topk(min(CANDIDATES, logits.shape[-1]), 1)
    pieces = [loaded.tokenizers.target.pieces(ids) for ids in best.indices.tolist()]
    return tuple(
        tuple(zip(names, probabilities, strict=True))
        for names, probabilities in zip(pieces, best.values.exp().tolist(), strict=True)
    )


def _translate(loaded: LoadedModel, source: str, beam_size: int) -> list[int]:
    translator = Translator(
        TorchEngine(loaded.model), loaded.tokenizers, DecodingOptions(beam_size=beam_size), max_source_tokens=LONGEST
    )
    [translation] = translator.translate([source])
    return [token for token in translation.candidates[0].tokens if token != EOS]


def _check_length(ids: list[int], longest: int) -> None:
    if len(ids) > longest:
        raise DataError(f"{len(ids):,} tokens are too many to show their attention: at most {longest:,}")
