"""How items are accepted: at once, told of before, or for a later moment; in the caller's thread.

States of an item on its way: reserved (it has its place, and is told of) -> waiting for its time -> in its lane.
Lock: that of the registry. "Struck" is said of a line behind which a signal handler's exception may come, in the main
thread (R1).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from django_qbwi.core.admission import Bounds
from django_qbwi.core.cancellation import StopFlag
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import DEFAULT, Pool
from django_qbwi.core.ports import NullObserver, Observer
from django_qbwi.core.starting import Starting
from django_qbwi.core.statistics import Statistics
from django_qbwi.core.timetable import Timetable
from django_qbwi.core.turns import Turns
from django_qbwi.machine.primitives import holding
from django_qbwi.machine.service_thread import ServiceThread


class Acceptance(Starting):
    """A registry that takes items in.

    - An item that was accepted is never refused any more; it is inserted by the last step.
    - One that waits for its time holds no thread, and is counted apart from those that could begin.
    """

    def __init__(
        self,
        *,
        max_queued: int = 1000,
        max_delayed: int = 10_000,
        accept_while_draining: bool = True,
        history_size: int = 200,
        observer: Observer[WorkItem] | None = None,
        keeper: ServiceThread | None = None,
        stop: StopFlag | None = None,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[], None] = lambda: None,
        report: Callable[[WorkItem], object],
    ) -> None:
        """Make it; `start` is called once, with the first item; `report` has what never began told of, and settled."""
        stop = StopFlag(clock) if stop is None else stop
        # No attribute more than 30, with those of the scheduler: the interpreter finds no others as quickly.
        keeper = ServiceThread("qbwi-keeper", clock) if keeper is None else keeper
        bounds = Bounds(Pool(DEFAULT, max_queued), max_delayed, accept_while_draining)
        super().__init__(stop, clock, history_size, Turns(keeper.post), bounds, Statistics(keeper.post), start)
        self._acquire, self._release = self.lock.acquire, self.lock.release
        self.observer: Observer[WorkItem] = NullObserver() if observer is None else observer
        self.keeper = keeper
        self.stop.call_at = self.keeper.call_at
        self._timetable = Timetable(self.keeper, self._come_due, report)

    def queue(self, item: WorkItem) -> None:
        """Accept `item`, made by `make_item`, without keys, for the default pool; blocks for the first thread starts.

        Raises:
            WorkItemRejected: Refused (its subclasses say why), or no thread could be started; nothing was queued.
        """
        if not self._started:
            self.start_threads(item)
        lane, tells, woken, refusal = item.lane, self.observer.announces, True, None
        try:
            try:
                # As `with self.lock:`, at half of its cost; inside of `try`, for it may be struck once it is taken.
                self._acquire()
                self._room = room = self._room - 1
                if room < 0 or self._closed or self.stop.first_sign is not None:
                    refusal = self._refusal(item)
                    if refusal is None:
                        pool = self._bounds.pool
                        self._room = pool.max_queued - self._waiting_in(pool) - 1
                if refusal is None:
                    if tells:
                        # Its place is reserved, and nobody takes it before it was told of.
                        self._announcing[item] = None
                    else:
                        # Insert last: struck in between, a worker looks in vain, and no item is left waiting.
                        woken = lane.executor.wake()
                        lane.put(item)
            finally:
                try:
                    self._release()
                except RuntimeError:
                    # Struck while we waited for the lock, which we do not have then.
                    pass
            if refusal is not None:
                self._reject(item, refusal)
            if tells:
                self.observer.queued(item)
                woken = holding(self.lock, self._publish, item)
        except BaseException:
            # Struck at any point: what has its place has to run, and not to hold the exit for ever.
            if tells:
                holding(self.lock, self._publish, item, True)
            raise
        if not woken:
            lane.executor.grow()

    def queue_when_told(self, item: WorkItem, tell: Callable[[], object], delay: float = 0.0) -> WorkItem:
        """Accept `item` as `queue` does, and call `tell()` once that is certain, before the item can begin.

        Args:
            item: One of `make_item`.
            tell: Called in this thread; what it raises is raised, and the item begins all the same.
            delay: Seconds for which it waits before it goes to its lane.

        Returns:
            The item, or the one with the same unique key that waits already; then nothing was done.

        Raises:
            WorkItemRejected: As `queue`; also because too many wait for their time, or it cannot come any more.
        """
        if not (self._started and item.lane.is_prepared):
            self.start_threads(item)
        due = self.clock() + delay if delay > 0 else None
        try:
            found = holding(self.lock, self._reserve, item, due)
            if isinstance(found, WorkItemRejected):
                movable = item.options.movable
                refusal = found if movable is None else movable.take_over(item, found, tell)
                if refusal is None:
                    return item
                self._reject(item, refusal)
            if found is not item:
                return found
            if self.observer.announces:
                self.observer.queued(item)
            tell()
            self._place(item, due)
        except BaseException:
            # Struck, or left by what was told: what has its place has to run.
            self._place(item, due, again=True)
            raise
        return item

    def _reserve(self, item: WorkItem, due: float | None) -> WorkItem | WorkItemRejected:
        """Return the item that stands for the call, or why there is none; with the lock held."""
        is_keyed = item.options.keyed is not None
        found = self._same_as(item) if is_keyed else None
        if found is not None:
            return found
        refusal = self._take_place(item, due)
        if refusal is not None:
            return refusal
        if is_keyed and item.ending is None:
            # Last: nobody is ever told that one waits which was not accepted.
            self._turns.enter(item)
        return item

    def _same_as(self, item: WorkItem) -> WorkItem | None:
        """Return the item that waits already, and stands for one with keys; None if there is none."""
        found = self._turns.same_as(item)
        return None if found is None or not self.can_leave(found) or self.has_expired(found) else found

    def _take_place(self, item: WorkItem, due: float | None) -> WorkItemRejected | None:
        if item in self._announcing or item.ending is not None:
            # By a caller who has waited for it; or it was given up since.
            return None
        refusal = self._refusal(item, due)
        if refusal is None:
            if item.options.priority:
                item.lane.keep_order()
            self._room -= 1
            self._announcing[item] = None
        return refusal

    def _place(self, item: WorkItem, due: float | None, again: bool = False) -> None:
        if due is None:
            if not holding(self.lock, self._publish, item, again):
                item.lane.executor.grow()
        elif holding(self.lock, self._postpone, item, due):
            self._timetable.arm(item, due, lambda: item in self._delayed)

    def _postpone(self, item: WorkItem, due: float) -> bool:
        if item in self._announcing:
            # In both for a moment, rather than in none.
            self._delayed[item] = due
            del self._announcing[item]
        return item in self._delayed

    def _come_due(self, item: WorkItem) -> None:
        """Put an item that has waited for its time into its lane; in the keeper's thread."""
        executor = item.lane.executor
        with self.lock:
            if item not in self._delayed:
                return
            is_held = item.options.keyed is not None and not self._turns.admit(item)
            woken = is_held or executor.wake()
            # It counts as any other from now on, and is not refused any more.
            self._room -= 1
            if not is_held:
                item.lane.put(item)
            del self._delayed[item]
            self.wake_a_caller()
        if not woken:
            executor.grow()

    def _publish(self, item: WorkItem, again: bool = False) -> bool:
        if item not in self._announcing:
            return True  # refused, or discarded meanwhile at the limit of a drain, or here already
        lane = item.lane
        if item.options.keyed is not None and not self._turns.admit(item):
            del self._announcing[item]
            return True  # and nobody has to look
        woken = lane.executor.wake()
        if lane.keeps_order:
            # In both for a moment, rather than in none; and not in its lane twice.
            if not again or item not in lane.queue:
                lane.put(item)
            self._announcing.pop(item, None)
        else:
            put = lane.queue.append
            # No call between these: an exception from a signal handler cannot come in between.
            del self._announcing[item]
            put(item)
        return woken
