"""A scheduler whose executors and service threads are moved by hand: nothing runs beside the test."""

import queue
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from django_qbwi.core.attempts import let_try_again
from django_qbwi.core.calls import Call, Options
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.lanes import ASYNC, SYNC, Lane, Pool, lane_name
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.intake.callables import examine
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.clock import FakeClock
from tests.support.observers import RecordingObserver


class ManualServiceThread(ServiceThread):
    """A service thread without a thread: `run` does in the test's thread what is posted and due."""

    def __init__(self, clock: Callable[[], float], name: str = "manual") -> None:
        super().__init__(name, clock)
        self.stopped = False
        self.stuck = False
        """True makes it a thread that hangs in a chore: nothing runs any more."""

    def start(self) -> None:
        self._started = True

    def run(self) -> None:
        """Do what is posted, then what is due, until there is nothing more."""
        while not self.stuck:
            try:
                call = self._mailbox.get_nowait()
            except queue.Empty:
                self.run_due()
                if self._mailbox.empty():
                    return
                continue
            if call is not None:
                self._call(call)

    def flush(self, timeout: float) -> bool:
        self.run()
        return not self.stuck

    def stop(self) -> None:
        self.stopped = True


class ManualExecutor:
    """Takes an item, and ends one, when the test says so."""

    def __init__(self, scheduler: WorkItemScheduler, lane: Lane[WorkItem]) -> None:
        self.scheduler = scheduler
        self.lane = lane
        lane.executor = self
        self.wakes_enough = True
        """What `wake` answers."""
        self.failure: RuntimeError | None = None
        """What `prepare` raises."""
        self.prepared = self.woken = self.grown = self.retired = self.stopped_in_child = 0
        self.stuck = False
        self.gave_up: list[WorkItem] = []
        self.interrupted: list[WorkItem] = []
        self.contexts: dict[WorkItem, Context] = {}

    def prepare(self) -> None:
        self.prepared += 1
        if self.failure is not None:
            raise self.failure

    def wake(self) -> bool:
        self.woken += 1
        return self.wakes_enough

    def grow(self) -> None:
        self.grown += 1

    def give_up_slot(self, item: WorkItem) -> bool:
        self.gave_up.append(item)
        return True

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        self.interrupted += items

    def stack(self, item: WorkItem) -> str:
        return f"  the stack of {item.name}\n"

    @property
    def is_stuck(self) -> bool:
        return self.stuck

    def retire(self) -> None:
        self.retired += 1

    def join(self, timeout: float) -> bool:
        return not self.stuck

    def stop_in_child(self) -> None:
        self.stopped_in_child += 1

    def start(self) -> WorkItem | None:
        """Take the next item and begin it, in a context of its own."""
        with self.scheduler.lock:
            item = self.scheduler.take(self.lane)
        if item is not None:
            context = self.contexts[item] = Context()
            context.run(self.scheduler.begin, item)
            self.scheduler.observer.started(item)
        return item

    def finish(
        self, item: WorkItem, error: BaseException | None = None, meanwhile: Callable[[], object] = lambda: None
    ) -> bool:
        """End an item as an executor does; return whether this decided its status.

        What comes ahead of the last step, from another thread, is done by `meanwhile`.
        """
        del self.contexts[item]
        decided = self.scheduler.conclude(item, error)
        meanwhile()
        if decided:
            self.scheduler.tell_end(item)
            self.scheduler.settle(item)
        else:
            self.scheduler.late(item)
        return decided


def noop(token: Any, *args: Any) -> None:
    """Do nothing."""


async def anoop(token: Any, *args: Any) -> None:
    """Do nothing, on a loop."""


class ManualRuntime:
    """A scheduler with all that it needs, under the test's control."""

    def __init__(self, *, announces: bool = False, pools: dict[str, int] | None = None, **options: Any) -> None:
        """Make it, with a pool for each of the names, which has so many items wait."""
        self.clock = FakeClock()
        self.observer = RecordingObserver(announces=announces)
        self.keeper = ManualServiceThread(self.clock, "keeper")
        self.reporter = ManualServiceThread(self.clock, "reporter")
        self.scheduler = WorkItemScheduler(
            observer=self.observer,
            keeper=self.keeper,
            clock=self.clock,
            start=self._start,
            report=lambda item: self.reporter.post(lambda: self.scheduler.report_unstarted(item)),
            **options,
        )
        self.sync = ManualExecutor(self.scheduler, Lane(SYNC))
        self.loop = ManualExecutor(self.scheduler, Lane(ASYNC, "async"))
        self.pools: dict[str, tuple[ManualExecutor, ManualExecutor]] = {}
        for name, max_queued in (pools or {}).items():
            sync, loop = (
                Lane[WorkItem](lane_name(name, False) or ""),
                Lane[WorkItem](lane_name(name, True) or "", "async"),
            )
            Pool(name, max_queued, sync, loop)
            self.pools[name] = ManualExecutor(self.scheduler, sync), ManualExecutor(self.scheduler, loop)
        others = [executor for pair in self.pools.values() for executor in pair]
        self.scheduler.attach(*(executor.lane for executor in (self.sync, self.loop, *others)))

    def _start(self) -> None:
        self.keeper.start()
        self.reporter.start()

    def make(
        self, work_item: Callable[..., Any] = noop, *args: Any, pool: str | None = None, **options: Any
    ) -> WorkItem:
        """Return a new item that is not queued."""
        is_async = examine(work_item, args)
        options.setdefault("lane", lane_name(pool, is_async))
        call = Call(work_item, args, is_async, options=Options(**options))
        item = self.scheduler.make_item(call)
        if item.options.retry is not None:
            let_try_again(item)
        elif item.options.expires is not None:
            _ = item.run
        return item

    def queue(self, work_item: Callable[..., Any] = noop, *args: Any, **options: Any) -> WorkItem:
        """Queue a call and return the live item."""
        item = self.make(work_item, *args, **options)
        self.scheduler.queue(item)
        return item

    def queue_later(self, seconds: float, work_item: Callable[..., Any] = noop, *args: Any, **options: Any) -> WorkItem:
        """Queue a call that waits for its time."""
        item = self.make(work_item, *args, **options)
        self.scheduler.queue_when_told(item, lambda: None, seconds)
        return item

    def handle(self, *args: Any, **options: Any) -> WorkItemHandle:
        """Queue a call and return its handle."""
        return handle_of(self.queue(*args, **options))

    def advance(self, seconds: float) -> None:
        """Let time pass, and the service threads do what is due."""
        self.clock.advance(seconds)
        self.keeper.run()
        self.reporter.run()
