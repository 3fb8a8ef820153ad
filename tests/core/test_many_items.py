"""10,000 items of all kinds with failures, cancellations, timeouts, a drain in the middle: the sums add up exactly."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from django_qbwi.core.exceptions import SchedulerClosed
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.gates import PATIENCE
from tests.support.runtime import Runtime, running

S = WorkItemStatus
CALLERS = 8
ITEMS = 10_000


class Quiet:
    """A host without a limit, and reports that nobody reads."""

    def limit(self, signum: int | None) -> float | None:
        return None

    def beat(self) -> None: ...

    def drain_started(self, *args: Any) -> None: ...

    def wait_begins(self, *args: Any) -> None: ...

    def drain_waiting(self, *args: Any) -> None: ...

    def drain_finished(self, *args: Any) -> None: ...


def act(token: Any, what: float) -> None:
    """End in one of the ways in which an item may end."""
    if what < 0.1:
        raise ValueError(what)
    if what < 0.15:
        raise SystemExit(3)
    if what < 0.2:
        raise asyncio.CancelledError
    if what < 0.6:
        token.raise_if_cancellation_requested()


def sync(token: Any, what: float) -> None:
    act(token, what)


async def asynchronous(token: Any, what: float) -> None:
    if what > 0.5:
        await asyncio.sleep(0)
    act(token, what)


def awaitable(token: Any, what: float) -> Any:
    return asynchronous(token, what)


class Crowd:
    """Callers that queue and cancel from threads of their own."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.accepted: list[WorkItemHandle] = []
        self.refused: list[int] = []
        self.half = threading.Barrier(CALLERS + 1)
        self.threads = [threading.Thread(target=self.call, args=[number]) for number in range(CALLERS)]

    def call(self, number: int) -> None:
        chance = random.Random(number)
        for turn in range(ITEMS // CALLERS):
            if turn == ITEMS // CALLERS // 2:
                self.half.wait(PATIENCE)
            try:
                handle = self.runtime.queue(
                    chance.choice([sync, asynchronous, awaitable]),
                    chance.random(),
                    timeout=chance.choice([None, None, 0.0, 60.0]),
                )
            except SchedulerClosed:
                self.refused.append(number)
                continue
            self.accepted.append(handle)
            if chance.random() < 0.2:
                chance.choice(self.accepted[-50:]).cancel()

    def __enter__(self) -> "Crowd":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)

    def sums_add_up(self) -> None:
        """Compare what was accepted with statuses, reports and totals."""
        scheduler, observer = self.runtime.scheduler, self.runtime.observer
        assert len(self.accepted) + len(self.refused) == ITEMS
        statuses = Counter(handle.status for handle in self.accepted)
        assert all(status.is_terminal for status in statuses)
        assert {status: total for status, total in scheduler.totals.items() if total} == statuses
        reported = Counter(item for event, item, _ in observer.events if event == "finished")
        assert set(reported) == {handle._item for handle in self.accepted}
        assert set(reported.values()) == {1}
        assert Counter(observer.statuses()) == statuses
        assert (scheduler.queued_count, scheduler.running_count) == (0, 0)
        assert not scheduler._timeouts.timers


@pytest.mark.slow
def test_10_000_items_without_a_drain() -> None:
    """Every item ends once, is reported once and counted once."""
    with running(max_workers=4, max_queued=ITEMS) as runtime:
        with Crowd(runtime) as crowd:
            crowd.half.wait(PATIENCE)
        runtime.await_empty()
        crowd.sums_add_up()
        assert not crowd.refused
        assert {handle.status for handle in crowd.accepted} == {S.SUCCEEDED, S.FAILED, S.CANCELLED}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.0, 30.0])
def test_10_000_items_with_a_drain_in_the_middle(limit: float) -> None:
    """The same when the process ends meanwhile, with time for all or with none: accepted equals ended."""
    with running_reporter() as reporter, running(max_workers=4, max_queued=ITEMS) as runtime:
        quiet = Quiet()
        coordinator = DrainCoordinator(runtime.scheduler, reporter, quiet, quiet, shutdown_timeout=30.0)
        with Crowd(runtime) as crowd:
            crowd.half.wait(PATIENCE)
            coordinator.sign("SIGTERM", at_most=limit)
            coordinator.hold(last=True)
            with pytest.raises(SchedulerClosed):
                runtime.queue(sync, 1.0)
        assert all(handle.wait(PATIENCE) for handle in crowd.accepted)
        runtime.await_empty()
        crowd.sums_add_up()


@contextmanager
def running_reporter() -> Iterator[ServiceThread]:
    """Give the thread of the last records for a block."""
    reporter = ServiceThread("qbwi-reporter")
    reporter.start()
    try:
        yield reporter
    finally:
        reporter.stop()
