"""Items that wait for their time: on the scheduler's own timer, without a worker, and never longer than the process."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.exceptions import QueueFull, SchedulerClosed
from django_qbwi.core.items import handle_of
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from tests.support.manual import ManualRuntime, noop

S = WorkItemStatus


def test_item_starts_when_it_is_due(manual: ManualRuntime) -> None:
    """Not before, and then in its lane as any other."""
    item = manual.queue_later(10.0)
    assert (item.status, manual.scheduler.queued_count, manual.sync.woken) == (S.QUEUED, 1, 0)
    manual.advance(9.9)
    assert manual.sync.start() is None
    manual.advance(0.1)
    assert (manual.sync.woken, manual.scheduler.delayed_count) == (1, 0)
    assert manual.sync.start() is item


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_item_without_a_delay_goes_to_its_lane(manual: ManualRuntime, seconds: float) -> None:
    """A moment that has passed is now."""
    item = manual.queue_later(seconds)
    assert manual.sync.start() is item


def test_items_start_in_the_order_in_which_they_are_due(manual: ManualRuntime) -> None:
    """Whatever the order in which they were queued."""
    late, early = manual.queue_later(2.0), manual.queue_later(1.0)
    manual.advance(5.0)
    assert [manual.sync.start(), manual.sync.start()] == [early, late]


def test_priority_counts_when_it_is_due(manual: ManualRuntime) -> None:
    """It comes before those that wait in the lane already."""
    item = manual.queue_later(1.0, priority=5)
    manual.queue()
    manual.advance(1.0)
    assert manual.sync.start() is item


def test_worker_is_started_where_none_can_be_woken(manual: ManualRuntime) -> None:
    """As at any other queueing."""
    manual.sync.wakes_enough = False
    manual.queue_later(1.0)
    assert manual.sync.grown == 0
    manual.advance(1.0)
    assert manual.sync.grown == 1


def test_delayed_items_have_a_bound_of_their_own() -> None:
    """They take no room in the queue, and the queue takes none of theirs."""
    manual = ManualRuntime(max_queued=1, max_delayed=2)
    manual.queue_later(10.0)
    manual.queue_later(10.0)
    with pytest.raises(QueueFull, match="MAX_DELAYED"):
        manual.queue_later(10.0)
    manual.queue()
    with pytest.raises(QueueFull, match="MAX_QUEUED"):
        manual.queue()


def test_item_that_is_due_is_not_refused() -> None:
    """It was accepted before; those that come later find less room."""
    manual = ManualRuntime(max_queued=2)
    manual.queue_later(1.0)
    manual.queue()
    manual.queue()
    manual.advance(1.0)
    assert len(manual.sync.lane.queue) == 3
    manual.sync.start()
    with pytest.raises(QueueFull):
        manual.queue()
    manual.sync.start()
    manual.queue()


def test_cancelled_item_never_starts(manual: ManualRuntime) -> None:
    """It ends at once, and leaves no timer."""
    item = manual.queue_later(10.0)
    assert handle_of(item).cancel()
    assert (item.status, manual.scheduler.is_empty, manual.scheduler._timetable.timers) == (S.CANCELLED, True, {})
    manual.advance(20.0)
    assert manual.sync.start() is None


def test_cancelled_items_leave_nothing_behind(manual: ManualRuntime) -> None:
    """Neither what they would have been called with, nor their timers."""

    class Document:
        pass

    document = Document()
    alive = weakref.ref(document)
    for _ in range(1_000):
        handle_of(manual.queue_later(1e6, noop, document)).cancel()
    manual.advance(0.0)
    del document
    gc.collect()
    assert alive() is None
    assert len(manual.keeper._heap) < 100


def test_item_is_told_of_before_it_can_start(manual: ManualRuntime) -> None:
    """What is told may queue, cancel, and look."""
    seen: list[Any] = []
    item = manual.make()

    def tell() -> None:
        seen.extend([manual.sync.start(), item.status, list(manual.scheduler.live_items())])

    manual.scheduler.queue_when_told(item, tell)
    assert seen == [None, S.QUEUED, [item]]
    assert manual.sync.start() is item


@pytest.mark.parametrize("seconds", [0.0, 1.0])
@pytest.mark.parametrize("error", [ValueError("a receiver"), KeyboardInterrupt()])
def test_item_goes_on_if_telling_of_it_raises(manual: ManualRuntime, error: BaseException, seconds: float) -> None:
    """It was accepted: it runs, once."""
    item = manual.make()

    def tell() -> None:
        raise error

    with pytest.raises(type(error)):
        manual.scheduler.queue_when_told(item, tell, seconds)
    manual.advance(seconds)
    assert [manual.sync.start(), manual.sync.start()] == [item, None]


@pytest.mark.parametrize("priority", [0, 1])
@pytest.mark.parametrize("step", ["_publish", "_postpone"])
def test_r1_struck_behind_its_place(
    manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch, step: str, priority: int
) -> None:
    """R1: an exception out of a signal handler, right behind a step, neither loses the item nor runs it twice."""
    real: Callable[..., Any] = getattr(WorkItemScheduler, step)

    def strike(scheduler: WorkItemScheduler, *args: Any) -> Any:
        real(scheduler, *args)
        monkeypatch.setattr(WorkItemScheduler, step, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkItemScheduler, step, strike)
    item = manual.make(noop, priority=priority)
    with pytest.raises(KeyboardInterrupt):
        manual.scheduler.queue_when_told(item, lambda: None, 1.0 if step == "_postpone" else 0.0)
    manual.advance(1.0)
    assert [manual.sync.start(), manual.sync.start()] == [item, None]


def test_item_that_is_given_up_while_it_is_told_of(manual: ManualRuntime) -> None:
    """The limit of a drain may come in the middle."""
    item = manual.make()
    manual.scheduler.queue_when_told(item, manual.scheduler.give_up, 5.0)
    assert item.status is S.DISCARDED
    manual.scheduler.report_unstarted(item)
    manual.advance(5.0)
    assert manual.sync.start() is None
    with pytest.raises(SchedulerClosed):
        manual.queue_later(1.0)
