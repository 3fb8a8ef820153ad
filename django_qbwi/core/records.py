"""What is told of an item, as plain values: its status, how it failed, and everything that is known at one moment."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import traceback
from collections.abc import Callable
from typing import Any, Literal

from django_qbwi.core.cancellation import CancelReason

_MAX_ERROR_MESSAGE = 2_000
_MAX_TRACEBACK = 20_000


class WorkItemStatus(enum.StrEnum):
    """Where an item is on its way; the last five are terminal."""

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
    WorkItemStatus.QUEUED: frozenset({WorkItemStatus.RUNNING, WorkItemStatus.CANCELLED, WorkItemStatus.DISCARDED}),
    WorkItemStatus.RUNNING: frozenset(
        {
            WorkItemStatus.SUCCEEDED,
            WorkItemStatus.FAILED,
            WorkItemStatus.CANCELLED,
            WorkItemStatus.ABANDONED,
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
        """Describe `error`; never raises, even if its `__str__` does."""
        kind = type(error)
        return cls(
            type=f"{kind.__module__}.{kind.__qualname__}",
            message=_safe_text(lambda: str(error))[:_MAX_ERROR_MESSAGE],
            traceback=_safe_text(lambda: _format_traceback(error))[-_MAX_TRACEBACK:],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkItemInfo:
    """What is known of an item at one moment; plain values that may cross a thread or a process.

    `queued_at`, `started_at` and `finished_at` are aware UTC datetimes, `timeout` is in seconds.
    """

    id: str
    name: str
    kind: Literal["sync", "async"]
    status: WorkItemStatus
    queued_at: datetime.datetime
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    timeout: float | None = None
    overdue: bool = False
    cancel_reason: CancelReason | None = None
    error: WorkItemError | None = None
    origin: str | None = None
    """Method and path of the request that queued it, where known."""
    request_id: str | None = None
    pid: int
    thread: str | None = None
    """Name of the thread that runs it, or ran it."""

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
            "timeout": self.timeout,
            "overdue": self.overdue,
            "cancel_reason": None if self.cancel_reason is None else str(self.cancel_reason),
            "error": None if self.error is None else dataclasses.asdict(self.error),
            "origin": self.origin,
            "request_id": self.request_id,
            "pid": self.pid,
            "thread": self.thread,
        }


def without_frames(error: BaseException) -> BaseException:
    """Strip the tracebacks of `error` and of all that it chains, so that it keeps no frame alive."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = None
        pending += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
    return error


def _format_traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-50))


def _safe_text(make: Callable[[], str]) -> str:
    try:
        return make()
    except BaseException as error:
        # User code returns to us here as well: the `__str__` of an exception.
        return f"<unprintable: {type(error).__name__}>"


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
