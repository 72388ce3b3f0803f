import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nmt.errors import DeviceError
from nmt.nn.device import autocast, has_fast_bf16, in_autocast_type, select_device, select_devices, set_threads


@pytest.fixture
def gpus(monkeypatch):
    """A machine that says it has two."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "one kind")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (9, 0))


def names(devices):
    return [str(device) for device in devices]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0", "cuda:1"]), ("cuda:1", ["cuda:1"]), ("cpu", ["cpu"])],
)
def test_cuda_without_a_number_is_every_gpu(gpus, name, expected):
    assert names(select_devices(name)) == expected


def test_a_gpu_of_another_kind_is_left_out(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: ["one", "another"][number])
    assert names(select_devices("cuda")) == ["cuda:0"]
    assert names(select_devices("cuda:1")) == ["cuda:1"]


def test_each_process_has_its_own_gpu(gpus):
    assert names([select_device("auto", local=1), select_device("cuda", local=1)]) == ["cuda:1", "cuda:1"]
    with pytest.raises(DeviceError, match="'cuda:2' is not there: this machine has cuda:0 to cuda:1"):
        select_device("cuda", local=2)


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert names(select_devices("auto")) == ["cpu"]
    with pytest.raises(DeviceError, match="is not there"):
        select_devices("cuda")


def test_what_is_added_to_stays_in_the_type_of_the_products():
    x = torch.zeros(2, 3)
    assert in_autocast_type(x) is x
    with autocast(x.device, "bf16"):
        assert in_autocast_type(x).dtype == torch.bfloat16
    with autocast(x.device, "fp32"):
        assert in_autocast_type(x) is x


def test_threads_are_those_of_the_environment_where_no_number_is_given(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("nmt.nn.device.available_cores", lambda: 6)
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert (set_threads(3), set_threads(0), set_threads(0, share=2)) == (3, 6, 3)
        torch.set_num_threads(2)  # as torch itself does, once, when it finds
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert (set_threads(0), set_threads(0, share=2), set_threads(5)) == (2, 3, 5)
    finally:
        torch.set_num_threads(before)


HEAP = """
import torch
from nmt.host import reuse_memory
from nmt.nn.device import use_huge_pages
reuse_memory()
use_huge_pages()
x = torch.zeros(2**24)
place = x.data_ptr() + 2**25
flags = None
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
    elif line.startswith("VmFlags") and first <= place < last:
        flags = line.split()[1:]
held = int(open("/proc/self/statm").read().split()[1]) * 4096
print("hg" in flags, held < 2**30)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not Path("/sys/kernel/mm/transparent_hugepage").is_dir(),
    reason="needs glibc and a kernel with transparent huge pages",
)
def test_memory_is_taken_in_huge_pages_and_none_before_it_is_needed():
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


KERNELS = """
import torch
from nmt.nn.device import keep_kernels
keep_kernels()
for rows in (*range(16, 1116), 16):  # more than the 1,024 that oneDNN keeps by itself
    torch.ones(rows, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
"""


@pytest.mark.skipif(not has_fast_bf16(torch.device("cpu")), reason="needs a CPU with products in bfloat16")
@pytest.mark.parametrize(("limit", "hits"), [(None, 1), ("1024", 0)])
def test_kernels_are_kept_as_many_as_wanted(limit: str | None, hits: int):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    others = {key: value for key, value in os.environ.items() if key != name}
    env = others | {"ONEDNN_VERBOSE": "2"} | ({name: limit} if limit else {})
    done = subprocess.run([sys.executable, "-c", KERNELS], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.count("create:cache_hit") == hits
    assert "create:cache_miss" in done.stdout


HELD = """
import torch
from nmt.host import reuse_memory
from nmt.nn.device import forget_peak_memory, peak_memory
reuse_memory()
device = torch.device("cpu")
def measure():
    assert forget_peak_memory(device)
    return peak_memory(device)
before = measure()
buffers = [torch.ones(2**20) for _ in range(100)]
during = peak_memory(device)
del buffers
print(during - before > 300, measure() - before < 100)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc on Linux")
def test_what_is_measured_first_does_not_count_for_what_is_measured_next():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
