"""What follows from helpers that die: the next start waits for a while, and who kills each of them is refused.

Lock: that of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable

_IN_A_ROW = 3
_REFUSED_SECONDS = 60.0
_FIRST_SECONDS, _FACTOR, _LONGEST_SECONDS = 0.25, 2.0, 30.0
_MOST_NAMES = 1000


class Deaths:
    """Counts the deaths of helpers, in a row: in all, and of each item by its name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_a_row = 0
        self._next_start = 0.0
        self._of: dict[str, int] = {}
        self._refused_until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Deaths in_a_row={self._in_a_row} of={self._of}>"

    @property
    def seconds_until_start(self) -> float:
        """How long the next helper is to wait for its start."""
        return max(0.0, self._next_start - self._clock())

    def died(self, name: str | None) -> bool:
        """Note the death of a helper, which ran the item of that name, if it ran one; True if that is refused now."""
        self._in_a_row += 1
        # The first one is replaced at once: most are single.
        exponent = min(self._in_a_row - 2, 16)
        wait = 0.0 if exponent < 0 else min(_LONGEST_SECONDS, _FIRST_SECONDS * _FACTOR**exponent)
        self._next_start = self._clock() + wait
        if name is None:
            return False
        if len(self._of) >= _MOST_NAMES:
            self._of.clear()
        seen = self._of[name] = self._of.get(name, 0) + 1
        if seen < _IN_A_ROW:
            return False
        del self._of[name]
        self._refused_until[name] = self._clock() + _REFUSED_SECONDS
        return True

    def survived(self, name: str) -> None:
        """Note that an item has ended, and its helper lives."""
        self._in_a_row = 0
        self._next_start = 0.0
        self._of.pop(name, None)

    def refusal(self, name: str) -> str | None:
        """Return why an item of that name does not run now, None if it may."""
        until = self._refused_until.get(name)
        if until is None:
            return None
        left = until - self._clock()
        if left <= 0:
            del self._refused_until[name]
            return None
        return (
            f"{_IN_A_ROW} helper processes in a row have died while they ran {name}, which is not run for another "
            f"{left:.0f} s: see the records of its failures for how they died"
        )
