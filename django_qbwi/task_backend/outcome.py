"""What is known of a task at one moment, and how that changes."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

READY, RUNNING, FAILED, SUCCESSFUL = "READY", "RUNNING", "FAILED", "SUCCESSFUL"
"""The statuses of both frameworks."""

MAX_FAILURES = 50
"""So many are kept of a task that is tried again and again: the first one, and the last ones."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a task has raised, as the framework keeps it."""

    exception_class_path: str
    traceback: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that changes of a task, in one object, so that nobody sees half of a change."""

    status: str = READY
    enqueued_at: datetime.datetime | None = None
    started_at: datetime.datetime | None = None
    last_attempted_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    failures: tuple[Failure, ...] = ()
    worker_ids: tuple[str, ...] = ()
    value: Any = None
    """What it has returned, as JSON has it; nobody changes it."""

    @property
    def is_finished(self) -> bool:
        """Whether it stands for ever."""
        return self.status in (FAILED, SUCCESSFUL)

    def enqueued(self, now: datetime.datetime) -> Outcome:
        """Return it behind its acceptance."""
        return dataclasses.replace(self, enqueued_at=now)

    def started(self, now: datetime.datetime, worker_id: str) -> Outcome:
        """Return it behind the start of an attempt."""
        return dataclasses.replace(
            self,
            status=RUNNING,
            started_at=self.started_at or now,
            last_attempted_at=now,
            worker_ids=(*self.worker_ids, worker_id),
        )

    def succeeded(self, now: datetime.datetime, value: Any) -> Outcome:
        """Return it behind its end."""
        return dataclasses.replace(self, status=SUCCESSFUL, finished_at=now, value=value)

    def failed(self, now: datetime.datetime, failure: Failure) -> Outcome:
        """Return it behind its end."""
        return dataclasses.replace(self, status=FAILED, finished_at=now, failures=self._failures_and(failure))

    def retried(self, failure: Failure) -> Outcome:
        """Return it behind an attempt that has failed, and is followed by another one."""
        return dataclasses.replace(self, status=READY, failures=self._failures_and(failure))

    def given_up(self, now: datetime.datetime) -> Outcome:
        """Return it behind its end, by a failure that is among them already."""
        return dataclasses.replace(self, status=FAILED, finished_at=now)

    def _failures_and(self, failure: Failure) -> tuple[Failure, ...]:
        kept = self.failures
        if len(kept) >= MAX_FAILURES:
            # What it began with says most, beside what it came to.
            kept = (kept[0], *kept[2:])
        return (*kept, failure)
