"""Which device computes, in which precision, on how many threads."""

import ctypes
import functools
import gc
import os
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Literal

import torch

from nmt.config import check_device_name
from nmt.errors import DeviceError, unknown
from nmt.host import available_cores, return_memory, reuse_memory, total_memory


def select_device(name: str, *, local: int = 0) -> torch.device:
    """`cpu`, `cuda`, `cuda:N`, or `auto` (a CUDA device if there is one, else the CPU).

    Args:
        name: as above.
        local: which of the processes on this machine this is; `cuda` and `auto` give each its own device.

    Raises:
        UsageError: not the name of a device.
        DeviceError: that device is not there.
    """
    check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        hint = "no CUDA device is visible" if torch.version.cuda else "this PyTorch build is for CPUs only"
        raise DeviceError(f"device '{name}' is not there: {hint}; use --device cpu")
    number = int(index or local)
    if number >= count:
        raise DeviceError(f"device 'cuda:{number}' is not there: this machine has cuda:0 to cuda:{count - 1}")
    return torch.device(kind, number)


def select_devices(name: str) -> list[torch.device]:
    """As `select_device`, but `cuda` and `auto` mean every CUDA device of one kind: others round otherwise."""
    first = select_device(name)
    if first.type == "cpu" or ":" in name:
        return [first]
    kinds = [
        (torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number))
        for number in range(torch.cuda.device_count())
    ]
    return [torch.device("cuda", number) for number, kind in enumerate(kinds) if kind == kinds[0]]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run on units made for them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def select_precision(name: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where the device has fast units for it, else fp32."""
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if name not in ("fp32", "bf16"):
        raise unknown("precision", name, ("auto", "fp32", "bf16"))
    return "bf16" if name == "bf16" else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 under `bf16`, weights in float32; nothing under `fp32`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def in_autocast_type(x: torch.Tensor) -> torch.Tensor:
    """`x` in the type of matrix products where `autocast` is on: what is added to it later stays in it.

    On a CPU, where memory is what a step waits for: 4 to 12 % faster with 3+3 layers of width 256, the validation curve
    as before. On a GPU norms are in float32 by torch's choice, and sums stay so too.
    """
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if kind == "cpu" and torch.is_autocast_enabled(kind) else x


def set_threads(count: int, *, share: int = 1) -> int:
    """Compute on `count` CPU threads, 0 for all cores this process may use; returns the number.

    Where `OMP_NUM_THREADS` of the environment says how many, 0 is so many (torchrun sets it to 1 by itself, so that it
    says nothing where processes share the cores).

    Args:
        count: of threads.
        share: processes among which the cores are divided where `count` is 0.
    """
    if count or share > 1 or not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(count or max(1, available_cores() // share))
    return torch.get_num_threads()


@functools.cache
def use_huge_pages() -> None:
    """Ask the kernel for pages of 2 MiB under what will be allocated, the first 2 GiB (Linux, after `reuse_memory`).

    A training step walks through hundreds of MiB. Where pages of 2 MiB are never given, or always, it changes nothing.
    The addresses stay reserved, the memory is taken as it is used.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL(None)
        allocate, free, madvise, _ = libc.malloc, libc.free, libc.madvise, libc.mallopt
    except (OSError, AttributeError):
        return
    page, size, advice = 2**21, 2**31 - 2**26, 14  # MADV_HUGEPAGE of mman.h
    allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = allocate(size)  # of addresses: nothing is written there
    if block:
        start = block + -block % page
        madvise(start, (block + size - start) // page * page, advice)
        free(block)


def keep_kernels() -> None:
    """Let oneDNN keep what it generates for every shape of a bf16 product: up to 4,096 kernels of some 0.4 MB each.

    Its own limit is 1,024, fewer than the batches of a corpus need, and each that comes anew takes a millisecond or so
    (README, "What trains faster"). A corpus of many lengths fills 1.2 GB more with them in the course of a training.
    Counts before the first product; `ONEDNN_PRIMITIVE_CACHE_CAPACITY` of the environment prevails.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")


def prepare_to_train() -> None:
    """Settings of this process that make training faster: memory and kernels are kept, pages are large."""
    reuse_memory()
    use_huge_pages()
    keep_kernels()


_BYTES_A_PARAMETER: Final = 16
"""That training takes at least: fp32 weight, gradient and two moments."""


def require_memory_to_train(parameters: int, device: torch.device) -> None:
    """Raise `DeviceError` where so many take more than all the memory there is."""
    needed = _BYTES_A_PARAMETER * parameters
    there = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else total_memory()
    if needed > there > 0:
        sizes = f"{needed / 2**30:,.1f} GiB to train, {device} has {there / 2**30:,.1f} GiB"
        raise DeviceError(f"out of memory: the model takes {sizes}: choose a smaller one")


def peak_memory(device: torch.device) -> float:
    """Most memory held so far, MiB: of the device, or on a CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10  # getrusage may know of the parent, before the exec
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def forget_peak_memory(device: torch.device) -> bool:
    """Let `peak_memory` begin anew with what is in use now; whether this system can.

    What is free goes back to the kernel first: it would count as held.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    gc.collect()
    if not return_memory():
        return False
    try:
        with open("/proc/self/clear_refs", "w") as file:  # 5: the peak of the resident set, proc(5)
            file.write("5")
    except OSError:
        return False
    return True
