"""The computer of this process: its cores, processor and C library; and how the process ends. Loads no torch."""

import ctypes
import os
from typing import Final

_AVX512: Final = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_avx512() -> bool:
    """Whether the processor has AVX-512 as servers have had it since 2017; told by Linux alone, elsewhere no."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return set(flags.split()) >= _AVX512


def reuse_memory(*, one_heap: bool = True) -> None:
    """Keep large freed buffers in the process instead of handing each back to the kernel (glibc only).

    Otherwise every buffer over 32 MiB is mapped and faulted in again at each step (README, "What trains faster").

    Args:
        one_heap: of all threads, as what one has freed is of no use to another otherwise. Threads that allocate all
            the time wait for each other there; heaps of their own keep buffers of up to 64 MiB.
    """
    mmap_max, trim_threshold, arena_max = -4, -1, -8  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    if one_heap:
        mallopt(arena_max, 1)


def resident_memory() -> int:
    """Bytes of main memory that the process has now; told by Linux alone, elsewhere 0."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def total_memory() -> int:
    """Bytes of main memory that the computer has; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def return_memory() -> bool:
    """Hand what is free back to the kernel, all that `reuse_memory` kept (glibc only); whether this system can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return True


class _Ending:
    at_once: bool = False


def end_at_once() -> None:
    """Wait for no thread of a library when the process ends, nor let one meet an interpreter that is half gone."""
    _Ending.at_once = True


def ends_at_once() -> bool:
    """Whether `end_at_once` was called."""
    return _Ending.at_once
