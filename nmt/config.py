"""Every setting, its default, its unit and its rule; presets; and the one place where they are resolved.

Order, later wins: defaults < `--preset` < `--config` file < `NMT_*` environment < flags and `--set`.
Imports no torch.
"""

import dataclasses
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from nmt.errors import UsageError, did_you_mean

TieEmbeddings = Literal["none", "output", "all"]
Precision = Literal["auto", "fp32", "bf16"]


def setting(default: Any, help: str) -> Any:
    """A field with a default and the line that explains it (`--help`, `--dry-run`)."""
    return field(default=default, metadata={"help": help})


def _require(condition: bool, key: str, value: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"{key} = {value} is not possible: {rule}")


def _check_probability(key: str, value: float) -> None:
    _require(0.0 <= value < 1.0, key, value, "it must be at least 0 and less than 1")


def _check_positive(config: Any, *keys: str) -> None:
    for key in keys:
        value = getattr(config, key)
        _require(value >= 1, key, value, "it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class GRUConfig:
    """Recurrent encoder–decoder without attention (Cho et al. 2014; Sutskever et al. 2014)."""

    cell: Literal["gru", "lstm"] = setting("gru", "recurrent cell")
    embedding_size: int = setting(256, "width of the token embeddings")
    hidden_size: int = setting(512, "width of the recurrent state (both directions together in the encoder)")
    num_layers: int = setting(1, "layers of the encoder and of the decoder")
    bidirectional: bool = setting(True, "encoder reads both ways, half the width each")
    reverse_source: bool = setting(False, "feed the source last token first (Sutskever et al. 2014, 3.3)")
    summary_every_step: bool = setting(True, "decoder sees the encoder's summary at every step (Cho 2014)")
    dropout: float = setting(0.2, "probability of dropping an activation")
    tie_embeddings: TieEmbeddings = setting("all", "share target embedding and output layer, or the source's too")

    def __post_init__(self) -> None:
        _check_recurrent(self)


@dataclass(frozen=True, kw_only=True)
class AttentionGRUConfig:
    """Recurrent encoder–decoder with attention (Bahdanau et al. 2015)."""

    cell: Literal["gru", "lstm"] = setting("gru", "recurrent cell")
    score: Literal["additive"] = setting("additive", "attention score")
    embedding_size: int = setting(256, "width of the token embeddings")
    hidden_size: int = setting(512, "width of the recurrent state (both directions together in the encoder)")
    attention_size: int = setting(256, "hidden width of the additive score")
    num_layers: int = setting(1, "layers of the encoder and of the decoder")
    bidirectional: bool = setting(True, "encoder reads both ways, half the width each")
    dropout: float = setting(0.2, "probability of dropping an activation")
    tie_embeddings: TieEmbeddings = setting("all", "share target embedding and output layer, or the source's too")

    def __post_init__(self) -> None:
        _check_positive(self, "attention_size")
        _check_recurrent(self)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Transformer (Vaswani et al. 2017)."""

    model_size: int = setting(256, "width of the residual stream")
    ffn_size: int = setting(1024, "hidden width of the feed-forward layers")
    num_heads: int = setting(4, "attention heads; must divide model_size")
    num_encoder_layers: int = setting(3, "encoder layers")
    num_decoder_layers: int = setting(3, "decoder layers")
    norm: Literal["pre", "post"] = setting("pre", "layer normalisation before each sublayer, or after (as in 2017)")
    dropout: float = setting(0.1, "probability of dropping an activation or an attention weight")
    tie_embeddings: TieEmbeddings = setting("all", "share target embedding and output layer, or the source's too")
    alignment_layer: int = setting(-1, "decoder layer whose cross-attention is reported, mean over heads; -1 the last")

    def __post_init__(self) -> None:
        _check_positive(self, "model_size", "ffn_size", "num_heads", "num_encoder_layers", "num_decoder_layers")
        _check_probability("dropout", self.dropout)
        divides = self.model_size % self.num_heads == 0
        _require(divides, "num_heads", self.num_heads, f"it must divide model_size = {self.model_size}")
        _require(self.model_size % 2 == 0, "model_size", self.model_size, "it must be even")
        layers = self.num_decoder_layers
        rule = f"it must name one of the {layers} decoder layers"
        _require(-layers <= self.alignment_layer < layers, "alignment_layer", self.alignment_layer, rule)


ModelConfig = GRUConfig | AttentionGRUConfig | TransformerConfig
ARCHITECTURES: Final[dict[str, type[ModelConfig]]] = {
    "gru": GRUConfig,
    "attention": AttentionGRUConfig,
    "transformer": TransformerConfig,
}


def _check_recurrent(config: GRUConfig | AttentionGRUConfig) -> None:
    _check_positive(config, "embedding_size", "hidden_size", "num_layers")
    _check_probability("dropout", config.dropout)
    if config.bidirectional:
        even = config.hidden_size % 2 == 0
        _require(even, "hidden_size", config.hidden_size, "it must be even for a bidirectional encoder")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train: batches, optimiser, schedule, validation, what is kept."""

    batch_tokens: int = setting(4096, "tokens a batch on its longer side, padding included")
    accumulation: int = setting(1, "batches an update; gradients are normalised by the tokens of all of them")
    max_updates: int = setting(3000, "optimiser updates to train for")
    lr: float = setting(2e-3, "peak learning rate of AdamW")
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = setting(
        "cosine", "how the rate falls after the warm-up (cosine and linear reach 0 at max_updates)"
    )
    warmup_updates: int = setting(400, "updates over which the rate rises linearly from 0")
    beta1: float = setting(0.9, "AdamW: decay of the mean of gradients")
    beta2: float = setting(0.98, "AdamW: decay of the mean of squared gradients")
    weight_decay: float = setting(0.01, "AdamW: decoupled weight decay of matrices")
    clip_norm: float = setting(1.0, "gradient norm above which gradients are scaled down; 0 for never")
    label_smoothing: float = setting(0.1, "probability spread evenly over the vocabulary")
    subword_alpha: float = setting(
        0.0, "segment the training text anew each epoch, by P^alpha of the unigram model (Kudo 2018); 0 for never"
    )
    eval_every: int = setting(250, "updates between validations")
    save_every: int = setting(250, "updates between checkpoints")
    log_every: int = setting(50, "updates between lines of the log")
    patience: int = setting(0, "validations without a better BLEU before training stops; 0 for never")
    average_best: int = setting(3, "checkpoints, best by validation BLEU, averaged at the end; 0 or 1 for none")
    keep_last: int = setting(2, "training checkpoints kept")
    seed: int = setting(1, "seed of initialisation, dropout and batch order")
    precision: Precision = setting("auto", "bf16 computes matrix products in bfloat16; auto where the device has it")
    device: str = setting("auto", "cpu, cuda, cuda:N, or auto")
    threads: int = setting(0, "CPU threads; 0 for all cores")

    def __post_init__(self) -> None:
        _check_positive(
            self,
            *("batch_tokens", "accumulation", "max_updates", "eval_every", "save_every", "log_every", "keep_last"),
        )
        for key in ("warmup_updates", "patience", "average_best", "threads", "seed"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")
        _require(self.seed < 2**63, "seed", self.seed, "it must be less than 2^63")
        for key in ("beta1", "beta2", "label_smoothing"):
            _check_probability(key, getattr(self, key))
        _require(self.lr > 0, "lr", self.lr, "it must be above 0")
        for key in ("weight_decay", "clip_norm", "subword_alpha"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How a search looks for translations."""

    beam_size: int = setting(5, "partial hypotheses kept a sentence; 1 is greedy search")
    length_penalty: float = setting(1.0, "scores are divided by length to this power; 0 for none, higher for longer")
    n_best: int = setting(1, "hypotheses returned a sentence, best first; at most beam_size")
    max_length_ratio: float = setting(2.0, "longest translation, as a multiple of the source's tokens ...")
    max_length_extra: int = setting(20, "... plus so many tokens")
    min_length_ratio: float = setting(0.0, "shortest translation, as a multiple of the source's tokens")
    no_repeat_ngram: int = setting(0, "never produce the same n-gram of so many tokens twice; 0 for no rule")
    forbidden: tuple[int, ...] = setting((), "token ids never produced")

    def __post_init__(self) -> None:
        _check_positive(self, "beam_size", "n_best")
        rule = f"it must be at most the beam size, {self.beam_size}"
        _require(self.n_best <= self.beam_size, "n_best", self.n_best, rule)
        finite = math.isfinite(self.length_penalty)
        _require(finite and self.length_penalty >= 0, "length_penalty", self.length_penalty, "it must be 0 or more")
        for key in ("max_length_ratio", "min_length_ratio"):
            value = getattr(self, key)
            _require(math.isfinite(value) and value >= 0, key, value, "it must be 0 or more")
        for key in ("max_length_extra", "no_repeat_ngram"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, resolved."""

    arch: str
    preset: str
    model: ModelConfig
    training: TrainingConfig

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, as stored in `config.json`."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `as_dict`; raises `UsageError` for an unknown or impossible key."""
        arch = str(document.get("arch"))
        sections = {name: dict(document.get(name) or {}) for name in ("model", "training")}
        return _build(arch, str(document.get("preset")), sections)


QUICK: Final[dict[str, Any]] = {"max_updates": 700, "warmup_updates": 150, "eval_every": 175, "save_every": 175}
"""Training of the `tiny` presets: some minutes on two cores."""

PRESETS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "gru": {
        "tiny": {"embedding_size": 128, "hidden_size": 256, **QUICK},
        "small": {"embedding_size": 256, "hidden_size": 656},
        "base": {"embedding_size": 512, "hidden_size": 1024, "num_layers": 2, "max_updates": 30000, "lr": 1e-3},
    },
    "attention": {
        "tiny": {"embedding_size": 128, "hidden_size": 256, "attention_size": 128, **QUICK},
        "small": {"embedding_size": 256, "hidden_size": 640, "attention_size": 256},
        "base": {
            "embedding_size": 512,
            "hidden_size": 1024,
            "attention_size": 512,
            "num_layers": 2,
            "max_updates": 30000,
            "lr": 1e-3,
        },
    },
    "transformer": {
        "tiny": {
            "model_size": 128,
            "ffn_size": 512,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "lr": 3e-3,
            **QUICK,
        },
        "small": {"model_size": 256, "ffn_size": 1024, "num_encoder_layers": 3, "num_decoder_layers": 3},
        "base": {
            "model_size": 512,
            "ffn_size": 2048,
            "num_heads": 8,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "max_updates": 50000,
            "lr": 7e-4,
            "warmup_updates": 4000,
        },
        "big": {
            "model_size": 1024,
            "ffn_size": 4096,
            "num_heads": 16,
            "dropout": 0.3,
            "lr": 5e-4,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "max_updates": 100000,
            "warmup_updates": 4000,
        },
    },
}
DEFAULT_PRESET: Final = "small"
SECTIONS: Final = ("model", "training")
ENVIRONMENT_PREFIX: Final = "NMT_"
RESERVED_ENVIRONMENT: Final = frozenset({"NMT_REAL_DATA"})
"""Variables that begin like a setting and are none."""


def section_types(arch: str) -> dict[str, type[Any]]:
    """The dataclass of each section for an architecture.

    Raises:
        UsageError: no such architecture.
    """
    if arch not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise UsageError(f"unknown architecture '{arch}'{did_you_mean(arch, ARCHITECTURES)}: choose from {names}")
    return {"model": ARCHITECTURES[arch], "training": TrainingConfig}


def resolve(
    arch: str,
    *,
    preset: str | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolve all layers into one immutable configuration.

    Args:
        arch: `gru`, `attention` or `transformer`.
        preset: a name in `PRESETS[arch]`; `None` takes `small`.
        file: TOML with tables `[model]` and `[training]`, or bare keys.
        environment: `NMT_KEY=VALUE` variables; `None` reads the process's own.
        overrides: `KEY=VALUE`, where KEY is bare or begins with its section (`model.dropout=0.3`).
        flags: values of command-line options by key; `None` values are skipped.
        stored: settings of a run to go on with, as `RunConfig.as_dict` gives them; they take the place of the
            defaults, and of the preset if none is named.

    Raises:
        UsageError: an unknown key, preset or architecture (with the nearest name), or an impossible value.
    """
    types_ = section_types(arch)
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}

    def put(key: str, value: Any, origin: str) -> None:
        section, name = _locate(key, types_, origin)
        values[section][name] = _coerce(types_[section], name, value, origin)

    for section in SECTIONS if stored else ():
        for key, value in (stored or {}).get(section, {}).items():
            put(f"{section}.{key}", value, "stored settings")
    name = preset or (str(stored["preset"]) if stored else DEFAULT_PRESET)
    presets = PRESETS[arch]
    if name not in presets:
        known = ", ".join(presets)
        raise UsageError(f"unknown preset '{name}' for {arch}{did_you_mean(name, presets)}: choose from {known}")
    for key, value in presets[name].items() if preset or not stored else ():
        put(key, value, f"preset {name}")
    for key, value in (_read_toml(file) if file else {}).items():
        put(key, value, str(file))
    for variable, value in sorted((os.environ if environment is None else environment).items()):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in RESERVED_ENVIRONMENT:
            put(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), value, f"environment variable {variable}")
    for key, value in (flags or {}).items():
        if value is not None:
            put(key, value, f"--{key.replace('_', '-')}")
    for assignment in overrides:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write KEY=VALUE")
        put(key.strip(), text.strip(), f"--set {key.strip()}")
    return _build(arch, name, values)


def _build(arch: str, preset: str, values: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    built: dict[str, Any] = {}
    for section, cls in section_types(arch).items():
        for key in values[section]:
            _locate(f"{section}.{key}", {section: cls}, "config")
        built[section] = cls(**{key: _coerce(cls, key, value, "config") for key, value in values[section].items()})
    return RunConfig(arch=arch, preset=preset, **built)


def _locate(key: str, types_: Mapping[str, type[Any]], origin: str) -> tuple[str, str]:
    """Section and field name of a key, with or without its section in front."""
    section, dot, name = key.rpartition(".")
    candidates = {s: [f.name for f in dataclasses.fields(cls)] for s, cls in types_.items()}
    for candidate, names in candidates.items():
        if name in names and (not dot or section == candidate):
            return candidate, name
    known = [n for names in candidates.values() for n in names]
    known = [f"{s}.{n}" for s, names in candidates.items() for n in names] if dot else known
    raise UsageError(f"{origin}: unknown key '{key}'{did_you_mean(key, known)}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat


def _coerce(cls: type[Any], name: str, value: Any, origin: str) -> Any:
    """`value` as the type of field `name`, from TOML, JSON or text."""
    hint = typing.get_type_hints(cls)[name]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value in choices:
            return value
        near = did_you_mean(str(value), choices)
        raise UsageError(f"{origin}: {name} = {value!r} is not one of {', '.join(choices)}{near}")
    assert not isinstance(hint, types.UnionType)
    try:
        if hint is bool:
            return _as_bool(value)
        if hint is str:
            return str(value)
        if isinstance(value, bool):
            raise ValueError
        if hint is int:
            return _as_int(value)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError):
        kind = {bool: "true or false", int: "a whole number", float: "a finite number"}[hint]
        raise UsageError(f"{origin}: {name} = {value!r} is not {kind}") from None


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError


def _as_int(value: Any) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError
        return int(value)
    return int(str(value), 10)


def describe(config: RunConfig) -> list[tuple[str, str, Any, str]]:
    """(section, key, value, help) of every setting, for `--dry-run` and `--help`."""
    rows = []
    for section in SECTIONS:
        part = getattr(config, section)
        for item in dataclasses.fields(part):
            rows.append((section, item.name, getattr(part, item.name), item.metadata["help"]))
    return rows
