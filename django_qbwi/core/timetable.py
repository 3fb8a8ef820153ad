"""The timetable: items that wait for their time, each with a timer of the keeper's.

Lock: none, as in `timeouts`. The item is put among those that wait, and then its timer is set; an item that leaves them
ends or begins, and then its timer is taken: one of both sees the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from django_qbwi.core.items import WorkItem
from django_qbwi.machine.service_thread import ServiceThread, Timer


class Timetable:
    """Calls for the items that wait for their time; each has at most one timer.

    By the monotonic clock: neither a jump of the wall clock nor a change to summer time moves an item.
    """

    def __init__(
        self,
        keeper: ServiceThread,
        come_due: Callable[[WorkItem], object],
        report: Callable[[WorkItem], object],
    ) -> None:
        """Make it for one scheduler.

        Args:
            keeper: The thread of the timers.
            come_due: Called there, with an item whose time has come, or is over.
            report: Called there, with one that was taken out because its time was over.
        """
        self.over: deque[WorkItem] = deque()
        """Those whose time is over, until the keeper takes them out of their queues."""
        self.sweep: Timer | None = None
        """The timer for that."""
        self.rests_until = 0.0
        """The monotonic second before which it does not do that again."""
        self.report = report
        self.timers: dict[WorkItem, Timer] = {}
        self._keeper = keeper
        self._come_due = come_due

    def __repr__(self) -> str:
        return f"<Timetable pending={len(self.timers)}>"

    def arm(self, item: WorkItem, due: float, waits: Callable[[], bool]) -> None:
        """Call for `item` at the monotonic second `due`, if it has no timer yet; `waits` says if it still waits."""
        if item in self.timers:
            return
        timer = self._keeper.call_at(due, lambda: self._fire(item))
        self.timers.setdefault(item, timer)
        if not waits():
            # Its time had come before we came here, or it was cancelled.
            self.disarm(item)

    def disarm(self, item: WorkItem) -> None:
        """Forget an item that waits no longer."""
        timer = self.timers.pop(item, None) if self.timers else None
        if timer is not None:
            timer.cancel()

    def _fire(self, item: WorkItem) -> None:
        self.timers.pop(item, None)
        self._come_due(item)
