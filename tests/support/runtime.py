"""The real scheduler, executors and service threads, put together without Django, and taken apart without a trace."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django_qbwi.core.calls import Call, Options
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.lanes import ASYNC, SYNC, Lane, Limits
from django_qbwi.core.ports import Environment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.loop_thread import LoopExecutor
from django_qbwi.executors.threads import ThreadExecutor
from django_qbwi.intake.callables import examine
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.gates import PATIENCE, until
from tests.support.observers import RecordingObserver


class Runtime:
    """One scheduler on real threads."""

    def __init__(
        self,
        *,
        max_workers: int = 2,
        max_in_flight: int = 10,
        environment: Environment | None = None,
        observer: RecordingObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.observer = RecordingObserver() if observer is None else observer
        self.keeper = ServiceThread("qbwi-keeper", clock)
        self.scheduler = WorkItemScheduler(
            observer=self.observer,
            keeper=self.keeper,
            clock=clock,
            start=self.keeper.start,
            **options,
        )
        sync = Lane[WorkItem](SYNC, "sync", Limits(running=max_workers))
        asynchronous = Lane[WorkItem](ASYNC, "async", Limits(running=max_in_flight))
        self.loop = LoopExecutor(self.scheduler, asynchronous, environment=environment)
        self.threads = ThreadExecutor(self.scheduler, sync, environment=environment, adopt=self.loop.adopt)
        self.scheduler.attach(sync, asynchronous)
        self._before = set(threading.enumerate())

    def queue(self, work_item: Callable[..., Any], *args: Any, **options: Any) -> WorkItemHandle:
        """Queue `work_item(token, *args)`."""
        item = self.scheduler.make_item(Call(work_item, args, examine(work_item, args), options=Options(**options)))
        self.scheduler.queue(item)
        return handle_of(item)

    def run(self, work_item: Callable[..., Any], *args: Any, **options: Any) -> WorkItemStatus:
        """Queue a call, wait for its end and return its status."""
        handle = self.queue(work_item, *args, **options)
        assert handle.wait(PATIENCE), f"{handle!r} has not ended"
        return handle.status

    def look_at_clock(self) -> None:
        """Have the keeper look at the clock, which a test has moved, and do what is due."""
        assert self.keeper.flush(PATIENCE)
        assert self.keeper.flush(PATIENCE)

    def await_empty(self) -> None:
        """Wait until nothing is queued or running."""
        # It tells of one moment, and a finalizer may queue in the next.
        until(lambda: self.scheduler.wait_until_empty(1.0))

    def own_threads(self) -> list[threading.Thread]:
        """Return the threads that live since this was made, and are ours."""
        return [
            thread for thread in threading.enumerate() if thread not in self._before and thread.name.startswith("qbwi-")
        ]

    def retire(self) -> None:
        """Give up what is left, and wait for the end of all threads."""
        for item in self.scheduler.give_up():
            self.scheduler.report_unstarted(item)
        self.scheduler.retire()
        self.keeper.stop()
        for thread in self.own_threads():
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread!r} does not end"


@contextmanager
def running(**options: Any) -> Iterator[Runtime]:
    """Give a runtime for a block, and take it apart at its end."""
    runtime = Runtime(**options)
    try:
        yield runtime
    finally:
        runtime.retire()
