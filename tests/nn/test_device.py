import pytest
import torch

from nmt.errors import DeviceError
from nmt.nn.device import select_device, select_devices


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
