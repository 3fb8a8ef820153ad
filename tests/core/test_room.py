"""Callers that wait for room: in the order in which they came, woken and never polling, and never for themselves."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, SchedulerDraining
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from tests.support.gates import PATIENCE, until
from tests.support.manual import ManualRuntime, noop

S = WorkItemStatus


class Waiting:
    """Queues an item in a thread of its own, where there is no room."""

    def __init__(
        self, manual: ManualRuntime, *, parent: WorkItem | None = None, delay: float = 0.0, seconds: float = 1e9
    ) -> None:
        self.manual = manual
        self.item = manual.make()
        self.error: BaseException | None = None
        self.arguments = (lambda: None, delay, seconds)
        context = Context() if parent is None else manual.sync.contexts[parent].copy()
        self.thread = threading.Thread(target=context.run, args=(self.run,), daemon=True)
        before = len(manual.scheduler._callers)
        self.thread.start()
        until(lambda: len(manual.scheduler._callers) > before or not self.thread.is_alive())

    def run(self) -> None:
        try:
            self.manual.scheduler.queue_with_patience(self.item, *self.arguments)
        except BaseException as error:
            self.error = error

    def join(self) -> BaseException | None:
        """Wait until it has come back, and return what it has raised."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def full() -> ManualRuntime:
    """A queue of one, with one item in it."""
    manual = ManualRuntime(max_queued=1, max_delayed=1)
    manual.queue()
    return manual


def test_where_there_is_room_nobody_waits(manual: ManualRuntime) -> None:
    """It is queued as any other."""
    item = manual.make()
    manual.scheduler.queue_with_patience(item, lambda: None, 0.0, 0.0)
    assert manual.sync.start() is item
    assert manual.scheduler._callers == []


def test_item_that_is_taken_makes_room(full: ManualRuntime) -> None:
    """Whoever waits gets it, and is told of and counted as any other."""
    waiting = Waiting(full)
    assert (waiting.item.status, full.scheduler.queued_count) == (S.QUEUED, 1)
    full.clock.advance(5.0)
    full.sync.start()
    assert waiting.join() is None
    assert full.scheduler._callers == []
    assert waiting.item.queued == full.clock()
    assert full.sync.start() is waiting.item


def test_those_who_came_first_come_first(full: ManualRuntime) -> None:
    """Each place goes to the one that has waited the longest."""
    waiting = [Waiting(full) for _ in range(3)]
    for index, first in enumerate(waiting):
        full.sync.start()
        assert first.join() is None
        assert len(full.scheduler._callers) == 2 - index
        assert list(full.sync.lane.queue) == [first.item]


def test_one_that_comes_later_waits_behind(full: ManualRuntime) -> None:
    """Also if there is room at that moment, which the first one has not taken yet."""
    first = Waiting(full)
    caller = full.scheduler._callers[0]
    wake, caller.wake = caller.wake, lambda: None
    full.sync.start()
    second = Waiting(full)
    assert [each.item for each in full.scheduler._callers] == [first.item, second.item]
    wake()
    assert first.join() is None
    full.sync.start()
    assert second.join() is None


def test_all_that_has_come_free_is_used(full: ManualRuntime) -> None:
    """Two places, of which only the first caller has heard: it wakes the next one."""
    full = ManualRuntime(max_queued=2)
    full.queue()
    full.queue()
    waiting = [Waiting(full) for _ in range(2)]
    with full.scheduler.lock:
        full.scheduler.take(full.sync.lane)
        full.scheduler.take(full.sync.lane)
    assert [each.join() for each in waiting] == [None, None]


@pytest.mark.parametrize("way", ["cancelled", "moved", "expired"])
def test_whatever_leaves_the_queue_makes_room(way: str) -> None:
    """By whichever door."""
    manual = ManualRuntime(max_queued=1)
    item = manual.queue_later(0.0, expires=1.0)
    waiting = Waiting(manual)
    if way == "cancelled":
        assert handle_of(item).cancel()
    elif way == "moved":
        manual.scheduler.start_moving(item, manual)
    else:
        manual.advance(1.0)
    assert waiting.join() is None


def test_those_who_wait_for_another_room(full: ManualRuntime) -> None:
    """One whose item has a delay waits for a place among the delayed ones, and keeps nobody else."""
    full.queue_later(5.0)
    later, now = Waiting(full, delay=7.0), Waiting(full)
    full.sync.start()
    assert now.join() is None
    assert [caller.item for caller in full.scheduler._callers] == [later.item]
    full.advance(5.0)
    assert later.join() is None
    assert full.scheduler.due(later.item) == full.clock() + 7.0


def test_no_room_within_the_time(full: ManualRuntime) -> None:
    """QueueFull, which says so; the refusal is told once."""
    waiting = Waiting(full, seconds=5.0)
    full.clock.advance(5.0)
    full.scheduler._callers[0].wake()
    error = waiting.join()
    assert isinstance(error, QueueFull)
    assert "there was no room for 5 s" in str(error)
    assert [item for event, item, _ in full.observer.events if event == "rejected"] == [waiting.item]
    assert full.scheduler._callers == []


def test_time_is_over_at_once(full: ManualRuntime) -> None:
    """Zero seconds are those of a caller who does not wait."""
    with pytest.raises(QueueFull):
        full.scheduler.queue_with_patience(full.make(), lambda: None, 0.0, 0.0)


def test_timer_of_a_real_clock() -> None:
    """The wait ends by itself."""
    manual = ManualRuntime(max_queued=0)
    manual.scheduler.clock = time.monotonic
    with pytest.raises(QueueFull):
        manual.scheduler.queue_with_patience(manual.make(), lambda: None, 0.0, 0.01)


# Those who can wait no longer.


@pytest.mark.parametrize("end", ["close", "give_up"])
def test_close_ends_the_wait(full: ManualRuntime, end: str) -> None:
    """Nothing is accepted any more."""
    waiting = Waiting(full)
    getattr(full.scheduler, end)()
    assert isinstance(waiting.join(), SchedulerClosed)


def test_drain_ends_the_wait_where_nothing_is_accepted() -> None:
    """With the error of a process that ends."""
    manual = ManualRuntime(max_queued=1, accept_while_draining=False)
    manual.queue()
    first, second = Waiting(manual), Waiting(manual)
    manual.scheduler.stop.first_sign = manual.clock()
    manual.scheduler.nudge()
    assert isinstance(first.join(), SchedulerDraining)
    assert isinstance(second.join(), SchedulerDraining)


def test_drain_goes_on_with_the_wait_where_items_are_accepted(full: ManualRuntime) -> None:
    """The workers still make room."""
    waiting = Waiting(full)
    full.scheduler.stop.first_sign = full.clock()
    full.scheduler.nudge()
    full.sync.start()
    assert waiting.join() is None


@pytest.mark.parametrize("reason", [CancelReason.REQUESTED, CancelReason.TIMEOUT, CancelReason.SHUTDOWN])
def test_token_of_the_item_that_queues_ends_the_wait(full: ManualRuntime, reason: CancelReason) -> None:
    """It is cancelled, and what it wanted to queue is not queued."""
    parent = full.sync.start()
    assert parent is not None
    full.queue()
    full.sync.lane.limits = type(full.sync.lane.limits)(running=2)
    waiting = Waiting(full, parent=parent)
    if reason is CancelReason.SHUTDOWN:
        full.scheduler.stop.request()
    else:
        parent.token._cancel(reason)
    error = waiting.join()
    assert isinstance(error, OperationCancelled)
    assert error.token is parent.token
    assert (full.scheduler._callers, full.scheduler.queued_count) == ([], 1)


def test_item_that_is_cancelled_already(full: ManualRuntime) -> None:
    """It does not wait; where there is room it need not."""
    parent = full.sync.start()
    assert parent is not None
    handle_of(parent).cancel()
    item = full.make()
    full.sync.contexts[parent].run(full.scheduler.queue_with_patience, item, lambda: None, 0.0, 5.0)
    assert item.status is S.QUEUED
    with pytest.raises(OperationCancelled):
        full.sync.contexts[parent].run(full.scheduler.queue_with_patience, full.make(), lambda: None, 0.0, 5.0)


# Those who would wait for themselves.


def limited(workers: int) -> ManualRuntime:
    """A queue of one, and so many workers."""
    manual = ManualRuntime(max_queued=1)
    manual.sync.lane.limits = type(manual.sync.lane.limits)(running=workers)
    return manual


def test_item_on_the_only_worker_is_refused_at_once() -> None:
    """It holds the worker that would have to make room."""
    manual = limited(1)
    manual.queue()
    parent = manual.sync.start()
    assert parent is not None
    manual.queue()
    with pytest.raises(QueueFull, match="everything that runs waits for room itself"):
        manual.sync.contexts[parent].run(manual.scheduler.queue_with_patience, manual.make(), lambda: None, 0.0, 1e9)


def test_last_one_that_could_make_room_is_refused() -> None:
    """The others wait on, and get it when that one has ended."""
    manual = limited(2)
    parents = []
    for _ in range(2):
        manual.queue()
        parents.append(manual.sync.start())
    manual.queue()
    assert parents[0] is not None
    assert parents[1] is not None
    first = Waiting(manual, parent=parents[0])
    second = Waiting(manual, parent=parents[1])
    assert isinstance(second.join(), QueueFull)
    assert first.thread.is_alive()
    manual.sync.finish(parents[1])
    manual.sync.start()
    assert first.join() is None


def test_other_lane_makes_room_too() -> None:
    """An item on the only worker waits, if the loop still has something to begin."""
    manual = limited(1)
    manual.queue()
    parent = manual.sync.start()
    assert parent is not None

    async def anoop(token: Any) -> None:
        """Do nothing."""

    manual.queue(anoop)
    waiting = Waiting(manual, parent=parent)
    assert waiting.thread.is_alive()
    manual.loop.start()
    assert waiting.join() is None


def test_place_among_the_delayed_comes_by_itself() -> None:
    """By the time: an item on the only worker may wait for it."""
    manual = limited(1)
    manual.queue()
    parent = manual.sync.start()
    assert parent is not None
    manual.scheduler._bounds = dataclasses.replace(manual.scheduler._bounds, max_delayed=1)
    manual.queue_later(5.0)
    waiting = Waiting(manual, parent=parent, delay=9.0)
    manual.advance(5.0)
    assert waiting.join() is None


# Those who are struck.


@pytest.mark.parametrize("step", ["_look", "_take_place", "_stop_waiting"])
def test_r1_struck_caller_leaves_nothing(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """R1: an exception out of a signal handler, right behind a step: the place is given back, and nobody waits."""
    real: Callable[..., Any] = getattr(WorkItemScheduler, step)

    def strike(scheduler: WorkItemScheduler, *args: Any) -> Any:
        real(scheduler, *args)
        monkeypatch.setattr(WorkItemScheduler, step, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkItemScheduler, step, strike)
    with pytest.raises(KeyboardInterrupt):
        manual.scheduler.queue_with_patience(manual.make(), lambda: None, 0.0, 5.0)
    assert manual.scheduler._callers == []
    assert manual.scheduler.is_empty


def test_place_that_is_given_back_is_the_next_one_s(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is forgotten: who waits gets what the struck one has left."""
    manual = ManualRuntime(max_queued=1)
    second: list[Waiting] = []

    def strike(*args: Any) -> None:
        second.append(Waiting(manual))
        raise KeyboardInterrupt

    monkeypatch.setattr(manual.scheduler, "_queue_after_wait", strike)
    with pytest.raises(KeyboardInterrupt):
        manual.scheduler.queue_with_patience(manual.make(), lambda: None, 0.0, 5.0)
    monkeypatch.undo()
    assert second[0].join() is None
    assert list(manual.sync.lane.queue) == [second[0].item]


def test_item_that_is_given_up_with_its_place(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a drain comes between its place and its lane: it is DISCARDED, once."""
    real = WorkItemScheduler._stop_waiting
    given_up: list[WorkItem] = []

    def stop_waiting(scheduler: WorkItemScheduler, *args: Any) -> None:
        real(scheduler, *args)
        given_up.extend(scheduler.give_up())

    monkeypatch.setattr(WorkItemScheduler, "_stop_waiting", stop_waiting)
    item = manual.make()
    manual.scheduler.queue_with_patience(item, lambda: None, 0.0, 5.0)
    assert given_up == [item]
    assert item.status is S.DISCARDED
    manual.scheduler.report_unstarted(item)
    assert manual.scheduler.is_empty


# On a loop.


def on_loop(call: Callable[[], Any]) -> Any:
    """Run `call()` on a loop that is given up after a while."""

    async def run() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await call()

    return asyncio.run(run())


def test_loop_goes_on_while_it_is_waited(full: ManualRuntime) -> None:
    """Room that comes wakes the task, by way of the keeper."""

    async def queue() -> WorkItem:
        item = full.make()
        waiting = asyncio.create_task(full.scheduler.aqueue_with_patience(item, lambda: None, 0.0, 1e9))
        while not full.scheduler._callers:
            await asyncio.sleep(0)
        full.sync.start()
        full.keeper.run()
        await waiting
        return item

    item = on_loop(queue)
    assert full.sync.start() is item


def test_loop_has_no_room_within_the_time(full: ManualRuntime) -> None:
    """QueueFull, as in a thread."""

    async def queue() -> None:
        waiting = asyncio.create_task(full.scheduler.aqueue_with_patience(full.make(), lambda: None, 0.0, 5.0))
        while not full.scheduler._callers:
            await asyncio.sleep(0)
        full.clock.advance(5.0)
        full.scheduler._callers[0].wake()
        full.keeper.run()
        await waiting

    with pytest.raises(QueueFull, match="there was no room for 5 s"):
        on_loop(queue)


def test_task_that_is_cancelled_queues_nothing(full: ManualRuntime) -> None:
    """It waits no longer, and has no place."""

    async def queue() -> None:
        waiting = asyncio.create_task(full.scheduler.aqueue_with_patience(full.make(), lambda: None, 0.0, 1e9))
        while not full.scheduler._callers:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    on_loop(queue)
    assert (full.scheduler._callers, full.scheduler.queued_count) == ([], 1)


def test_r2_loop_that_is_closed_keeps_nobody(full: ManualRuntime) -> None:
    """A caller whose loop was left is woken in vain, and the others get their room."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(full.scheduler.aqueue_with_patience(full.make(noop), lambda: None, 0.0, 1e9))
    while not full.scheduler._callers:
        loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    waiting = Waiting(full)
    full.sync.start()
    assert waiting.join() is None
