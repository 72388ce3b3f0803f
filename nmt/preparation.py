"""Corpora to a data directory: read, normalise, filter, learn a vocabulary, encode.

Three passes, each a stream: the corpora into temporary text files of the pairs that stay; a sample of those into
the vocabulary; all of them into token ids. What is kept in memory is 8 bytes a pair (duplicates), the evaluation
sets (leaks) and the sample.
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from nmt import __version__
from nmt.corpora import Corpus, Reading, open_corpus
from nmt.corpora.base import InvalidUTF8
from nmt.corpora.filters import BLANK, TOO_MANY_TOKENS, Leaks, Rules, normalise
from nmt.corpora.selection import Part, Selection, chunks, explain, in_order, total_dropped, watched
from nmt.dataset import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_NAME,
    SplitWriter,
    is_data_directory,
    is_language,
    token_type,
)
from nmt.errors import DataError, SettingError, UsageError
from nmt.files import atomic_directory, follow_links, refuse_non_empty, sha256_file, write_json
from nmt.lines import is_blank, printable
from nmt.tokenizer import ModelType, Tokenizer, TokenizerPair, train_tokenizer

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many pairs of it are done, and of how many if that is known."""

AUTO_VOCAB_SIZES: Final = (
    (2_000, 1_000),
    (10_000, 2_000),
    (25_000, 4_000),
    (250_000, 8_000),
    (2_500_000, 16_000),
)
"""(pairs, pieces): up to so many training pairs, a vocabulary of so many pieces."""
LARGEST_AUTO_VOCAB: Final = 32_000

_WORK_NAMES: Final = (".source.tmp", ".target.tmp")


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """Settings of `prepare`."""

    source_lang: str = "fr"
    target_lang: str = "en"
    vocab_size: int | None = None
    """Pieces of each vocabulary; `None` chooses by the size of the corpus."""
    model_type: ModelType = "unigram"
    joint: bool = True
    """One vocabulary for both languages."""
    byte_fallback: bool = True
    """Spell what the vocabulary lacks as bytes."""
    max_tokens: int = 256
    """Longest side of a training pair, in pieces."""
    max_chars: int = 2_000
    """Longest side of a training pair, in characters."""
    max_ratio: float = 3.0
    """A side longer than this multiple of the other, plus 25 characters, is no translation of it."""
    deduplicate: bool = True
    remove_leaks: bool = True
    invalid_utf8: InvalidUTF8 = "error"
    max_line_bytes: int = 10_000_000
    tokenizer_sentences: int = 500_000
    """Sentences (of both languages together, if joint) that the vocabulary is learnt from at most."""
    tokenizer_chars: int = 20_000_000
    """Characters that the vocabulary is learnt from at most: its learning takes 20 bytes for each."""
    seed: int = 1
    """Chooses those sentences."""
    licence: str | None = None
    """Licence of the corpora that do not bring their own."""
    streaming: bool = False
    """Read hub corpora over the network without storing them."""
    strict: bool = False
    """Stop where there would be a warning."""
    force: bool = False
    """Replace a data directory that exists."""

    def __post_init__(self) -> None:
        for key, least in (
            ("vocab_size", 8),
            ("max_tokens", 1),
            ("max_chars", 1),
            ("max_ratio", 1),
            ("max_line_bytes", 1),
            ("tokenizer_sentences", 1),
            ("tokenizer_chars", 1),
            ("seed", 0),
        ):
            value = getattr(self, key)
            if value is not None and not least <= value < 1 << 40:
                raise SettingError(key, value, f"it must be {least} to {(1 << 40) - 1}")
        for lang in (self.source_lang, self.target_lang):
            if not is_language(lang):
                raise UsageError(f"'{printable(lang)}' is no language code such as fr or en")
        if self.source_lang == self.target_lang:
            raise UsageError(f"source and target language are both '{self.source_lang}'")

    def reading(self, role: Literal["train", "valid", "test"]) -> Reading:
        """How the corpora of a role are read."""
        return Reading(
            source_lang=self.source_lang,
            target_lang=self.target_lang,
            role=role,
            invalid_utf8=self.invalid_utf8,
            max_line_bytes=self.max_line_bytes,
            streaming=self.streaming,
        )


def prepare(
    train: Sequence[str],
    valid: Sequence[str],
    test: Sequence[str],
    out: Path,
    options: PreparationOptions,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a data directory from corpus specs; its manifest.

    The same corpora and options give the same bytes. `out` appears when it is complete, or not at all. What is
    replaced and is no data directory is kept, under its `spare_name`.

    Raises:
        DataError: a corpus is missing, misaligned, unreadable or empty, or nothing of it is left.
        UsageError: a spec or setting is wrong, or `out` is in the way.
    """
    _check_out(out, [*train, *valid, *test], force=options.force)
    if not train or not valid:
        raise UsageError("training and validation text are both needed")
    specs: dict[Literal["train", "valid", "test"], Sequence[str]] = {"train": train, "valid": valid, "test": test}
    corpora = {
        role: [open_corpus(spec, options.reading(role)) for spec in names] for role, names in specs.items() if names
    }
    for corpus in itertools.chain.from_iterable(corpora.values()):
        corpus.licence = corpus.licence or options.licence
    with atomic_directory(out, replace=options.force, keep=not is_data_directory(out)) as directory:
        preparation = _Preparation(directory, options, progress or (lambda stage, done, total: None))
        return preparation.run(corpora.pop("train"), corpora)  # type: ignore[arg-type]  # the other two roles


def _check_out(out: Path, specs: Sequence[str], *, force: bool) -> None:
    """Refuse an output directory that is in use, or holds what is to be read."""
    name = printable(str(out))
    refuse_non_empty(out, replace=force)
    for spec in specs:
        is_path = not spec.startswith(("hf:", "sample#")) and spec != "sample"
        if is_path and follow_links(out) in follow_links(Path(spec)).parents:
            raise UsageError(f"{printable(spec)} lies in {name}, which is to be written: choose another --out")


class _Preparation:
    """One run of `prepare` into a directory that nobody sees before it is complete."""

    def __init__(self, directory: Path, options: PreparationOptions, progress: Progress) -> None:
        self._directory = directory
        self._options = options
        self._progress = progress
        self._langs = (options.source_lang, options.target_lang)
        self._warnings: list[str] = []

    def run(self, train: list[Corpus], evaluation: dict[str, list[Corpus]]) -> dict[str, Any]:
        """All passes; the manifest."""
        leaks = Leaks()
        splits = {name: self._write_text(name, corpora, leaks) for name, corpora in evaluation.items()}
        parts = self._select(train, leaks)
        kept = sum(part.kept for part in parts)
        if kept == 0:
            raise DataError(f"nothing is left of the training text: {explain(total_dropped(parts))}")
        tokenizers = self._learn(kept, sum(part.chars for part in parts))
        dtype = token_type(tokenizers.source.vocab_size, tokenizers.target.vocab_size)
        splits = {"train": self._encode_training(parts, tokenizers, dtype), **splits}
        for name in evaluation:
            splits[name].update(self._encode_text(name, tokenizers, dtype))
        tokenizers.save(self._directory)
        facts = {"train": [part.facts() for part in parts]}
        for name, corpora in evaluation.items():
            facts[name] = [corpus.facts() for corpus in corpora]
        manifest = self._manifest(facts, splits, tokenizers, dtype)
        write_json(self._directory / MANIFEST_NAME, manifest)
        return manifest

    def _warn(self, message: str) -> None:
        if self._options.strict:
            raise DataError(message)
        self._warnings.append(message)

    def _write_text(self, name: str, corpora: list[Corpus], leaks: Leaks) -> dict[str, Any]:
        """Keep the text of an evaluation set: every pair, in order, whatever is in it."""
        read = blank = 0
        with ExitStack() as stack:
            files = [stack.enter_context((self._directory / f"{name}.{lang}").open("wb")) for lang in self._langs]
            for corpus in corpora:
                for src, tgt in watched(corpus, self._warn):
                    src, tgt = normalise(src), normalise(tgt)
                    read += 1
                    if is_blank(src) or is_blank(tgt):
                        blank += 1
                        if blank == 1:
                            self._warn(f"{corpus.place(corpus.read)}: a side is blank; {name} keeps such pairs")
                    leaks.add(src, tgt)
                    for file, text in zip(files, (src, tgt), strict=True):
                        file.write(text.encode() + b"\n")
        if blank == read:
            raise DataError(f"{name} has no text: all of its {read} pairs are blank")
        return {"read": read, "kept": read, "blank": blank, "dropped": {}}

    def _select(self, corpora: list[Corpus], leaks: Leaks) -> list[Part]:
        """Write the training pairs that the rules leave, as text, to temporary files."""
        options = self._options
        rules = Rules(max_chars=options.max_chars, max_ratio=options.max_ratio, deduplicate=options.deduplicate)
        with ExitStack() as stack:
            files = [stack.enter_context((self._directory / name).open("wb")) for name in _WORK_NAMES]
            selected = Selection(rules, leaks if options.remove_leaks else Leaks())
            for corpus in corpora:
                for pairs in selected.pairs(corpus, self._warn):
                    for side, file in enumerate(files):
                        file.write("".join(f"{pair[side]}\n" for pair in pairs).encode())
                    self._progress("reading", selected.read, None)
        return selected.parts

    def _learn(self, pairs: int, chars: int) -> TokenizerPair:
        """The vocabularies, from a sample of the training pairs that does not depend on the machine."""
        options = self._options
        self._progress("learning the vocabulary", 0, None)
        share = 2 if options.joint else 1
        fraction = min(1.0, options.tokenizer_sentences / (share * pairs), options.tokenizer_chars / chars)
        random = np.random.default_rng(options.seed)
        sample: tuple[list[str], list[str]] = ([], [])
        for chunk in chunks(self._kept_pairs()):
            for pair, draw in zip(chunk, random.random(len(chunk)), strict=True):
                if draw < fraction:
                    sample[0].append(pair[0])
                    sample[1].append(pair[1])
        if not sample[0]:  # so small a fraction of so few: take what there is
            pair = next(self._kept_pairs())
            sample = ([pair[0]], [pair[1]])
        size = options.vocab_size or auto_vocab_size(pairs)
        if options.joint:
            joint = self._learn_one([*sample[0], *sample[1]], size)
            return TokenizerPair(joint, joint)
        return TokenizerPair(self._learn_one(sample[0], size), self._learn_one(sample[1], size))

    def _learn_one(self, sentences: list[str], size: int) -> Tokenizer:
        options = self._options
        data = train_tokenizer(
            sentences,
            vocab_size=size,
            model_type=options.model_type,
            byte_fallback=options.byte_fallback,
            shrink=options.vocab_size is None,
        )
        return Tokenizer(data)

    def _encode_training(self, parts: list[Part], tokenizers: TokenizerPair, dtype: str) -> dict[str, Any]:
        """Encode the temporary text files, drop what has too many pieces, remove them."""
        total = sum(part.kept for part in parts)
        pairs = self._kept_pairs()
        limit = self._options.max_tokens
        done = 0
        with SplitWriter(self._directory, "train", dtype) as writer:
            for part in parts:
                for chunk in chunks(itertools.islice(pairs, part.kept)):
                    for src, tgt in _encode(chunk, tokenizers):
                        if not src or not tgt:
                            part.dropped[BLANK] += 1
                        elif max(len(src), len(tgt)) > limit:
                            part.dropped[TOO_MANY_TOKENS] += 1
                        else:
                            writer.append(src, tgt)
                    done += len(chunk)
                    self._progress("encoding", done, total)
        for name in _WORK_NAMES:
            (self._directory / name).unlink()
        dropped = total_dropped(parts)
        if writer.pairs == 0:
            raise DataError(f"nothing is left of the training text: {explain(dropped)}")
        read = sum(part.corpus.read for part in parts)
        return {"read": read, "kept": writer.pairs, "dropped": in_order(dropped), **_token_counts(writer)}

    def _kept_pairs(self) -> Iterator[tuple[str, str]]:
        with ExitStack() as stack:
            source, target = (stack.enter_context((self._directory / name).open("rb")) for name in _WORK_NAMES)
            yield from _read_pairs(source, target)

    def _encode_text(self, name: str, tokenizers: TokenizerPair, dtype: str) -> dict[str, Any]:
        """Encode the text of an evaluation set, every pair of it."""
        with ExitStack() as stack:
            writer = stack.enter_context(SplitWriter(self._directory, name, dtype))
            files = [stack.enter_context((self._directory / f"{name}.{lang}").open("rb")) for lang in self._langs]
            for chunk in chunks(_read_pairs(*files)):
                for src, tgt in _encode(chunk, tokenizers):
                    writer.append(src, tgt)
        return _token_counts(writer)

    def _manifest(
        self,
        corpora: dict[str, list[dict[str, Any]]],
        splits: dict[str, dict[str, Any]],
        tokenizers: TokenizerPair,
        dtype: str,
    ) -> dict[str, Any]:
        options = self._options
        settings = dataclasses.asdict(options)
        for key in ("source_lang", "target_lang", "licence", "force", "strict", "streaming"):
            del settings[key]  # stand elsewhere, or change nothing
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "nmt": __version__,
            "source_lang": options.source_lang,
            "target_lang": options.target_lang,
            "corpora": corpora,
            "splits": splits,
            "tokenizer": {
                "model_type": options.model_type,
                "joint": options.joint,
                "source_vocab_size": tokenizers.source.vocab_size,
                "target_vocab_size": tokenizers.target.vocab_size,
                "byte_fallback": options.byte_fallback,
                "normalisation": "NFC, then nmt_nfkc by SentencePiece",
            },
            "token_type": dtype,
            "options": settings,
            "warnings": self._warnings,
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
                for file in sorted(self._directory.iterdir())
            },
        }


def auto_vocab_size(pairs: int) -> int:
    """Vocabulary for so many training pairs: large enough for whole words where they recur often enough."""
    return next((size for limit, size in AUTO_VOCAB_SIZES if pairs <= limit), LARGEST_AUTO_VOCAB)


def _read_pairs(source: io.BufferedIOBase, target: io.BufferedIOBase) -> Iterator[tuple[str, str]]:
    for src, tgt in zip(source, target, strict=True):
        yield src[:-1].decode(), tgt[:-1].decode()


def _encode(pairs: Sequence[tuple[str, str]], tokenizers: TokenizerPair) -> Iterator[tuple[list[int], list[int]]]:
    sources = tokenizers.source.encode_batch([src for src, _ in pairs])
    targets = tokenizers.target.encode_batch([tgt for _, tgt in pairs])
    return zip(sources, targets, strict=True)


def _token_counts(writer: SplitWriter) -> dict[str, Any]:
    (source, target), (longest_source, longest_target) = writer.totals, writer.longest
    return {
        "source_tokens": source,
        "target_tokens": target,
        "longest_source": longest_source,
        "longest_target": longest_target,
    }
