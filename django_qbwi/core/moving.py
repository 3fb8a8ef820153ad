"""Items that move to another engine: out of their queue, or out of their run, and not ended yet.

States: waiting or running -> moving -> HANDED_OFF, once the engine has accepted it; or DISCARDED or ABANDONED at the
limit; or CANCELLED, by somebody who cancels one that no engine has accepted.
Lock: that of the registry. An item that moves is among the ending ones, by whom it is moved, without an ending: no
worker finds it there, it is listed, and the exit waits for it.
"""

from __future__ import annotations

from django_qbwi.core.items import WorkItem
from django_qbwi.core.moments import TimedItems
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.primitives import holding


class MovingItems(TimedItems):
    """A registry whose items can leave it for another engine.

    - Nobody runs an item that moves, and nobody moves one that runs: it is taken under the lock.
    - It is HANDED_OFF only after the engine has accepted it.
    """

    def movable_items(self, *, late_only: bool) -> list[WorkItem]:
        """Return the items that wait and can move, in their order; with `late_only`, those that cannot come any more.

        Without the lock, as `live_items`; `start_moving` says which of them still wait.
        """
        deadline = self.stop.deadline
        late = [item for item, due in self._delayed.copy().items() if deadline is not None and due > deadline]
        found = late
        if not late_only:
            found = [item for lane in self.lanes.values() for item in lane.queue.copy()]
            found += [item for lane in self.lanes.values() for item in list(lane.held)]
            found += self._delayed.copy()
        return [item for item in found if item.options.movable is not None and item.waits]

    def start_moving(self, item: WorkItem, by: object) -> float | None:
        """Take a waiting item out of its queue, for `by` to move it; None if it does not wait there any more.

        Returns:
            The monotonic second from which on it may begin.
        """
        return holding(self.lock, self._start_moving, item, by)

    def _start_moving(self, item: WorkItem, by: object) -> float | None:
        if not self.can_leave(item) or item in self._announcing or self.has_expired(item):
            return None
        # In both for a moment, rather than in none.
        self._ending[item] = by
        due = self._delayed.pop(item, None)
        if due is None and item not in item.lane.held:
            item.lane.queue.remove(item)
        if item.options.keyed is not None:
            self._turns.drop(item)
        self.wake_a_caller()
        return self.clock() if due is None else due

    def is_moving(self, item: WorkItem) -> bool:
        """Return whether somebody moves the item, or its rest."""
        return item.ending is None and item in self._ending

    def take_for_moving(self, item: WorkItem, by: object) -> None:
        """Take an item that is in no queue, for `by` to move it."""
        holding(self.lock, self._ending.__setitem__, item, by)

    def let_go_of(self, item: WorkItem) -> None:
        """Forget an item of `take_for_moving` that the engine has refused; it ends as one that was never accepted."""
        holding(self.lock, self._let_go_of, item)

    def _let_go_of(self, item: WorkItem) -> None:
        if item.ending is None and self._ending.pop(item, None) is not None:
            self.wake_if_empty()

    def has_moved(self, item: WorkItem) -> bool:
        """Declare HANDED_OFF what the engine has accepted; False if it has ended by another way meanwhile."""
        return self.end_moving(item, WorkItemStatus.HANDED_OFF)

    def end_moving(self, item: WorkItem, status: WorkItemStatus) -> bool:
        """Declare an item that moves to be ended; False if it has ended meanwhile. To be reported and settled."""
        return holding(self.lock, self._end_moving, item, status)

    def _end_moving(self, item: WorkItem, status: WorkItemStatus) -> bool:
        if item.ending is not None:
            return False
        self.leave_queue(item, status, self._ending.get(item))
        return True

    def stop_running(self, item: WorkItem, by: object) -> bool:
        """Take an item out of the running ones, for `by` to move its rest; False if it has ended meanwhile."""
        return holding(self.lock, self._stop_running, item, by)

    def _stop_running(self, item: WorkItem, by: object) -> bool:
        if item.ending is not None or item not in self._running:
            return False
        self._ending[item] = by
        del self._running[item]
        if item.options.keyed is not None:
            self._turns.drop(item)
        # Its thread has the next item.
        item.run.ident = None
        return True
