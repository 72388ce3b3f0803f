"""The schedules at the points where a hand can compute them."""

import pytest

from nmt.training.schedule import learning_rate


def rate(update: int, schedule: str, warmup: int = 10) -> float:
    return learning_rate(update, peak=2.0, schedule=schedule, warmup_updates=warmup, max_updates=109)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_warms_up_to_the_peak(schedule: str) -> None:
    assert rate(1, schedule) == pytest.approx(0.2)
    assert rate(5, schedule) == pytest.approx(1.0)
    assert rate(10, schedule) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("schedule", "later"), [("inverse_sqrt", 1.0), ("cosine", 1.5), ("linear", 1.4), ("constant", 2.0)]
)
def test_falls_as_its_name_says(schedule: str, later: float) -> None:
    update = {"inverse_sqrt": 40, "cosine": 10 + 100 // 3, "linear": 40, "constant": 90}[schedule]
    assert rate(update, schedule) == pytest.approx(later, abs=0.02)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_ends_near_zero_and_stays_there(schedule: str) -> None:
    assert 0 < rate(109, schedule) < 0.03
    assert rate(110, schedule) == 0
    assert rate(1000, schedule) == 0


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_no_warm_up_starts_at_the_peak(schedule: str) -> None:
    assert rate(1, schedule, warmup=0) == 2.0
    assert rate(50, schedule, warmup=0) == rate(50, schedule, warmup=1)
