"""How an item runs, and how it ended: what is known of it from its start on.

An item is QUEUED until its run has started, RUNNING until it has an ending, and then as its ending says. Each of these
moves is one store, of a moment or of a whole `Ending`: an exception out of a signal handler comes before or after,
and leaves no item that has half ended.
"""

from __future__ import annotations

import collections
from contextvars import Context
from typing import Final, NamedTuple

from django_qbwi.core.cancellation import CancellationToken, CancelReason, StopFlag
from django_qbwi.core.records import WorkItemError, WorkItemStatus


class LogLine(NamedTuple):
    """One record that an item has logged."""

    at: float
    """Seconds since the epoch."""
    level: str
    logger: str
    text: str


class Noted:
    """What is noted of an item while it runs, for those who look at it."""

    __slots__ = ("lines", "trace_id")

    def __init__(self) -> None:
        self.lines: collections.deque[LogLine] | None = None
        self.trace_id: str | None = None

    def __repr__(self) -> str:
        return f"<Noted lines={len(self.lines or ())} trace_id={self.trace_id}>"


class Run:
    """One run of an item; made when it starts, or when somebody asks for its token before.

    Lock: that of the item's owner.
    """

    __slots__ = ("_kept", "attempt", "context", "early", "ident", "overdue", "started", "thread", "token", "told")

    def __init__(self, stop: StopFlag, early: bool = False, attempt: int = 1) -> None:
        self.token = CancellationToken(stop, waits=early)
        self.early = early
        """Whether it was made before its start, because somebody asked for its token."""
        self.attempt = attempt
        self.context: Context | None = None
        """What was in force around the item's code when it was left, for the record of its end; gone after that."""
        self.started: float | None = None
        """The monotonic second of its start; the store that makes the item RUNNING."""
        self.thread: str | None = None
        """Name of the thread that runs it."""
        self.ident: int | None = None
        self.overdue = False
        self.told = False
        """Whether the telling of its end has begun, which is done once at the most."""

    @property
    def lines(self) -> collections.deque[LogLine] | None:
        """The last lines that the item has logged, None if it never has; its further attempts have the same."""
        return self._noted.lines

    @lines.setter
    def lines(self, lines: collections.deque[LogLine] | None) -> None:
        self._noted.lines = lines

    @property
    def trace_id(self) -> str | None:
        """The trace that tells of the item, None if nobody has said."""
        return self._noted.trace_id

    @trace_id.setter
    def trace_id(self, trace_id: str | None) -> None:
        self._noted.trace_id = trace_id

    @property
    def _noted(self) -> Noted:
        # In a slot that stays empty, and costs nothing, as long as nobody asks.
        noted: Noted | None = getattr(self, "_kept", None)
        if noted is None:
            noted = self._kept = Noted()
        return noted

    def note_as(self, before: Run) -> None:
        """Go on with what was noted of the run before."""
        self._kept = before._noted

    @property
    def last_failure(self) -> Ending | None:
        """How the item ends if this one never begins, because an earlier one has failed; None without such a one."""
        return None

    def __repr__(self) -> str:
        return f"<Run attempt={self.attempt} started={self.started} thread={self.thread}>"


class Ending:
    """How an item ended: all of it in one object, which nothing changes, so that it cannot tear."""

    __slots__ = ("exception", "failure", "finished", "reason", "status")

    def __init__(
        self,
        status: WorkItemStatus,
        finished: float,
        reason: CancelReason | None = None,
        failure: WorkItemError | None = None,
        exception: BaseException | None = None,
    ) -> None:
        self.status: Final = status
        self.finished: Final = finished
        """On the monotonic clock."""
        self.reason: Final = reason
        """Why its token was cancelled, if it was."""
        self.failure: Final = failure
        self.exception: Final = exception

    def __repr__(self) -> str:
        return f"<Ending {self.status} reason={self.reason}>"
