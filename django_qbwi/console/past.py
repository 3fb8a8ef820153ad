"""What ended badly, or moved, over deploys: `manage.py qbwi history`, from the table of `contrib.history`."""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
from collections.abc import Callable
from typing import Any

from django_qbwi import hosting
from django_qbwi.console.tables import Cell, Column, render
from django_qbwi.console.text import clean_lines, seconds_between, span
from django_qbwi.core.exceptions import InspectionError, WorkItemNotFound
from django_qbwi.core.names import clean, printable
from django_qbwi.hosting.history import Wanted

LIMIT = 50
MOST = 1_000
_COLUMNS = (
    Column(title="ID"),
    Column(title="STATUS"),
    Column(title="ENDED", right=True),
    Column(title="RAN FOR", importance=3, right=True),
    Column(title="HOST", importance=4),
    Column(title="PID", importance=4, right=True),
    Column(title="NAME", flexible=True),
    Column(title="WHY", importance=2),
)
_MAX_WHY = 60
_UNLIMITED = 1_000
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DETAILS = (
    "id",
    "host",
    "pid",
    "kind",
    "thread",
    "queued_at",
    "started_at",
    "finished_at",
    "timeout",
    "attempt",
    "cancel_reason",
    "origin",
    "request_id",
    "why",
)

WriteJson = Callable[[Any, str], object]


def since(text: str) -> datetime.timedelta:
    """Return the span of an option, such as 90s, 30m, 12h or 7d.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    found = _SPAN.fullmatch(text)
    try:
        if found is not None:
            return datetime.timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        pass
    raise argparse.ArgumentTypeError(f"{printable(text)!r} is no span such as 90s, 30m, 12h or 7d")


def rows(text: str) -> int:
    """Return the number of an option.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is not between 1 and {MOST}")
    return int(text)


def find(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is kept and asked for, newest first; blocks as long as the database.

    Raises:
        InspectionError: There is no history, or its database cannot be read.
        WorkItemNotFound: There is no item with that id.
    """
    history = hosting.history()
    if history is None:
        raise InspectionError('there is no history: add "django_qbwi.contrib.history" to INSTALLED_APPS, and migrate')
    span_of_time = options["since"]
    wanted = Wanted(
        item_id=options["id"] or "",
        statuses=options["status"],
        pids=options["pid"],
        name=options["name"] or "",
        text=options["search"] or "",
        since=None if span_of_time is None else _before(span_of_time),
        limit=options["limit"],
    )
    found = history.read(wanted)
    if wanted.item_id and not found:
        raise WorkItemNotFound(f"the history has no work item {printable(wanted.item_id)!r}")
    return found


def write(options: dict[str, Any], output: Any, style: Any, write_json: WriteJson) -> None:
    """Find, and write to the output of a command, in its style and the format that is asked for.

    Raises:
        InspectionError, WorkItemNotFound: As `find`.
    """
    found = find(options)
    if options["format"] == "json":
        write_json({"schema": 1, "items": found}, "json")
    elif options["format"] == "jsonl":
        for item in found:
            write_json(item, "jsonl")
    elif options["id"] and len(found) == 1:
        _write_entry(found[0], output, style)
    elif not found:
        output.write("Nothing is in the history that was asked for.")
    else:
        now = datetime.datetime.now(tz=datetime.UTC)
        # Where nobody looks at it, in a pipe or a file, nothing is cut.
        width = shutil.get_terminal_size((_UNLIMITED, 24)).columns
        for line in render(_COLUMNS, [_cells(item, style, now) for item in found], width, style.MIGRATE_HEADING):
            output.write(line)
        if len(found) == options["limit"]:
            output.write(style.WARNING("There may be more: see --limit."))


def _before(span_of_time: datetime.timedelta) -> datetime.datetime | None:
    try:
        return datetime.datetime.now(tz=datetime.UTC) - span_of_time
    except OverflowError:
        # Longer ago than there were years.
        return None


def _cells(item: dict[str, Any], style: Any, now: datetime.datetime) -> list[Cell]:
    ran_for = None if item["started_at"] is None else seconds_between(item["started_at"], item["finished_at"], now)
    return [
        Cell(clean(item["id"])),
        Cell(clean(item["status"]), _style_of(item, style)),
        Cell(f"{span(seconds_between(item['finished_at'], None, now))} ago"),
        Cell(span(ran_for)),
        Cell(clean(item["host"])),
        Cell(str(item["pid"])),
        Cell(clean(item["name"])),
        Cell(_shortened(_why(item))),
    ]


def _style_of(item: dict[str, Any], style: Any) -> Any:
    return None if item["status"] == "handed_off" else style.ERROR


def _why(item: dict[str, Any]) -> str:
    error = item["error"]
    if error is None:
        return clean(item["why"] or "")
    kind = error["type"].rpartition(".")[2]
    return clean(f"{kind}: {error['message']}" if error["message"] else kind)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_WHY else f"{text[: _MAX_WHY - 1]}…"


def _write_entry(item: dict[str, Any], output: Any, style: Any) -> None:
    shown = _style_of(item, style)
    status = clean(item["status"])
    output.write(f"{style.MIGRATE_HEADING(clean(item['name']))}  {shown(status) if shown else status}")
    for name in _DETAILS:
        if item.get(name) is not None:
            output.write(f"  {name.replace('_', ' '):<13} {clean(str(item[name]))}")
    text = item["stack"] if item["error"] is None else item["error"]["traceback"]
    for line in clean_lines(text or ""):
        output.write(f"  {line}")
