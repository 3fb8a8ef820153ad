"""The numbers of the whole site, and how each of them got there in the last minutes."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django_qbwi.console import sparklines
from django_qbwi.console.text import moment_of


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One number of the whole site, and how it got there."""

    key: str
    value: int
    of: str = ""
    """The value by kinds, each with its capacity."""
    spark: sparklines.Sparkline | None = None


def cards(processes: Sequence[Mapping[str, Any]], capacity: str, now: datetime.datetime) -> list[Card]:
    """Return one for each number; `capacity` says how many run of how many that may."""
    edge, known = sparklines.next_step(now), _known_since(processes)
    live = [item for process in processes for item in process["items"]]
    ended = [item for process in processes for item in process["recent"]]
    ends = [(item["status"], moment_of(item, "finished_at")) for item in ended]
    lines = {
        "processes": sparklines.levels(
            ((started, None) for process in processes if (started := moment_of(process, "started_at"))), edge
        ),
        "running": sparklines.levels(_stays([*live, *ended], "started_at", "finished_at"), edge, known),
        "queued": sparklines.levels(_stays([*live, *ended], "queued_at", "started_at"), edge, known),
        "finished": sparklines.events((end for _, end in ends if end), edge, known),
        "failed": sparklines.events((end for status, end in ends if end and status == "failed"), edge, known),
    }
    totals = {name: sum(process[name] for process in processes) for name in ("running", "queued", "finished", "failed")}
    totals["processes"] = len(processes)
    return [
        Card(
            key=name,
            value=totals[name],
            of=capacity if name == "running" else "",
            spark=sparklines.sparkline(counts),
        )
        for name, counts in lines.items()
    ]


def _stays(items: Iterable[Mapping[str, Any]], entered: str, left: str) -> Iterable[sparklines.Interval]:
    """Return from when to when each item was in a state; one that ended without the next state left it then."""
    for item in items:
        start = moment_of(item, entered)
        if start is not None:
            yield start, moment_of(item, left) or moment_of(item, "finished_at")


def _known_since(processes: Sequence[Mapping[str, Any]]) -> datetime.datetime | None:
    """Return since when every ended item is remembered: what a process forgot must not look like a quiet time."""
    oldest = []
    for process in processes:
        if process["finished"] > len(process["recent"]):
            moments = [moment for item in process["recent"] if (moment := moment_of(item, "finished_at"))]
            oldest.append(min(moments, default=datetime.datetime.max.replace(tzinfo=datetime.UTC)))
    return max(oldest, default=None)
