import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The roof is measured in an instant."""
    monkeypatch.setattr("nmt.bench.machine._SECONDS", 0.02)
    monkeypatch.setattr("nmt.bench.machine._SIZES", {"cpu": (64, 64, 64)})
