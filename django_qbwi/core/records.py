"""What is told of an item, as plain values: its status, how it failed, and everything that is known at one moment."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any, Literal

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.failures import message_of, traceback_text, type_of
from django_qbwi.core.progress import Progress

Label = str | int | float | bool | None
Labels = tuple[tuple[str, Label], ...]
"""Names with their values, in the order in which they were given."""

_MAX_ORIGIN = 2_000
_MAX_LABEL = 200


class WorkItemStatus(enum.StrEnum):
    """Where an item is on its way; the last six are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Ended by its own cancellation, or cancelled before it started."""
    ABANDONED = "abandoned"
    """Still running when the process could wait no longer."""
    DISCARDED = "discarded"
    """Never started, because the process could wait no longer."""
    HANDED_OFF = "handed_off"
    """Accepted by another engine, which runs it, or the rest of it, in this process's place."""

    @property
    def is_terminal(self) -> bool:
        """True if nothing follows."""
        return self not in _LIVE

    def then(self, status: WorkItemStatus) -> WorkItemStatus:
        """Return `status` if it may follow this one.

        Raises:
            RuntimeError: It may not; the message names both.
        """
        if status not in _TRANSITIONS[self]:
            raise RuntimeError(f"a work item cannot go from {self.name} to {status.name}")
        return status


_LIVE = frozenset({WorkItemStatus.QUEUED, WorkItemStatus.RUNNING})
_TRANSITIONS: dict[WorkItemStatus, frozenset[WorkItemStatus]] = {status: frozenset() for status in WorkItemStatus} | {
    WorkItemStatus.QUEUED: frozenset(
        {
            WorkItemStatus.RUNNING,
            WorkItemStatus.CANCELLED,
            WorkItemStatus.DISCARDED,
            WorkItemStatus.HANDED_OFF,
            # What waits for another attempt, which does not come any more.
            WorkItemStatus.FAILED,
        }
    ),
    WorkItemStatus.RUNNING: frozenset(
        {
            WorkItemStatus.SUCCEEDED,
            WorkItemStatus.FAILED,
            WorkItemStatus.CANCELLED,
            WorkItemStatus.ABANDONED,
            WorkItemStatus.HANDED_OFF,
            # For another attempt.
            WorkItemStatus.QUEUED,
        }
    ),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemError:
    """How an item failed, in plain text: no frames, no locals."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> WorkItemError:
        """Describe `error`; never raises, whatever its class does."""
        return cls(type=type_of(error), message=message_of(error), traceback=traceback_text(error))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemInfo:
    """What is known of an item at one moment; plain values that may cross a thread or a process.

    Those named `_at` are aware UTC datetimes, `timeout` is in seconds.
    """

    id: str
    name: str
    kind: Literal["sync", "async"]
    status: WorkItemStatus
    queued_at: datetime.datetime
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    due_at: datetime.datetime | None = None
    """When it goes to its queue: of an item with `delay`, or before a further attempt, while it waits for that."""
    expires_at: datetime.datetime | None = None
    """When it has to have started, of one with `expires`, until it has."""
    timeout: float | None = None
    priority: int = 0
    """Those with a higher one start first."""
    pool: str = "default"
    """The one whose workers run it, and whose bound it counts against while it waits."""
    attempt: int = 1
    """Which of its attempts runs, or comes next, or was the last one."""
    held: bool = False
    """Whether it waits for the turn of its `concurrency_key`."""
    overdue: bool = False
    cancel_reason: CancelReason | None = None
    error: WorkItemError | None = None
    origin: str | None = None
    """Method and path of the request that queued it, where known."""
    request_id: str | None = None
    pid: int
    thread: str | None = None
    """Name of the thread that runs it, or ran it."""
    progress: Progress | None = None
    """What it reported last by `token.report`, None if it never did."""
    labels: dict[str, Label] = dataclasses.field(default_factory=dict, hash=False)
    """What it was labelled with where it was queued."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: times as ISO 8601 strings, enums as strings."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "status": str(self.status),
            "queued_at": self.queued_at.isoformat(),
            "started_at": None if self.started_at is None else self.started_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "due_at": None if self.due_at is None else self.due_at.isoformat(),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            "timeout": self.timeout,
            "priority": self.priority,
            "pool": self.pool,
            "attempt": self.attempt,
            "held": self.held,
            "overdue": self.overdue,
            "cancel_reason": None if self.cancel_reason is None else str(self.cancel_reason),
            "error": None if self.error is None else dataclasses.asdict(self.error),
            "origin": None if self.origin is None else self.origin[:_MAX_ORIGIN],
            "request_id": None if self.request_id is None else self.request_id[:_MAX_LABEL],
            "pid": self.pid,
            "thread": None if self.thread is None else self.thread[:_MAX_LABEL],
            "progress": None if self.progress is None else self.progress.to_dict(),
            "labels": dict(self.labels),
        }


def utc(seconds: float) -> datetime.datetime:
    """Return the moment of a wall clock's second."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DrainStart:
    """The first sign of the end: what it was, the seconds that are left, and how many items there are."""

    sign: str
    limit: float
    running: int
    queued: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DrainOutcome:
    """What a drain came to: how its items ended, from the first sign on."""

    finished: int
    """Those that succeeded or failed."""
    cancelled: int
    abandoned: int
    discarded: int
    elapsed: float
    """Seconds from the first sign to the end."""
    handed_off: int = 0
    """Those that another engine has accepted."""
