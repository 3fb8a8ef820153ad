"""The moments of items that wait: when each is due, until when it may start, and the end of those that come too late.

Lock: that of the registry.
"""

from __future__ import annotations

from collections.abc import Iterable

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.registry import WorkItemRegistry
from django_qbwi.core.runs import Ending


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
        keyed = [item for item in items if item.options.keyed is not None]
        if keyed:
            # Behind the lanes: the next one of a key comes into them.
            self._turns.drop_ended(keyed)
        self.wake_a_caller()

    def end_all(self) -> list[WorkItem]:
        """Move running items to the ending ones as ABANDONED, queued ones as DISCARDED, and return them.

        The caller holds the lock.
        """
        moving = [item for item in self._ending if item.ending is None]
        abandoned = [item for item in (*self._running, *moving) if item.runs]
        for item in abandoned:
            ending = Ending(item.status.then(WorkItemStatus.ABANDONED), self.clock(), self._reason_of(item))
            item.ending = ending
            self._ending[item] = None
            self._running.pop(item, None)
        queues: list[Iterable[WorkItem]] = [lane.queue for lane in self.lanes.values()]
        queues += [lane.held for lane in self.lanes.values()]
        waiting: tuple[Iterable[WorkItem], ...] = (self._announcing, *queues, self._delayed, moving)
        discarded = [item for queue in waiting for item in queue if item.waits]
        for item in discarded:
            self.leave_queue(item, WorkItemStatus.DISCARDED)
        return abandoned + discarded

    def end_late(self, deadline: float) -> list[WorkItem]:
        """Move the items that can begin neither before `deadline` nor elsewhere to the ending ones, as DISCARDED.

        The caller holds the lock.
        """
        late = [item for item, due in self._delayed.items() if due > deadline and item.options.movable is None]
        for item in late:
            self.leave_queue(item, WorkItemStatus.DISCARDED)
        return late
