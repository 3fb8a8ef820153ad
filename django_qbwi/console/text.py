"""Text for people, on terminals and pages: spans of time, and nothing that could command a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from django_qbwi.core.names import clean

MAX_TEXT = 20_000
"""Characters of a long text."""


def span(seconds: float | None) -> str:
    """Return a span as people say it: 0.4 s, 12 s, 3 m 05 s, 2 h 10 m, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def seconds_between(start: str | None, end: str | None, now: datetime.datetime) -> float | None:
    """Return the seconds between two ISO 8601 times, or until `now`; None if the first one is missing."""
    if start is None:
        return None
    until = now if end is None else datetime.datetime.fromisoformat(end)
    return (until - datetime.datetime.fromisoformat(start)).total_seconds()


def moment_of(source: Mapping[str, Any], key: str) -> datetime.datetime | None:
    """Return an ISO 8601 time that a process has sent as a moment, None where there is none."""
    value = source.get(key)
    return None if value is None else datetime.datetime.fromisoformat(value)


def seconds_from(start: datetime.datetime, end: datetime.datetime) -> float:
    """Return the seconds between two moments, none if the wall clock was set back in between."""
    return max(0.0, (end - start).total_seconds())


def clean_lines(text: str) -> list[str]:
    """Return the lines of `text`, without control and direction characters."""
    return [clean(line.expandtabs(4)) for line in text.splitlines()]


def printable_lines(text: str, limit: int = MAX_TEXT) -> str:
    """Return the last `limit` characters of `text`, without control and direction characters but line ends."""
    if len(text) > limit:
        text = f"…{text[-limit:]}"
    return clean(text.replace("\r\n", "\n"), "\n\t")


def long_span(seconds: float | None) -> str:
    """Return a span for a page, with room: such as 3 min 12 s, or 42 ms."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller:02d} {name}"
    return f"{whole} s"
