"""What follows from helpers that die, by the clock."""

import pytest

from django_qbwi.executors.processes.deaths import Deaths
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told."""
    return FakeClock()


@pytest.fixture
def deaths(clock: FakeClock) -> Deaths:
    """Nothing has died yet."""
    return Deaths(clock)


def test_first_death_is_replaced_at_once(deaths: Deaths) -> None:
    """Most are single."""
    deaths.died("a")
    assert deaths.seconds_until_start == 0.0


def test_further_ones_wait_longer_and_longer(deaths: Deaths, clock: FakeClock) -> None:
    """Twice as long each time, half a minute at the most; the time that has passed counts."""
    waits = []
    for _ in range(12):
        deaths.died(None)
        waits.append(deaths.seconds_until_start)
    assert waits == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    clock.advance(29.0)
    assert deaths.seconds_until_start == 1.0


def test_success_ends_the_row(deaths: Deaths) -> None:
    """The next death is a first one again."""
    for _ in range(5):
        deaths.died("a")
    deaths.survived("b")
    assert deaths.seconds_until_start == 0.0
    deaths.died("a")
    assert deaths.seconds_until_start == 0.0


def test_third_death_in_a_row_refuses_for_a_minute(deaths: Deaths, clock: FakeClock) -> None:
    """That name, and no other one."""
    assert [deaths.died("a") for _ in range(3)] == [False, False, True]
    assert deaths.refusal("b") is None
    clock.advance(59.0)
    assert "for another 1 s" in (deaths.refusal("a") or "")
    clock.advance(1.0)
    assert deaths.refusal("a") is None


def test_survival_between_deaths_counts(deaths: Deaths) -> None:
    """Three are in a row only if the item has not ended well in between."""
    deaths.died("a")
    deaths.died("a")
    deaths.survived("a")
    assert [deaths.died("a") for _ in range(2)] == [False, False]


def test_names_are_bounded(deaths: Deaths) -> None:
    """A site that makes a name for each item does not fill the memory."""
    for number in range(5000):
        deaths.died(str(number))
    assert len(deaths._of) <= 1000
