"""State of AdamW as named tensors, for checkpoints and ranks."""

from typing import Any, Final

import torch
from torch import Tensor

from nmt.checkpoint import named_weights
from nmt.errors import ModelError
from nmt.models.interface import Seq2Seq

MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(model: Seq2Seq[Any], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Step and moments of every parameter that has some, as `MOMENT/NAME`."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    return tensors


def run_tensors(model: Seq2Seq[Any], optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Weights, and moments where there are any, in an order that is the same for every process."""
    return [*named_weights(model).values(), *optimizer_tensors(model, optimizer).values()]


def begin_moments(model: Seq2Seq[Any], optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser that has done nothing yet the moments of one that has, to be filled."""
    zeros: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        zeros[f"step/{name}"] = torch.zeros((), dtype=torch.float32)
        for key in MOMENTS[1:]:
            zeros[f"{key}/{name}"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    restore_optimizer(model, optimizer, zeros)


def restore_optimizer(model: Seq2Seq[Any], optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; raises `ModelError` where a parameter has some of them and not all."""
    for name, parameter in model.named_parameters():
        found = {key: state.get(f"{key}/{name}") for key in MOMENTS}
        if any(value is None for value in found.values()):
            if any(value is not None for value in found.values()):
                raise ModelError(f"optimiser state of tensor '{name}' is incomplete")
            continue
        optimizer.state[parameter] = {
            key: value.to("cpu" if key == "step" and not parameter.is_cuda else parameter.device)
            for key, value in found.items()
            if value is not None
        }
