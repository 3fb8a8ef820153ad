"""Tables for terminals, which fit their width."""

from __future__ import annotations

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
