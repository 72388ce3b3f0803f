"""Subword units: SentencePiece (Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226) behind encode/decode.

Text is brought to NFC here and then normalised by the rule stored in the model (`nmt_nfkc`), so training and
translation cannot differ. Ids 0 to 3 are PAD, UNK, BOS, EOS; they never come out of text, whatever it says.
"""

import functools
import io
import itertools
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import sentencepiece

from nmt.errors import ModelError, UsageError
from nmt.files import write_if_changed
from nmt.lines import printable
from nmt.special import BOS, EOS, PAD, UNK

ModelType = Literal["unigram", "bpe"]

MAX_MODEL_BYTES: Final = 64 * 1024 * 1024
"""Larger tokenizer files are refused unread: a vocabulary of 64,000 pieces takes 1.2 MB."""

_JOINT_NAME: Final = "tokenizer.model"
_SEPARATE_NAMES: Final = ("tokenizer.source.model", "tokenizer.target.model")
_FIRST_PIECE: Final = EOS + 1
_THREADED_BATCH: Final = 256  # below, starting threads takes longer than they save
_NORMALISATION: Final = "nmt_nfkc"
_LONGEST_PIECE: Final = 16
_SEEDS_PER_PIECE: Final = 15  # more seeds take longer and, beyond this, give no shorter text
_SEED_WORDS: Final = 100_000  # most frequent words that seeds are counted in
_LONGEST_WORD: Final = 32
_NORMALISED_AT_ONCE: Final = 10_000

_WORD = re.compile(r"\S+")

sentencepiece.set_min_log_level(3)  # its chatter goes to stderr, past every handler


class Word(NamedTuple):
    """A word of a text, as `str.split` has them, and its pieces: from `start` up to `end`, which may be none."""

    text: str
    start: int
    end: int


class Tokenizer:
    """One SentencePiece model.

    Args:
        data: the model file's bytes, all that there is to it.

    Raises:
        ModelError: they are no SentencePiece model, or one with other special ids.
    """

    def __init__(self, data: bytes) -> None:
        if not 0 < len(data) <= MAX_MODEL_BYTES:
            raise ModelError(f"no SentencePiece model: {len(data)} bytes")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        except (RuntimeError, UnicodeDecodeError) as error:  # its messages need not be UTF-8
            raise ModelError("damaged SentencePiece model") from error
        ids = (
            self._processor.pad_id(),
            self._processor.unk_id(),
            self._processor.bos_id(),
            self._processor.eos_id(),
        )
        if ids != (PAD, UNK, BOS, EOS):
            raise ModelError(f"SentencePiece model with pad, unk, bos, eos = {ids}, not {(PAD, UNK, BOS, EOS)}")
        self.data = data
        self.vocab_size: int = self._processor.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of `text`, without BOS or EOS. "<s>" in the text is three characters."""
        ids: list[int] = self._processor.encode(_clean(text))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on several threads when there are many."""
        threads = -1 if len(texts) >= _THREADED_BATCH else 1
        batch: list[list[int]] = self._processor.encode([_clean(text) for text in texts], num_threads=threads)
        return batch

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the pieces: one line without control characters. Special ids add nothing to it.

        Byte pieces that make no whole character become U+FFFD.
        """
        text: str = self._processor.decode([int(i) for i in ids if i >= _FIRST_PIECE])
        return printable(text)

    def encode_words(self, text: str) -> tuple[list[int], list[Word]]:
        """`encode(text)`, and which pieces make each word.

        What the tokenizer leaves out gives a word without pieces, and what it takes for a space ends no word.
        """
        ids = self.encode(text)
        found = list(_WORD.finditer(text))
        alone = self.encode_batch([word[0] for word in found])
        if [i for word in alone for i in word] == ids:
            ends = list(itertools.accumulate(map(len, alone)))
        else:  # a character that is no letter beside others: what is encoded up to the end of each word
            ends = [min(len(ids), len(self.encode(text[: word.end()]))) for word in found[:-1]] + [len(ids)]
        return ids, _words([word[0] for word in found], ends)

    def decode_words(self, ids: Sequence[int]) -> list[Word]:
        """The words of `decode(ids)`, and which pieces make each."""
        words = self.decode(ids).split()
        begun = [len(self.decode(ids[: k + 1]).split()) for k in range(len(ids))]
        for k in range(len(ids) - 2, -1, -1):
            if self._processor.id_to_piece(int(ids[k])) == "\u2581":  # a space is seen only by what comes after it
                begun[k] = begun[k + 1]
        return _words(words, [sum(count <= k + 1 for count in begun) for k in range(len(words))])

    def vocabulary(self) -> list[str]:
        """Every piece by id, exactly as the model has it."""
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    def log_probabilities(self) -> dict[str, tuple[int, float]]:
        """Id and log probability of every piece that stands for its own characters, in a unigram model's lattice."""
        model = self._processor
        special = (model.is_control, model.is_unknown, model.is_byte, model.is_unused)
        return {
            piece: (i, model.get_score(i))
            for i, piece in enumerate(self.vocabulary())
            if not any(is_it(i) for is_it in special)
        }

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of each id, special ones included, as SentencePiece writes it ("▁" for a space)."""
        return [printable(self._processor.id_to_piece(int(i))) for i in ids]


def _words(texts: Sequence[str], ends: Sequence[int]) -> list[Word]:
    """Words of these ends, none before the end of the last."""
    ends = list(itertools.accumulate(ends, max))
    return [Word(text, start, end) for text, start, end in zip(texts, [0, *ends], ends, strict=False)]


def _clean(text: str) -> str:
    """NFC, with half surrogate pairs, which SentencePiece cannot take, as U+FFFD."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        try:
            text.encode()
        except UnicodeEncodeError:
            text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of both languages: one shared (joint vocabulary) or two."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether both languages share one vocabulary."""
        return self.source.data == self.target.data

    def save(self, directory: Path) -> list[str]:
        """Write the model files into `directory`; the names written."""
        if self.joint:
            write_if_changed(directory / _JOINT_NAME, self.source.data)
            return [_JOINT_NAME]
        for name, tokenizer in zip(_SEPARATE_NAMES, (self.source, self.target), strict=True):
            write_if_changed(directory / name, tokenizer.data)
        return list(_SEPARATE_NAMES)

    @staticmethod
    def load(directory: Path) -> "TokenizerPair":
        """Read what `save` wrote.

        Raises:
            ModelError: a file is missing, unreadable or damaged.
        """
        if (directory / _JOINT_NAME).exists():
            tokenizer = _load(directory / _JOINT_NAME)
            return TokenizerPair(tokenizer, tokenizer)
        if not any((directory / name).exists() for name in _SEPARATE_NAMES):
            raise ModelError(f"no {_JOINT_NAME} in {printable(str(directory))}")
        source, target = (_load(directory / name) for name in _SEPARATE_NAMES)
        return TokenizerPair(source, target)


def _load(path: Path) -> Tokenizer:
    name = printable(str(path))
    if not path.is_file():
        raise ModelError(f"{name} is missing" if not path.exists() else f"{name} is not a file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read {name}: {error.strerror}") from error
    try:
        return Tokenizer(data)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error


def train_tokenizer(
    sentences: Iterable[str],
    *,
    vocab_size: int,
    model_type: ModelType = "unigram",
    byte_fallback: bool = True,
    shrink: bool = False,
) -> bytes:
    """Learn a vocabulary; the bytes of the model file, the same for the same sentences on any machine.

    Args:
        sentences: training text; blank ones and those over 16 KiB are passed over.
        vocab_size: pieces, the four special ones and (with byte fallback) 256 bytes included.
        model_type: unigram (Kudo 2018, https://arxiv.org/abs/1804.10959) or BPE (Sennrich et al. 2016,
            https://arxiv.org/abs/1508.07909).
        byte_fallback: spell characters that are not in the vocabulary as UTF-8 bytes instead of UNK.
        shrink: where the text does not allow `vocab_size`, take the nearest size that it does allow.

    Raises:
        UsageError: the text allows no vocabulary of that size; the message names the size it does allow.
    """
    usable = [sentence for sentence in map(_clean, sentences) if sentence.strip("\0 \t")]
    if not usable:
        raise UsageError("no text to learn a vocabulary from")
    with tempfile.TemporaryDirectory(prefix="nmt-") as folder:
        learn = functools.partial(_learn, usable, model_type=model_type, byte_fallback=byte_fallback, hard=not shrink)
        if model_type == "unigram" and (seeds := _seeds(usable, _SEEDS_PER_PIECE * vocab_size)):
            path = Path(folder) / "seeds.tsv"
            path.write_text("".join(f"{piece}\t{count}\n" for piece, count in seeds), encoding="utf-8", newline="\n")
            learn = functools.partial(learn, seeds=path)
        try:
            return learn(vocab_size)
        except _SizeImpossible as error:
            if shrink:
                return learn(error.nearest)
            raise UsageError(str(error)) from error


def _seeds(sentences: Sequence[str], limit: int) -> list[tuple[str, int]]:
    """Pieces that the unigram model is pruned from, with their counts: the best by count times length.

    SentencePiece would look for them among the words as a set, where a word that always stands alone ("Deux" at
    the start of a sentence, never before a comma) occurs once and is passed over, frequent as it is. Counted in the
    running text instead, 8,000 pieces encode Multi30k in 5 % fewer tokens, Tatoeba in 2 %.
    """
    words: Counter[str] = Counter()
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name=_NORMALISATION, escape_whitespaces=True)
    for start in range(0, len(sentences), _NORMALISED_AT_ONCE):
        for text in normalizer.normalize(list(sentences[start : start + _NORMALISED_AT_ONCE])):
            words.update(text.strip("\u2581").split("\u2581"))
    chars = sum(len(word) * count for word, count in words.items())
    long = sum(len(word) * count for word, count in words.items() if len(word) > _LONGEST_WORD)
    if long > chars / 10:  # a script without spaces: its words are not to be found this way
        return []
    pieces: Counter[str] = Counter()
    for word, count in words.most_common(_SEED_WORDS):
        if len(word) > _LONGEST_WORD:
            continue
        marked = f"\u2581{word}"
        for start in range(len(marked)):
            for end in range(start + 2, min(len(marked), start + _LONGEST_PIECE) + 1):
                pieces[marked[start:end]] += count
    repeated = [(piece, count) for piece, count in pieces.items() if count > 1 and piece.isprintable()]
    repeated.sort(key=lambda item: (-item[1] * len(item[0]), item[0]))
    return repeated[:limit]


class _SizeImpossible(UsageError):
    """SentencePiece refused the vocabulary size."""

    def __init__(self, rule: str, nearest: int) -> None:
        super().__init__(f"--vocab-size: {rule} {nearest} for this text")
        self.nearest = nearest


def _learn(
    sentences: Sequence[str],
    vocab_size: int,
    *,
    model_type: str,
    byte_fallback: bool,
    hard: bool,
    seeds: Path | None = None,
) -> bytes:
    """Run SentencePiece's trainer; the bytes of its model."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            byte_fallback=byte_fallback,
            hard_vocab_limit=hard,
            normalization_rule_name=_NORMALISATION,
            character_coverage=0.9999,
            split_digits=True,  # numbers are copied digit by digit, seen before or not
            max_sentencepiece_length=_LONGEST_PIECE,
            max_sentence_length=16384,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_piece="<pad>",
            num_threads=4,  # sums over threads round differently: a fixed number gives fixed bytes
            minloglevel=3,
            seed_sentencepieces_file=str(seeds or ""),
        )
    except RuntimeError as error:
        message = str(error)
        if largest := re.search(r"too high \(\d+\).*<= (\d+)", message):
            raise _SizeImpossible(f"{vocab_size} is too large, the largest possible is", int(largest[1])) from error
        if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
            raise _SizeImpossible(f"{vocab_size} is too small, at least", int(smallest[1]) + 1) from error
        raise UsageError(f"SentencePiece cannot learn from this text: {printable(message)}") from error
    return _without(model.getvalue(), str(seeds).encode())


def _without(message: bytes, text: bytes, *, nested: bool = False) -> bytes:
    """A trained model without the settings whose value is `text`.

    SentencePiece writes the settings of its trainer into the model, the names of temporary files with them, so that
    equal models would differ. The model is a protocol buffer: fields of a key (number and kind), then a value or,
    of kind 2, a length and so many bytes. The settings are such a message of their own, field 2 of the model.
    """
    result = bytearray()
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        if key & 7 == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
            if key == _TRAINER_SPEC and not nested:
                inner = _without(value, text, nested=True)
                result += bytes([key]) + _as_varint(len(inner)) + inner
                continue
            if nested and value == text:
                continue
        elif key & 7 == 0:
            _, position = _varint(message, position)
        else:
            position += {1: 8, 5: 4}[key & 7]
        result += message[start:position]
    return bytes(result)


_TRAINER_SPEC: Final = 2 << 3 | 2


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _as_varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])
