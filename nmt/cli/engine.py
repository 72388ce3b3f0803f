"""Which engine translates: what the options ask for, and what is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nmt.cli import console
from nmt.config import DecodingOptions
from nmt.errors import DeviceError, ModelError, SettingError, UsageError, did_you_mean

if TYPE_CHECKING:
    from nmt.checkpoint import LoadedModel
    from nmt.engines import Engine
    from nmt.scoring import Scorer
    from nmt.tokenizer import TokenizerPair
    from nmt.translator import Translator

_NVIDIA: Final = Path("/proc/driver/nvidia")
ENGINES: Final = ("auto", "torch", "ctranslate2")


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """The options that say what computes."""

    engine: str = "auto"
    device: str = "auto"
    precision: str | None = None
    """`fp32` if not given; an export has its own."""
    batch_tokens: int | None = None
    spread: bool = False
    """`auto` and `cuda` are all CUDA devices, not one."""
    keep_attention: bool = False
    """Leave the attention with every hypothesis."""

    def __post_init__(self) -> None:
        """Check the name."""
        if self.engine not in ENGINES:
            known = ", ".join(ENGINES)
            raise UsageError(f"--engine '{self.engine}' is not one of {known}{did_you_mean(self.engine, ENGINES)}")


def decoding_options(**chosen: Any) -> DecodingOptions:
    """Options of a search as a command was given them; what is impossible is told by the option's name."""
    try:
        return DecodingOptions(**chosen)
    except SettingError as error:
        raise error.as_option({"beam_size": "beam"}) from error


def load_translator(
    model: Path | None, options: DecodingOptions, choice: EngineChoice, *, max_source_tokens: int | None = None
) -> "Translator":
    """The named or shipped model, ready to translate."""
    from nmt.manifest import read_manifest
    from nmt.resources import default_model
    from nmt.translator import MAX_SOURCE_TOKENS, Translator

    path, longest = model or default_model(), max_source_tokens or MAX_SOURCE_TOKENS
    read_manifest(path)  # first of all: what is no model says so, whatever the engine
    engine, tokenizers = _load(path, options, choice, longest)
    console.detail(f"engine {engine.name}, {engine.device}, {engine.precision}")
    return Translator(engine, tokenizers, options, max_source_tokens=longest)


def _load(path: Path, options: DecodingOptions, choice: EngineChoice, longest: int) -> "tuple[Engine, TokenizerPair]":
    reason = _against_ctranslate2(path, options, choice, longest)
    if choice.engine == "ctranslate2" and reason is not None:
        raise UsageError(f"--engine ctranslate2: {reason}")
    if choice.engine != "torch" and reason is None:
        try:
            return _load_ctranslate2(path, choice)
        except (ModelError, DeviceError, RuntimeError) as error:  # RuntimeError: a library of CUDA's is missing
            if choice.engine == "ctranslate2":
                raise
            console.warn(f"{error}; translating with torch")
    return _load_torch(path, choice)


def _load_ctranslate2(path: Path, choice: EngineChoice) -> "tuple[Engine, TokenizerPair]":
    from nmt.engines.ct2 import CTranslate2Engine
    from nmt.manifest import read_manifest, verify_file
    from nmt.tokenizer import TokenizerPair

    own = {name: digest for name, digest in read_manifest(path)["sha256"].items() if name.startswith("tokenizer")}
    for name, digest in own.items():
        verify_file(path, name, digest)
    tokenizers = TokenizerPair.load(path)
    for name, digest in own.items():  # once more: what was read is what was verified
        verify_file(path, name, digest)
    engine = CTranslate2Engine(
        path, tokenizers, device=choice.device, spread=choice.spread, batch_tokens=choice.batch_tokens
    )
    return engine, tokenizers


def _against_ctranslate2(path: Path, options: DecodingOptions, choice: EngineChoice, longest: int) -> str | None:
    """Why CTranslate2 cannot do what is asked for; `None` if it can."""
    from nmt.engines import ct2

    if choice.engine == "torch":
        return "torch was asked for"
    if choice.keep_attention:
        return "it keeps no attention"
    if not (path / ct2.FOLDER).is_dir():
        return f"{path} has no export: make one with nmt export -m {path}"
    if not ct2.is_installed():
        return "CTranslate2 is not installed: pip install 'nmt[ctranslate2]'"
    if choice.precision is not None:
        return "--precision is for torch: an export has that of nmt export --quantization"
    if (what := ct2.unsupported(options)) is not None:
        return f"it cannot search with {what}"
    try:
        export = ct2.read_export(path)
    except ModelError as error:
        if choice.engine == "ctranslate2":
            raise
        console.warn(f"{error}; translating with torch")
        return str(error)
    if export is None:
        return f"{path} has no export: make one with nmt export -m {path}"
    if max(longest + 1, options.longest(longest + 1)) > export["positions"]:
        return f"the export has {export['positions']} positions, too few for texts as long as are asked for"
    if choice.device == "auto" and _NVIDIA.exists() and not ct2.import_ctranslate2().get_cuda_device_count():
        return "it does not see the GPU that torch may see"
    return None


def _load_torch(path: Path, choice: EngineChoice) -> "tuple[Engine, TokenizerPair]":
    from nmt.engines.pytorch import TorchEngine
    from nmt.nn.device import select_devices

    loaded, settings = _load_model(path, choice)
    others = (
        [device for device in select_devices(choice.device) if device != settings["device"]] if choice.spread else []
    )
    engine = TorchEngine(loaded.model, others=others, keep_attention=choice.keep_attention, **settings)
    return engine, loaded.tokenizers


def load_scorer(model: Path | None, choice: EngineChoice) -> "Scorer":
    """The named or shipped model, ready to score pairs: on torch."""
    from nmt.resources import default_model
    from nmt.scoring import Scorer

    loaded, settings = _load_model(model or default_model(), choice)
    return Scorer(loaded.model, loaded.tokenizers, **settings)


def _load_model(path: Path, choice: EngineChoice) -> "tuple[LoadedModel, dict[str, Any]]":
    """A model on its device, and device, precision and batch size for whoever works with it."""
    from nmt.checkpoint import load_model
    from nmt.engines.pytorch import BATCH_TOKENS
    from nmt.nn.device import select_device, select_precision

    device = select_device(choice.device)
    if choice.device == "auto" and device.type == "cpu" and _NVIDIA.exists():
        console.warn("there is an NVIDIA driver, but torch does not see the GPU: computing on the CPU (see nmt doctor)")
    precision = select_precision(choice.precision or "fp32", device)
    settings = {"device": device, "precision": precision, "batch_tokens": choice.batch_tokens or BATCH_TOKENS}
    return load_model(path, device=device), settings
