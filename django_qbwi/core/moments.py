"""The moments of items that wait: when each is due, until when it may start, and the end of those that come too late.

Lock: that of the registry.
"""

from __future__ import annotations

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.registry import WorkItemRegistry


class TimedItems(WorkItemRegistry):
    """A registry that knows what its items wait for."""

    def due(self, item: WorkItem) -> float | None:
        """Return the monotonic second for which an item waits before it goes to its lane, None if for none."""
        return self._delayed.get(item)

    def expires(self, item: WorkItem) -> float | None:
        """Return the monotonic second from which on an item that waits does not start any more, None without one."""
        seconds, run = item.options.expires, item.last_run
        if seconds is None or not item.waits or (run is not None and run.attempt > 1):
            return None
        return item.queued + seconds

    def has_expired(self, item: WorkItem) -> bool:
        """Return whether the time of an item is over that has never started; the caller holds the lock."""
        expires = self.expires(item)
        return expires is not None and expires <= self.clock()

    def leave_together(self, items: list[WorkItem], status: WorkItemStatus) -> None:
        """Move queued items to the ending ones, as `leave_queue`; a pass over a queue for all of them, not for each.

        In a thread that no signal handler's exception reaches.
        """
        waited: dict[Lane[WorkItem], list[WorkItem]] = {}
        for item in items:
            item.ending = self._ending_of(item, status)
            self._ending[item] = None
            self._announcing.pop(item, None)
            if self._delayed.pop(item, None) is None:
                waited.setdefault(item.lane, []).append(item)
        for lane, ended in waited.items():
            lane.drop_ended(ended)
        self.wake_a_caller()
