"""Text for terminals: tables that fit, spans for people, nothing that could command a terminal."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

GAP = "  "
_MIN_FLEXIBLE = 16

Style = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and how it looks; styled only when its width is known."""

    text: str
    style: Style | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; `importance` 0 is never left out, higher ones are when the terminal is narrow."""

    title: str
    importance: int = 0
    right: bool = False
    flexible: bool = False
    """Whether its texts may be cut, at their beginning: the end of a dotted name tells more."""


def render(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, heading: Style) -> list[str]:
    """Return the lines of a table, none of them wider than `width` characters if that is possible at all."""
    # A column without a word in it says nothing, and takes the place of one that does.
    shown = [i for i, column in enumerate(columns) if not column.importance or any(row[i].text for row in rows)]
    widths = [max([_width(column.title), *(_width(row[i].text) for row in rows)]) for i, column in enumerate(columns)]
    while True:
        fixed = sum(widths[i] for i in shown if not columns[i].flexible) + len(GAP) * (len(shown) - 1)
        flexible = [i for i in shown if columns[i].flexible]
        wanted = sum(min(widths[i], _MIN_FLEXIBLE) for i in flexible)
        least = max((columns[i].importance for i in shown), default=0)
        if fixed + wanted <= width or least == 0:
            break
        shown = [i for i in shown if columns[i].importance < least]
    for i in flexible:
        widths[i] = max(min(widths[i], width - fixed), 1)
    lines = [_line([Cell(columns[i].title, heading) for i in shown], [columns[i] for i in shown], widths, shown)]
    lines += [_line([row[i] for i in shown], [columns[i] for i in shown], widths, shown) for row in rows]
    return lines


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


def clean(text: str) -> str:
    """Return `text` on one line, without control and direction characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def clean_lines(text: str) -> list[str]:
    """Return the lines of `text`, without control and direction characters."""
    return [clean(line.expandtabs(4)) for line in text.splitlines()]


def _line(cells: Iterable[Cell], columns: Iterable[Column], widths: list[int], shown: list[int]) -> str:
    parts = []
    for position, (cell, column, i) in enumerate(zip(cells, columns, shown, strict=True)):
        text = _cut(cell.text, widths[i]) if column.flexible else cell.text
        padding = " " * (widths[i] - _width(text))
        styled = text if cell.style is None else cell.style(text)
        last = position == len(shown) - 1
        parts.append(padding + styled if column.right else styled if last else styled + padding)
    return GAP.join(parts).rstrip()


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[1:]
    return "…" + text


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
