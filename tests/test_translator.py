"""Text in, translations out: order, blank and long lines, what is flagged, memory that runs out."""

import math
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nmt.engines.pytorch
from nmt.checkpoint import load_model
from nmt.config import DecodingOptions
from nmt.decoding.hypothesis import Hypothesis
from nmt.engines.pytorch import TorchEngine
from nmt.errors import DeviceError
from nmt.lines import read_text_lines
from nmt.models.factory import build_model
from nmt.resources import shipped_model
from nmt.special import EOS
from nmt.translator import RETRY_NGRAM, Translation, Translator
from tests.copying import TEXT, copying_model, never_called, tokenizers
from tests.decoding.table import TableModel
from tests.models.configs import CONFIGS


def copying(*, echo: int = 1, beam_size: int = 1, limits: dict[str, int] | None = None, **settings: Any) -> Translator:
    options = DecodingOptions(beam_size=beam_size, n_best=beam_size)
    return Translator(TorchEngine(copying_model(echo=echo), **settings), tokenizers(), options, **(limits or {}))


def translating(model: Any, options: DecodingOptions, *, retry: bool = True, **settings: Any) -> Translator:
    return Translator(TorchEngine(model, **settings), tokenizers(), options, retry=retry)


def texts(translations: list[Translation]) -> list[str]:
    return [translation.text for translation in translations]


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_order_is_kept_whatever_the_batches(batch_tokens: int) -> None:
    lines = [*TEXT, "", "gare", *TEXT[::-1], "  "]
    assert texts(copying(batch_tokens=batch_tokens).translate(lines)) == [*TEXT, "", "gare", *TEXT[::-1], ""]


@pytest.mark.parametrize("line", ["", " ", "\t", "\u00a0\u2003", "\x00", "\u200b", "\x1b", "\ufeff", "\u2028"])
def test_a_blank_line_never_meets_the_model(line: str) -> None:
    translator = translating(TableModel(never_called, never_called), DecodingOptions())
    [translation] = translator.translate([line])
    assert translation.text == ""
    assert translation.score == 0.0
    assert not translation.cut
    assert not translation.looping


def test_no_lines_no_translations() -> None:
    assert copying().translate([]) == []


@settings(deadline=None, max_examples=15)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_text_gives_one_printable_line_each(lines: list[str]) -> None:
    found = texts(copying().translate(lines))
    assert len(found) == len(lines)
    assert all(text.isprintable() or "\u00a0" in text or not text for text in map(strip_format, found))
    assert all(len(text.splitlines()) <= 1 for text in found)


def strip_format(text: str) -> str:
    import unicodedata

    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cn", "Co", "Zs"))


def test_a_score_is_that_of_the_tokens() -> None:
    [translation] = copying().translate(["la gare"])
    length = len(translation.candidates[0].tokens)
    assert length == len(translation.source_tokens) + 1
    assert translation.candidates[0].log_prob == pytest.approx(length * math.log(0.9), rel=1e-4)
    assert translation.score == pytest.approx(math.log(0.9), rel=1e-4)


def test_n_best_are_ranked() -> None:
    [translation] = copying(beam_size=3).translate(["la gare"])
    scores = [candidate.score for candidate in translation.candidates]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert translation.candidates[0].text == "la gare"


def test_a_long_line_is_translated_in_parts_sentence_by_sentence() -> None:
    line = " ".join(TEXT)
    [whole] = copying(limits={"max_source_tokens": 500}).translate([line])
    [split] = copying(limits={"max_source_tokens": 40}).translate([line])
    assert len(whole.parts) == 1
    assert len(split.parts) == len(TEXT)
    assert whole.text == split.text == line
    assert not split.cut
    assert split.candidates[0].log_prob == pytest.approx(sum(p.score for p in split.candidates[0].parts))


def test_a_long_line_without_spaces_is_translated_in_parts() -> None:
    [translation] = copying(limits={"max_source_tokens": 20}).translate(["gare" * 30])
    assert translation.text.replace(" ", "") == "gare" * 30
    assert all(len(part.tokens) <= 20 for part in translation.parts)


def test_the_end_of_an_endless_line_is_cut_and_flagged() -> None:
    translator = copying(limits={"max_source_tokens": 20, "max_line_tokens": 50})
    short, endless = translator.translate(["la gare", "la gare " * 100_000])
    assert not short.cut
    assert endless.source_cut
    assert endless.cut
    assert not endless.stopped
    assert 20 < len(endless.source_tokens) <= 50
    assert endless.text.startswith("la gare la gare")


def test_a_translation_stopped_at_its_greatest_length_is_flagged() -> None:
    translator = copying(echo=9)
    [translation] = translator.translate(["la gare est loin"])
    assert translation.stopped
    assert translation.cut
    assert not translation.source_cut


def insisting(token: int, *, until: int) -> TableModel:
    """Gives one token again and again, and then ends; what it may not give, it replaces by the end."""
    size = tokenizers().source.vocab_size

    def distribution(prefix: tuple[int, ...], source: tuple[int, ...]) -> list[float]:
        wanted = EOS if len(prefix) > until else token
        return [0.9 if i == wanted else 0.09 if i == EOS else 0.01 / size for i in range(size)]

    return TableModel(distribution, lambda prefix, source: [1.0] + [0.0] * (len(source) - 1))


GARE = "gare " * 15


def test_a_loop_is_flagged_unless_the_source_loops() -> None:
    model = insisting(tokenizers().source.encode("gare")[-1], until=15)
    plain, looping = translating(model, DecodingOptions(beam_size=1), retry=False).translate(["Où est la gare ?", GARE])
    assert plain.looping
    assert not looping.looping
    assert not plain.retried


def test_a_loop_is_translated_once_more_without_repetition() -> None:
    model = insisting(tokenizers().source.encode("gare")[-1], until=15)
    plain, looping = translating(model, DecodingOptions(beam_size=1)).translate(["Où est la gare ?", GARE])
    assert plain.retried
    assert not plain.looping
    assert len(plain.candidates[0].tokens) == RETRY_NGRAM + 1  # the fifth would make the same 4-gram; then the end
    assert not looping.retried


def test_an_empty_translation_is_translated_once_more() -> None:
    size = tokenizers().source.vocab_size
    word = tokenizers().source.encode("gare")[-1]
    model = TableModel(
        lambda prefix, source: [0.9 if i == EOS else 0.09 if i == word else 0.01 / size for i in range(size)],
        lambda prefix, source: [1.0] + [0.0] * (len(source) - 1),
    )
    [second], [first] = (
        translating(model, DecodingOptions(beam_size=1), retry=retry).translate(["la gare"]) for retry in (True, False)
    )
    assert (second.retried, second.empty, len(second.candidates[0].tokens)) == (True, False, 2)
    assert (first.retried, first.empty) == (False, True)


def test_a_second_translation_that_is_no_better_is_not_taken() -> None:
    endless = copying(echo=9)
    [translation] = endless.translate(["la gare est loin"])
    assert translation.stopped
    assert not translation.retried


def test_attention_spans_the_own_source() -> None:
    translations = copying(keep_attention=True).translate(TEXT)
    for translation in translations:
        [part] = translation.candidates[0].parts
        assert part.attention is not None
        assert part.attention.shape == (len(part.tokens), len(translation.source_tokens) + 1)


def test_a_line_that_comes_twice_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    copying().translate(["la gare"] * 5 + ["le chat"], lambda done, total: seen.append(total))
    assert seen == [2]


def test_progress_reaches_the_total() -> None:
    seen: list[tuple[int, int]] = []
    copying(batch_tokens=1).translate(TEXT, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(TEXT)) for i in range(len(TEXT))]


def test_a_batch_too_large_for_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    search = nmt.engines.pytorch.search

    def small_memory(model: Any, src: torch.Tensor, *rest: Any) -> list[list[Hypothesis]]:
        if len(src) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return search(model, src, *rest)

    monkeypatch.setattr("nmt.engines.pytorch.search", small_memory)
    assert texts(copying().translate(TEXT)) == TEXT


def test_a_sentence_too_large_for_memory_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("nmt.engines.pytorch.search", no_memory)
    with pytest.raises(DeviceError, match="out of memory"):
        copying().translate(TEXT)


def test_other_failures_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("nmt.engines.pytorch.search", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        copying().translate(TEXT)


@pytest.mark.parametrize("name", ["gru", "attention", "transformer"])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_neighbours_change_nothing(name: str, beam_size: int) -> None:
    """As one batch, line by line, and reversed among others."""
    torch.manual_seed(1)
    size = tokenizers().source.vocab_size
    model = build_model(CONFIGS[name], size, size)
    options = DecodingOptions(beam_size=beam_size, max_length_ratio=1.0, max_length_extra=2)
    translator = translating(model, options)
    lines = TEXT[:4]
    together = texts(translator.translate(lines))
    assert together == [translator.translate([line])[0].text for line in lines]
    mixed = [other for line in lines[::-1] for other in (line, line.upper())]
    assert together == texts(translator.translate(mixed))[::2][::-1]
    assert model.training


def test_bf16_runs_and_scores_in_float32() -> None:
    torch.manual_seed(1)
    size = tokenizers().source.vocab_size
    model = build_model(CONFIGS["transformer"], size, size).eval()
    options = DecodingOptions(beam_size=2, max_length_extra=2, max_length_ratio=1.0)
    exact, rounded = (
        translating(model, options, precision=precision).translate(TEXT[:2]) for precision in ("fp32", "bf16")
    )
    assert [t.score for t in rounded] == pytest.approx([t.score for t in exact], rel=0.05)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_thousand_real_lines_do_not_depend_on_their_neighbours(beam_size: int) -> None:
    """As one file, line by line, and shuffled among a thousand others, with the model that ships."""
    folder, model = os.environ.get("NMT_REAL_DATA"), shipped_model()
    if not folder or not model:
        pytest.skip("needs NMT_REAL_DATA and a shipped model")
    lines, others = (read_text_lines(Path(folder) / "multi30k" / name)[:1000] for name in ("val.fr", "train.fr"))
    loaded = load_model(model)
    translator = Translator(TorchEngine(loaded.model), loaded.tokenizers, DecodingOptions(beam_size=beam_size))
    as_file = texts(translator.translate(lines))
    assert [translator.translate([line])[0].text for line in lines] == as_file
    order = list(range(len(lines) + len(others)))
    random.Random(1).shuffle(order)
    shuffled = translator.translate([(lines + others)[i] for i in order])
    found = {i: translation.text for i, translation in zip(order, shuffled, strict=True)}
    assert [found[i] for i in range(len(lines))] == as_file
