"""A model directory small enough to make in a test: random weights, a joint vocabulary of a few words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from nmt.checkpoint import save_model
from nmt.files import sha256_file
from nmt.manifest import WEIGHTS
from nmt.models.factory import build_model
from nmt.settings import resolve
from nmt.special import BOS, PAD
from nmt.tokenizer import Tokenizer, TokenizerPair, train_tokenizer

SENTENCES = [
    "Où est la gare ?",
    "La gare est là-bas.",
    "Un homme marche dans la rue.",
    "Deux enfants jouent au parc.",
    "Il ne pleut pas aujourd'hui.",
    "Where is the station?",
    "The station is over there.",
    "A man walks in the street.",
    "Two children play in the park.",
    "It is not raining today.",
]
OVERRIDES = ["model_size=16", "ffn_size=32", "num_heads=2", "num_encoder_layers=1", "num_decoder_layers=1"]


def tiny_tokenizers(vocab_size: int = 330, sentences: list[str] | None = None) -> TokenizerPair:
    """A joint tokenizer of the sentences above."""
    data = train_tokenizer(sentences or SENTENCES, vocab_size=vocab_size, model_type="bpe")
    tokenizer = Tokenizer(data)
    return TokenizerPair(tokenizer, tokenizer)


def tiny_model(
    directory: Path,
    *,
    arch: str = "transformer",
    seed: int = 1,
    overrides: list[str] | None = None,
    sentences: list[str] | None = None,
    tokenizers: TokenizerPair | None = None,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write a model with random weights; returns `directory`."""
    tokenizers = tokenizers or tiny_tokenizers(sentences=sentences)
    sizes = OVERRIDES if arch == "transformer" else []
    config = resolve(arch, preset="tiny", environment={}, overrides=[*sizes, *(overrides or [])])
    torch.manual_seed(seed)
    vocabularies = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build_model(config.model, *vocabularies, joint=tokenizers.joint)
    known = {
        "direction": {"source": "fr", "target": "en"},
        "data": {"corpora": [{"spec": "sample", "licence": "CC0-1.0"}]},
        "scores": [{"name": "BLEU", "value": 12.5, "signature": "nrefs:1", "set": "valid"}],
    }
    save_model(directory, model, config, tokenizers, known | (facts or {}))
    return directory


SHARP = 8.0
"""Random weights make all tokens nearly equal: scaled up, they have a preference."""


def sharpened(path: Path, *, bias: Mapping[int, float] | None = None) -> Path:
    """The model with weights that decide clearly."""
    weights = {
        name: tensor * (SHARP if name.startswith(("encoder", "decoder")) and tensor.dim() == 2 else 1)
        for name, tensor in load_file(path / WEIGHTS).items()
    }
    weights["output.linear.bias"][[PAD, BOS]] = -30.0  # CTranslate2 takes them out before the softmax, we after it
    for token, value in (bias or {}).items():
        weights["output.linear.bias"][token] = value
    save_file(weights, path / WEIGHTS)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][WEIGHTS] = sha256_file(path / WEIGHTS)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path
