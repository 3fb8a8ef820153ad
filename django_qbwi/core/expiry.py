"""Items that expire: one that has not started in time ends DISCARDED, by the reason EXPIRED.

States: waiting -> DISCARDED, by a worker that comes to it too late, or by the keeper's sweep -> reported.
Lock: that of the registry. Whoever decides the end takes the item out of its queue in the same step.

Three ways in which this could fail, and what stands against each:
- A thousand of 100,000 items expire at a time, and each is searched for: what is over is collected, and one pass takes
  all of them out; the next pass comes only after a pause that grows with the queue.
- An item starts as its time ends: both are decided under the lock, and the first one stands.
- An item that has failed once waits for its next attempt, and its time ends: only the first start counts.
"""

from __future__ import annotations

import functools

from django_qbwi.core.acceptance import Acceptance
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus

_AT_A_TIME = 1_000
"""Items that a pass takes out: nobody waits for the lock for much longer than one pass over the queue takes."""
_REST = 1e-6
"""Seconds between two passes for each item that waits, if the first has left none: some twenty times as long as it
takes."""


class ExpiringItems(Acceptance):
    """Takes out the items that have not started in time.

    - One that has expired never starts, and never moves to another engine.
    - It leaves its queue when its time is over, whether a worker comes to it or not.
    """

    def step_over(self, item: WorkItem) -> bool:
        """End `item`, the first one of its lane, if it has expired; False if it may start; see `take`."""
        if not self.has_expired(item):
            return False
        self._end_expired([item])
        return True

    def _come_due(self, item: WorkItem) -> None:
        if item.options.expires is None:
            super()._come_due(item)
        elif item in self._delayed:
            # First, as below: it may start, fail, and wait for its next attempt before we come back.
            self._await_expiry(item)
            super()._come_due(item)
        else:
            self._is_over(item)

    def _place(self, item: WorkItem, due: float | None, again: bool = False) -> None:
        if due is None and item.options.expires is not None and item in self._announcing:
            # It was not refused, or given up meanwhile.
            self._await_expiry(item)
        super()._place(item, due, again)

    def _await_expiry(self, item: WorkItem) -> None:
        expires = self.expires(item)
        if expires is not None:
            self._timetable.arm(item, expires, lambda: item.waits)

    def expires_no_more(self, item: WorkItem) -> None:
        """Let an item that begins expire no more, in its thread."""
        if item.options.expires is not None:
            self._timetable.disarm(item)

    # In the keeper's thread.

    def _is_over(self, item: WorkItem) -> None:
        """Have the next pass take `item` out."""
        timetable = self._timetable
        timetable.over.append(item)
        if timetable.sweep is None or timetable.sweep.call is None:
            # What is over at the same time comes before it, since the keeper looks at its timers by their moments.
            timetable.sweep = self.keeper.call_at(max(self.clock(), timetable.rests_until), self._sweep)

    def _sweep(self) -> None:
        timetable = self._timetable
        with self.lock:
            over = [timetable.over.popleft() for _ in range(min(len(timetable.over), _AT_A_TIME))]
            ended = [item for item in over if self.can_leave(item) and self.has_expired(item)]
            self._end_expired(ended)
            waiting = self._waiting_count
        now = self.clock()
        timetable.rests_until = now + waiting * _REST
        if timetable.over:
            # A pass that takes so many out is worth its while.
            timetable.sweep = self.keeper.call_at(now, self._sweep)

    def _end_expired(self, ended: list[WorkItem]) -> None:
        """Decide the end of items that wait, take them out of their queues, and have it told; with the lock held."""
        for item in ended:
            item.token._request(CancelReason.EXPIRED, f"not started within {item.options.expires} s")
        self.leave_together(ended, WorkItemStatus.DISCARDED)
        for item in ended:
            # A chore for each: what strikes the thread in the middle leaves the others to its successor.
            self.keeper.post(functools.partial(self._tell_of, item))

    def _tell_of(self, item: WorkItem) -> None:
        try:
            item.token._deliver()
        finally:
            # Whatever a callback of the user's has raised.
            self._timetable.disarm(item)
            self._timetable.report(item)
