"""Items with keys, moved by hand: those that are the same while they wait, and those that take turns."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FrameType
from typing import Any

import pytest

from django_qbwi.core.acceptance import Acceptance
from django_qbwi.core.exceptions import QueueFull, SchedulerDraining
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.keys import Keyed
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


class Pause:
    """Has one more attempt follow."""

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        return 5.0 if attempt == 1 else None


def unique(key: str = "a") -> Keyed:
    """A unique key of `noop`."""
    return Keyed(unique=(id(noop), key))


def limited(key: str = "a", most: int = 1) -> Keyed:
    """A limit for a key of `noop`."""
    return Keyed(limit=(id(noop), key), most=most)


def make(manual: ManualRuntime, keyed: Keyed, work_item: Any = noop, **options: Any) -> WorkItem:
    """Return a new item with keys."""
    return manual.make(work_item, keyed=keyed, **options)


def put(manual: ManualRuntime, keyed: Keyed, work_item: Any = noop, *, delay: float = 0.0, **options: Any) -> WorkItem:
    """Queue an item with keys; return what stands for it."""
    return manual.scheduler.queue_when_told(make(manual, keyed, work_item, **options), lambda: None, delay)


def run(manual: ManualRuntime) -> WorkItem:
    """Begin what waits first, and let it succeed."""
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    return item


def is_clean(manual: ManualRuntime) -> bool:
    """Whether nothing is left, of any key."""
    return manual.scheduler.is_empty and manual.scheduler._turns.is_empty


# The same while it waits.


def test_one_that_waits_stands_for_the_next(manual: ManualRuntime) -> None:
    """With the same key nothing is queued, announced or counted; with another one it is."""
    first = put(manual, unique("a"))
    assert put(manual, unique("a")) is first
    assert put(manual, unique("b")) is not first
    assert manual.scheduler.queued_count == 2
    assert run(manual) is first


def test_one_that_runs_does_not_stand_for_the_next(manual: ManualRuntime) -> None:
    """The last change is never lost: what is queued while one runs will run after it, once."""
    first = put(manual, unique())
    manual.sync.start()
    second = put(manual, unique())
    assert second is not first
    assert put(manual, unique()) is second
    manual.sync.finish(first)
    # The end of the first one does not forget the second.
    assert put(manual, unique()) is second
    run(manual)
    assert is_clean(manual)


def test_delayed_one_stands_for_the_next(manual: ManualRuntime) -> None:
    """It keeps its own time, whatever the next one asks for."""
    first = put(manual, unique(), delay=60)
    assert put(manual, unique()) is first
    assert manual.scheduler.delayed_count == manual.scheduler.queued_count == 1
    manual.advance(60)
    assert put(manual, unique()) is first
    run(manual)
    assert is_clean(manual)


def test_waiting_attempt_does_not_stand_for_the_next(manual: ManualRuntime) -> None:
    """It has begun once, and may go on behind what has changed."""
    first = put(manual, unique(), retry=Pause())
    manual.sync.start()
    manual.sync.finish(first, ValueError())
    assert first.status is S.QUEUED
    second = put(manual, unique(), retry=Pause())
    assert second is not first
    manual.advance(5)
    assert put(manual, unique(), retry=Pause()) is second
    assert {run(manual), run(manual)} == {first, second}
    assert is_clean(manual)


def test_cancelled_one_does_not_stand_for_the_next(manual: ManualRuntime) -> None:
    """It never runs; neither does one that moves to another engine."""
    first = put(manual, unique())
    handle_of(first).cancel()
    second = put(manual, unique())
    assert second is not first
    manual.scheduler.start_moving(second, self := object())
    third = put(manual, unique())
    assert third is not second
    assert manual.scheduler.is_ended_by(second, self)


def test_one_that_waits_stands_for_the_next_where_that_would_be_refused() -> None:
    """Nothing is queued, so there is nothing to refuse: neither by a full queue nor in a drain."""
    manual = ManualRuntime(max_queued=1, accept_while_draining=False)
    first = put(manual, unique())
    with pytest.raises(QueueFull):
        put(manual, unique("b"))
    assert put(manual, unique()) is first
    manual.scheduler.stop.first_sign = manual.clock()
    with pytest.raises(SchedulerDraining):
        put(manual, unique("b"))
    assert put(manual, unique()) is first


def test_one_that_is_being_told_of_stands_for_the_next(manual: ManualRuntime) -> None:
    """It is accepted already; what it is told to may raise."""
    seen: list[WorkItem] = []
    first = make(manual, unique())

    def tell() -> None:
        seen.append(put(manual, unique()))
        raise LookupError

    with pytest.raises(LookupError):
        manual.scheduler.queue_when_told(first, tell)
    assert seen == [first]
    assert run(manual) is first


def test_refused_one_stands_for_nothing() -> None:
    """What was never accepted never runs, so nobody gets its handle."""
    manual = ManualRuntime(max_queued=1)
    manual.queue()
    with pytest.raises(QueueFull):
        put(manual, unique())
    run(manual)
    second = put(manual, unique())
    assert run(manual) is second


# Turns.


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_of_a_key_run_at_once(manual: ManualRuntime, most: int) -> None:
    """The others wait, counted as queued, and hold no worker; each end lets the next one begin, in order."""
    items = [put(manual, limited(most=most)) for _ in range(5)]
    started = [manual.sync.start() for _ in range(5)]
    assert started == items[:most] + [None] * (5 - most)
    assert manual.scheduler.queued_count == manual.sync.lane.waiting == 5 - most
    assert manual.scheduler.live_items() == items
    for index, item in enumerate(items):
        manual.sync.finish(item)
        if index + most < 5:
            assert manual.sync.start() is items[index + most]
        assert manual.sync.start() is None
    assert is_clean(manual)


def test_keys_take_turns(manual: ManualRuntime) -> None:
    """A key with many items does not keep another one waiting, nor items without a key."""
    crowd = [put(manual, limited("many")) for _ in range(3)]
    few, plain = [put(manual, limited("few")) for _ in range(2)], manual.queue()
    order = [run(manual) for _ in range(6)]
    assert order == [crowd[0], few[0], plain, crowd[1], few[1], crowd[2]]
    assert is_clean(manual)


def test_sync_and_async_items_take_turns(manual: ManualRuntime) -> None:
    """A key belongs to no lane: where the turn goes to the other one, that is woken."""
    first, second = put(manual, limited()), put(manual, limited(), anoop)
    assert manual.loop.start() is None
    assert manual.loop.woken == 0
    manual.sync.start()
    manual.sync.finish(first)
    assert manual.loop.woken == 1
    assert manual.loop.start() is second
    manual.loop.finish(second)
    assert is_clean(manual)


def test_turn_brings_a_worker_if_there_are_too_few(manual: ManualRuntime) -> None:
    """A thread is started by the keeper, without the lock."""
    first, _ = put(manual, limited()), put(manual, limited())
    manual.sync.start()
    manual.sync.wakes_enough = False
    manual.sync.finish(first)
    assert manual.sync.grown == 0
    manual.keeper.run()
    assert manual.sync.grown == 1


def test_higher_priority_has_the_next_turn(manual: ManualRuntime) -> None:
    """Within a key, too: also before one that is in its lane and has not begun; what runs is not touched."""
    first = put(manual, limited())
    low = put(manual, limited())
    high, higher = put(manual, limited(), priority=5), put(manual, limited(), priority=9)
    assert [run(manual) for _ in range(2)] == [higher, high]
    assert manual.sync.start() is first
    late = put(manual, limited(), priority=9)
    assert manual.sync.start() is None
    manual.sync.finish(first)
    assert [run(manual) for _ in range(2)] == [late, low]
    assert is_clean(manual)


def test_delayed_item_has_no_place(manual: ManualRuntime) -> None:
    """It takes its turn when its time has come."""
    later = put(manual, limited(), delay=5)
    first = put(manual, limited())
    assert manual.sync.start() is first
    manual.advance(5)
    assert manual.sync.start() is None
    assert (manual.scheduler.delayed_count, manual.scheduler.queued_count) == (0, 1)
    manual.sync.finish(first)
    assert run(manual) is later
    assert is_clean(manual)


def test_waiting_attempt_has_no_place(manual: ManualRuntime) -> None:
    """The next one of its key runs meanwhile; the attempt takes its turn again."""
    first, second = put(manual, limited(), retry=Pause()), put(manual, limited())
    manual.sync.start()
    manual.sync.finish(first, ValueError())
    assert manual.sync.start() is second
    manual.advance(5)
    assert manual.sync.start() is None
    manual.sync.finish(second)
    assert run(manual) is first
    assert is_clean(manual)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_cancelled_item_gives_its_turn_back(manual: ManualRuntime, which: int) -> None:
    """Whether it was in its lane or held: the others have theirs, in order."""
    items = [put(manual, limited()) for _ in range(3)]
    assert handle_of(items[which]).cancel()
    assert manual.scheduler.queued_count == 2
    assert [run(manual), run(manual)] == [item for item in items if item is not items[which]]
    assert is_clean(manual)


def test_items_that_move_give_their_turn_back(manual: ManualRuntime) -> None:
    """Those that are held move too, and so does the rest of one that runs."""
    engine: Any = object()
    items = [put(manual, limited(), movable=engine) for _ in range(4)]
    assert manual.scheduler.movable_items(late_only=False) == items
    for item in (items[2], items[0]):
        assert manual.scheduler.start_moving(item, self := object()) is not None
        assert manual.scheduler.is_ended_by(item, self)
    assert manual.sync.start() is items[1]
    assert manual.scheduler.stop_running(items[1], engine)
    assert manual.sync.start() is items[3]


def test_held_items_count_against_the_bound() -> None:
    """MAX_QUEUED is for all that have not started."""
    manual = ManualRuntime(max_queued=2)
    for _ in range(2):
        put(manual, limited())
    with pytest.raises(QueueFull):
        put(manual, limited())
    with pytest.raises(QueueFull):
        manual.queue()


def test_held_items_have_their_turn_in_a_drain(manual: ManualRuntime) -> None:
    """They begin while there is time, and are DISCARDED at its end as the others; nothing begins after that."""
    items = [put(manual, limited()) for _ in range(4)]
    manual.sync.start()
    stop = manual.scheduler.stop
    stop.deadline, stop.requested, stop.first_sign = manual.clock() + 10, True, manual.clock()
    manual.sync.finish(items[0])
    assert manual.sync.start() is items[1]
    assert not manual.scheduler.close_if_empty()
    assert manual.scheduler.give_up() == items[1:]
    assert [item.status for item in items[1:]] == [S.ABANDONED, S.DISCARDED, S.DISCARDED]
    for item in items[1:]:
        manual.scheduler.report_unstarted(item)
    assert manual.sync.start() is None
    assert is_clean(manual)


def test_calls_may_differ_in_how_many(manual: ManualRuntime) -> None:
    """Each looks at its own number when it is its turn."""
    first, second = put(manual, limited(most=1)), put(manual, limited(most=2))
    assert (manual.sync.start(), manual.sync.start()) == (first, second)
    assert put(manual, limited(most=1)).waits
    manual.sync.finish(first)
    assert manual.sync.start() is None
    manual.sync.finish(second)
    run(manual)
    assert is_clean(manual)


def test_item_may_be_the_same_while_it_is_held(manual: ManualRuntime) -> None:
    """It waits for its turn."""

    def both() -> Keyed:
        return Keyed(unique=(1, "a"), limit=(1, "a"))

    first = put(manual, both())
    manual.sync.start()
    second = put(manual, both())
    assert put(manual, both()) is second
    manual.sync.finish(first)
    assert run(manual) is second
    assert is_clean(manual)


def test_many_keys_are_not_searched(manual: ManualRuntime) -> None:
    """Each of 1,000 keys has its turn, and what waits is never gone through: no item of it is looked at."""
    manual = ManualRuntime(max_queued=10**9)
    for number in range(5000):
        put(manual, limited(str(number % 1000)))
    assert len(manual.sync.lane.queue) == 1000
    steps = itertools.count()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: next(steps) and None)
    try:
        run(manual)
    finally:
        sys.setprofile(before)
    assert next(steps) < 500
    assert len(manual.sync.lane.queue) == 1000


# Struck (R1).


def strike(point: int, call: Callable[[], object], code: CodeType) -> bool:
    """Raise KeyboardInterrupt at a point within a call; False if it has fewer."""
    points = itertools.count()
    before = sys.getprofile()
    struck = False

    def is_within(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        return frame is not None

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal struck
        if event in ("call", "c_return") and not struck and is_within(frame) and next(points) == point:
            struck = True
            sys.setprofile(before)
            raise KeyboardInterrupt

    gc.disable()
    sys.setprofile(profile)
    try:
        call()
    except KeyboardInterrupt:
        assert struck
    else:
        assert not struck
    finally:
        sys.setprofile(before)
        gc.enable()
    return struck


def points() -> Iterator[tuple[ManualRuntime, list[WorkItem], int]]:
    """Give a scheduler with one item that runs, one in its lane and one that is held, for each point to be struck."""
    for point in itertools.count():
        manual = ManualRuntime()
        items = [put(manual, limited(most=2)) for _ in range(3)]
        assert manual.sync.start() is items[0]
        yield manual, items, point


@pytest.mark.parametrize(("kind", "priority"), [("held", 0), ("held", 5), ("free", 0)])
def test_r1_item_that_is_struck_at_its_queueing_runs_once_or_never(kind: str, priority: int) -> None:
    """Wherever it is struck, nothing is lost or counted twice, and the key does not stand still."""
    for manual, items, point in points():
        item = make(manual, limited("a" if kind == "held" else "b", most=2), priority=priority)
        code = Acceptance.queue_when_told.__code__
        struck = strike(point, partial(manual.scheduler.queue_when_told, item, lambda: None), code)
        expected = {*items[1:], item} if item in manual.scheduler.live_items() else {*items[1:]}
        assert manual.scheduler.queued_count == len(expected)
        running, begun = [items[0]], list[WorkItem]()
        while running:
            while (another := manual.sync.start()) is not None:
                running.append(another)
                begun.append(another)
            manual.sync.finish(running.pop())
        assert set(begun) == expected
        assert len(begun) == len(expected)
        assert is_clean(manual)
        if not struck:
            assert point > 10
            return


@pytest.mark.parametrize("which", [1, 2])
def test_r1_struck_cancellation_does_not_stop_the_key(which: int) -> None:
    """Whether the item was in its lane or held, the keeper brings it to its end, and its turn goes on."""
    for manual, items, point in points():
        struck = strike(
            point,
            lambda manual=manual, items=items: handle_of(items[which]).cancel(),
            WorkItemScheduler.cancel.__code__,
        )
        manual.keeper.run()
        handle_of(items[which]).cancel()
        other = items[3 - which]
        assert manual.scheduler.queued_count == 1
        assert manual.sync.start() is other
        assert manual.sync.start() is None
        manual.sync.finish(items[0])
        manual.sync.finish(other)
        assert is_clean(manual)
        if not struck:
            assert point > 10
            return
