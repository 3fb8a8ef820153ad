"""`manage.py qbwi schedules`: what runs by the clock, when next, and how the last run went."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

from django_qbwi import hosting
from django_qbwi.console.tables import Cell, Column
from django_qbwi.console.text import span
from django_qbwi.core.exceptions import InspectionError
from django_qbwi.core.names import clean
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.inspection.records import SCHEMA
from django_qbwi.inspection.schedules import ScheduleInfo

COLUMNS = (
    Column(title="NEXT", right=True),
    Column(title="STATE"),
    Column(title="LAST TICK", importance=1, right=True),
    Column(title="OUTCOME"),
    Column(title="TOOK", importance=2, right=True),
    Column(title="LEFT OUT", importance=3, right=True),
    Column(title="ITEM", importance=5),
    Column(title="WHEN", importance=1),
    Column(title="NAME", flexible=True),
)


def read() -> list[ScheduleInfo]:
    """Return all schedules; blocks as long as the database does.

    Raises:
        InspectionError: There are none to read; the message says why.
    """
    found = hosting.schedules()
    if found is None:
        raise InspectionError(
            'nothing runs by the clock here: add "django_qbwi.contrib.schedules" to INSTALLED_APPS for that'
        )
    return found.read()


def show(how: str, write_table: Callable[[list[ScheduleInfo]], None], write_json: Callable[..., None]) -> None:
    """Write all schedules as a table, as JSON, or as one JSON object a line; raises as `read` does."""
    found = read()
    if how == "json":
        write_json({"schema": SCHEMA, "schedules": [info.to_dict() for info in found]})
    elif how == "jsonl":
        for info in found:
            write_json(info.to_dict(), "jsonl")
    else:
        write_table(found)


def rows(found: list[ScheduleInfo], style: Any, now: datetime.datetime) -> Iterator[list[Cell]]:
    """Yield the row of each one, in the style of a command."""
    for info in found:
        failed = info.outcome not in ("", WorkItemStatus.SUCCEEDED, WorkItemStatus.HANDED_OFF)
        took = None if info.started_at is None or info.state == "lost" else (info.ended_at or now) - info.started_at
        yield [
            Cell("" if info.next_at is None or info.state == "removed" else _distance(info.next_at, now)),
            Cell(info.state, style.WARNING if info.state in ("lost", "removed") else None),
            Cell("" if info.tick_at is None else _distance(info.tick_at, now)),
            Cell(clean(info.outcome), style.ERROR if failed else None),
            Cell("" if took is None else span(took.total_seconds())),
            Cell(str(info.skipped) if info.skipped else ""),
            Cell(clean(info.item)),
            Cell(clean(info.when)),
            Cell(clean(info.name)),
        ]


def _distance(moment: datetime.datetime, now: datetime.datetime) -> str:
    seconds = (moment - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"
