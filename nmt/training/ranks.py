"""The processes that train one model together, as `torchrun` starts them; one alone otherwise.

Every collective below is called by all ranks in the same order, so all decisions that lead to one are made from
values that were agreed upon.
"""

import contextlib
import datetime
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch import distributed as dist

from nmt.errors import NMTError, UsageError
from nmt.host import end_at_once

_PATIENCE: Final = datetime.timedelta(minutes=10)
"""The leader may take so long over a validation or a save before the others give it up for dead."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Rank among those of this machine: the number of its GPU."""
    local_size: int = 1

    @staticmethod
    def from_environment() -> "Ranks":
        """What torchrun says; alone where it says nothing.

        Raises:
            UsageError: it says something impossible.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return Ranks()
        try:
            ranks = Ranks(*(int(os.environ.get(name, fallback)) for name, fallback in zip(names, "0101", strict=True)))
        except ValueError as error:
            raise UsageError("RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE must be numbers") from error
        if not 0 <= ranks.rank < ranks.size:
            raise UsageError(f"RANK is {ranks.rank}, but WORLD_SIZE is {ranks.size}: start with torchrun")
        return ranks

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self, device: torch.device) -> Iterator[None]:
        """Join the others for the block: over NCCL on GPUs, Gloo on CPUs.

        Raises:
            NMTError: they cannot be reached, or one was lost on the way.
        """
        if self.size == 1:
            yield
            return
        end_at_once()  # Gloo's threads take the interpreter's lock to free tensors, and abort if it is gone
        try:
            with _mortal():
                if device.type == "cuda":
                    torch.cuda.set_device(device)
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
            yield
            dist.destroy_process_group()  # not after an error: on GPUs it would wait for the others
        except (dist.DistError, RuntimeError) as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection" in str(error):
                what = str(error).partition("\n")[0]
                raise NMTError(f"lost the other processes of this training: {what}") from error
            raise

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any rank has it set."""
        if self.size == 1:
            return flags
        values = torch.tensor(flags, dtype=torch.int32, device=_device())
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the ranks, in float64."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=_device())
        dist.all_reduce(sums)
        return tuple(sums.tolist())

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Give all ranks the leader's contents, in place."""
        if self.size > 1:
            for tensor in tensors:
                on_device = tensor.to(_device())
                dist.broadcast(on_device, 0)
                tensor.copy_(on_device)

    def gather(self, value: Any) -> list[Any]:
        """What every rank holds, as JSON can carry it, by rank; all ranks get it."""
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(_device())
        length = torch.tensor([len(data)], device=data.device)
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length)
        longest = max(int(n) for n in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8, device=data.device)
        padded[: len(data)] = data
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [json.loads(bytes(part[: int(n)].cpu().numpy())) for part, n in zip(parts, lengths, strict=True)]


@contextlib.contextmanager
def _mortal() -> Iterator[None]:
    """Signals end the process for the block, as torch waits in it for the others without letting Python act on one."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say what signals do
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _device() -> torch.device:
    """Where collectives work: NCCL knows GPUs only."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
