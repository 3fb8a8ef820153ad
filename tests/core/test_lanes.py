"""Lanes: any number of them, for any kind of executor, without a line of the scheduler that knows of it."""

import pytest

from django_qbwi.core.calls import Call, Options
from django_qbwi.core.exceptions import QueueFull
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import ASYNC, SYNC, Lane, Limits
from django_qbwi.core.records import WorkItemStatus
from tests.support.manual import ManualExecutor, ManualRuntime, anoop, noop

S = WorkItemStatus


class HelperProcesses(ManualExecutor):
    """Stands for a third kind of executor."""


class Lanes(ManualRuntime):
    """A scheduler with five lanes: two of each kind that there is, and one of a third."""

    def __init__(self, *, announces: bool = False, max_queued: int = 1000) -> None:
        super().__init__(announces=announces, max_queued=max_queued)
        self.reports = ManualExecutor(self.scheduler, Lane("reports", limits=Limits(running=1)))
        self.sockets = ManualExecutor(self.scheduler, Lane("sockets", "async"))
        self.helpers = HelperProcesses(self.scheduler, Lane("helpers"))
        self.executors = [self.sync, self.loop, self.reports, self.sockets, self.helpers]
        self.scheduler.attach(*(executor.lane for executor in self.executors))

    def fill(self) -> list[WorkItem]:
        """Queue one item in each lane."""
        return [
            self.queue(anoop if executor.lane.kind == "async" else noop, lane=executor.lane.name)
            for executor in self.executors
        ]


@pytest.fixture
def lanes() -> Lanes:
    """Five lanes."""
    return Lanes()


@pytest.mark.parametrize("announces", [False, True])
def test_item_waits_in_the_lane_that_it_asks_for(announces: bool) -> None:
    """It is queued there, its executor is woken, and no other takes it."""
    lanes = Lanes(announces=announces)
    items = lanes.fill()
    assert [executor.woken for executor in lanes.executors] == [1] * 5
    assert [item.lane for item in items] == [executor.lane for executor in lanes.executors]
    assert lanes.scheduler.queued_count == 5
    assert [executor.start() for executor in lanes.executors] == items
    assert [executor.start() for executor in lanes.executors] == [None] * 5


def test_item_that_asks_for_none_goes_to_the_lane_of_its_kind(lanes: Lanes) -> None:
    """Sync calls go to the one, async ones to the other."""
    assert (lanes.queue(noop).lane.name, lanes.queue(anoop).lane.name) == (SYNC, ASYNC)


def test_unknown_lane_is_an_error(lanes: Lanes) -> None:
    """Nothing is made of a call for a lane that there is not."""
    with pytest.raises(KeyError, match="nowhere"):
        lanes.scheduler.make_item(Call(noop, options=Options(lane="nowhere")))


def test_all_lanes_share_the_bound() -> None:
    """Items of every lane count against the one limit of what may wait."""
    lanes = Lanes(max_queued=5)
    lanes.fill()
    for executor in lanes.executors:
        with pytest.raises(QueueFull):
            lanes.queue(noop, lane=executor.lane.name)


def test_each_executor_is_prepared_and_retired(lanes: Lanes) -> None:
    """The first item starts all of them, the end of the process ends all, and a forked child stops all."""
    lanes.queue(noop)
    lanes.scheduler.after_fork_in_child()
    lanes.scheduler.retire()
    assert {(one.prepared, one.stopped_in_child, one.retired) for one in lanes.executors} == {(1, 1, 1)}


def test_join_waits_for_each_executor(lanes: Lanes) -> None:
    """One whose threads have not ended is told of."""
    assert lanes.scheduler.join(1.0)
    lanes.helpers.stuck = True
    assert not lanes.scheduler.join(1.0)


def test_one_stuck_lane_is_told_of(lanes: Lanes) -> None:
    """A lane that can take nothing more is enough for the scheduler to say so."""
    assert not lanes.scheduler.is_stuck
    lanes.sockets.stuck = True
    assert lanes.scheduler.is_stuck


def test_cancelled_item_leaves_its_lane(lanes: Lanes) -> None:
    """A queued item of any lane leaves it at once."""
    for item in lanes.fill():
        assert lanes.scheduler.cancel(item)
    assert [executor.lane.waiting for executor in lanes.executors] == [0] * 5
    assert lanes.scheduler.totals[S.CANCELLED] == 5


def test_interrupt_goes_through_the_lanes(lanes: Lanes) -> None:
    """Each executor interrupts its own items, and a given one only its own executor."""
    items = lanes.fill()
    for executor in lanes.executors:
        executor.start()
    lanes.scheduler.interrupt()
    assert [executor.interrupted for executor in lanes.executors] == [[item] for item in items]
    lanes.scheduler.interrupt([items[4]])
    assert [len(executor.interrupted) for executor in lanes.executors] == [1, 1, 1, 1, 2]


def test_overdue_item_gives_up_its_slot_in_its_lane(lanes: Lanes) -> None:
    """The executor of the item's lane describes it, replaces it and interrupts it."""
    item = lanes.queue(noop, lane="helpers", timeout=1.0)
    assert lanes.helpers.start() is item
    lanes.advance(1.0)
    lanes.advance(5.0)
    assert lanes.helpers.gave_up == lanes.helpers.interrupted == [item]
    assert not any(executor.gave_up for executor in lanes.executors[:4])


def test_give_up_empties_each_lane(lanes: Lanes) -> None:
    """At the limit what runs in any lane is abandoned, and what waits is discarded."""
    running = lanes.fill()
    for executor in lanes.executors:
        executor.start()
    waiting = lanes.fill()
    assert lanes.scheduler.give_up() == running + waiting
    assert {item.status for item in running} == {S.ABANDONED}
    assert {item.status for item in waiting} == {S.DISCARDED}
    assert [executor.lane.waiting for executor in lanes.executors] == [0] * 5


def test_item_that_moves_to_another_lane_is_the_other_executors(lanes: Lanes) -> None:
    """An item that goes on elsewhere is described and interrupted there, and says so."""
    item = lanes.queue(noop)
    assert lanes.sync.start() is item
    assert item.info().kind == "sync"
    item.lane = lanes.loop.lane
    lanes.scheduler.interrupt()
    assert (lanes.loop.interrupted, lanes.sync.interrupted) == ([item], [])
    assert item.info().kind == "async"


def test_lane_that_nobody_serves_says_so() -> None:
    """A lane without an executor names what it was asked for."""
    lane: Lane[WorkItem] = Lane("empty")
    assert repr(lane) == "<Lane empty queued=0 executor=nobody>"
    with pytest.raises(RuntimeError, match="nobody to wake"):
        lane.executor.wake()
