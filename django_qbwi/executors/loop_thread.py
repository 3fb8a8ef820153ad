"""One background event loop in a daemon thread for async items, and for awaitables that sync items returned.

Order of events: an item enters the scheduler's queue, one pending wakeup makes the loop's thread pump; the pump takes
items while there are slots, of each lane in turn, and starts each in a fresh context; the wrapping coroutine contains
whatever user code raises; at its end it pumps again.
Lock: the scheduler's lock guards `_in_flight`, `_lanes` and `_wakeup_pending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.ports import Environment, NullEnvironment
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.async_run import AsyncRuns, close
from django_qbwi.executors.loop_end import cancel_leftovers, cancel_natively, stop_copy
from django_qbwi.executors.loop_monitor import LoopMonitor
from django_qbwi.executors.loop_repair import LoopMender
from django_qbwi.executors.loop_slots import Adopted, ItemExecutors, LoopLane, LoopLanes
from django_qbwi.executors.loop_start import new_loop
from django_qbwi.machine.daemon_executor import DaemonExecutor
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import (
    STARTS_NO_THREADS_LATE,
    holding,
    new_lock,
    new_selector,
    start_thread,
    thread_ident_getter,
)
from django_qbwi.machine.stacks import stack_of_thread, stack_on_loop
from django_qbwi.machine.supervised import SupervisedThread

logger = SafeLogger("django_qbwi.scheduler")

_BATCH_SECONDS = 0.001
_BATCH_ITEMS = 32
_FAREWELL_SECONDS = 0.4


class LoopExecutor:
    """Runs the async items of a lane on one loop, at most `lane.limits.running` at a time (and as many overdue).

    Items of other lanes run there too, each lane in slots of its own; see `LoopShare`.
    """

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        lane: Lane[WorkItem],
        *,
        environment: Environment | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._lock = scheduler.lock
        self._own = own = LoopLane(lane)
        self._lanes = LoopLanes(own)
        self._environment: Environment = NullEnvironment() if environment is None else environment
        self._adopted = own.adopted
        self._wakeup_pending = False
        self._executors = ItemExecutors(self._environment, lambda: scheduler.state is SchedulerState.CLOSED)
        self._runs = AsyncRuns(scheduler, self._environment, self._executors, begun=self._begin, over=self._forget)
        self._in_flight = self._runs.in_flight
        self._context = Context()
        self._loop: asyncio.SelectorEventLoop | None = None
        self._default_executor: DaemonExecutor | None = None
        self._ident: int | None = None
        # A second start, of a signal handler that queues in the middle of the first one, serves nothing.
        self._thread = SupervisedThread("qbwi-loop", self._run, spawn=start_thread)
        self._started = False
        self._retired = False
        self._closing = False
        self._monitor = LoopMonitor(
            scheduler.keeper,
            scheduler.clock,
            ask=self._ask_loop,
            is_busy=lambda: bool(self._in_flight) and not self._retired,
            describe=self._what_blocks,
        )
        self._mender: LoopMender  # made with the loop
        self._ended = new_lock()
        self._ended.acquire()
        lane.executor = self

    def __repr__(self) -> str:
        return f"<LoopExecutor in_flight={len(self._in_flight)} adopted={len(self._adopted)}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The background loop, None before the first item."""
        return self._loop

    def add(self, lane: LoopLane) -> None:
        """Have the loop run the items of another lane, too; before the first item."""
        self._lanes.add(lane)

    def prepare(self) -> None:
        """Make the loop and start its thread; see `Executor.prepare`."""
        if self._started or self._retired:
            return
        if not self._has_loop():
            # Explicitly, never by the server's policy; in a context of nobody's, which the loop keeps. A new one each
            # time: a finalizer that queues may come here again, from within this very call.
            loop = Context().run(new_loop, new_selector())
            mender = LoopMender(loop)
            # Its threads serve calls of all items, so each call is surrounded like an item.
            executor = DaemonExecutor(
                min(32, (os.cpu_count() or 1) + 4),
                "qbwi-executor",
                self._environment.thread_ended,
                before=self._environment.before,
                after=self._environment.after,
            )
            loop.set_default_executor(executor)
            # Last: an exception from a signal handler leaves all of it to the next item, or nothing.
            if self._has_loop():
                loop.close()
            else:
                self._default_executor, self._mender, self._loop = executor, mender, loop
        self._thread.start()
        if STARTS_NO_THREADS_LATE:
            assert self._default_executor is not None  # made with the loop
            self._default_executor.prestart(2)
            self._executors.prestart()
        self._started = True

    def _has_loop(self) -> bool:
        return self._loop is not None

    def wake(self) -> bool:
        """Have the loop pump, once for many items; see `Executor.wake`."""
        loop = self._loop
        if not self._wakeup_pending and loop is not None:
            # Call first, then set: interrupted in between, the next item wakes the loop again, in vain at worst.
            loop.call_soon_threadsafe(self._pump, context=self._context)
            self._wakeup_pending = True
        return True

    def wake_for(self, lane: LoopLane) -> bool:
        """Have the loop pump, and look at a lane; as `wake`."""
        self._lanes.wake(lane)
        return self.wake()

    def grow(self) -> None:
        """Do nothing: there is one loop."""

    def adopt(self, item: WorkItem, awaitable: Any, context: Context) -> None:
        """Go on with an item whose function returned `awaitable`, in the same context, when there is a slot."""
        self.adopt_into(self._own, item, awaitable, context)

    def adopt_into(self, lane: LoopLane, item: WorkItem, awaitable: Any, context: Context) -> None:
        """As `adopt`, when there is a slot of that lane."""
        with self._lock:
            retired = self._retired
            if not retired:
                # From here on the loop is asked for its stack, its slot and its cancellation.
                item.lane = lane.lane
                self.wake_for(lane)
                lane.adopted[item] = (awaitable, context)
                # Last: until here it is the worker's, and ends with it.
                self._scheduler.pass_on(item, self)
        if retired:
            # The scheduler has given up meanwhile; its item is abandoned and reported already.
            close(awaitable)
            self._scheduler.late(item)

    def give_up_slot(self, item: WorkItem) -> bool:
        """Count an overdue item apart; see `Executor.give_up_slot`."""
        return self.give_up_slot_in(self._own, item)

    def give_up_slot_in(self, lane: LoopLane, item: WorkItem) -> bool:
        """As `give_up_slot`, for an item of that lane."""
        with self._lock:
            return lane.give_up(item) and self.wake_for(lane)

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        """Cancel the asyncio tasks of items, again and again for a second; see `Executor.cancel_natively`."""
        if items and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                cancel = functools.partial(cancel_natively, self._in_flight, items, self._context)
                self._loop.call_soon_threadsafe(cancel, context=self._context)

    def stack(self, item: WorkItem) -> str:
        """Return the await chain of the item's task, and that of the thread it waits for or blocks."""
        task = self._in_flight.get(item)
        if task is None:
            return "  <waiting for a slot on the event loop>\n"
        executor = self._executors.lent.get(item)
        thread = executor.ident if executor is not None and executor.touched else None
        return stack_on_loop(task, self._loop, self._ident, thread)

    def retire(self) -> None:
        """Cancel what is left, close the loop and end its thread; does not wait."""
        if self._retired:
            return
        for awaitable, _ in holding(self._lock, self._retire):
            close(awaitable)
        loop = self._loop
        if loop is None:
            return
        if not self._started:
            # No thread could be started for it.
            loop.close()
            return
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop, context=self._context)

    def _retire(self) -> list[Adopted]:
        self._retired = True
        return self._lanes.clear()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the loop's thread after `retire`, for `timeout` seconds at the most."""
        return not self._started or self._ended.acquire(True, timeout)

    @property
    def is_stuck(self) -> bool:
        """True if the loop stands still, or all slots, and all that may be lost, have overdue items in them."""
        if self._monitor.stands_still or self._thread.is_lost:
            return True
        return holding(self._lock, self._own.is_stuck)

    def stop_in_child(self) -> None:
        """Keep the copy of the loop in a forked child from taking another step, if the child runs on its thread."""
        loop = self._loop
        if loop is not None and thread_ident_getter()() == self._ident:
            stop_copy(loop)

    def _ask_loop(self, answer: Callable[[], None]) -> None:
        if self._loop is not None:
            self._thread.revive()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(answer, context=self._context)

    def _what_blocks(self) -> str:
        task = None if self._loop is None else asyncio.current_task(self._loop)
        items = (item for item, running in list(self._in_flight.items()) if task is not None and running is task)
        item = next(items, None)
        who = "none of the items' own tasks" if item is None else f"item id={item.id} name={item.name}"
        return f"it is in {who}, at:\n{stack_of_thread(self._ident)}"

    # On the loop's thread from here on.

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        # A thread that was killed has a successor, in which the same loop goes on with the same tasks.
        self._ident = thread_ident_getter()()
        while not self._retired:
            try:
                loop.run_forever()
            except BaseException as error:
                # A child task that raises SystemExit or KeyboardInterrupt leaves run_forever; all others go on.
                if self._scheduler.process.is_here():
                    self._mender.mend(error, [*self._in_flight.values()])
            if not self._scheduler.process.is_here():
                return
        if self._closing:
            return  # struck on the way out
        self._closing = True
        try:
            self._close_loop(loop)
        finally:
            self._ended.release()

    def _close_loop(self, loop: asyncio.SelectorEventLoop) -> None:
        try:
            # Tasks of the items themselves have a record of their own.
            cancel_leftovers(loop, self._in_flight.values(), self._scheduler.pid, self._mender)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            executors = self._executors.all()
            if self._default_executor is not None:
                executors.append(self._default_executor)
            for executor in executors:
                executor.retire()
            deadline = time.monotonic() + _FAREWELL_SECONDS
            for executor in executors:
                executor.join(deadline - time.monotonic())
            self._environment.thread_ended()
            if not asyncio.all_tasks(loop):
                loop.close()

    def _pump(self) -> None:
        limit = time.monotonic() + _BATCH_SECONDS
        for _ in range(_BATCH_ITEMS):
            with self._lock:
                self._wakeup_pending = False
                taken = self._take()
                if taken is None:
                    return
                item, adopted = taken
                self._in_flight[item] = None
            if adopted is None:
                self._runs.start(item, self._runs.begin(item), Context())
            elif item.ending is not None:
                # Abandoned while it waited for a slot.
                close(adopted[0])
                self._forget(item)
                self._scheduler.late(item)
            else:
                self._runs.start(item, self._runs.go_on(item, adopted[0]), adopted[1])
            process = self._scheduler.process
            if (process.left or process.asks) and not process.is_here():
                # The child of an item that forked in its first step: the others are the parent's.
                return
            if time.monotonic() > limit:
                break
        # Other tasks get their turn between two batches.
        with self._lock:
            self.wake()

    def _take(self) -> tuple[WorkItem, Adopted | None] | None:
        while (lane := self._lanes.next()) is not None:
            adopted: Adopted | None = None
            taken: WorkItem | None
            if lane.adopted:
                taken = next(iter(lane.adopted))
                adopted = lane.adopted.pop(taken)
            else:
                # None if all that waited has expired.
                taken = self._scheduler.take(lane.lane, self)
            if taken is not None:
                self._lanes.enter(taken, lane)
                return taken, adopted
        return None

    def _begin(self, item: WorkItem) -> None:
        item.run.thread, item.run.ident = "qbwi-loop", self._ident
        self._monitor.watch()

    def _forget(self, item: WorkItem) -> None:
        with self._lock:
            self._in_flight.pop(item, None)
            if self._lanes.free(item):
                self.wake()
