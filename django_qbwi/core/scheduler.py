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
from collections.abc import Callable, Iterable
from typing import NoReturn

from django_qbwi.core import items
from django_qbwi.core.admission import Admission, SchedulerState
from django_qbwi.core.calls import Call
from django_qbwi.core.cancellation import StopFlag
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.failures import is_a, without_frames
from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import NullObserver, Observer
from django_qbwi.core.records import WorkItemError, WorkItemStatus
from django_qbwi.core.runs import Ending
from django_qbwi.core.timeouts import Timeouts
from django_qbwi.core.withdrawal import Withdrawal
from django_qbwi.machine.primitives import holding, new_rlock
from django_qbwi.machine.service_thread import ServiceThread

# A member is looked up by Python code before 3.12.
_SUCCEEDED = WorkItemStatus.SUCCEEDED


class WorkItemScheduler(Admission):
    """Keeps the items of one process.

    - An accepted item stays in the registry until its record and its signal are out.
    - Its first terminal status stands; whoever decided it reports it.
    - Items start first in, first out for each kind.
    """

    def __init__(
        self,
        *,
        max_queued: int = 1000,
        overdue_after: float = 5.0,
        accept_while_draining: bool = True,
        history_size: int = 200,
        observer: Observer[WorkItem] | None = None,
        keeper: ServiceThread | None = None,
        stop: StopFlag | None = None,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[], None] = lambda: None,
    ) -> None:
        stop = StopFlag(clock) if stop is None else stop
        super().__init__(stop, clock, history_size, max_queued, accept_while_draining)
        self._acquire, self._release = self.lock.acquire, self.lock.release
        self.observer: Observer[WorkItem] = NullObserver() if observer is None else observer
        self.keeper = ServiceThread("qbwi-keeper", clock) if keeper is None else keeper
        self.stop.call_at = self.keeper.call_at
        self._start = start
        self._started = False
        # Held while the first threads are started, which happens once, also when many threads queue at once.
        self._starting = new_rlock()
        self._timeouts = Timeouts(self.keeper, overdue_after, self._mark_overdue)

    def __repr__(self) -> str:
        return f"<WorkItemScheduler {self.state} queued={self.queued_count} running={self.running_count}>"

    @property
    def started(self) -> bool:
        """True once a first item was accepted, and threads run."""
        return self._started

    def stack(self, item: WorkItem) -> str:
        """Return where a running item is now, without locals."""
        return item.lane.executor.stack(item)

    # Accepting, in the caller's thread.

    def make_item(self, call: Call) -> WorkItem:
        """Return a new item of this scheduler, which knows its lane and is not queued yet.

        Raises:
            KeyError: It asks for a lane that there is not.
        """
        return WorkItem(self, call.function, call.args, call.is_async, call.origin, call.options)

    def queue(self, item: WorkItem) -> None:
        """Accept `item`, made by `make_item`; never blocks but for the first thread starts.

        Raises:
            WorkItemRejected: Refused (its subclasses say why), or no thread could be started; nothing was queued.
        """
        if not self._started:
            self._start_threads(item)
        lane, tells, woken, refusal = item.lane, self.observer.announces, True, None
        queue = lane.queue
        try:
            try:
                # As `with self.lock:`, at half of its cost; inside of `try`, for it may be struck once it is taken.
                self._acquire()
                self._room = room = self._room - 1
                if room < 0 or self._closed or self.stop.first_sign is not None:
                    refusal = self._refusal(item)
                    if refusal is None:
                        self._room = self._max_queued - self.queued_count - 1
                if refusal is None:
                    if tells:
                        # Its place is reserved, and nobody takes it before it was told of.
                        self._announcing[item] = None
                    else:
                        # Insert last: struck in between, a worker looks in vain, and no item is left waiting.
                        woken = lane.executor.wake()
                        queue.append(item)
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
                holding(self.lock, self._publish, item)
            raise
        if not woken:
            lane.executor.grow()

    def run_at_once(self, item: WorkItem) -> None:
        """Count `item` as running without an executor: its caller runs, concludes and settles it.

        Raises:
            SchedulerDraining, SchedulerClosed: Refused.
        """
        refusal = holding(self.lock, self._refusal, item)
        if refusal is not None:
            self._reject(item, refusal)
        self.observer.queued(item)
        holding(self.lock, self._run_here, item)

    def _run_here(self, item: WorkItem) -> None:
        item.status.then(WorkItemStatus.RUNNING)
        item.run.started = self.clock()
        self._running[item] = None

    def discard(self, item: WorkItem) -> None:
        """End `item`, which was never queued, as DISCARDED; for a process that runs nothing."""
        holding(self.lock, self.leave_queue, item, WorkItemStatus.DISCARDED)
        self.settle(item)

    def after_fork_in_child(self) -> None:
        """Free the lock in a forked child, where the thread that may have held it does not exist; stop what runs."""
        reinit = getattr(self.lock, "_at_fork_reinit", None)
        if reinit is not None:
            reinit()
        for lane in self.lanes.values():
            lane.executor.stop_in_child()

    def _publish(self, item: WorkItem) -> bool:
        if item not in self._announcing:
            return True  # refused, or discarded meanwhile at the limit of a drain, or here already
        queue = item.lane.queue
        woken = item.lane.executor.wake()
        # No call between these: an exception from a signal handler cannot come in between.
        del self._announcing[item]
        queue.append(item)
        return woken

    def _start_threads(self, item: WorkItem) -> None:
        if self._closed:
            refused = self._refusal(item)
            assert refused is not None
            self._reject(item, refused)
        try:
            holding(self._starting, self._start_once)
        except (RuntimeError, OSError) as error:
            # No thread, no file descriptor for the loop: what has started stays, and the next item tries again.
            refusal = WorkItemRejected(f"{item.name} was not queued: no thread could be started ({error})")
            self.observer.rejected(item, refusal)
            raise refusal from error

    def _start_once(self) -> None:
        if self._started:
            return
        for lane in self.lanes.values():
            lane.executor.prepare()
        self._start()
        self._started = True
        if self.state is SchedulerState.CLOSED:
            # Meanwhile, by somebody who saw no threads and waited for none.
            self.retire()

    def _reject(self, item: WorkItem, refusal: WorkItemRejected) -> NoReturn:
        self.observer.rejected(item, refusal)
        raise refusal

    # Running, called by the executors.

    def begin(self, item: WorkItem) -> None:
        """Make `item` the current one of this context, and arm its timeout."""
        items.enter_item(item)
        run = item.last_run or item.run  # without the property, on the path of every item
        if run.early or self.stop.cancels_since is not None:
            run.token.begin()
        if item.options.timeout is not None:
            self._timeouts.arm(item)

    def conclude(self, item: WorkItem, error: BaseException | None) -> bool:
        """Decide the terminal status of a running item by how it ended; False if that was decided before."""
        failure: WorkItemError | None = None
        ended_by = error
        if error is None:
            status = _SUCCEEDED
        elif is_a(error, asyncio.CancelledError) and item.token.is_cancellation_requested:
            status, error = WorkItemStatus.CANCELLED, None
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
        if ended_by is not None and (failure is None or not decided):
            # Nobody looks at it any more, and its frames keep what the item has worked with.
            without_frames(ended_by)
        return decided

    def settle(self, item: WorkItem) -> None:
        """Take the last steps of an item that is concluded and reported: wake who waits, then leave the registry.

        One that an exception has interrupted may be done again.
        """
        try:
            if item.options.timeout is not None:
                self._timeouts.disarm(item)
            if item.ending is not None and item.ending.exception is not None:
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

    def late(self, item: WorkItem) -> None:
        """Note that an abandoned item has ended after all; it changes nothing."""
        item.forget_call()
        self.observer.late(item)

    # Cancelling.

    def cancel(self, item: WorkItem, message: str | None = None) -> bool:
        """Cancel one item, for `WorkItemHandle.cancel`; the callbacks of its token run in this thread."""
        return Withdrawal(self, item, message).run()

    def report_unstarted(self, item: WorkItem) -> None:
        """Report an item that ended before it began, and settle it."""
        try:
            self.tell_end(item)
        finally:
            self.settle(item)

    def tell_end(self, item: WorkItem) -> None:
        """Have the end of `item` recorded and announced, in this thread."""
        observer = self.observer
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
        for lane in self.lanes.values():
            lane.executor.cancel_natively([item for item in running if item.lane is lane])

    def retire(self) -> None:
        """Let the threads of the executors end."""
        for lane in self.lanes.values():
            lane.executor.retire()

    def join(self, timeout: float) -> bool:
        """Wait after `retire` for the last acts of the threads, `timeout` seconds at the most; False if too short."""
        deadline = time.monotonic() + timeout
        joined = [lane.executor.join(max(0.0, deadline - time.monotonic())) for lane in self.lanes.values()]
        return all(joined)

    @property
    def is_stuck(self) -> bool:
        """Whether there is a lane whose executor cannot take a further item until an overdue one ends."""
        return any(lane.executor.is_stuck for lane in self.lanes.values())
