"""What is kept of a limit for the last records and the server's own end: one clock for all of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

_SHORTEST = 0.25
"""Seconds for the last moments where the margin of a short limit leaves less."""

_LONGEST_WRITE = 1.6
"""Seconds for what is to be kept in a database, where the limit is further away than that."""


_LONGEST_TELLING = 2.0
"""Seconds for records that still come, where the server lets us have them."""


def latest(now: float, limit: float, others: Sequence[float | None]) -> float:
    """Return until when the server lets us write records, where our own limit is shorter than all the `others`."""
    server = min((value for value in others if value is not None), default=math.inf)
    return now + min(server - margin(server), limit + _LONGEST_TELLING)


def told(
    wait: Callable[[float], bool], left: Callable[[], int], clock: Callable[[], float], by: float, most: float
) -> bool:
    """Wait until all that has ended is told of: until the moment `by`; until `most`, as long as it goes on.

    A limit that is ours alone is worth less than a record that is being written. Who is stuck gets no more time.
    """
    most, step = min(most, by + _LONGEST_TELLING), _LONGEST_TELLING / 2
    before = left()
    while not wait(by):
        now, rest = clock(), left()
        if rest >= before or now >= most:
            return False
        before, by = rest, min(now + step, most)
    return True


def quietly(wait: Callable[[], object]) -> object:
    """Return what `wait` does, False where it is left by a further signal: there is nothing left to shorten."""
    try:
        return wait()
    except BaseException:
        return False


def margin(limit: float) -> float:
    """Return the seconds kept of a limit for the last records and the server's own end."""
    return min(2.0, limit / 10)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LastMoments:
    """Three moments, on the monotonic clock, by which those who wait one after the other have to be done."""

    interrupted_by: float
    """Async items that were cancelled natively have ended."""
    records_by: float
    """The last records are written."""
    kept_by: float
    """What is kept of the items in a database is written, or given up."""
    ends_by: float
    """Threads have closed their connections: the process goes."""

    @classmethod
    def of(cls, now: float, deadline: float | None, limit: float) -> LastMoments:
        """Return them for a drain that is over `now`, at its deadline or before it."""
        span = max(_SHORTEST, margin(limit))
        begins = now if deadline is None else min(now, deadline)
        if begins + span < now + _SHORTEST:
            # A server came back to us later than that.
            begins, span = now, _SHORTEST
        # A drain that was over early has time left for a slow database.
        early = now if deadline is None else min(now + _LONGEST_WRITE, deadline)
        kept_by = max(begins + span * 0.8, early)
        return cls(
            interrupted_by=begins + min(0.5, max(0.1, span / 4)),
            records_by=begins + span / 2,
            kept_by=kept_by,
            ends_by=max(begins + span, kept_by + span * 0.2),
        )


class LastWrites(Protocol):
    """What is kept of items elsewhere, a database say, and may not be written yet when the process ends."""

    @property
    def pending(self) -> bool:
        """Whether there is anything; asked in signal handlers too."""

    def write(self, until: float) -> object:
        """Write it, until the monotonic second `until` at the most; tell what could not be. Raises nothing."""


class NoLastWrites:
    """Nothing is kept elsewhere."""

    pending = False

    def write(self, until: float) -> object:
        """Do nothing."""
