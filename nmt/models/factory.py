"""From a configuration to the model it describes: the one place that names all architectures."""

from typing import Any, assert_never

import torch

from nmt.config import AttentionGRUConfig, GRUConfig, ModelConfig, TransformerConfig
from nmt.errors import UsageError
from nmt.models.attention_gru import AttentionGRUSeq2Seq
from nmt.models.gru import GRUSeq2Seq
from nmt.models.interface import Seq2Seq
from nmt.models.transformer import TransformerSeq2Seq
from nmt.nn.device import require_memory_to_train


def parameters_of(config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, joint: bool = True) -> int:
    """Weights that `build_model` would give, tied ones counted once; takes no memory for them."""
    with torch.device("meta"):
        model = build_model(config, source_vocab_size, target_vocab_size, joint=joint)
    return count_parameters(model)


def count_parameters(model: Seq2Seq[Any]) -> int:
    """Weights, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def build_to_train(
    config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, joint: bool, device: torch.device
) -> Seq2Seq[Any]:
    """`build_model`, on the device that trains it.

    Raises:
        DeviceError: training it takes more memory than there is; asked before it is built.
    """
    sizes = source_vocab_size, target_vocab_size
    require_memory_to_train(parameters_of(config, *sizes, joint=joint), device)
    return build_model(config, *sizes, joint=joint).to(device)


def build_model(
    config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, joint: bool = True
) -> Seq2Seq[Any]:
    """A freshly initialised model; `joint` says that source and target share one vocabulary.

    Raises:
        UsageError: `tie_embeddings = all` without a joint vocabulary.
    """
    if config.tie_embeddings == "all" and not (joint and source_vocab_size == target_vocab_size):
        raise UsageError("tie_embeddings = all needs one joint vocabulary: set tie_embeddings = output or none")
    match config:
        case GRUConfig():
            return GRUSeq2Seq(config, source_vocab_size, target_vocab_size)
        case AttentionGRUConfig():
            return AttentionGRUSeq2Seq(config, source_vocab_size, target_vocab_size)
        case TransformerConfig():
            return TransformerSeq2Seq(config, source_vocab_size, target_vocab_size)
        case _:
            assert_never(config)
