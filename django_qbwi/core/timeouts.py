"""Timeouts: an item is cancelled at its deadline, and named when it runs on for long after it.

Lock: that of the scheduler guards `timers`.
"""

from __future__ import annotations

from collections.abc import Callable

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.primitives import Lock
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.service_thread import ServiceThread, Timer


class Timeouts:
    """Watches the items that have a timeout; each has at most one timer, from its start to its end."""

    def __init__(
        self, lock: Lock, keeper: ServiceThread, overdue_after: float, overdue: Callable[[WorkItem], object]
    ) -> None:
        """Make it for one scheduler.

        Args:
            lock: The scheduler's.
            keeper: The thread in which items are cancelled.
            overdue_after: Seconds after the timeout.
            overdue: Called then, in the keeper's thread, with the item.
        """
        self.timers: dict[WorkItem, Timer] = {}
        self._lock = lock
        self._keeper = keeper
        self._overdue_after = overdue_after
        self._overdue = overdue

    def __repr__(self) -> str:
        return f"<Timeouts pending={len(self.timers)}>"

    def arm(self, item: WorkItem) -> None:
        """Set the deadline of an item that begins, and has a timeout."""
        assert item.timeout is not None
        assert item.started is not None
        deadline = item.started + item.timeout
        item.token._deadline = deadline
        self.timers[item] = self._keeper.call_at(deadline, lambda: self.expire(item))

    def disarm(self, item: WorkItem) -> None:
        """Forget an item that has ended."""
        timer = self.timers.pop(item, None)
        if timer is not None:
            timer.cancel()

    def expire(self, item: WorkItem) -> None:
        """Cancel an item whose time is over, if it still runs; in the keeper's thread."""
        if not _runs(item):
            return
        try:
            item.token._cancel(CancelReason.TIMEOUT, f"timeout of {item.timeout} s")
        finally:
            with self._lock:
                # Only while it runs: `disarm` has taken the timer of an ended item away already.
                if _runs(item) and item.started is not None:
                    due = item.started + (item.timeout or 0.0) + self._overdue_after
                    self.timers[item] = self._keeper.call_at(due, lambda: self._overdue(item))


def _runs(item: WorkItem) -> bool:
    return item.status is WorkItemStatus.RUNNING
