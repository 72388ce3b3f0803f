"""Every setting, its default, its unit and its rule; and presets. Imports no torch."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from nmt.errors import SettingError, unknown

TieEmbeddings = Literal["none", "output", "all"]
Precision = Literal["auto", "fp32", "bf16"]
QueryName = Literal[
    "state",
    "token",
    "context",
    "language",
    "state+token",
    "state+context",
    "state+language",
    "token+context",
    "token+language",
    "context+language",
    "state+token+context",
    "state+token+language",
    "state+context+language",
    "token+context+language",
    "state+token+context+language",
]
ScopeName = Literal["global", "local-m", "local-p"]
ScoreName = Literal[
    "additive",
    "concat",
    "dot",
    "general",
    "scaled_dot",
    "cosine",
    "linear",
    "location",
    "gaussian",
    "boxcar",
    "epanechnikov",
]


def setting(default: Any, help: str) -> Any:
    """A field with a default and the line that explains it (`--dry-run`)."""
    return field(default=default, metadata={"help": help})


def check_device_name(name: str) -> None:
    """Raise `UsageError` unless it is auto, cpu, cuda or cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise unknown("device", name, ("auto", "cpu", "cuda", "cuda:N"))


LARGEST_WIDTH: Final = 1 << 16
MOST_LAYERS: Final = 1000


def _require(condition: bool, key: str, value: object, rule: str) -> None:
    if not condition:
        raise SettingError(key, value, rule)


def _check_probability(key: str, value: float) -> None:
    _require(0.0 <= value < 1.0, key, value, "it must be at least 0 and less than 1")


def _check_positive(config: Any, *keys: str) -> None:
    for key in keys:
        value = getattr(config, key)
        _require(value >= 1, key, value, "it must be at least 1")


def _check_sizes(config: Any, *keys: str, most: int = LARGEST_WIDTH) -> None:
    for key in keys:
        value = getattr(config, key)
        _require(1 <= value <= most, key, value, f"it must be 1 to {most}")


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
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that the others leave nothing to do."""

    def __post_init__(self) -> None:
        _check_recurrent(self)


SAME_WIDTH: Final = frozenset({"dot", "scaled_dot", "cosine", "gaussian", "boxcar", "epanechnikov"})
"""Scores that compare query and key element by element."""


def _suitable_bandwidth(score: ScoreName, width: int) -> float:
    """Of a Gaussian, h = d^-1/4: with 2 h^2 d = 2 sqrt(d) it is as sharp as `scaled_dot`; at 1 all keys weigh the same.

    Of a window, 1: most keys are inside at first, as one that is outside has no gradient.
    """
    return float(max(1, width)) ** -0.25 if score == "gaussian" else 1.0


@dataclass(frozen=True, kw_only=True)
class AttentionGRUConfig:
    """Recurrent encoder–decoder with attention (Bahdanau et al. 2015, Luong et al. 2015)."""

    cell: Literal["gru", "lstm"] = setting("gru", "recurrent cell")
    score: ScoreName = setting("additive", "attention score (nmt/nn/scores.py has their equations)")
    embedding_size: int = setting(256, "width of the token embeddings")
    hidden_size: int = setting(512, "width of the recurrent state (both directions together in the encoder)")
    scope: ScopeName = setting(
        "global", "source positions looked at: all, or near the target's, or near a predicted one"
    )
    window: int = setting(10, "of the local scopes: positions on each side")
    placement: Literal["before", "after"] = setting(
        "before", "look up before the cell, into the recurrence (Bahdanau), or after it (Luong)"
    )
    query: QueryName = setting(
        "state",
        "what looks up: decoder state, last token, last context, target-language token; or several, joined by +",
    )
    input_feeding: bool = setting(False, "placement after: the attentional vector enters the next step")
    self_attention: bool = setting(False, "the readout also sees what the decoder finds among its own earlier states")
    attention_size: int = setting(256, "hidden width of the scores additive and concat")
    attention_positions: int = setting(128, "source positions that the score location knows")
    bandwidth: float = setting(
        0.0, "of the kernel scores, in units of distance a dimension; the first if learned; 0 for what suits the kernel"
    )
    learn_bandwidth: bool = setting(True, "learn the bandwidth (that of boxcar has no gradient and stays)")
    num_layers: int = setting(1, "layers of the encoder and of the decoder")
    bidirectional: bool = setting(True, "encoder reads both ways, half the width each")
    dropout: float = setting(0.2, "probability of dropping an activation")
    tie_embeddings: TieEmbeddings = setting("all", "share target embedding and output layer, or the source's too")

    @property
    def query_size(self) -> int:
        """Width of what looks up."""
        hidden, embedding = self.hidden_size, self.embedding_size
        widths = {"state": hidden, "token": embedding, "context": hidden, "language": embedding}
        return sum(widths[part] for part in self.query.split("+"))

    @property
    def without_effect(self) -> frozenset[str]:
        """Settings that the others leave nothing to do."""
        kernel = self.score in ("gaussian", "boxcar", "epanechnikov")
        used = {
            "window": self.scope != "global",
            "bandwidth": kernel,
            "learn_bandwidth": kernel and self.score != "boxcar",
            "attention_size": self.score in ("additive", "concat"),
            "attention_positions": self.score == "location",
        }
        return frozenset(name for name, is_used in used.items() if not is_used)

    def __post_init__(self) -> None:
        if self.bandwidth == 0:
            object.__setattr__(self, "bandwidth", _suitable_bandwidth(self.score, self.hidden_size))
        _check_sizes(self, "attention_size", "attention_positions", "window")
        fits = self.placement == "after" or not self.input_feeding
        rule = 'it needs placement = "after": before the cell the context is fed anyway'
        _require(fits, "input_feeding", "true", rule)
        same = self.query_size == self.hidden_size or self.score not in SAME_WIDTH
        rule = f"the score {self.score} needs a query as wide as hidden_size = {self.hidden_size}"
        _require(same, "query", f"{self.query} ({self.query_size} wide)", rule)
        rule = "it must be above 0, or 0 for what suits the kernel"
        _require(0 < self.bandwidth < math.inf, "bandwidth", self.bandwidth, rule)
        _check_recurrent(self)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Transformer (Vaswani et al. 2017)."""

    model_size: int = setting(256, "width of the residual stream")
    ffn_size: int = setting(1024, "hidden width of the feed-forward layers")
    num_heads: int = setting(4, "attention heads; must divide model_size")
    activation: Literal["relu", "gelu", "swiglu"] = setting("relu", "of the feed-forward layers")
    positions: Literal["sinusoidal", "learned", "rotary"] = setting(
        "sinusoidal", "how order is told: added to the embeddings, or turning queries and keys"
    )
    max_positions: int = setting(512, "learned positions; all later ones are taken for the last")
    num_encoder_layers: int = setting(3, "encoder layers")
    num_decoder_layers: int = setting(3, "decoder layers")
    norm: Literal["pre", "post"] = setting("pre", "layer normalisation before each sublayer, or after (as in 2017)")
    dropout: float = setting(0.1, "probability of dropping what a sublayer gives, or an embedding")
    tie_embeddings: TieEmbeddings = setting("all", "share target embedding and output layer, or the source's too")
    alignment_layer: int = setting(-1, "decoder layer whose cross-attention is reported, mean over heads; -1 the last")

    @property
    def without_effect(self) -> frozenset[str]:
        """Settings that the others leave nothing to do."""
        return frozenset() if self.positions == "learned" else frozenset({"max_positions"})

    def __post_init__(self) -> None:
        _check_sizes(self, "model_size", "ffn_size", "num_heads", "max_positions")
        _check_sizes(self, "num_encoder_layers", "num_decoder_layers", most=MOST_LAYERS)
        _check_probability("dropout", self.dropout)
        divides = self.model_size % self.num_heads == 0
        _require(divides, "num_heads", self.num_heads, f"it must divide model_size = {self.model_size}")
        _require(self.model_size % 2 == 0, "model_size", self.model_size, "it must be even")
        turns = self.positions != "rotary" or self.model_size // self.num_heads % 2 == 0
        _require(turns, "positions", self.positions, "model_size / num_heads must be even")
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
    _check_sizes(config, "embedding_size", "hidden_size")
    _check_sizes(config, "num_layers", most=MOST_LAYERS)
    _check_probability("dropout", config.dropout)
    if config.bidirectional:
        even = config.hidden_size % 2 == 0
        _require(even, "hidden_size", config.hidden_size, "it must be even for a bidirectional encoder")


LARGEST_THREADS: Final = 1024


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
    threads: int = setting(0, "CPU threads; 0 for all cores, or as many as OMP_NUM_THREADS says")

    def __post_init__(self) -> None:
        _check_positive(
            self,
            *("batch_tokens", "accumulation", "max_updates", "eval_every", "save_every", "log_every", "keep_last"),
        )
        for key in ("warmup_updates", "patience", "average_best", "threads", "seed"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")
        _require(self.seed < 2**63, "seed", self.seed, "it must be less than 2^63")
        _require(self.threads <= LARGEST_THREADS, "threads", self.threads, f"it must be at most {LARGEST_THREADS}")
        for key in ("beta1", "beta2", "label_smoothing"):
            _check_probability(key, getattr(self, key))
        _require(self.lr > 0, "lr", self.lr, "it must be above 0")
        _require(0 <= self.subword_alpha <= 100, "subword_alpha", self.subword_alpha, "it must be 0 to 100")
        for key in ("weight_decay", "clip_norm"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")


LARGEST_BEAM: Final = 1000
LARGEST_LENGTH_PENALTY: Final = 10
"""A Python float holds lengths to this power."""
LONGEST_TRANSLATION: Final = 1_000_000
"""Tokens; no translation is longer, whatever the options say."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How a search looks for translations."""

    beam_size: int = setting(5, "partial hypotheses kept a sentence; 1 is greedy search")
    length_penalty: float = setting(1.0, "scores are divided by length to this power; 0 for none, higher for longer")
    n_best: int = setting(1, "hypotheses returned a sentence, best first; at most beam_size")
    max_length_ratio: float = setting(2.0, "longest translation, as a multiple of the source's tokens ...")
    max_length_extra: int = setting(20, "... plus so many tokens")
    min_length_ratio: float = setting(0.0, "shortest translation, as a multiple of the source's tokens ...")
    min_length: int = setting(0, "... and no fewer tokens than so many, the end included")
    no_repeat_ngram: int = setting(0, "never produce the same n-gram of so many tokens twice; 0 for no rule")
    forbidden: tuple[int, ...] = setting((), "token ids never produced")

    def __post_init__(self) -> None:
        _check_positive(self, "beam_size", "n_best")
        rule = f"it must be at most the beam size, {self.beam_size}"
        _require(self.n_best <= self.beam_size, "n_best", self.n_best, rule)
        fits = 0 <= self.length_penalty <= LARGEST_LENGTH_PENALTY
        _require(fits, "length_penalty", self.length_penalty, f"it must be 0 to {LARGEST_LENGTH_PENALTY}")
        for key in ("max_length_ratio", "min_length_ratio"):
            value = getattr(self, key)
            _require(math.isfinite(value) and value >= 0, key, value, "it must be 0 or more")
        for key in ("max_length_extra", "min_length", "no_repeat_ngram"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "it must not be negative")

    @property
    def most_ended(self) -> int:
        """A search is over when so many hypotheses of a sentence have ended: nearly twice the beam, 1 if greedy."""
        return 2 * self.beam_size - 1

    def longest(self, source_tokens: int) -> int:
        """Tokens of the longest translation, EOS included, of a source of so many tokens, EOS included."""
        return int(min(max(self.max_length_ratio * source_tokens + self.max_length_extra, 1), LONGEST_TRANSLATION))

    def shortest(self, source_tokens: int) -> int:
        """Tokens of the shortest, likewise; the longest goes before it."""
        return int(min(max(self.min_length_ratio * source_tokens, self.min_length), LONGEST_TRANSLATION))


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


QUICK: Final[dict[str, Any]] = {"max_updates": 700, "warmup_updates": 150, "eval_every": 175, "save_every": 175}
"""Training of the `tiny` presets: some minutes on two cores."""

ROTARY: Final[dict[str, Any]] = {"positions": "rotary"}
"""On 29,000 captions, validation BLEU 37.0 instead of 33.9 after 1,000 updates of some 1,080 tokens."""

SMALL: Final[dict[str, Any]] = {
    "model_size": 256,
    "ffn_size": 1024,
    "dropout": 0.2,
    "batch_tokens": 2048,
    "max_updates": 5000,
    **ROTARY,
}
"""Of the Transformers for tens to hundreds of thousands of pairs: many updates of little each.

On 29,000 captions one core comes to 50 BLEU on the validation set in 18 minutes, half-way through."""

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
            **ROTARY,
            **QUICK,
        },
        "small": {"num_encoder_layers": 3, "num_decoder_layers": 3, **SMALL},
        "fast": {"num_encoder_layers": 6, "num_decoder_layers": 1, **SMALL},  # Kasai et al. 2021, arXiv 2006.10369
        "base": {
            "model_size": 512,
            "ffn_size": 2048,
            "num_heads": 8,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "max_updates": 50000,
            "lr": 7e-4,
            "warmup_updates": 4000,
            **ROTARY,
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
            **ROTARY,
        },
    },
}
DEFAULT_PRESET: Final = "small"
