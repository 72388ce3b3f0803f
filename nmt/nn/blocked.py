"""Products with the weights of a model by oneDNN, for inference in float32 where torch's choice is slower.

torch leaves products in float32 to Intel's MKL, which keeps its AVX-512 code to Intel's processors. On others oneDNN,
which torch has too, takes half the time, and less for few rows where it finds the weights laid out in its own blocks
(README, "What searches faster"). The operation is torch's own for compiled models; where a torch has it not, or a
processor needs it not, everything stays as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

_ROWS: Final = 64
"""For as many the blocks are chosen; they suit others as well, from 5 to 1,600."""


def blocks_pay(device: torch.device) -> bool:
    """Whether torch's own products in float32 are known to be slower on this processor."""
    capabilities = torch.cpu.get_capabilities()
    held_back = bool(capabilities.get("avx512_f")) and "Intel" not in str(capabilities.get("cpu_name", "Intel"))
    with_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return device.type == "cpu" and held_back and with_mkl and has_blocks()


def has_blocks() -> bool:
    """Whether this torch has the operation."""
    with_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return with_onednn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class BlockedLinears:
    """All `nn.Linear` of a model on a CPU, their weights laid out in blocks a second time.

    Args:
        model: in float32; its weights must stay as they are from the first use on.
    """

    def __init__(self, model: nn.Module) -> None:
        self._linears = [module for module in model.modules() if type(module) is nn.Linear]
        self._products: list[Callable[[Tensor], Tensor]] = []

    @contextmanager
    def used(self) -> Iterator[None]:
        """Compute with the blocks in here, without gradients."""
        if not self._products:
            self._products = [_product(linear) for linear in self._linears]
        for linear, product in zip(self._linears, self._products, strict=True):
            linear.__dict__["forward"] = product
        try:
            yield
        finally:
            for linear in self._linears:
                linear.__dict__.pop("forward", None)  # what its class has comes to light again


def _product(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    blocks = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def product(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        wanted = round_up(len(rows))
        if wanted > len(rows):
            rows = nn.functional.pad(rows, (0, 0, 0, wanted - len(rows)))
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, blocks, linear.bias, "none", [], "")
        return result[: x.shape[:-1].numel()].view(*x.shape[:-1], linear.out_features)

    return product


def round_up(rows: int) -> int:
    """Rows to compute: eight numbers between a power of two and the next.

    oneDNN generates, and keeps, half a MiB of code for each number of rows, and a search has ever fewer.
    """
    step = max(8, 1 << max(0, rows.bit_length() - 4))
    return rows if rows < 8 else rows + -rows % step
