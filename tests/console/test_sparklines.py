"""The lines of the admin page: counts over the last ten minutes, and their drawing."""

import datetime

from django_qbwi.console.sparklines import events, levels, next_step, sparkline
from tests.admin.site import NOW


def before(seconds: float) -> datetime.datetime:
    """Return a moment before the end of the line."""
    return NOW - datetime.timedelta(seconds=seconds)


def test_levels_count_what_was_open() -> None:
    """An interval counts from the step at its start to the last one before its end; an open one to the end."""
    counts = levels([(before(100), before(40)), (before(60), None), (before(9_000), before(700))], NOW)
    assert len(counts) == 31
    assert counts[-6:] == [1, 1, 2, 1, 1, 1]
    assert sum(counts[:-6]) == 0


def test_levels_reach_beyond_the_window() -> None:
    """What began long ago, or is said to begin in the future, is there at the steps that it covers."""
    assert levels([(before(90_000), None)], NOW) == [1] * 31
    assert levels([(before(-3_600), None)], NOW) == [0] * 30 + [1]


def test_events_are_counted_by_step() -> None:
    """Each moment is in one step; older ones are not on the line."""
    counts = events([before(0), before(19.9), before(20), before(590), before(10_000)], NOW)
    assert (counts[-1], counts[-2], counts[1], sum(counts)) == (2, 1, 1, 4)


def test_what_was_forgotten_is_left_out() -> None:
    """A line begins where everything is remembered: before, it would show a quiet time that was not."""
    assert levels([(before(100), None)], NOW, before(60)) == [1] * 4
    assert events([], NOW, before(60)) == [0] * 4
    assert levels([], NOW, datetime.datetime.max.replace(tzinfo=datetime.UTC)) == [0]
    assert len(levels([], NOW, datetime.datetime.min.replace(tzinfo=datetime.UTC))) == 31


def test_drawing() -> None:
    """The highest count touches the top, zero the bottom, and the last point the right edge."""
    drawn = sparkline([0, 2, 4])
    assert drawn is not None
    assert drawn.line == "112.0,26.0 116.0,14.0 120.0,2.0"
    assert drawn.area == f"112.0,28 {drawn.line} 120.0,28"
    assert (drawn.least, drawn.most) == (0, 4)


def test_no_drawing_of_less_than_two_counts() -> None:
    """One point is no line."""
    assert sparkline([3]) is None
    assert sparkline([]) is None


def test_nothing_is_a_line_at_the_bottom() -> None:
    """Counts that are all zero have no highest one to divide by."""
    drawn = sparkline([0] * 31)
    assert drawn is not None
    assert {point.partition(",")[2] for point in drawn.line.split()} == {"26.0"}


def test_lines_end_at_a_step() -> None:
    """The end of the lines moves in steps, not ahead of the next one."""
    assert next_step(NOW) == NOW
    assert next_step(before(1)) == NOW
    assert next_step(before(19)) == NOW
