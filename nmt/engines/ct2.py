"""CTranslate2 (https://github.com/OpenNMT/CTranslate2), for Transformers that were exported to it. Loads no torch."""

import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis
from nmt.engines import Progress
from nmt.errors import DeviceError, ModelError, UsageError, is_out_of_memory
from nmt.files import read_json, refuse_closed
from nmt.host import available_cores, end_at_once, has_avx512, resident_memory, return_memory, reuse_memory
from nmt.manifest import WEIGHTS, read_manifest, verify_file
from nmt.special import BOS, EOS, PAD
from nmt.tokenizer import TokenizerPair

FOLDER: Final = "ctranslate2"
"""Folder of a model directory that holds its export."""
EXPORT: Final = "export.json"
"""What the folder holds, and what it was made from."""
FORMAT_VERSION: Final = 1
BATCH_TOKENS: Final = 1024
"""Source tokens of a batch."""
BATCH_TOKENS_INT: Final = 256
"""The same with integer weights on a CPU: small ones, several at a time, keep their tables in its cache. With weights
in float32 they are slower by a sixth, as these are laid out anew for every product."""
_CHUNK: Final = 2048  # sentences handed over at a time: between chunks, progress is shown
_LOOK_EVERY: Final = 32  # sentences between two looks at the memory
_LEARNING: Final = 2 * _CHUNK  # sentences that tell how much memory there is to be
_PRECISIONS: Final = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_INSTRUCTIONS: Final = "CT2_FORCE_CPU_ISA"
_INSTALL: Final = "pip install 'nmt[ctranslate2]'"


def is_installed() -> bool:
    """Whether the package ctranslate2 is there."""
    return importlib.util.find_spec("ctranslate2") is not None


def import_ctranslate2() -> Any:
    """The package, imported without torch: it looks for torch only to convert torch's tensors.

    Where the processor has AVX-512 it is asked to use it, as by itself it goes no further than AVX2;
    `CT2_FORCE_CPU_ISA` of the environment prevails.

    Raises:
        UsageError: it is not installed.
    """
    if not is_installed():
        raise UsageError(f"CTranslate2 is not installed: {_INSTALL}")
    if has_avx512():
        os.environ.setdefault(_INSTRUCTIONS, "AVX512")
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import ctranslate2
    finally:
        if hide:
            del sys.modules["torch"]
    ctranslate2.set_log_level(logging.ERROR)  # it would tell at every start which type stands in for another
    return ctranslate2


def unsupported(options: DecodingOptions) -> str | None:
    """The first option that CTranslate2 has not, or has otherwise; `None` if it can do all that is asked for.

    What it must not produce it takes out before the softmax, so that scores are no longer the model's own.
    """
    if options.min_length or options.no_repeat_ngram:
        return "a minimum length" if options.min_length else "a rule against repeated n-grams"
    return _impossible(options)


def _impossible(options: DecodingOptions) -> str | None:
    """The first option that it has not at all."""
    if options.min_length_ratio:
        return "a minimum length"
    return "forbidden tokens" if options.forbidden else None


def read_export(directory: Path) -> dict[str, Any] | None:
    """What `nmt export` wrote into a model directory; `None` if it did not.

    Raises:
        ModelError: it is damaged, of another version, or was made from other weights.
    """
    path = directory / FOLDER / EXPORT
    refuse_closed(path.parent, ModelError)
    if not path.is_file():
        return None
    try:
        document = read_json(path)
        version, weights, _ = document["format_version"], document["weights"], document["sha256"].items()
        _ = document["quantization"], document["positions"] + 0
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: export the model again with nmt export --force") from error
    if version != FORMAT_VERSION:
        raise ModelError(f"{path} has format version {version}, this program reads {FORMAT_VERSION}: export again")
    if weights != read_manifest(directory)["sha256"][WEIGHTS]:
        raise ModelError(f"{directory / FOLDER} was made from other weights: export again with nmt export --force")
    export: dict[str, Any] = document
    return export


def verify_export(directory: Path, export: dict[str, Any]) -> None:
    """Raise `ModelError` unless all files of an export are there and whole."""
    for file, digest in export["sha256"].items():
        try:
            verify_file(directory / FOLDER, file, digest)
        except ModelError as error:
            if isinstance(error.__cause__, PermissionError):
                raise ModelError(f"cannot read {directory / FOLDER / file}: Permission denied") from error
            raise ModelError(f"{directory / FOLDER / file} is damaged: export again with nmt export --force") from error


class CTranslate2Engine:
    """Translates with what `nmt export` wrote into a model directory.

    Args:
        directory: a model directory.
        tokenizers: of the model.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        spread: whether `auto` and `cuda` are all CUDA devices, not one; one if they are of several kinds.
        batch_tokens: source tokens of a batch; `None` for up to `BATCH_TOKENS`, or with integers on a CPU
            `BATCH_TOKENS_INT`.

    Raises:
        ModelError: nothing was exported, or what was is damaged or of other weights.
        UsageError: CTranslate2 is not installed.
        DeviceError: the device is not there.
    """

    name = "ctranslate2"

    def __init__(
        self,
        directory: Path,
        tokenizers: TokenizerPair,
        *,
        device: str = "auto",
        spread: bool = False,
        batch_tokens: int | None = None,
    ) -> None:
        export = read_export(directory)
        if export is None:
            raise ModelError(f"{directory} has no export for CTranslate2: make one with nmt export -m {directory}")
        verify_export(directory, export)
        library = import_ctranslate2()
        kind, numbers = _device(library, device, spread=spread)
        workers = available_cores() if kind == "cpu" else 1
        if kind == "cpu":
            reuse_memory(one_heap=False)

        def opened() -> Any:
            return library.Translator(
                str(directory / FOLDER),
                device=kind,
                device_index=numbers,
                inter_threads=workers,
                intra_threads=1,
                max_queued_batches=-1,  # or it waits for room in its queue, and no signal is seen to meanwhile
            )

        try:
            self._translator = opened()
        except ValueError as error:
            if "AVX512" in str(error):  # this one was built without
                os.environ.pop(_INSTRUCTIONS, None)
            elif len(numbers) > 1:  # it refuses GPUs of several kinds
                numbers = numbers[:1]
            else:
                raise
            self._translator = opened()
        verify_export(directory, export)  # once more: what was opened is what was verified
        self.device = kind if kind == "cpu" else ",".join(f"{kind}:{number}" for number in numbers)
        computed = str(self._translator.compute_type)
        self.precision = _PRECISIONS.get(computed, computed)
        self._workers = workers if kind == "cpu" and batch_tokens is None else None
        self._integers = self.precision.startswith("int")
        self.batch_tokens = batch_tokens or (BATCH_TOKENS_INT if kind == "cpu" and self._integers else BATCH_TOKENS)
        self._positions: int = export["positions"]
        self._searched = self._memory = 0
        self._sources = tokenizers.source.vocabulary()
        self._targets = tokenizers.target.vocabulary()
        self._ids = {piece: number for number, piece in enumerate(self._targets)}

    def search(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each sentence, longest sentences first, several batches at a time.

        With a least length or a rule against repeated n-grams, scores are those of the model so restricted.
        """
        if (what := _impossible(options)) is not None:
            raise UsageError(f"CTranslate2 cannot search with {what}: use --engine torch")
        try:
            return self._in_order(sentences, options, progress)
        except BaseException:
            _abandoned.append(self._translator)
            end_at_once()
            raise

    def _in_order(
        self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, progress: Progress | None
    ) -> list[list[Hypothesis]]:
        results: list[list[Hypothesis]] = [[]] * len(sentences)
        order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            for i, hypotheses in zip(chunk, self._search([sentences[i] for i in chunk], options), strict=True):
                results[i] = hypotheses
            if progress is not None:
                progress(start + len(chunk), len(sentences))
        return results

    def _search(self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions) -> list[list[Hypothesis]]:
        """CTranslate2 knows one greatest length for all, and goes on beyond a sentence's own.

        Up to there it is the search that was asked for. Where too little has ended by then, the sentence is searched
        again alone, while others are still at work.
        """
        limits = [options.longest(len(sentence) + 1) for sentence in sentences]
        found: list[list[_Scored]] = []
        again: dict[int, Any] = {}
        for i, first in enumerate(self._submit(sentences, options, max(limits))):
            scored = _result(first)
            if i % _LOOK_EVERY == 0 and self.device == "cpu":
                self._keep_memory(min(_LOOK_EVERY, len(sentences) - i))
            within = [pair for pair in scored if len(pair[0]) <= limits[i]]
            if len(within) < len(scored) and sum(map(self._is_finished, within)) < options.n_best:
                [again[i]] = self._submit([sentences[i]], options, limits[i])
            found.append(within)
        for i, second in again.items():
            found[i] = _result(second)
        return [self._best(scored, options) for scored in found]

    def _keep_memory(self, sentences: int) -> None:
        """Before so many more sentences: hand free memory back where the process has more than it needed so far.

        What several threads free lies about in their heaps, which would grow by a fifth over a million lines.
        """
        resident = resident_memory()
        if self._searched < _LEARNING:
            self._memory = max(self._memory, resident)
        elif resident > self._memory:
            return_memory()
            self._memory = max(self._memory, resident_memory() * 11 // 10)  # longer lines do need more
        self._searched += sentences

    def _submit(self, sentences: Sequence[tuple[int, ...]], options: DecodingOptions, longest: int) -> list[Any]:
        """Of each sentence a result to be waited for.

        A search is over when as many hypotheses have ended as in our own (but with a length penalty of 0 it goes on
        until the best one has). With integer weights, whose translations are others in any case, it is when as many
        have as the beam is wide: CTranslate2's own way, and faster.
        """
        if max(longest, *(len(sentence) + 1 for sentence in sentences)) > self._positions:
            raise UsageError(f"the export has {self._positions} positions, too few for this text: use --engine torch")
        ended = options.beam_size if self._integers else options.most_ended
        results: list[Any] = self._translator.translate_batch(
            [[self._sources[token] for token in sentence] for sentence in sentences],
            max_batch_size=self._size_of_batches(sentences),
            batch_type="tokens",
            beam_size=options.beam_size,
            num_hypotheses=ended,
            length_penalty=options.length_penalty,
            suppress_sequences=[[self._targets[token]] for token in (PAD, BOS)],
            min_decoding_length=max(0, options.min_length - 1),
            no_repeat_ngram_size=options.no_repeat_ngram,
            patience=ended / options.beam_size,
            max_decoding_length=longest,
            max_input_length=0,
            return_scores=True,
            return_end_token=True,
            asynchronous=True,
        )
        return results

    def _size_of_batches(self, sentences: Sequence[tuple[int, ...]]) -> int:
        """Source tokens: on a CPU few enough for two batches a worker, if no size was asked for."""
        if self._workers is None:
            return self.batch_tokens
        return min(self.batch_tokens, max(BATCH_TOKENS_INT, sum(map(len, sentences)) // (2 * self._workers)))

    def _is_finished(self, scored: "_Scored") -> bool:
        return scored[0][-1:] == [self._targets[EOS]]

    def _best(self, scored: list["_Scored"], options: DecodingOptions) -> list[Hypothesis]:
        """The hypotheses asked for. CTranslate2 gives scores divided by length**length_penalty."""
        ranked = sorted(scored, key=lambda pair: (self._is_finished(pair), pair[1]), reverse=True)
        return [
            Hypothesis(
                tuple(self._ids[piece] for piece in pieces), score * max(1, len(pieces)) ** options.length_penalty, None
            )
            for pieces, score in ranked[: options.n_best]
        ]


_abandoned: Final[list[Any]] = []
"""Whose search was broken off while their threads work: deleting one would first work off all that is in its queue."""


_Scored = tuple[list[str], float]  # pieces of a hypothesis, and its normalised score


def _result(waited_for: Any) -> list[_Scored]:
    try:
        result = waited_for.result()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise DeviceError("out of memory: use a smaller --batch-tokens or --beam") from error
        raise
    return list(zip(result.hypotheses, result.scores, strict=True))


def _device(library: Any, name: str, *, spread: bool) -> tuple[str, list[int]]:
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdecimal()):
        raise UsageError(f"unknown device '{name}': choose auto, cpu, cuda or cuda:N")
    count = library.get_cuda_device_count()
    if kind == "cpu" or (kind == "auto" and not count):
        return "cpu", [0]
    if int(index or 0) >= count:
        raise DeviceError(f"device '{name}' is not there for CTranslate2; use --device cpu")
    return "cuda", list(range(count)) if spread and not index else [int(index or 0)]
