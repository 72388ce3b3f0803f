"""CTranslate2 must give what our own searches give."""

import errno
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer

from nmt import host
from nmt.batching import pad_source
from nmt.checkpoint import load_model
from nmt.cli import app, frame
from nmt.config import DecodingOptions
from nmt.dataset import DataDirectory
from nmt.decoding.forced import forced_scores
from nmt.engines import ct2
from nmt.engines.ct2 import (
    EXPORT,
    FOLDER,
    CTranslate2Engine,
    import_ctranslate2,
    is_installed,
    read_export,
    unsupported,
    verify_export,
)
from nmt.engines.export import export_ctranslate2
from nmt.engines.pytorch import TorchEngine
from nmt.errors import DeviceError, ModelError, UsageError
from nmt.host import has_avx512
from nmt.preparation import PreparationOptions, prepare
from nmt.resources import shipped_model
from nmt.special import BOS, EOS
from nmt.translator import Translator
from tests.copying import TEXT
from tests.tiny import SENTENCES, sharpened, tiny_model, tiny_tokenizers

pytestmark = pytest.mark.skipif(not is_installed(), reason="ctranslate2 is not installed")
KINDS = {
    "pre": [],
    "post": ["norm=post", "num_decoder_layers=2"],
    "untied": ["tie_embeddings=none"],
    "learned": ["positions=learned", "activation=gelu"],
    "rotary": ["positions=rotary", "activation=swiglu"],
}


@pytest.fixture(scope="module", params=list(KINDS))
def exported(request, tmp_path_factory) -> Path:
    path = tiny_model(tmp_path_factory.mktemp("exported") / request.param, overrides=KINDS[request.param])
    export_ctranslate2(sharpened(path))
    return path


def engines(path: Path) -> tuple[TorchEngine, CTranslate2Engine]:
    loaded = load_model(path)
    return TorchEngine(loaded.model), CTranslate2Engine(path, loaded.tokenizers)


def sources(path: Path) -> list[tuple[int, ...]]:
    tokenizer = load_model(path).tokenizers.source
    return [tuple(tokenizer.encode(sentence)) for sentence in SENTENCES]


def test_greedy_tokens_and_scores_are_those_of_torch(exported):
    options = DecodingOptions(beam_size=1, max_length_ratio=1.0, max_length_extra=3)
    ours, theirs = engines(exported)
    for [mine], [other] in zip(
        ours.search(sources(exported), options), theirs.search(sources(exported), options), strict=True
    ):
        assert other.tokens == mine.tokens
        assert other.score == pytest.approx(mine.score, rel=1e-3, abs=1e-3)
        assert other.finished == mine.finished


@pytest.mark.parametrize(("beam_size", "length_penalty"), [(2, 0.6), (4, 1.0), (5, 1.5)])
def test_all_that_a_beam_finds_is_what_torch_finds(exported, beam_size, length_penalty):
    """But where searches reach their limit: CTranslate2 may hand out a stopped one for the last of K finished ones."""
    options = DecodingOptions(beam_size=beam_size, n_best=beam_size - 1, length_penalty=length_penalty)
    ours, theirs = (engine.search(sources(exported), options) for engine in engines(exported))
    for mine, others in zip(ours, theirs, strict=True):
        assert [other.tokens for other in others] == [one.tokens for one in mine]
        assert [other.score for other in others] == pytest.approx([one.score for one in mine], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.5])
def test_scores_are_what_torch_gives_the_same_tokens(exported, length_penalty):
    """Of every hypothesis of a beam."""
    options = DecodingOptions(beam_size=4, n_best=4, max_length_extra=3, length_penalty=length_penalty)
    model = load_model(exported).model
    _, engine = engines(exported)
    for sentence, hypotheses in zip(sources(exported), engine.search(sources(exported), options), strict=True):
        for hypothesis in hypotheses:
            src, mask = pad_source([sentence], torch.device("cpu"))
            tgt_out = torch.tensor([hypothesis.tokens])
            tgt_in = torch.cat([torch.tensor([[BOS]]), tgt_out[:, :-1]], 1)
            forced = forced_scores(model, src, mask, tgt_in, tgt_out, torch.ones_like(tgt_out, dtype=torch.bool))
            assert hypothesis.score == pytest.approx(forced.item(), rel=1e-3, abs=1e-3)


@pytest.mark.skipif(shipped_model() is None, reason="no model ships")
def test_the_shipped_model_translates_alike(tmp_path):
    shutil.copytree(shipped_model(), tmp_path / "model", ignore=shutil.ignore_patterns(FOLDER))
    export_ctranslate2(tmp_path / "model")
    ours, theirs = engines(tmp_path / "model")
    tokenizers, options = load_model(tmp_path / "model").tokenizers, DecodingOptions()
    lines = [*TEXT, *(sentence for sentence in SENTENCES[:5])]
    texts = [[t.text for t in Translator(engine, tokenizers, options).translate(lines)] for engine in (ours, theirs)]
    assert texts[0] == texts[1]


def test_each_sentence_has_its_own_greatest_length(exported):
    options = DecodingOptions(beam_size=2, max_length_ratio=1.0, max_length_extra=0)
    _, engine = engines(exported)
    for sentence, [best] in zip(sources(exported), engine.search(sources(exported), options), strict=True):
        assert len(best.tokens) <= len(sentence) + 1


def test_n_best_come_best_first(exported):
    _, engine = engines(exported)
    for hypotheses in engine.search(sources(exported), DecodingOptions(beam_size=4, n_best=3, max_length_extra=2)):
        ranks = [(hypothesis.finished, hypothesis.normalised(1.0)) for hypothesis in hypotheses]
        assert len(hypotheses) == 3
        assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize("quantization", ["int8", "int16", "float16", "bfloat16"])
def test_every_quantization_can_be_read(tmp_path, quantization):
    path = sharpened(tiny_model(tmp_path / "model"))
    export_ctranslate2(path, quantization=quantization)
    engine = CTranslate2Engine(path, load_model(path).tokenizers)
    assert len(engine.search(sources(path), DecodingOptions())) == len(SENTENCES)


def test_a_model_that_wants_to_say_nothing_may(tmp_path):
    path = tiny_model(tmp_path / "model")
    sharpened(path, bias={EOS: 100.0})
    export_ctranslate2(path)
    ours, theirs = engines(path)
    for engine in (ours, theirs):
        assert [best.tokens for [best] in engine.search(sources(path), DecodingOptions())] == [(EOS,)] * len(SENTENCES)


def test_a_swapped_tokenizer_is_refused(tmp_path, nmt_main):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    (path / "tokenizer.model").write_bytes(tiny_tokenizers(vocab_size=320).source.data)
    assert nmt_main("translate", "--engine", "ctranslate2", "-m", str(path)) == 4


@pytest.mark.parametrize("closed", ["ctranslate2", "config.json", "export.json"])
def test_an_export_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, closed):
    path = tiny_model(tmp_path / "model")
    folder = export_ctranslate2(path)
    assert closed == folder.name or (folder / closed).is_file()

    def denied(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    if closed == "ctranslate2":
        monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != closed)  # root may all
    else:
        reader = "nmt.engines.ct2.read_json" if closed == EXPORT else "nmt.manifest.sha256_file"
        monkeypatch.setattr(reader, denied)
    with pytest.raises(ModelError, match=f"cannot read .*{closed}: Permission denied"):
        verify_export(path, read_export(path))


def test_an_export_that_changes_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    tokenizers = load_model(path).tokenizers
    library = import_ctranslate2()
    real = library.Translator

    def slow(*args, **options):
        opened = real(*args, **options)
        (path / "ctranslate2" / "model.bin").write_bytes(b"another")
        return opened

    monkeypatch.setattr(library, "Translator", slow)
    with pytest.raises(ModelError, match="model.bin is damaged"):
        CTranslate2Engine(path, tokenizers, device="cpu")


@pytest.fixture
def nmt_main(monkeypatch) -> Callable[..., int]:
    """Run a command line on an empty standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    return lambda *args: frame.run(typer.main.get_command(app), list(args))


def test_batches_change_nothing(exported):
    options = DecodingOptions(beam_size=3, max_length_extra=2)
    tokenizers = load_model(exported).tokenizers
    large, small = (CTranslate2Engine(exported, tokenizers, batch_tokens=size) for size in (4096, 1))
    found = [[best.tokens for [best] in engine.search(sources(exported), options)] for engine in (large, small)]
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def narrow_data(tmp_path_factory) -> Path:
    """A data directory whose training targets are a few words."""
    folder = tmp_path_factory.mktemp("narrow")
    pairs = [f"{sentence}\tThe station.\n" for sentence in SENTENCES]
    (folder / "train.tsv").write_text("".join(pairs), encoding="utf-8")
    (folder / "valid.tsv").write_text("Un autre mot.\tAnother word.\n", encoding="utf-8")
    specs = ([str(folder / "train.tsv")], [str(folder / "valid.tsv")], [])
    prepare(*specs, folder / "data", PreparationOptions(vocab_size=300, model_type="bpe"))
    return folder / "data"


@pytest.mark.parametrize("ties", ["all", "none"])
def test_a_shortlist_leaves_what_the_training_targets_have_and_nothing_else(tmp_path, narrow_data, ties):
    data = DataDirectory.open(narrow_data)
    path = tiny_model(tmp_path / "model", overrides=[f"tie_embeddings={ties}"], tokenizers=data.tokenizers)
    loaded = load_model(sharpened(path))
    export_ctranslate2(path, shortlist=narrow_data)
    kept = {0, 1, 2, 3, *loaded.tokenizers.target.encode("The station.")}
    assert read_export(path)["target_pieces"] == len(kept)
    options = DecodingOptions(beam_size=1, max_length_extra=3)
    others = tuple(number for number in range(loaded.tokenizers.target.vocab_size) if number not in kept)
    expected = TorchEngine(loaded.model).search(sources(path), replace(options, forbidden=others))
    plain = TorchEngine(loaded.model).search(sources(path), options)
    found = CTranslate2Engine(path, loaded.tokenizers).search(sources(path), options)
    assert [best.tokens for [best] in found] == [best.tokens for [best] in expected]
    assert [best.tokens for [best] in found] != [best.tokens for [best] in plain]


def test_a_shortlist_of_another_tokenizer_or_direction_is_refused(tmp_path, narrow_data):
    path = tiny_model(tmp_path / "model")
    with pytest.raises(UsageError, match="another tokenizer"):
        export_ctranslate2(path, shortlist=narrow_data)
    turned = {"direction": {"source": "en", "target": "fr"}}
    path = tiny_model(tmp_path / "turned", tokenizers=DataDirectory.open(narrow_data).tokenizers, facts=turned)
    with pytest.raises(UsageError, match="targets in en, the model in fr"):
        export_ctranslate2(path, shortlist=narrow_data)
    assert read_export(path) is None


def test_a_shortlist_is_reported(tmp_path, narrow_data, nmt_main, capsys):
    path = tiny_model(tmp_path / "model", tokenizers=DataDirectory.open(narrow_data).tokenizers)
    assert nmt_main("export", "-m", str(path), "--shortlist", str(narrow_data), "--json") == 0
    reported = capsys.readouterr()
    pieces = read_export(path)["target_pieces"]
    assert json.loads(reported.out)["target_pieces"] == pieces < 30
    assert f"float32, {pieces} target pieces" in reported.err
    assert nmt_main("export", "-m", str(path), "--shortlist", str(tmp_path), "--force") == 3


def test_other_weights_than_exported_are_noticed(tmp_path):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    tiny_model(path, seed=2)
    with pytest.raises(ModelError, match="other weights"):
        read_export(path)


def test_a_damaged_export_is_refused(tmp_path):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    file = path / FOLDER / "model.bin"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        CTranslate2Engine(path, load_model(path).tokenizers)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format_version": 9, "weights": "", "sha256": {}}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    (path / FOLDER / EXPORT).write_text(text)
    with pytest.raises(ModelError, match="export"):
        read_export(path)


def test_an_export_is_not_replaced_unasked(tmp_path):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    with pytest.raises(UsageError, match="not empty"):
        export_ctranslate2(path)
    export_ctranslate2(path, quantization="int8", replace=True)
    assert read_export(path)["quantization"] == "int8"


@pytest.mark.parametrize("changes", [{"no_repeat_ngram": 2}, {"min_length": 2}, {"forbidden": (300,)}])
def test_what_it_scores_otherwise_is_not_offered(changes):
    assert unsupported(DecodingOptions(**changes)) is not None
    assert unsupported(DecodingOptions()) is None


def test_a_second_translation_repeats_nothing_and_is_not_empty(exported):
    _, engine = engines(exported)
    options = DecodingOptions(beam_size=2, no_repeat_ngram=2, min_length=3)
    for [hypothesis, *_] in engine.search([(10, 11, 12), (20,)], options):
        pairs = list(itertools.pairwise(hypothesis.tokens))
        assert len(pairs) == len(set(pairs))
        assert len(hypothesis.tokens) >= 3


@pytest.mark.parametrize("changes", [{"min_length_ratio": 0.5}, {"forbidden": (300,)}])
def test_what_it_cannot_do_is_left_to_torch(exported, changes):
    _, engine = engines(exported)
    with pytest.raises(UsageError, match="use --engine torch"):
        engine.search([(5,)], DecodingOptions(**changes))


def test_torch_is_not_loaded(tmp_path):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    program = (
        "import sys; from nmt.cli import main; code = main(['translate', '-q', '-m', sys.argv[1]]); "
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], input=b"La gare.\n", capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 1)


def test_translations_of_whole_lines_are_the_same(exported):
    ours, theirs = engines(exported)
    tokenizers, options = load_model(exported).tokenizers, DecodingOptions(beam_size=1, max_length_extra=2)
    lines = [*SENTENCES, "", " ".join(SENTENCES * 4)]
    texts = [
        [t.text for t in Translator(engine, tokenizers, options, max_source_tokens=40).translate(lines)]
        for engine in (ours, theirs)
    ]
    assert texts[0] == texts[1]
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize(
    ("name", "spread", "expected"),
    [
        ("auto", True, ("cuda", [0, 1])),
        ("cuda", True, ("cuda", [0, 1])),
        ("cuda", False, ("cuda", [0])),
        ("cuda:1", True, ("cuda", [1])),
        ("cpu", True, ("cpu", [0])),
    ],
)
def test_cuda_without_a_number_is_every_gpu_where_that_is_asked_for(name, spread, expected):
    library = SimpleNamespace(get_cuda_device_count=lambda: 2)
    assert ct2._device(library, name, spread=spread) == expected


def test_gpus_of_several_kinds_are_not_mixed(exported, monkeypatch):
    asked = []

    def translator(folder, *, device, device_index, **settings):
        asked.append(device_index)
        if len(device_index) > 1:
            raise ValueError("Cannot use multiple GPUs with different Compute Capabilities for the same model")
        return SimpleNamespace(compute_type="float32")

    library = SimpleNamespace(get_cuda_device_count=lambda: 2, Translator=translator)
    monkeypatch.setattr(ct2, "import_ctranslate2", lambda: library)
    engine = CTranslate2Engine(exported, load_model(exported).tokenizers, spread=True)
    assert asked == [[0, 1], [0]]
    assert engine.device == "cuda:0"
    assert engine.batch_tokens == ct2.BATCH_TOKENS


@pytest.mark.parametrize(
    ("computed", "patience"), [("float32", 1.5), ("bfloat16", 1.5), ("int8_float32", 1.0), ("int16", 1.0)]
)
def test_integer_weights_search_less_patiently_in_smaller_batches(exported, monkeypatch, computed, patience):
    asked = []

    def translate(sources, **settings):
        asked.append((settings["patience"], settings["num_hypotheses"]))
        found = SimpleNamespace(hypotheses=[["</s>"]], scores=[-1.0])
        return [SimpleNamespace(result=lambda: found) for _ in sources]

    opened = SimpleNamespace(compute_type=computed, translate_batch=translate)
    library = SimpleNamespace(get_cuda_device_count=lambda: 0, Translator=lambda *args, **settings: opened)
    monkeypatch.setattr(ct2, "import_ctranslate2", lambda: library)
    engine = CTranslate2Engine(exported, load_model(exported).tokenizers)
    engine.search([(5, 6)], DecodingOptions(beam_size=2))
    assert asked == [(patience, 2 * patience)]
    assert engine.batch_tokens == (ct2.BATCH_TOKENS_INT if patience == 1.0 else ct2.BATCH_TOKENS)


LOADED = """
import os
from nmt.engines.ct2 import import_ctranslate2
library = import_ctranslate2()
library.set_log_level(20)
library.Translator({folder!r}, device="cpu")
print(os.environ.get("CT2_FORCE_CPU_ISA"))
"""


@pytest.mark.skipif(not has_avx512(), reason="needs a processor with AVX-512")
@pytest.mark.parametrize("asked", [None, "AVX2"])
def test_the_widest_instructions_are_used_unless_others_are_asked_for(tmp_path, asked):
    path = tiny_model(tmp_path / "model")
    export_ctranslate2(path)
    environment = {name: value for name, value in os.environ.items() if name != "CT2_FORCE_CPU_ISA"}
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(folder=str(path / FOLDER))],
        env=environment | ({"CT2_FORCE_CPU_ISA": asked} if asked else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (asked or "AVX512")
    assert f"Selected ISA: {asked or 'AVX512'}" in done.stderr


@pytest.mark.parametrize(("within", "searches"), [(1, 2), (2, 1)])
def test_who_goes_beyond_his_length_is_searched_again_if_too_little_is_within_it(exported, within, searches):
    """Two are asked for, of a sentence whose translations have at most 3 tokens."""
    _, engine = engines(exported)
    a, end = engine._targets[5], engine._targets[EOS]
    short, long = [([a, end], -0.5), ([a, a, end], -0.7)], [([a] * 5 + [end], -0.1), ([a] * 9 + [end], -0.2)]
    asked = []

    def translate(sources, **settings):
        asked.append((len(sources), settings["max_decoding_length"]))
        pairs = long + short[:within] if len(asked) == 1 and len(sources) == 2 else short
        found = SimpleNamespace(hypotheses=[pieces for pieces, _ in pairs], scores=[score for _, score in pairs])
        return [SimpleNamespace(result=lambda: found) for _ in sources]

    engine._translator = SimpleNamespace(translate_batch=translate)
    options = DecodingOptions(beam_size=3, n_best=2, max_length_ratio=1.0, max_length_extra=0)
    results = engine.search([(5, 6), (5,) * 12], options)
    assert asked == [(2, 13), (1, 3)][:searches]
    assert asked[searches:] == []
    assert [h.tokens for h in results[0]] == [(5, EOS), (5, 5, EOS)]
    assert results[1][0].tokens == (5, 5, 5, 5, 5, EOS)


def test_a_library_built_without_avx512_is_used_as_it_is(exported, monkeypatch):
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "AVX512")
    library = import_ctranslate2()

    def opened(*args, **settings):
        if "CT2_FORCE_CPU_ISA" in os.environ:
            raise ValueError("This CTranslate2 binary was not compiled with AVX512 support")
        return library.Translator(*args, **settings)

    monkeypatch.setattr(
        ct2, "import_ctranslate2", lambda: SimpleNamespace(Translator=opened, get_cuda_device_count=lambda: 0)
    )
    engine = CTranslate2Engine(exported, load_model(exported).tokenizers)
    assert engine.search([(5, 6)], DecodingOptions())[0]


def test_a_search_that_is_broken_off_is_not_waited_for(exported, monkeypatch):
    def interrupt(result: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmt.engines.ct2._abandoned", [])
    monkeypatch.setattr("nmt.engines.ct2._result", interrupt)
    monkeypatch.setattr(host._Ending, "at_once", False)
    engine = engines(exported)[1]
    with pytest.raises(KeyboardInterrupt):
        engine.search(sources(exported)[:2], DecodingOptions(beam_size=1))
    assert host.ends_at_once()


def test_memory_that_is_more_than_the_first_sentences_took_goes_back(exported, monkeypatch):
    returned, held = [], iter([50, 70, 60, 71, 40, 69, 90, 80, 88, 89, 30])
    monkeypatch.setattr("nmt.engines.ct2.return_memory", lambda: returned.append(True))
    monkeypatch.setattr("nmt.engines.ct2.resident_memory", lambda: next(held))
    monkeypatch.setattr("nmt.engines.ct2._LOOK_EVERY", 2)
    monkeypatch.setattr("nmt.engines.ct2._LEARNING", 6)
    engine = engines(exported)[1]
    options = DecodingOptions(beam_size=1)
    engine.search(sources(exported)[:6], options)  # looks at 50, 70 and 60
    assert not returned
    engine.search(sources(exported)[:3], options)  # 71 is more than 70, and leaves 40; 69 is less
    assert len(returned) == 1
    engine.search(sources(exported)[:5], options)  # 90 leaves 80, so that 88 are needed: 88 are not too much, 89 are
    assert len(returned) == 3


def test_a_system_that_tells_no_memory_is_left_alone(exported, monkeypatch):
    monkeypatch.setattr("nmt.engines.ct2.return_memory", lambda: pytest.fail("there is nothing to be seen"))
    monkeypatch.setattr("nmt.engines.ct2.resident_memory", lambda: 0)
    monkeypatch.setattr("nmt.engines.ct2._LEARNING", 1)
    engines(exported)[1].search(sources(exported)[:4], DecodingOptions(beam_size=1))


def test_batches_leave_work_for_every_worker(exported):
    _, engine = engines(exported)
    assert engine._size_of_batches([(5,) * 20] * 3) == ct2.BATCH_TOKENS_INT
    assert engine._size_of_batches([(5,) * 20] * 10_000) == ct2.BATCH_TOKENS
    engine._workers = 4
    assert engine._size_of_batches([(5,) * 20] * 200) == 500
    asked_for = CTranslate2Engine(exported, load_model(exported).tokenizers, batch_tokens=7)
    assert asked_for._size_of_batches([(5,) * 20] * 200) == 7


@pytest.mark.parametrize(("message", "error"), [("out of memory", DeviceError), ("else", RuntimeError)])
def test_what_fails_in_a_batch_is_told(exported, message, error):
    def fail():
        raise RuntimeError(message)

    _, engine = engines(exported)
    engine._translator = SimpleNamespace(
        translate_batch=lambda sources, **_: [SimpleNamespace(result=fail) for _ in sources]
    )
    with pytest.raises(error, match=message):
        engine.search([(5, 6)], DecodingOptions())


def test_processors_without_avx512_are_left_alone(monkeypatch):
    monkeypatch.delenv("CT2_FORCE_CPU_ISA", raising=False)
    monkeypatch.setattr(ct2, "has_avx512", lambda: False)
    import_ctranslate2()
    assert "CT2_FORCE_CPU_ISA" not in os.environ
