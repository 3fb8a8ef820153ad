"""Small line drawings for the admin page, computed here and drawn as SVG by the template.

Pure functions of times and counts. All coordinates are text: Django's templates would localize numbers, and "1,5" is
not a coordinate.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable

WINDOW = 600.0
"""Seconds that a line covers."""
WIDTH, HEIGHT = 120, 28

_STEP = 20.0
_STEPS = int(WINDOW / _STEP)
_MARGIN = 2.0

Moment = datetime.datetime
Interval = tuple[Moment, Moment | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """A line and the area below it, as the `points` attributes of SVG shapes, and its values for a description."""

    line: str
    area: str
    least: int
    most: int


def next_step(now: Moment) -> Moment:
    """Return the next multiple of a step: lines that end there keep their shape from one refresh to the next."""
    return datetime.datetime.fromtimestamp(math.ceil(now.timestamp() / _STEP) * _STEP, datetime.UTC)


def levels(intervals: Iterable[Interval], now: Moment, known_since: Moment | None = None) -> list[int]:
    """Return how many of the intervals were open at each step of the last minutes, oldest first.

    An interval is its start and its end, None if it is still open. Steps before `known_since` are left out.
    """
    changes = [0] * (_STEPS + 2)
    for start, end in intervals:
        first = max(0, _step_after(start, now))
        last = _STEPS + 1 if end is None else max(0, _step_after(end, now))
        if first < last:
            changes[min(first, _STEPS + 1)] += 1
            changes[min(last, _STEPS + 1)] -= 1
    counts, count = [], 0
    for change in changes[:-1]:
        count += change
        counts.append(count)
    return counts[_first_known(now, known_since) :]


def events(moments: Iterable[Moment], now: Moment, known_since: Moment | None = None) -> list[int]:
    """Return how many of the moments fall into each step of the last minutes, oldest first."""
    counts = [0] * (_STEPS + 1)
    for moment in moments:
        step = _step_after(moment, now)
        if 0 <= step <= _STEPS:
            counts[step] += 1
    return counts[_first_known(now, known_since) :]


def sparkline(counts: list[int]) -> Sparkline | None:
    """Return the drawing of the counts, which end now; None if fewer than two are known."""
    if len(counts) < 2:
        return None
    most = max(counts)
    left = _STEPS + 1 - len(counts)
    places = [
        (f"{(left + index) * WIDTH / _STEPS:.1f}", f"{_height(count, most):.1f}") for index, count in enumerate(counts)
    ]
    line = " ".join(f"{x},{y}" for x, y in places)
    return Sparkline(
        line=line,
        area=f"{places[0][0]},{HEIGHT} {line} {places[-1][0]},{HEIGHT}",
        least=min(counts),
        most=most,
    )


def _height(count: int, most: int) -> float:
    room = HEIGHT - 2 * _MARGIN
    return HEIGHT - _MARGIN - (room * count / most if most else 0.0)


def _step_after(moment: Moment, now: Moment) -> int:
    """Return the index of the first step at or after `moment`; the last step is now, and what is later than it."""
    return min(_STEPS, _STEPS - math.floor((now - moment).total_seconds() / _STEP))


def _first_known(now: Moment, known_since: Moment | None) -> int:
    return 0 if known_since is None else min(_STEPS + 1, max(0, _step_after(known_since, now)))
