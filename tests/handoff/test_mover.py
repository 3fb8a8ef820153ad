"""The mover: what waits goes to its engine before the limit, once, and under its own id."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.checkpoints import CheckpointReached
from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, WorkItemRejected
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.ports import NullEnvironment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.handoff.movable import MovableItem, make_movable, movable_of
from django_qbwi.handoff.mover import Mover
from django_qbwi.lifecycle.drain import DrainCoordinator
from tests.handoff.listed import Down, FakeCall
from tests.lifecycle.test_drain import Drain
from tests.support.manual import ManualServiceThread, noop

S = WorkItemStatus


def down() -> None:
    """Cannot be reached."""
    raise Down


class MovingDrain(Drain):
    """A drain with a mover that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        shutdown_timeout = options.get("shutdown_timeout", 90.0)
        super().__init__(**options)
        self.call = FakeCall()
        self.service = ManualServiceThread(self.clock, "mover")
        self.second = ManualServiceThread(self.clock, "second mover")
        self.mover = Mover(self.scheduler, NullEnvironment(), self._report, 3, (self.service, self.second))
        self.coordinator = DrainCoordinator(
            self.scheduler,
            self.reporter,
            self.reports,
            self.host,
            clock=self.clock,
            shutdown_timeout=shutdown_timeout,
            move=self.mover.sign,
        )

    def _report(self, items: list[WorkItem]) -> None:
        for item in items:
            self.scheduler.report_unstarted(item)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.service.run()
        self.second.run()

    def movable(self, delay: float = 0.0, **options: Any) -> WorkItem:
        """Return an item that can move, not queued yet."""
        self.mover.start()
        item = self.make(noop, **options)
        make_movable(item, MovableItem(self.mover, self.call, delay))  # type: ignore[arg-type]
        return item

    def queue_movable(self, delay: float = 0.0, **options: Any) -> WorkItem:
        """Queue an item that can move."""
        item = self.movable(delay, **options)
        self.scheduler.queue_when_told(item, lambda: None, delay)
        return item

    def ends(self, item: WorkItem) -> list[str]:
        """Return what was told of its end."""
        return [name for name in self.observer.names(item) if name != "queued"]


@pytest.fixture
def drain() -> MovingDrain:
    """A process with a limit of 90 seconds, whose mover begins nine before the deadline of 88."""
    return MovingDrain()


def test_what_waits_moves_shortly_before_the_limit(drain: MovingDrain) -> None:
    """Until then it may still run here; then it is HANDED_OFF, told of once, and nothing is left to wait for."""
    first, second = drain.queue_movable(), drain.queue_movable()
    drain.coordinator.sign("a test")
    drain.advance(70.0)
    assert drain.sync.start() is first
    drain.sync.finish(first)
    drain.advance(8.9)
    assert second.status is S.QUEUED
    drain.advance(0.2)
    assert (first.status, second.status) == (S.SUCCEEDED, S.HANDED_OFF)
    assert drain.call.sent == [(second.id, None, 0)]
    assert drain.ends(second) == ["finished"]
    assert second.ended
    assert drain.scheduler.is_empty


def test_short_limit_begins_two_seconds_before(drain: MovingDrain) -> None:
    """A tenth of it would be too little to move anything."""
    item = drain.queue_movable()
    drain.coordinator.sign("a test", at_most=10.0)
    drain.advance(6.9)
    assert item.status is S.QUEUED
    drain.advance(0.2)
    assert item.status is S.HANDED_OFF


def test_many_items_begin_earlier(drain: MovingDrain) -> None:
    """A hundredth of a second is kept for each of them."""
    drain = MovingDrain(max_queued=3000)
    items = [drain.queue_movable() for _ in range(2000)]
    drain.coordinator.sign("a test")
    drain.advance(67.9)
    assert items[0].status is S.QUEUED
    drain.advance(0.2)
    assert {item.status for item in items} == {S.HANDED_OFF}
    assert [known for known, _, _ in drain.call.sent] == [item.id for item in items]


def test_what_cannot_come_any_more_moves_at_the_first_sign(drain: MovingDrain) -> None:
    """With the moment at which it is due; one that can come waits for it here."""
    soon, late = drain.queue_movable(delay=5.0), drain.queue_movable(delay=500.0, priority=7)
    drain.coordinator.sign("a test")
    drain.advance(0)
    assert (soon.status, late.status) == (S.QUEUED, S.HANDED_OFF)
    ((known, due, priority),) = drain.call.sent
    assert known == late.id
    assert priority == 7
    assert due is not None
    drain.advance(5.0)
    assert drain.sync.start() is soon


def test_late_item_without_an_engine_is_discarded_as_before(drain: MovingDrain) -> None:
    """The mover has nothing to do with it."""
    drain.mover.start()
    item = drain.queue_later(500.0)
    drain.coordinator.sign("a test")
    drain.advance(0)
    assert item.status is S.DISCARDED


def test_item_without_an_engine_stays(drain: MovingDrain) -> None:
    """It is the others that move."""
    plain, movable = drain.queue(), drain.queue_movable()
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert (plain.status, movable.status) == (S.QUEUED, S.HANDED_OFF)


def test_lost_reply_is_no_second_row(drain: MovingDrain) -> None:
    """What an engine has under our id it has accepted, whatever it has raised."""
    item = drain.queue_movable()
    drain.call.behind = down
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert item.status is S.HANDED_OFF
    assert len(drain.call.sent) == 1


class Mute(Exception):
    """Has no text, whoever asks."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def test_lost_reply_that_comes_as_an_exception_without_a_text() -> None:
    """What it says of itself is not needed to ask whether the engine has the item."""

    def raise_it() -> None:
        raise Mute

    drain = MovingDrain(max_queued=1)
    drain.queue_movable()
    drain.call.behind = raise_it
    assert drain.queue_movable().status is S.HANDED_OFF


def test_lost_reply_of_an_engine_that_cannot_be_asked(drain: MovingDrain) -> None:
    """It is sent again under the same id, and the key that is there says that it was accepted."""
    item = drain.queue_movable()
    drain.call.behind = drain.call.asked = down
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert item.status is S.QUEUED
    drain.call.asked = drain.call.behind = lambda: None
    drain.advance(1.0)
    assert item.status is S.HANDED_OFF
    assert len(drain.call.sent) == 1


def test_engine_that_comes_back_gets_everything(drain: MovingDrain) -> None:
    """While it is down one further item a turn is held for it; the others can still run here."""
    items = [drain.queue_movable() for _ in range(20)]
    drain.call.before = down
    drain.coordinator.sign("a test")
    drain.advance(79.5)
    held = [item for item in items if not drain.scheduler.can_leave(item)]
    assert 1 <= len(held) < 8
    assert drain.sync.start() in set(items) - set(held)
    drain.call.before = lambda: None
    drain.advance(1.0)
    assert sorted(item.status for item in items) == [S.HANDED_OFF] * 19 + [S.RUNNING]


def test_one_that_is_refused_keeps_nobody(drain: MovingDrain) -> None:
    """A row that no engine takes is tried again, behind those that it takes."""
    items = [drain.queue_movable() for _ in range(5)]
    poisoned = items[0].id

    def refuse() -> None:
        if not drain.scheduler.can_leave(items[0]) and poisoned not in tried:
            tried.append(poisoned)
            raise Down

    tried: list[str] = []
    drain.call.before = refuse
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    drain.advance(1.0)
    assert {item.status for item in items} == {S.HANDED_OFF}


def test_engine_that_stays_down_leaves_discarded_items(drain: MovingDrain, caplog: pytest.LogCaptureFixture) -> None:
    """The exit is held until the limit and no longer, and each of them is named with the reason."""
    items = [drain.queue_movable(), drain.queue_movable(delay=500.0)]
    drain.call.before = down
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert {item.status for item in items} == {S.DISCARDED}
    assert all(drain.ends(item) == ["finished"] for item in items)
    assert "'durable' has not accepted it: tests.handoff.listed.Down: " in movable_of(items[0]).target
    assert drain.elapsed() <= 90
    assert drain.reports.given_up == (0, 2)
    assert "could not be handed off yet" in caplog.text


def test_engine_that_hangs_is_not_waited_for(drain: MovingDrain) -> None:
    """Its thread is left behind, and what it had is DISCARDED; that it was accepted after all is told."""
    item = drain.queue_movable()
    drain.coordinator.sign("a test")
    assert drain.scheduler.start_moving(item, drain.mover) is not None
    drain.service.stuck = True
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert item.status is S.DISCARDED
    assert not drain.scheduler.has_moved(item)


def test_call_that_hangs_is_overtaken(drain: MovingDrain, caplog: pytest.LogCaptureFixture) -> None:
    """A second thread moves the others meanwhile; what hangs moves when its call comes back."""
    items = [drain.queue_movable() for _ in range(3)]

    def hang() -> None:
        drain.call.before = lambda: None
        drain.clock.advance(3.5)
        drain.keeper.run()
        drain.second.run()

    drain.call.before = hang
    drain.coordinator.sign("a test")
    drain.advance(79.5)
    assert [known for known, _, _ in drain.call.sent] == [items[1].id, items[2].id, items[0].id]
    assert {item.status for item in items} == {S.HANDED_OFF}
    assert "does not answer" in caplog.text
    assert drain.scheduler.is_empty


def test_call_that_takes_its_time_is_not_overtaken(drain: MovingDrain) -> None:
    """A third of what is left is for it, or five seconds."""
    items = [drain.queue_movable() for _ in range(2)]

    def take_time() -> None:
        drain.clock.advance(2.5)
        drain.keeper.run()
        drain.second.run()

    drain.call.before = take_time
    drain.coordinator.sign("a test")
    drain.advance(79.5)
    assert [known for known, _, _ in drain.call.sent] == [item.id for item in items]


def test_acceptance_that_comes_too_late_is_told(drain: MovingDrain, caplog: pytest.LogCaptureFixture) -> None:
    """The first ending stands, and an ERROR says that the item runs there all the same."""
    item = drain.queue_movable()

    def give_up() -> None:
        for left in drain.scheduler.give_up():
            drain.scheduler.report_unstarted(left)

    drain.call.before = give_up
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert item.status is S.DISCARDED
    assert drain.ends(item) == ["finished"]
    assert "was handed off after it had been declared discarded" in caplog.text


def test_hold_ends_with_the_last_item_that_moves(drain: MovingDrain) -> None:
    """And the drain's last record counts those that moved."""
    drain.queue_movable()
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert 78 < drain.elapsed() < 82
    (outcome,) = drain.reports.finished
    assert (outcome.handed_off, outcome.discarded, outcome.abandoned) == (1, 0, 0)


# Cancelling.


def test_item_that_waits_is_cancelled_as_ever(drain: MovingDrain) -> None:
    """It does not move."""
    item = drain.queue_movable()
    assert handle_of(item).cancel()
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert item.status is S.CANCELLED
    assert drain.call.sent == []


def test_item_that_moves_is_not_cancelled_any_more(drain: MovingDrain) -> None:
    """The engine may have it already: nothing is said that could be wrong."""
    item = drain.queue_movable()
    answers: list[bool] = []
    drain.call.before = lambda: answers.append(handle_of(item).cancel())
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert answers == [True]
    assert item.status is S.HANDED_OFF


def test_item_that_no_engine_has_is_cancelled(drain: MovingDrain) -> None:
    """It is not tried again."""
    item = drain.queue_movable()

    def cancel_and_fail() -> None:
        handle_of(item).cancel()
        raise Down

    drain.call.before = cancel_and_fail
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert (item.status, item.cancel_reason) == (S.CANCELLED, CancelReason.REQUESTED)
    assert drain.ends(item) == ["finished"]


def test_item_that_moves_is_listed(drain: MovingDrain) -> None:
    """Whoever looks sees it as one that is queued."""
    item = drain.queue_movable()
    seen: list[tuple[list[WorkItem], WorkItemStatus, bool]] = []
    drain.call.before = lambda: seen.append((drain.scheduler.live_items(), item.status, drain.scheduler.is_empty))
    drain.coordinator.sign("a test")
    drain.advance(80.0)
    assert seen == [([item], S.QUEUED, False)]


# At the call.


def test_full_queue_hands_off_in_the_callers_thread(drain: MovingDrain) -> None:
    """Before the caller goes on; it is told of as any item."""
    drain = MovingDrain(max_queued=1)
    drain.queue_movable()
    told: list[int] = []
    item = drain.movable()
    drain.scheduler.queue_when_told(item, lambda: told.append(len(drain.call.sent)))
    assert item.status is S.HANDED_OFF
    assert told == [1]
    assert drain.observer.names(item) == ["finished"]


def test_closed_scheduler_hands_off(drain: MovingDrain) -> None:
    """A request that is answered behind the drain loses nothing either."""
    drain.queue()
    drain.scheduler.close()
    item = drain.queue_movable()
    assert item.status is S.HANDED_OFF


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [(lambda drain: drain.queue(), QueueFull), (lambda drain: drain.scheduler.close(), SchedulerClosed)],
)
def test_refused_twice(prepare: Callable[[MovingDrain], object], kind: type[Exception]) -> None:
    """Where the engine does not take it either, the refusal names both reasons, and nothing is left of the item."""
    drain = MovingDrain(max_queued=1)
    drain.scheduler.start_threads(drain.make())
    prepare(drain)
    before = drain.scheduler.queued_count
    drain.call.before = down
    item = drain.movable()
    with pytest.raises(
        kind,
        match=r"not queued: .*nor could it be handed off: 'durable' has not accepted it: tests.handoff.listed.Down",
    ):
        drain.scheduler.queue_when_told(item, lambda: None)
    assert drain.scheduler.queued_count == before
    assert drain.observer.names(item) == ["rejected"]
    assert drain.scheduler.live_items() == ([] if kind is SchedulerClosed else drain.scheduler.live_items())


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def test_interrupt_before_the_engine_has_it(drain: MovingDrain) -> None:
    """Ctrl-C reaches the caller, and nothing is left of the item."""
    drain = MovingDrain(max_queued=1)
    drain.queue_movable()
    drain.call.before = interrupt
    item = drain.movable()
    with pytest.raises(KeyboardInterrupt):
        drain.scheduler.queue_when_told(item, lambda: None)
    drain.advance(0)
    assert item not in drain.scheduler.live_items()
    assert drain.call.known == set()


@pytest.mark.parametrize("where", ["behind the row", "where it is told of"])
def test_interrupt_once_the_engine_has_it(where: str) -> None:
    """Ctrl-C reaches the caller, and the item is HANDED_OFF and told of, once."""
    drain = MovingDrain(max_queued=1)
    drain.queue_movable()
    if where == "behind the row":
        drain.call.behind = interrupt
    item = drain.movable()
    with pytest.raises(KeyboardInterrupt):
        drain.scheduler.queue_when_told(item, lambda: None if where == "behind the row" else interrupt())
    drain.advance(0)
    assert item.status is S.HANDED_OFF
    assert drain.ends(item) == ["finished"]
    assert item.ended


# Checkpoints.


def checkpointed(drain: MovingDrain, **state: Any) -> tuple[WorkItem, BaseException]:
    """Return an item that runs, and what its checkpoint raises at the end of the process."""
    item = drain.queue_movable()
    assert drain.sync.start() is item
    item.token.checkpoint(**state)
    drain.coordinator.sign("a test")
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - which one is what is asked
        item.token.checkpoint(**state)
    return item, raised.value


def test_rest_of_an_item_moves_from_its_checkpoint(drain: MovingDrain) -> None:
    """It leaves its worker at once, and is HANDED_OFF when the engine has accepted it."""
    item, error = checkpointed(drain, cursor=5)
    assert not drain.sync.finish(item, error)
    assert (item.status, drain.scheduler.running_count, drain.scheduler.is_empty) == (S.RUNNING, 0, False)
    drain.advance(0)
    assert item.status is S.HANDED_OFF
    assert drain.call.states == [{"cursor": 5}]
    assert drain.ends(item) == ["started", "finished"]


def test_rest_that_no_engine_takes_is_abandoned(drain: MovingDrain) -> None:
    """It had begun, and is given up at the limit by name."""
    item, error = checkpointed(drain, cursor=5)
    drain.call.before = down
    drain.sync.finish(item, error)
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert item.status is S.ABANDONED
    assert drain.ends(item) == ["started", "finished"]


def test_checkpoint_of_another_item_cancels_only(drain: MovingDrain) -> None:
    """It is a cancellation like any other where it is not its own token's."""
    _, error = checkpointed(drain)
    other = drain.queue_movable()
    assert drain.sync.start() is other
    drain.scheduler.stop.request()
    drain.advance(60.0)
    assert other.token.is_cancellation_requested
    assert drain.sync.finish(other, error)
    assert other.status is S.CANCELLED


def test_checkpoint_proves_its_state_each_time(drain: MovingDrain) -> None:
    """Not at a deploy for the first time."""
    item = drain.queue_movable()
    drain.sync.start()
    with pytest.raises(TypeError, match="no such parameter"):
        item.token.checkpoint(wrong=1)


def test_checkpoint_does_not_raise_without_an_engine(drain: MovingDrain) -> None:
    """It is there for an engine alone; the token is looked at as ever."""
    item = drain.running()
    drain.coordinator.sign("a test")
    item.token.checkpoint(cursor=object())
    assert item.token.is_cancellation_requested


def test_checkpoint_does_not_raise_for_another_reason(drain: MovingDrain) -> None:
    """A request, or a timeout, is no reason to go on elsewhere."""
    item = drain.queue_movable()
    drain.sync.start()
    handle_of(item).cancel()
    item.token.checkpoint(cursor=1)


def test_item_that_was_given_up_moves_no_more(drain: MovingDrain) -> None:
    """It was declared ABANDONED, and that stands, wherever it leaves its code afterwards."""
    item, error = checkpointed(drain, cursor=5)
    for left in drain.scheduler.give_up():
        drain.scheduler.report_unstarted(left)
    assert not drain.sync.finish(item, error)
    drain.advance(0)
    assert item.status is S.ABANDONED
    assert drain.call.sent == []
    assert drain.ends(item) == ["started", "finished", "late"]


def test_timeout_does_not_follow_an_item_that_moves(drain: MovingDrain) -> None:
    """Its time here is over."""
    drain.mover.start()
    item = drain.make(noop, timeout=5.0)
    make_movable(item, MovableItem(drain.mover, drain.call, 0.0))  # type: ignore[arg-type]
    drain.scheduler.queue_when_told(item, lambda: None)
    assert drain.sync.start() is item
    drain.coordinator.sign("a test")
    with pytest.raises(CheckpointReached) as left:
        item.token.checkpoint()
    drain.sync.finish(item, left.value)
    assert drain.scheduler._timeouts.timers == {}
    drain.call.before = down
    drain.advance(60.0)
    assert drain.observer.overdue_items == []


# What is told, and what is refused.


def test_item_that_moves_at_the_call_is_announced() -> None:
    """Where anybody listens, its queueing is told of before its end."""
    drain = MovingDrain(max_queued=1, announces=True)
    drain.queue_movable()
    item = drain.queue_movable()
    assert drain.observer.names(item) == ["queued", "finished"]


def test_waits_for_an_engine_are_bounded() -> None:
    """What an event loop queues for an engine waits for the mover, up to a bound."""
    drain = MovingDrain(announces=True)
    drain.call.before = down

    async def send() -> list[WorkItem]:
        sent = [drain.movable() for _ in range(3)]
        for item in sent:
            drain.mover.send(item)
        one_more = drain.movable()
        with pytest.raises(QueueFull, match="3 items wait for that already"):
            drain.mover.send(one_more)
        return sent

    sent = asyncio.run(send())
    assert len(sent) == 3
    assert drain.observer.statuses("rejected") == [S.QUEUED]
    drain.call.before = lambda: None
    drain.advance(2.0)
    assert {item.status for item in sent} == {S.HANDED_OFF}
    assert drain.observer.names(sent[0]) == ["queued", "finished"]


def test_mover_without_a_thread_refuses(drain: MovingDrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not move at the end is not accepted."""

    def start() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(drain.service, "start", start)
    with pytest.raises(WorkItemRejected, match="no thread could be started"):
        drain.movable()


def test_running_loop_of_a_process_that_has_ended() -> None:
    """Nobody would wait for what moves there: it is refused as ever."""
    drain = MovingDrain()
    drain.queue()
    drain.scheduler.close()

    async def queue() -> None:
        item = drain.movable()
        with pytest.raises(SchedulerClosed):
            drain.scheduler.queue_when_told(item, lambda: None)

    asyncio.run(queue())
    assert drain.call.sent == []
