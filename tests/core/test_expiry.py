"""Items that expire: one that has not started in time never starts, and is told of once."""

import gc
import logging
import weakref
from typing import Any

import pytest

from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.exceptions import QueueFull
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


class Once:
    """Has one further attempt follow, after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        return self.seconds if attempt == 1 else None


def ends(manual: ManualRuntime) -> list[WorkItem]:
    """Return the items whose end was told, in that order."""
    return [item for event, item, _ in manual.observer.events if event == "finished"]


@pytest.mark.parametrize("call", [noop, anoop])
def test_item_that_has_not_started_in_time(manual: ManualRuntime, call: Any) -> None:
    """It is DISCARDED by the reason EXPIRED when its time is over, told of once, and nothing of it is left."""
    item = manual.queue_later(0.0, call, expires=5.0)
    manual.advance(4.9)
    assert (item.status, manual.scheduler.queued_count, ends(manual)) == (S.QUEUED, 1, [])
    manual.advance(0.1)
    info = item.info()
    assert (info.status, info.cancel_reason, info.started_at) == (S.DISCARDED, CancelReason.EXPIRED, None)
    assert (ends(manual), manual.scheduler.is_empty) == ([item], True)
    assert manual.scheduler._timetable.timers == {}
    assert (manual.sync.start(), manual.loop.start()) == (None, None)
    assert manual.scheduler.totals[S.DISCARDED] == 1


def test_worker_steps_over_what_has_expired(manual: ManualRuntime) -> None:
    """Also before the timer has had its turn: no such item starts, and the next one does."""
    late = [manual.queue_later(0.0, expires=5.0) for _ in range(3)]
    item = manual.queue()
    manual.clock.advance(5.0)
    assert manual.sync.start() is item
    assert [each.status for each in late] == [S.DISCARDED] * 3
    assert ends(manual) == []
    manual.advance(0.0)
    assert ends(manual) == late


def test_item_that_has_started_in_time_runs_on(manual: ManualRuntime) -> None:
    """Only the start counts; its timer is gone."""
    item = manual.queue_later(0.0, expires=5.0)
    assert manual.sync.start() is item
    assert manual.scheduler._timetable.timers == {}
    manual.advance(10.0)
    assert (item.status, item.token.is_cancellation_requested) == (S.RUNNING, False)
    assert manual.sync.finish(item)
    assert item.status is S.SUCCEEDED


def test_delay_and_expiry_both_count_from_queueing(manual: ManualRuntime) -> None:
    """It has the time between them to start."""
    late, early = manual.queue_later(3.0, expires=5.0), manual.queue_later(3.0, expires=5.0)
    manual.advance(3.0)
    assert manual.sync.start() is late
    assert manual.sync.finish(late)
    manual.advance(2.0)
    assert (early.status, early.cancel_reason) == (S.DISCARDED, CancelReason.EXPIRED)
    assert manual.scheduler.is_empty


def test_both_moments_pass_at_once(manual: ManualRuntime) -> None:
    """A keeper that comes late finds an item due, and over: it never starts."""
    item = manual.queue_later(3.0, expires=5.0)
    manual.advance(60.0)
    assert (item.status, manual.scheduler.is_empty, ends(manual)) == (S.DISCARDED, True, [item])


def test_only_the_first_start_counts(manual: ManualRuntime) -> None:
    """An item that has failed once waits for its next attempt as long as it takes."""
    item = manual.queue_later(0.0, expires=5.0, retry=Once(10.0))
    assert manual.sync.start() is item
    manual.sync.finish(item, ValueError("no such album"))
    assert manual.scheduler.expires(item) is None
    manual.advance(9.0)
    assert item.status is S.QUEUED
    manual.advance(1.0)
    assert manual.sync.start() is item
    assert manual.sync.finish(item)
    assert item.status is S.SUCCEEDED


def test_first_attempt_expires(manual: ManualRuntime) -> None:
    """An item with a retry that was never started is DISCARDED, as any other."""
    item = manual.queue_later(0.0, expires=5.0, retry=Once(10.0))
    manual.advance(5.0)
    assert item.status is S.DISCARDED


def test_cancelled_item_leaves_no_timer(manual: ManualRuntime) -> None:
    """It has its end already, and keeps it."""
    item = manual.queue_later(0.0, expires=5.0)
    assert handle_of(item).cancel()
    assert manual.scheduler._timetable.timers == {}
    manual.advance(5.0)
    assert (item.status, item.cancel_reason) == (S.CANCELLED, CancelReason.REQUESTED)


def test_item_that_was_cancelled_at_the_same_moment(manual: ManualRuntime) -> None:
    """Between the timer and the pass, the one who cancels comes first."""
    item, others = manual.queue_later(0.0, expires=5.0), [manual.queue_later(0.0, expires=5.0) for _ in range(3)]
    manual.clock.advance(5.0)
    manual.scheduler._come_due(item)
    assert handle_of(item).cancel()
    manual.advance(1.0)
    assert (item.status, [other.status for other in others]) == (S.CANCELLED, [S.DISCARDED] * 3)
    assert sorted(map(id, ends(manual))) == sorted(map(id, [item, *others]))


def test_token_of_an_expired_item(manual: ManualRuntime) -> None:
    """Whoever has asked for it hears of it, in a service thread, with the reason."""
    heard: list[Any] = []
    item = manual.queue_later(0.0, expires=5.0)
    item.token.register(lambda: heard.append(item.token.message))
    manual.advance(5.0)
    assert heard == ["not started within 5.0 s"]
    with pytest.raises(OperationCancelled, match="expired"):
        item.token.raise_if_cancellation_requested()


@pytest.mark.parametrize("error", [ValueError("no such album"), SystemExit(1)])
def test_callback_that_raises(manual: ManualRuntime, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """It is logged, and its item and those behind it are told of all the same."""
    caplog.set_level(logging.ERROR)

    def fail() -> None:
        raise error

    late = [manual.queue_later(0.0, expires=5.0) for _ in range(3)]
    late[0].token.register(fail)
    manual.advance(5.0)
    assert ends(manual) == late
    assert "raised" in caplog.text


def test_expired_item_does_not_move(manual: ManualRuntime) -> None:
    """At the end of the process the engine gets what may still start, and nothing else."""
    item = manual.queue_later(0.0, expires=5.0)
    manual.clock.advance(5.0)
    assert manual.scheduler.start_moving(item, self := object()) is None
    assert not manual.scheduler.is_ended_by(item, self)
    manual.advance(0.0)
    assert item.status is S.DISCARDED


def test_item_that_moves_already(manual: ManualRuntime) -> None:
    """It is the engine's: its time ends in vain."""
    item = manual.queue_later(0.0, expires=5.0)
    assert manual.scheduler.start_moving(item, object()) is not None
    manual.advance(5.0)
    assert (item.status, ends(manual)) == (S.QUEUED, [])
    assert manual.scheduler.has_moved(item)


def test_item_whose_time_ends_while_it_is_told_of(manual: ManualRuntime) -> None:
    """It has not started: the keeper takes it, and it comes to no lane."""
    item = manual.make(expires=5.0)
    manual.scheduler.queue_when_told(item, lambda: manual.advance(5.0))
    manual.advance(0.0)
    assert (item.status, manual.scheduler.is_empty, ends(manual)) == (S.DISCARDED, True, [item])
    assert manual.scheduler._timetable.timers == {}


def test_refused_item_leaves_no_timer() -> None:
    """Nobody would ever take it."""
    manual = ManualRuntime(max_queued=0)
    with pytest.raises(QueueFull):
        manual.queue_later(0.0, expires=5.0)
    assert manual.scheduler._timetable.timers == {}


def test_limit_of_a_drain_comes_first(manual: ManualRuntime) -> None:
    """It is DISCARDED once, without the reason of an expiry."""
    item = manual.queue_later(0.0, expires=5.0)
    manual.clock.advance(5.0)
    assert manual.scheduler.give_up() == [item]
    manual.advance(0.0)
    assert (item.status, item.cancel_reason) == (S.DISCARDED, None)
    manual.scheduler.report_unstarted(item)
    assert ends(manual) == [item]


def test_many_expire_among_others_in_one_pass(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over at a time leaves the queue together: nothing is searched for, and the order of the rest stays."""
    searched: list[Any] = []

    def look(item: WorkItem) -> bool:
        searched.append(item)
        return item.ending is not None

    monkeypatch.setattr("django_qbwi.core.lanes._has_ended", look)
    staying, late = [], []
    for _ in range(50):
        staying.append(manual.queue())
        late.append(manual.queue_later(0.0, expires=5.0))
    manual.advance(5.0)
    assert list(manual.sync.lane.queue) == staying
    assert ends(manual) == late
    assert len(searched) == 100


def test_passes_rest_in_between(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue in which something expires all the time is passed over now and then, not for each item."""
    monkeypatch.setattr("django_qbwi.core.expiry._REST", 0.1)
    for _ in range(10):
        manual.queue()
    first, second = (manual.queue_later(0.0, expires=seconds) for seconds in (1.0, 1.5))
    manual.advance(1.0)
    assert first.status is S.DISCARDED
    manual.advance(0.9)
    assert second.status is S.QUEUED
    manual.advance(0.3)
    assert second.status is S.DISCARDED


def test_more_than_a_pass_takes(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest follows in the next one."""
    monkeypatch.setattr("django_qbwi.core.expiry._AT_A_TIME", 4)
    late = [manual.queue_later(0.0, expires=5.0) for _ in range(10)]
    manual.advance(5.0)
    assert (ends(manual), manual.scheduler.is_empty) == (late, True)


def test_expired_items_leave_nothing_behind(manual: ManualRuntime) -> None:
    """Neither what they would have been called with, nor their timers; nor do those that have run."""

    class Document:
        pass

    document = Document()
    alive = weakref.ref(document)
    for _ in range(100):
        manual.queue_later(0.0, noop, document, expires=1.0)
    manual.advance(1.0)
    for _ in range(1_000):
        manual.sync.finish(manual.queue_later(0.0, noop, document, expires=1e6) and manual.sync.start())  # type: ignore[arg-type]
    manual.advance(0.0)
    del document
    gc.collect()
    assert alive() is None
    assert len(manual.keeper._heap) < 100


@pytest.mark.parametrize("wanted", [1, 20])
def test_lane_drops_only_what_has_ended(manual: ManualRuntime, wanted: int) -> None:
    """One that is not there any more does no harm."""
    items = [manual.make() for _ in range(60)]
    lane: Lane[WorkItem] = Lane("a lane")
    for item in items:
        lane.put(item)
    ended = [*items[10 : 10 + wanted], manual.make()]
    for item in ended:
        manual.scheduler.leave_together([item], S.DISCARDED)
    lane.drop_ended(ended)
    assert list(lane.queue) == [item for item in items if item not in ended]


def test_info_says_when(manual: ManualRuntime) -> None:
    """When it is due and when it expires, as long as it waits for that."""
    item = manual.queue_later(3.0, expires=5.0)
    info = item.info()
    assert info.due_at is not None
    assert info.expires_at is not None
    assert (info.due_at - info.queued_at).total_seconds() == pytest.approx(3.0)
    assert (info.expires_at - info.queued_at).total_seconds() == pytest.approx(5.0)
    assert info.to_dict()["due_at"] == info.due_at.isoformat()
    assert info.to_dict()["expires_at"] == info.expires_at.isoformat()
    manual.advance(3.0)
    assert item.info().due_at is None
    assert item.info().expires_at is not None
    manual.sync.start()
    assert (item.info().due_at, item.info().expires_at) == (None, None)
