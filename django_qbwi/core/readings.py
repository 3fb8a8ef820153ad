"""What can be read of all the items of a scheduler: any thread, never blocks for long, allowed everywhere."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.statistics import Statistics
from django_qbwi.machine.primitives import Lock, holding


class Readings:
    """Looks into the containers of a registry, and changes none of them."""

    lock: Lock
    lanes: Mapping[str, Lane[WorkItem]]
    statistics: Statistics
    _announcing: dict[WorkItem, None]
    _delayed: dict[WorkItem, float]
    _running: dict[WorkItem, object]
    _ending: dict[WorkItem, object]
    _finished: deque[WorkItem]

    @property
    def totals(self) -> dict[WorkItemStatus, int]:
        """How many items have ended, by status."""
        return {
            WorkItemStatus(value): total for value, total in holding(self.lock, self.statistics.totals.copy).items()
        }

    @property
    def ending_count(self) -> int:
        """Items that have ended, and whose records and signals are still to come, or that run still."""
        return len(self._ending) + len(self._running)

    def live_items(self, limit: int | None = None) -> list[WorkItem]:
        """Return the items that run, then those that are queued, oldest first; `limit` at the most.

        Without the lock, since there may be 100,000: a C container is copied in one step of the interpreter. In the
        order in which items move, so that one which moves meanwhile is seen twice rather than never.
        """
        announced, delayed = list(self._announcing), list(self._delayed)
        queues: list[Iterable[WorkItem]] = [list(lane.held) for lane in self.lanes.values() if lane.held]
        queues[:0] = [lane.queue.copy() for lane in self.lanes.values()]
        found = dict.fromkeys(list(self._running))
        moving = [item for item in list(self._ending) if item.ending is None]
        waiting = (item for queue in (announced, *queues, delayed, moving) for item in queue if item.ending is None)
        if limit is None:
            found.update(dict.fromkeys(waiting))
        else:
            found.update(dict.fromkeys(itertools.islice(waiting, max(0, limit - len(found)))))
        return list(itertools.islice(found, limit))

    def finished_items(self) -> list[WorkItem]:
        """Return the items that ended last, newest first."""
        return list(reversed(holding(self.lock, self._finished.copy)))

    def running_items(self) -> list[WorkItem]:
        """Return the items that run."""
        return list(holding(self.lock, self._running.copy))
