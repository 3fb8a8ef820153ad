"""The last records have their time, where the server lets us have it, as long as they come."""

from __future__ import annotations

import pytest

from django_qbwi.lifecycle.last_moments import latest, margin, told
from tests.support.clock import FakeClock


@pytest.mark.parametrize(
    ("limit", "others", "expected"),
    [
        # Nobody else has one: what is ours alone.
        (4.0, [None, None], 6.0),
        (4.0, [20.0, None], 6.0),
        # That of the server comes first, with what it needs for its own end.
        (4.0, [5.0, None], 4.5),
        (30.0, [30.0, None], 28.0),
        (30.0, [90.0, 30.0], 28.0),
    ],
)
def test_latest(limit: float, others: list[float | None], expected: float) -> None:
    """Our own limit may be passed by two seconds, that of the server never."""
    assert latest(100.0, limit, others) == 100.0 + expected
    server = min((value for value in others if value is not None), default=1e9)
    assert latest(0.0, limit, others) <= server - margin(server)


class Records:
    """So many that are left, of which `pace` are written in a second."""

    def __init__(self, left: int, pace: float) -> None:
        self.clock = FakeClock()
        self.began, self.total, self.pace = self.clock(), left, pace

    def left(self) -> int:
        """Return how many are still to be written."""
        return max(0, self.total - int(self.pace * (self.clock() - self.began)))

    def wait(self, until: float) -> bool:
        """Wait for all of them."""
        while self.left() and self.clock() < until:
            self.clock.advance(0.01)
        return not self.left()

    def told(self, by: float, most: float) -> tuple[bool, float]:
        """Return whether all were told, and after how long."""
        found = told(self.wait, self.left, self.clock, self.began + by, self.began + most)
        return found, self.clock() - self.began


def test_told_in_time() -> None:
    """Nothing is waited for beyond its moment."""
    assert Records(10, 100).told(0.2, 2.0) == (True, pytest.approx(0.1, abs=0.02))


def test_told_late() -> None:
    """Sixty that take five milliseconds each are not left untold for a tenth of a second."""
    found, after = Records(60, 200).told(0.2, 2.0)
    assert found
    assert after == pytest.approx(0.3, abs=0.02)


def test_stuck() -> None:
    """A handler that writes none gets no more time."""
    assert Records(60, 0).told(0.2, 2.0) == (False, pytest.approx(0.2, abs=0.02))


def test_server_wins() -> None:
    """At its limit nothing is waited for any more, however well it goes."""
    assert Records(10_000, 200).told(0.2, 0.9) == (False, pytest.approx(0.9, abs=0.02))


def test_two_seconds_are_the_most() -> None:
    """Where nobody else has a limit."""
    found, after = Records(10_000, 200).told(0.2, 90.0)
    assert not found
    assert after == pytest.approx(2.2, abs=0.02)
