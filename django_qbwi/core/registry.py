"""The registry: in which containers the items of a scheduler are, and what can be read from them.

Lock: `lock`, that of the scheduler, guards the containers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from django_qbwi.core.callers import Caller
from django_qbwi.core.cancellation import CancelReason, StopFlag
from django_qbwi.core.history import for_history
from django_qbwi.core.ids import Ids
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.readings import Readings
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.runs import Ending, Run
from django_qbwi.core.statistics import AT_A_TIME, Statistics
from django_qbwi.core.turns import Turns
from django_qbwi.machine.forks import OwnProcess
from django_qbwi.machine.primitives import Lock, holding, new_lock


class WorkItemRegistry(Readings):
    """Knows where each item is, and who waits for all of them.

    - An accepted item is in exactly one of queued, running and ending until its record and its signal are out; while
      it moves it may be in two, never in none.
    - No counter of its own: each count is the length of a container, which nothing can tear apart.
    """

    def __init__(
        self,
        stop: StopFlag,
        clock: Callable[[], float],
        history_size: int,
        turns: Turns,
        statistics: Statistics,
    ) -> None:
        self.clock = clock
        self.process = OwnProcess()
        self.stop = stop
        self.lock: Lock = stop.lock
        self.lanes: Mapping[str, Lane[WorkItem]] = {}
        self._announcing: dict[WorkItem, None] = {}
        # With the monotonic second before which each does not go to its lane.
        self._delayed: dict[WorkItem, float] = {}
        # With who has taken each: what a worker had is known here also when it is dead.
        self._running: dict[WorkItem, object] = {}
        # With the `Withdrawal` that has taken an item out of its queue, and is to bring it to its end.
        self._ending: dict[WorkItem, object] = {}
        self._empty_waiters: list[Lock] = []
        # For room in a queue, in the order in which they came.
        self._callers: list[Caller] = []
        self._finished: deque[WorkItem] = deque(maxlen=history_size)
        self.statistics = statistics
        self._ids = Ids()
        self._turns = turns
        self._wall_clock_offset = time.time() - clock()

    @property
    def pid(self) -> int:
        """The process that the items belong to."""
        return self.process.pid

    # Reading: any thread, never blocks for long, allowed everywhere.

    @property
    def queued_count(self) -> int:
        """Items accepted and not started, those that wait for their time included."""
        return self._waiting_count + len(self._delayed)

    @property
    def _waiting_count(self) -> int:
        return len(self._announcing) + sum(lane.waiting for lane in self.lanes.values())

    @property
    def delayed_count(self) -> int:
        """Items accepted that wait for their time."""
        return len(self._delayed)

    @property
    def running_count(self) -> int:
        """Items started and not ended, overdue ones included."""
        return len(self._running)

    @property
    def is_empty(self) -> bool:
        """True if nothing is queued, running, or about to be reported."""
        # Under the lock: between two looks an item may move on, from what is looked at next to what was empty.
        return holding(self.lock, self._is_empty)

    def _is_empty(self) -> bool:
        return not (self._running or self._ending or self.queued_count)

    def make_id(self, size: int = 12) -> str:
        """Return a new public id for an item, of `size` bytes: unguessable, and made only when somebody looks."""
        return self._ids.make(size)

    def wall_clock(self, monotonic: float) -> float:
        """Return a moment of the monotonic clock as seconds since the epoch.

        Items keep monotonic times only, so that durations do not move with the wall clock, and that queueing reads
        one clock. The difference of the two is read again when the wall clock has jumped by more than a second.
        """
        offset = time.time() - self.clock()
        if abs(offset - self._wall_clock_offset) > 1.0:
            self._wall_clock_offset = offset
        return monotonic + self._wall_clock_offset

    # Moving.

    def take(self, lane: Lane[WorkItem], by: object = None) -> WorkItem | None:
        """Move the first queued item of a lane to the running ones, taken `by` somebody; the caller holds the lock."""
        queue = lane.queue
        while queue:
            item = queue[0]
            if item.ending is not None:
                # A signal handler's exception came between the end of a cancelled item and its removal.
                queue.popleft()
                continue
            run = item.last_run
            if run is None:
                run = item.last_run = Run(self.stop)
            elif item.options.expires is not None and self.step_over(item):
                continue
            run.started = self.clock()
            # In both for a moment, rather than in none.
            self._running[item] = by
            queue.popleft()
            if self._callers:
                self.wake_a_caller()
            return item
        return None

    def step_over(self, item: WorkItem) -> bool:
        """End the first item of a lane, if it comes too late to start; False if it may; with the lock held."""
        raise NotImplementedError

    def pass_on(self, item: WorkItem, by: object) -> None:
        """Let a running item be another one's; the caller holds the lock."""
        if item in self._running:
            self._running[item] = by

    def taken_by(self, by: object) -> list[WorkItem]:
        """Return the items that were taken by somebody, and have not left."""
        with self.lock:
            return [item for item, taker in self._running.items() if taker is by]

    def leave_queue(self, item: WorkItem, status: WorkItemStatus, by: object = None) -> None:
        """Move a queued item to the ending ones, with its terminal status; the caller holds the lock.

        Interrupted by an exception, it is done again by whom it was done: `by`.
        """
        if item.ending is None:
            ending = self._ending_of(item, status)
            # No call between these: an exception from a signal handler cannot come in between.
            item.ending = ending
            self._ending[item] = by
        self._announcing.pop(item, None)
        self._delayed.pop(item, None)
        if item.options.keyed is not None:
            self._turns.drop(item)
        try:
            # A search, but one step of C (some 12 microseconds for 1,000 items): nothing can come in between, as it
            # could with tombstones, whose count and whose items a finalizer that cancels would tear apart.
            item.lane.queue.remove(item)
        except ValueError:
            # Just being told of, or never queued: a test has captured it.
            pass
        self.wake_a_caller()

    def _ending_of(self, item: WorkItem, status: WorkItemStatus) -> Ending:
        failure = None if item.last_run is None else item.last_run.last_failure
        if failure is None or status is not WorkItemStatus.DISCARDED:
            return Ending(item.status.then(status), self.clock(), self._reason_of(item))
        # It has begun once, and has failed: no further attempt comes.
        item.status.then(failure.status)
        return Ending(failure.status, self.clock(), None, failure.failure, failure.exception)

    def can_leave(self, item: WorkItem) -> bool:
        """Return whether an item waits in a queue: it has neither started nor ended, and does not move."""
        return item.waits and item not in self._ending

    def is_ended_by(self, item: WorkItem, by: object) -> bool:
        """Return whether `by` has taken the item out of its queue, and not settled it yet."""
        return self._ending.get(item) is by

    def leave(self, item: WorkItem) -> None:
        """Take an item that has ended out of the registry, and count it, once; the caller holds the lock."""
        if item.options.keyed is not None:
            # First: it can be done again.
            self._turns.drop(item)
        ending = item.ending
        place: dict[WorkItem, Any] = self._ending
        if item in place:
            # Given up, and not struck out here because of an exception.
            self._running.pop(item, None)
        else:
            place = self._running
        if item in place and ending is not None:
            finished, statistics = self._finished, self.statistics
            totals = statistics.totals
            kept = item if ending.exception is None else for_history(item)
            # No call between these: an exception from a signal handler cannot come in between.
            finished += (kept,)
            total = totals[ending.status._value_] = totals[ending.status._value_] + 1
            del place[item]
            statistics.uncounted.append(kept)
            if not total % AT_A_TIME:
                statistics.have_counted()

    def _reason_of(self, item: WorkItem) -> CancelReason | None:
        # One that has no token yet would get a cancelled one.
        if item.last_run is None:
            return CancelReason.SHUTDOWN if self.stop.requested else None
        return item.last_run.token.reason

    # Waiting.

    def wait_until_empty(self, timeout: float | None = None) -> bool:
        """Block until nothing is queued or running, or for `timeout` seconds; return whether it is so."""
        waiter = new_lock()
        waiter.acquire()
        if holding(self.lock, self._enter, waiter):
            return True
        try:
            waiter.acquire(True, -1 if timeout is None else max(0.0, timeout))
        finally:
            holding(self.lock, self._take_back, waiter)
        return self.is_empty

    def _enter(self, waiter: Lock) -> bool:
        if self._is_empty():
            return True
        self._empty_waiters.append(waiter)
        return False

    def _take_back(self, waiter: Lock) -> None:
        if waiter in self._empty_waiters:
            self._empty_waiters.remove(waiter)

    def nudge(self) -> None:
        """Have those in `wait_until_empty` return at once, to look at their limit again."""
        holding(self.lock, self._wake_empty_waiters)

    def wake_a_caller(self) -> None:
        """Have the first one who waits for room look for it, who wakes the next one; the caller holds the lock."""
        if self._callers:
            self._callers[0].wake()

    def wake_if_empty(self) -> None:
        """Wake those in `wait_until_empty`, if it is so; the caller holds the lock."""
        if self._is_empty():
            self._wake_empty_waiters()

    def _wake_empty_waiters(self) -> None:
        while self._empty_waiters:
            # No call between these: an exception from a signal handler cannot come in between.
            waiter = self._empty_waiters[-1]
            del self._empty_waiters[-1]
            waiter.release()
