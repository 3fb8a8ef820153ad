"""The scheduler: accepts items within a bound, hands them to executors, counts them, and ends in order.

States: OPEN -> DRAINING (at the first sign of the process's end) -> CLOSED.
Lock: `lock`, one re-entrant lock for all of a scheduler, guards the containers, the statuses and `closed`. It is held
to read or change state only: no user code, no record and no signal under it.

"Struck" is said of a line behind which a signal handler's exception may come, in the main thread (R1).

Three ways in which this could fail, and what stands against each:
- A signal handler raises between any two statements of the main thread (gunicorn's QUIT, Ctrl-C): every count is the
  length of a container, and an item is inserted by the last step.
- A finalizer or a signal handler queues or cancels while its own thread holds the lock: the lock is re-entrant, and
  the state is consistent between any two statements.
- An item is seen as done before its last act: it leaves the containers after its record, its signal and its waiters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from django_qbwi.core import items
from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.attempts import RetriedItems
from django_qbwi.core.calls import Call
from django_qbwi.core.checkpoints import CheckpointReached
from django_qbwi.core.failures import is_a, without_frames
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemError, WorkItemStatus
from django_qbwi.core.runs import Ending
from django_qbwi.core.timeouts import Timeouts
from django_qbwi.core.withdrawal import Withdrawal
from django_qbwi.machine.primitives import holding

# A member is looked up by Python code before 3.12.
_SUCCEEDED = WorkItemStatus.SUCCEEDED


class WorkItemScheduler(RetriedItems):
    """Keeps the items of one process.

    - An accepted item stays in the registry until its record and its signal are out.
    - Its first terminal status stands; whoever decided it reports it.
    - Items start first in, first out for each lane and priority.
    """

    def __init__(self, *, overdue_after: float = 5.0, **options: Any) -> None:
        """Make it.

        Args:
            overdue_after: Seconds after its timeout at which an item is named, and loses its slot.
            options: Those of `Acceptance`.
        """
        super().__init__(**{"report": self.report_unstarted, **options})
        self._timeouts = Timeouts(self.keeper, overdue_after, self._mark_overdue)

    def __repr__(self) -> str:
        return f"<WorkItemScheduler {self.state} queued={self.queued_count} running={self.running_count}>"

    def stack(self, item: WorkItem) -> str:
        """Return where a running item is now, without locals."""
        return item.lane.executor.stack(item)

    def make_item(self, call: Call) -> WorkItem:
        """Return a new item of this scheduler, which knows its lane and is not queued yet.

        Raises:
            KeyError: It asks for a lane that there is not.
        """
        item = WorkItem(self, call.function, call.args, call.is_async, call.origin, call.options)
        if call.options.priority:
            item.lane.keep_order()
        return item

    # Running, called by the executors.

    def begin(self, item: WorkItem) -> None:
        """Make `item` the current one of this context, and arm its timeout."""
        items.enter_item(item)
        run = item.last_run or item.run  # without the property, on the path of every item
        if run.early or self.stop.cancels_since is not None:
            run.token.begin()
            self.expires_no_more(item)
        if item.options.timeout is not None:
            self._timeouts.arm(item)

    def conclude(self, item: WorkItem, error: BaseException | None) -> bool:
        """Decide the terminal status of a running item by how it ended; False if that was decided before."""
        failure: WorkItemError | None = None
        ended_by = error
        if error is None:
            status = _SUCCEEDED
        elif is_a(error, asyncio.CancelledError) and item.token.is_cancellation_requested:
            if self._goes_on_elsewhere(item, error):
                return False
            status, error = WorkItemStatus.CANCELLED, None
        elif item.options.retry is not None and self.plans_another(item, error):
            return False
        else:
            status = WorkItemStatus.FAILED
            failure = WorkItemError.of(error)
        token = (item.last_run or item.run).token
        try:
            # In the order of `queue`: the main thread comes here with an item that it runs at once.
            self._acquire()
            decided = item.ending is None
            if decided:
                item.ending = Ending(status, self.clock(), token.reason, failure, error)
        finally:
            try:
                self._release()
            except RuntimeError:
                pass
        if ended_by is not None and (failure is None or not decided) and item.lane.owns_failures:
            # Nobody looks at it any more, and its frames keep what the item has worked with.
            without_frames(ended_by)
        return decided

    def _goes_on_elsewhere(self, item: WorkItem, error: BaseException) -> bool:
        """Let an item that has left its code at a checkpoint of its own move; False if it is none, or has ended."""
        movable = item.options.movable
        if movable is None or type(error) is not CheckpointReached or error.token is not item.token:
            return False
        if not self.stop_running(item, movable):
            return False
        if item.options.timeout is not None:
            self._timeouts.disarm(item)
        state = error.state
        without_frames(error)
        movable.go_on(item, state)
        return True

    def settle(self, item: WorkItem) -> None:
        """Take the last steps of an item that is concluded and reported: wake who waits, then leave the registry.

        One that an exception has interrupted may be done again.
        """
        try:
            if item.options.timeout is not None:
                self._timeouts.disarm(item)
            if item.ending is not None and item.ending.exception is not None and item.lane.owns_failures:
                without_frames(item.ending.exception)
            item.forget_call()
        finally:
            # A callable's own code may be asked for its name; nothing that it raises keeps those who wait.
            item.wake_waiters()
            try:
                self._acquire()
                self.leave(item)
                if self._empty_waiters:
                    self.wake_if_empty()
            finally:
                try:
                    self._release()
                except RuntimeError:
                    pass

    def discard(self, item: WorkItem) -> None:
        """End `item`, which was never queued, as DISCARDED; for a process that runs nothing."""
        holding(self.lock, self.leave_queue, item, WorkItemStatus.DISCARDED)
        self.settle(item)

    def late(self, item: WorkItem) -> None:
        """Note that a run is over whose item has not ended by it, or had ended before: the last step of the run.

        It goes on here, in another attempt, or elsewhere; or it was abandoned, which nothing changes any more.
        """
        if item.options.retry is not None and item.ending is None:
            if item.options.timeout is not None:
                self._timeouts.disarm(item)
            if self.goes_on(item):
                return
        if not self.is_moving(item):
            item.forget_call()
            self.observer.late(item)

    # Cancelling.

    def cancel(self, item: WorkItem, message: str | None = None) -> bool:
        """Cancel one item, for `WorkItemHandle.cancel`; the callbacks of its token run in this thread."""
        return Withdrawal(self, item, message).run()

    def give_back(self, item: WorkItem) -> None:
        """Have the end of an item told, and settle it; in this thread."""
        self.report_unstarted(item)

    def report_unstarted(self, item: WorkItem) -> None:
        """Report an item that ended before it began, and settle it."""
        try:
            self.tell_end(item)
        finally:
            self.settle(item)

    def tell_end(self, item: WorkItem) -> None:
        """Have the end of `item` recorded and announced, in this thread."""
        observer = self.observer
        self._timetable.disarm(item)
        try:
            if observer.writes_end(item):
                observer.record_end(item)
        finally:
            observer.finished(item)

    def _mark_overdue(self, item: WorkItem) -> None:
        executor = item.lane.executor
        # In the keeper's thread, where no signal handler runs.
        with self.lock:
            if not item.runs:
                return
            item.run.overdue = True
        stack = executor.stack(item)
        # A replacement would only start more work in a process that is about to end.
        replaced = self.state is SchedulerState.OPEN and executor.give_up_slot(item)
        self.observer.overdue(item, stack, replaced)
        executor.cancel_natively([item])

    # The end.

    def interrupt(self, items: Iterable[WorkItem] | None = None) -> None:
        """Natively cancel what can be interrupted of the given items, or of all, that run; returns at once."""
        running = [item for item in (self.running_items() if items is None else items) if item.runs]
        of_lanes: dict[Lane[WorkItem], list[WorkItem]] = {}
        for item in running:
            of_lanes.setdefault(item.lane, []).append(item)
        for lane, found in of_lanes.items():
            lane.executor.cancel_natively(found)

    def join(self, timeout: float) -> bool:
        """Wait after `retire` for the last acts of the threads, `timeout` seconds at the most; False if too short."""
        deadline = time.monotonic() + timeout
        joined = [lane.executor.join(max(0.0, deadline - time.monotonic())) for lane in self.lanes.values()]
        return all(joined)

    @property
    def is_stuck(self) -> bool:
        """Whether there is a lane whose executor cannot take a further item until an overdue one ends."""
        return any(lane.executor.is_stuck for lane in self.lanes.values())
