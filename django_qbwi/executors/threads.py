"""Our own daemon threads for sync items: parked without polling, replaced when lost, never joined without a limit.

Lock: the scheduler's lock guards `_workers`, `_overdue`, `_idle` and `_joiners`. Where only threads of our own take it,
no signal handler's exception can come, and `with` is enough.
A parked worker waits on a lock of its own, which stands on the stack `_idle`; the last one parked is woken first.
Not `concurrent.futures.ThreadPoolExecutor`: the interpreter joins its threads without limit at exit, it keeps the
frames of failures alive, and it runs an item after having refused it when no thread can be started.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import DEFAULT, Lane
from django_qbwi.core.ports import Environment, NullEnvironment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.results import to_wait_for
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.item_end import ItemEnd
from django_qbwi.executors.restarts import Restarts
from django_qbwi.executors.worker import FORKED, Worker
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import (
    Lock,
    holding,
    new_lock,
    new_thread_locals,
    start_thread,
)
from django_qbwi.machine.stacks import stack_of_thread
from django_qbwi.machine.supervised import Life

logger = SafeLogger("django_qbwi.scheduler")

_MAX_WORKERS = 4


class ThreadExecutor:
    """Runs the items of a lane on at most `lane.limits.running` threads (and as many overdue ones)."""

    thread_name = "qbwi-worker"

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        lane: Lane[WorkItem],
        *,
        environment: Environment | None = None,
        adopt: Callable[[WorkItem, Any, Context], None] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._lock = scheduler.lock
        self._lane = lane
        if lane.pool_name != DEFAULT:
            self.thread_name = f"{self.thread_name}-{lane.pool_name}"
        self._max_workers = lane.limits.running or _MAX_WORKERS
        self._environment: Environment = NullEnvironment() if environment is None else environment
        self._adopt = adopt
        self._end = ItemEnd(scheduler)
        lane.executor = self
        self._workers: dict[Worker, None] = {}
        self._overdue: dict[Worker, None] = {}
        self._idle: list[Any] = []
        self._joiners: list[Lock] = []
        self._numbers = itertools.count(1)
        self.mine = new_thread_locals()
        # Of each thread that was started: it is gone when the thread is, however it ended.
        self.lives: dict[Worker, weakref.ref[Life]] = {}
        self._restarts = Restarts(scheduler.keeper, scheduler.clock, self.grow)
        self._next_warning = 0.0
        self._retired = False

    def __repr__(self) -> str:
        return f"<ThreadExecutor workers={len(self._workers)} idle={len(self._idle)} overdue={len(self._overdue)}>"

    def prepare(self) -> None:
        """Start the first worker; see `Executor.prepare`."""
        if not self._workers:
            self._spawn()

    def wake(self) -> bool:
        """Wake the worker that was parked last; see `Executor.wake`."""
        idle = self._idle
        if not idle:
            return len(self._workers) >= self._max_workers
        # No call and no allocation between these: an exception from a signal handler cannot come in between, and
        # leave a worker that is off the stack and sleeps for ever.
        park = idle[-1]
        del idle[-1]
        park.release()
        return True

    def grow(self) -> None:
        """Start one more worker, up to the limit; see `Executor.grow`."""
        if len(self._workers) >= self._max_workers or self._retired:
            return
        try:
            self._spawn()
        except RuntimeError as error:
            now = self._scheduler.clock()
            if now >= self._next_warning:
                self._next_warning = now + 60.0
                logger.warning(
                    "No further worker thread could be started (%s); %d run on, items wait for them",
                    error,
                    len(self._workers),
                )
            if not self._workers:
                # Nobody is there to wait for, and maybe nobody queues again.
                self._restarts.try_again()

    def give_up_slot(self, item: WorkItem) -> bool:
        """Count the item's worker as overdue and start another; see `Executor.give_up_slot`."""
        with self._lock:
            worker = next((worker for worker in self._workers if worker.item is item), None)
            if worker is None or len(self._overdue) >= self._max_workers:
                return False
            self._overdue[worker] = None
            del self._workers[worker]
        self.grow()
        return True

    @property
    def is_stuck(self) -> bool:
        """True if no worker can take an item: all slots, and all that may be lost, have overdue items in them."""
        return holding(self._lock, self._is_stuck)

    def _is_stuck(self) -> bool:
        return (
            bool(self._workers)
            and len(self._overdue) >= self._max_workers
            and all(worker.item is not None and worker.item.run.overdue for worker in self._workers)
        )

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        """Do nothing: a thread cannot be interrupted."""

    def stack(self, item: WorkItem) -> str:
        """Return the stack of the worker's thread."""
        return stack_of_thread(item.run.ident)

    def retire(self) -> None:
        """End the workers when the queue is empty; does not wait."""
        holding(self._lock, self._retire)

    def _retire(self) -> None:
        self._retired = True
        while self._idle:
            self.wake()

    def join(self, timeout: float) -> bool:
        """Wait after `retire` until the workers are gone, connections closed, but for those that an item still holds.

        Blocks for `timeout` seconds at the most; False if they were over.
        """
        gone = new_lock()
        gone.acquire()
        return holding(self._lock, self._are_gone, gone) or gone.acquire(True, timeout)

    def _are_gone(self, joiner: Lock) -> bool:
        if not self._is_leaving():
            return True
        self._joiners.append(joiner)
        return False

    def stop_in_child(self) -> None:
        """Do nothing: a worker asks for its pid behind each item."""

    # Called by the workers, in their threads.

    def enlist(self, worker: Worker) -> bool:
        """Count a worker that has just started; False if there are enough."""
        with self._lock:
            # Here and not where it is started: a start that a signal handler's exception interrupts would otherwise
            # count for ever.
            if len(self._workers) >= self._max_workers:
                return False
            self._workers[worker] = None
            return True

    def next_item(self, worker: Worker) -> bool:
        """Give the worker its next item, or park it; False if it shall end."""
        with self._lock:
            if worker in self._overdue and not self._relieve(worker):
                # Its slot was given to a replacement while its item was overdue.
                return False
            worker.item = self._scheduler.take(self._lane, worker)
            if worker.item is None:
                if self._retired:
                    return False
                self._idle.append(worker.park)
            return True

    def dismiss(self, worker: Worker, error: BaseException | None) -> None:
        """Strike out a worker that ends; one that was killed is replaced, up to ten times a minute."""
        if error is None:
            # Before it is struck out: the process may end as soon as none is left.
            self._environment.thread_ended()
        self._strike_out(worker)
        if error is not None:
            # An asynchronous exception (PyThreadState_SetAsyncExc) hit our own code.
            self._end_items_of(worker, error)
            self._environment.thread_ended()
            self._restarts.replace()

    def _bury(self, worker: Worker) -> None:
        """Strike out a worker whose thread is gone without a farewell; in the keeper's thread."""
        if worker in self.lives:
            self._strike_out(worker)
            self.lives.pop(worker, None)
            if worker.ident is None:
                # It never began: a signal handler's exception came in the middle of its start.
                self.grow()
                return
            self._end_items_of(worker, RuntimeError("the worker thread was killed"))
            self._restarts.replace()

    def _strike_out(self, worker: Worker) -> None:
        with self._lock:
            self._workers.pop(worker, None)
            self._overdue.pop(worker, None)
            if worker.park in self._idle:
                self._idle.remove(worker.park)
            if self._joiners and not self._is_leaving():
                for gone in self._joiners:
                    gone.release()
                self._joiners.clear()

    def _end_items_of(self, worker: Worker, error: BaseException) -> None:
        logger.error("A worker thread was killed by %r", error)
        for item in self._scheduler.taken_by(worker):
            self._end.rescue(item, error)
            if item.ending is None:
                self._scheduler.late(item)
        worker.item = None

    def run_item(self, worker: Worker, item: WorkItem) -> Any:
        """Run an item in its own context; return an awaitable that it made, FORKED in a child that it made, or None."""
        scheduler = self._scheduler
        run = item.last_run or item.run
        run.thread = worker.name
        run.ident = worker.ident
        worker.state.begin()
        self._environment.before()
        scheduler.begin(item)
        result: Any = None
        error: BaseException | None = None
        try:
            scheduler.observer.started(item)
            function, args = item.work
            result = function(run.token, *args)
            if result is not None:
                result = to_wait_for(result)
        except BaseException as caught:
            # User code returns to us here: SystemExit, KeyboardInterrupt and the like end the item, not the worker.
            error, result = caught, None
        # They keep large objects alive.
        function = args = None  # type: ignore[assignment]
        if not scheduler.process.is_here():
            return FORKED
        worker.state.renew(item)
        if result is not None and self._adopt is not None:
            self._environment.after()
            return result
        del result
        self._end.reach(item, error, self._environment.after)
        return None

    def adopt(self, item: WorkItem, awaitable: Any, context: Context) -> None:
        """Hand an awaitable over to the loop; the item goes on there."""
        assert self._adopt is not None
        self._adopt(item, awaitable, context)

    @property
    def is_here(self) -> bool:
        """Whether this is the process that the workers belong to."""
        return self._scheduler.process.is_here()

    def _relieve(self, worker: Worker) -> bool:
        # Where no thread could be started in its place there is room for it again; a replacement that comes late ends.
        if len(self._workers) >= self._max_workers:
            # At the cap an overdue worker got no replacement; one whose own overdue item has ended takes its place.
            stuck = next((other for other in self._workers if other.item is not None and other.item.run.overdue), None)
            if stuck is None:
                return False
            self._overdue[stuck] = None
            del self._workers[stuck]
        del self._overdue[worker]
        self._workers[worker] = None
        return True

    def _is_leaving(self) -> bool:
        items = (worker.item for worker in (*self._workers, *self._overdue))
        return any(item is None or (item.ended and not _is_abandoned(item)) for item in items)

    def _spawn(self) -> None:
        worker = Worker(self)
        held = [Life()]

        def died(life: object) -> None:
            # In the last moments of the thread, which is not known as one any more: no place for records.
            self._scheduler.keeper.post(functools.partial(self._bury, worker))

        self.lives[worker] = weakref.ref(held[0], died)
        try:
            start_thread(functools.partial(worker.run, held), f"{self.thread_name}-{next(self._numbers)}")
        except RuntimeError:
            del self.lives[worker]
            raise


def _is_abandoned(item: WorkItem) -> bool:
    return item.status is WorkItemStatus.ABANDONED
