"""Timeouts: an item is cancelled at its deadline, and named when it runs on for long after it.

Lock: none. A timer is set, and then the status is looked at; an item that ends changes its status, and then its timer
is taken: one of both sees the other. To set it under the scheduler's lock would hold that one while the keeper's is
waited for, whose holder may come to a finalizer that queues.
"""

from __future__ import annotations

from collections.abc import Callable

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.machine.service_thread import ServiceThread, Timer


class Timeouts:
    """Watches the items that have a timeout; each has at most one timer, from its start to its end."""

    def __init__(self, keeper: ServiceThread, overdue_after: float, overdue: Callable[[WorkItem], object]) -> None:
        """Make it for one scheduler.

        Args:
            keeper: The thread in which items are cancelled.
            overdue_after: Seconds after the timeout.
            overdue: Called then, in the keeper's thread, with the item.
        """
        self.timers: dict[WorkItem, Timer] = {}
        self._keeper = keeper
        self._overdue_after = overdue_after
        self._overdue = overdue

    def __repr__(self) -> str:
        return f"<Timeouts pending={len(self.timers)}>"

    def arm(self, item: WorkItem) -> None:
        """Set the deadline of an item that begins, and has a timeout."""
        timeout, started = item.options.timeout, item.started
        assert timeout is not None
        assert started is not None
        deadline = started + timeout
        item.token._deadline = deadline
        timer = self._keeper.call_at(deadline, lambda: self.expire(item))
        # A deadline that has passed already: `expire` may have set the next timer before we come here.
        self.timers.setdefault(item, timer)
        self._disarm_unless_running(item)

    def disarm(self, item: WorkItem) -> None:
        """Forget an item that has ended."""
        timer = self.timers.pop(item, None)
        if timer is not None:
            timer.cancel()

    def expire(self, item: WorkItem) -> None:
        """Cancel an item whose time is over, if it still runs; in the keeper's thread."""
        if not item.runs:
            return
        try:
            item.token._cancel(CancelReason.TIMEOUT, f"timeout of {item.timeout} s")
        finally:
            if item.started is not None:
                due = item.started + (item.timeout or 0.0) + self._overdue_after
                self.timers[item] = self._keeper.call_at(due, lambda: self._overdue(item))
                self._disarm_unless_running(item)

    def _disarm_unless_running(self, item: WorkItem) -> None:
        if not item.runs:
            # It was given up before it began, or has ended within the callbacks of its token.
            self.disarm(item)
