"""What torch and its libraries raise when memory does not suffice is known as that, and nothing else is."""

import pytest
import torch

from nmt.errors import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_does_not_suffice(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_what_torch_says_for_an_impossible_size_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


OTHERS = [
    RuntimeError("size mismatch"),
    RuntimeError("Expected all tensors to be allocated in the same memory format"),
    OSError("out of memory"),
    ValueError("bad_alloc"),
]


@pytest.mark.parametrize("error", OTHERS)
def test_other_errors(error: Exception) -> None:
    assert not is_out_of_memory(error)
