"""What runs by the clock: the protocol of who keeps the schedules of a site, and what it tells of one. No Django."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """What is known of one schedule; those named `_at` are aware UTC datetimes."""

    name: str
    when: str
    """Such as "every 600 s" or "cron 0 3 * * * (Europe/Berlin)"."""
    state: str
    """waiting, running, lost (its process was killed), new (never looked at), removed (no longer in the code)."""
    next_at: datetime.datetime | None = None
    tick_at: datetime.datetime | None = None
    """The moment for which it ran last."""
    started_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None
    outcome: str = ""
    """The status that its last run ended with, "" while it runs, or where there was none."""
    item: str = ""
    """The id of that run's work item."""
    place: str = ""
    """Host and pid of that run."""
    skipped: int = 0
    """The ticks that were left out, since a run was not over yet."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: times as ISO 8601 strings."""
        return {
            field: value.isoformat() if isinstance(value, datetime.datetime) else value
            for field, value in dataclasses.asdict(self).items()
        }


class Schedules(Protocol):
    """Starts what is due in processes that serve."""

    def begin(self) -> None:
        """Start what is due in this process from now on; any thread, more than once, never blocks.

        Raises:
            RuntimeError: The operating system gave no thread.
        """

    def end(self) -> None:
        """Write down what is known, at the exit of this process; blocks for half a second at the most."""

    def read(self) -> list[ScheduleInfo]:
        """Return all schedules, by name; blocks as long as the database does.

        Raises:
            InspectionError: They cannot be read; the message says why.
        """
