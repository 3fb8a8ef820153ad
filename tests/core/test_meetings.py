"""Where the rules of waiting meet: items that take turns and expire, and callers that wait for room among them."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from contextvars import Context
from types import FrameType
from typing import Any

import pytest

from django_qbwi.core.exceptions import QueueFull
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.keys import Keyed
from django_qbwi.core.lanes import Limits
from django_qbwi.core.records import WorkItemStatus
from tests.support.gates import PATIENCE, until
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


def unique(key: str = "a") -> Keyed:
    """A unique key of `noop`."""
    return Keyed(unique=(1, key))


def limited(key: str = "a", most: int = 1) -> Keyed:
    """A limit for a key of `noop`."""
    return Keyed(limit=(1, key), most=most)


def put(manual: ManualRuntime, keyed: Keyed | None, work_item: Any = noop, **options: Any) -> WorkItem:
    """Queue an item with keys; return what stands for it."""
    delay = options.pop("delay", 0.0)
    return manual.scheduler.queue_when_told(manual.make(work_item, keyed=keyed, **options), lambda: None, delay)


def run(manual: ManualRuntime) -> WorkItem:
    """Begin what waits first, and let it succeed."""
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    return item


def is_clean(manual: ManualRuntime) -> bool:
    """Whether nothing is left, of any key."""
    timers = manual.scheduler._timetable.timers
    return manual.scheduler.is_empty and manual.scheduler._turns.is_empty and not timers


class Waiting:
    """Queues an item with keys, patiently, in a thread of its own."""

    def __init__(
        self, manual: ManualRuntime, keyed: Keyed | None, *, parent: WorkItem | None = None, seconds: float = 1e9
    ) -> None:
        self.scheduler = manual.scheduler
        self.item = manual.make(keyed=keyed)
        self.seconds = seconds
        self.queued: WorkItem | BaseException | None = None
        context = Context() if parent is None else manual.sync.contexts[parent].copy()
        self.thread = threading.Thread(target=context.run, args=(self.run,), daemon=True)
        before = len(self.scheduler._callers)
        self.thread.start()
        until(lambda: len(self.scheduler._callers) > before or not self.thread.is_alive())

    def run(self) -> None:
        try:
            self.queued = self.scheduler.queue_with_patience(self.item, lambda: None, 0.0, self.seconds)
        except BaseException as error:
            self.queued = error

    def join(self) -> WorkItem | BaseException | None:
        """Wait until it has come back; return what stands for its call, or what it has raised."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.queued


# Items that take turns, and expire.


@pytest.mark.parametrize("which", [0, 1, 2])
def test_item_that_expires_gives_its_turn_back(manual: ManualRuntime, which: int) -> None:
    """In its lane or held, it ends DISCARDED and is told of once; the others have their turns, in order."""
    items = [put(manual, limited(), expires=5.0 if index == which else None) for index in range(3)]
    manual.advance(5.0)
    assert items[which].status is S.DISCARDED
    assert [item for event, item, _ in manual.observer.events if event == "finished"] == [items[which]]
    assert manual.scheduler.queued_count == 2
    assert [run(manual), run(manual)] == [item for item in items if item is not items[which]]
    assert is_clean(manual)


def test_item_that_expires_while_its_key_is_busy(manual: ManualRuntime) -> None:
    """It was held all the time: nothing of it is left where it was held."""
    first, late = put(manual, limited()), put(manual, limited(), expires=5.0)
    assert manual.sync.start() is first
    assert list(manual.sync.lane.held) == [late]
    manual.advance(5.0)
    assert (late.status, list(manual.sync.lane.held)) == (S.DISCARDED, [])
    manual.sync.finish(first)
    assert manual.sync.start() is None
    assert is_clean(manual)


def test_worker_that_steps_over_an_item_lets_the_next_of_its_key_begin(manual: ManualRuntime) -> None:
    """In the same look, before the timer has had its turn, also where that one comes too late as well."""
    put(manual, limited(), expires=5.0)
    put(manual, limited(), expires=4.0)
    item = put(manual, limited())
    manual.clock.advance(5.0)
    assert manual.sync.start() is item
    manual.advance(0.0)
    manual.sync.finish(item)
    assert is_clean(manual)


def test_turn_goes_to_the_other_lane_when_an_item_expires(manual: ManualRuntime) -> None:
    """It is woken."""
    put(manual, limited(), expires=5.0)
    item = put(manual, limited(), anoop)
    assert (manual.loop.woken, manual.loop.start()) == (0, None)
    manual.advance(5.0)
    assert manual.loop.woken == 1
    assert manual.loop.start() is item


def test_delayed_item_of_a_busy_key_expires(manual: ManualRuntime) -> None:
    """It has come due, is held, and its time ends there."""
    first, late = put(manual, limited()), put(manual, limited(), delay=3.0, expires=5.0)
    assert manual.sync.start() is first
    manual.advance(3.0)
    assert list(manual.sync.lane.held) == [late]
    manual.advance(2.0)
    assert (late.status, manual.scheduler.queued_count) == (S.DISCARDED, 0)
    manual.sync.finish(first)
    assert is_clean(manual)


def test_item_that_makes_room_for_a_higher_one_expires(manual: ManualRuntime) -> None:
    """It was put out of its lane again, and keeps its time."""
    low, high = put(manual, limited(), expires=5.0), put(manual, limited(), priority=5)
    assert manual.sync.start() is high
    manual.advance(5.0)
    assert low.status is S.DISCARDED
    manual.sync.finish(high)
    assert is_clean(manual)


def test_many_held_items_expire_in_one_pass() -> None:
    """Of one key with thousands: none is searched for, and the rest keeps its order."""
    manual = ManualRuntime(max_queued=10**9)
    items = [put(manual, limited(), expires=5.0 if index % 2 else None) for index in range(4_000)]
    manual.clock.advance(5.0)
    searches = itertools.count()
    before = sys.getprofile()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and argument.__name__ == "remove":
            next(searches)

    sys.setprofile(profile)
    try:
        manual.advance(0.0)
    finally:
        sys.setprofile(before)
    searched = next(searches)
    manual.advance(60.0)
    assert searched < 8
    assert manual.scheduler.queued_count == 2_000
    assert [run(manual) for _ in range(2_000)] == items[::2]
    assert is_clean(manual)


def test_expired_one_does_not_stand_for_the_next(manual: ManualRuntime) -> None:
    """Its time is over, and nobody has taken it out yet: it will never run, so what has changed is queued anew."""
    first = put(manual, unique(), expires=5.0)
    assert put(manual, unique()) is first
    manual.clock.advance(5.0)
    second = put(manual, unique())
    assert second is not first
    manual.advance(0.0)
    assert first.status is S.DISCARDED
    assert put(manual, unique()) is second
    assert run(manual) is second
    assert is_clean(manual)


# Callers that wait for room.


@pytest.fixture
def full() -> ManualRuntime:
    """A queue of one."""
    return ManualRuntime(max_queued=1)


def test_what_waits_already_is_not_waited_for(full: ManualRuntime) -> None:
    """Its handle is returned at once, with no time to wait, and behind those who do wait."""
    first = put(full, unique())
    other = Waiting(full, None)
    assert full.scheduler.queue_with_patience(full.make(keyed=unique()), lambda: None, 0.0, 0.0) is first
    assert Waiting(full, unique()).join() is first
    assert [caller.item for caller in full.scheduler._callers] == [other.item]
    assert full.scheduler.queued_count == 1
    run(full)
    assert other.join() is other.item


def test_what_comes_to_wait_is_waited_for_no_longer(full: ManualRuntime) -> None:
    """The place goes to the first caller of a key, and all of that key return, whoever is between them."""
    full.queue()
    first, between, last = Waiting(full, unique()), Waiting(full, unique("b")), Waiting(full, unique())
    full.sync.start()
    assert (first.join(), last.join()) == (first.item, first.item)
    assert [caller.item for caller in full.scheduler._callers] == [between.item]
    assert run(full) is first.item
    assert between.join() is between.item
    assert run(full) is between.item


def test_one_that_runs_is_not_the_same(full: ManualRuntime) -> None:
    """Who waits for room goes on with that: the last change is not lost."""
    running = put(full, unique())
    full.sync.start()
    full.queue()
    waiting = Waiting(full, unique())
    full.sync.finish(running)
    full.sync.start()
    assert waiting.join() is waiting.item


def test_loop_does_not_wait_for_what_waits_already(full: ManualRuntime) -> None:
    """As a thread."""
    first = put(full, unique())

    async def queue() -> WorkItem:
        return await full.scheduler.aqueue_with_patience(full.make(keyed=unique()), lambda: None, 0.0, 1e9)

    assert asyncio.run(queue()) is first


@pytest.mark.parametrize("way", ["cancelled", "moved", "expired"])
def test_held_item_that_leaves_makes_room(way: str) -> None:
    """By whichever door: it has counted against the bound."""
    manual = ManualRuntime(max_queued=1)
    first = put(manual, limited())
    assert manual.sync.start() is first
    held = put(manual, limited(), expires=5.0)
    waiting = Waiting(manual, limited())
    if way == "cancelled":
        assert handle_of(held).cancel()
    elif way == "moved":
        assert manual.scheduler.start_moving(held, manual) is not None
    else:
        manual.advance(5.0)
    assert waiting.join() is waiting.item
    manual.sync.finish(first)
    assert run(manual) is waiting.item


def test_caller_of_a_busy_key_gets_its_place_and_its_turn_later(full: ManualRuntime) -> None:
    """Room is one thing, and the turn of its key another one."""
    first = put(full, limited())
    assert full.sync.start() is first
    full.queue()
    waiting = Waiting(full, limited())
    run(full)
    assert waiting.join() is waiting.item
    assert full.sync.start() is None
    full.sync.finish(first)
    assert run(full) is waiting.item
    assert is_clean(full)


def test_same_one_comes_between_the_place_and_the_item(full: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for the call then, and the place is the next one's."""
    manual = ManualRuntime(max_queued=2)
    came: list[WorkItem] = []
    real = manual.scheduler._queue_after_wait

    def queue_after_wait(*args: Any) -> WorkItem:
        came.append(put(manual, unique()))
        return real(*args)

    monkeypatch.setattr(manual.scheduler, "_queue_after_wait", queue_after_wait)
    item = manual.make(keyed=unique())
    assert manual.scheduler.queue_with_patience(item, lambda: None, 0.0, 5.0) is came[0]
    assert came[0] is not item
    assert manual.scheduler.queued_count == 1
    assert run(manual) is came[0]
    assert is_clean(manual)


def test_r1_nobody_is_told_of_an_item_whose_caller_was_struck(
    full: ManualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its place, and no more: until it is certain to run, it stands for no other call."""
    others: list[Waiting] = []

    def strike(*args: Any) -> None:
        monkeypatch.undo()
        others.append(Waiting(full, unique()))
        raise KeyboardInterrupt

    monkeypatch.setattr(full.scheduler, "_queue_after_wait", strike)
    with pytest.raises(KeyboardInterrupt):
        full.scheduler.queue_with_patience(full.make(keyed=unique()), lambda: None, 0.0, 5.0)
    assert others[0].join() is others[0].item
    assert run(full) is others[0].item
    assert is_clean(full)


def test_item_that_holds_the_place_of_all_that_wait_is_refused_at_once(full: ManualRuntime) -> None:
    """Whatever the number of workers: nothing of its key begins before it ends."""
    parent = put(full, limited())
    assert full.sync.start() is parent
    put(full, limited())
    error = Waiting(full, None, parent=parent).join()
    assert isinstance(error, QueueFull)
    assert "everything that runs waits for room itself" in str(error)


def test_item_waits_for_the_turn_of_a_key_that_another_one_holds(full: ManualRuntime) -> None:
    """That one will end, and then there is room."""
    other, parent = put(full, limited()), full.make()
    assert full.sync.start() is other
    full.scheduler.queue(parent)
    assert full.sync.start() is parent
    full.sync.lane.limits = Limits(running=2)
    put(full, limited())
    waiting = Waiting(full, None, parent=parent)
    assert waiting.thread.is_alive()
    full.sync.finish(other)
    full.sync.start()
    assert waiting.join() is waiting.item
