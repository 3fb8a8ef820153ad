"""The order in which the items of a lane start: the highest priority first, first in, first out within one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_qbwi.core.lanes import Lane
from tests.support.manual import ManualExecutor, ManualRuntime, anoop, noop


def started(executor: ManualExecutor) -> list[str]:
    """Start all that waits, and return the names in that order."""
    return [item.name for item in iter(executor.start, None)]


@given(priorities=st.lists(st.integers(-3, 3), max_size=12))
def test_order_is_that_of_a_stable_sort(priorities: list[int]) -> None:
    """The highest first; those of one priority as they came."""
    manual = ManualRuntime()
    for number, priority in enumerate(priorities):
        manual.queue(noop, name=f"{number}", priority=priority)
    by_hand = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    assert started(manual.sync) == [f"{number}" for number in by_hand]


def test_items_of_before_keep_their_place() -> None:
    """The first item with a priority finds a queue of others."""
    manual = ManualRuntime()
    for name in "abc":
        manual.queue(noop, name=name)
    manual.queue(noop, name="urgent", priority=1)
    manual.queue(noop, name="d")
    manual.queue(noop, name="late", priority=-1)
    manual.queue(noop, name="e")
    assert started(manual.sync) == ["urgent", "a", "b", "c", "d", "e", "late"]


def test_lanes_have_an_order_of_their_own() -> None:
    """A priority in one lane costs the items of another one nothing."""
    manual = ManualRuntime()
    manual.queue(anoop, priority=5)
    assert manual.loop.lane.keeps_order
    assert not manual.sync.lane.keeps_order
    assert manual.sync.lane.put == manual.sync.lane.queue.append


@pytest.mark.parametrize("announces", [False, True])
def test_announced_items_are_in_order_too(announces: bool) -> None:
    """An item that is told of first goes to its own place behind that."""
    manual = ManualRuntime(announces=announces)
    manual.queue(noop, name="a")
    manual.queue(noop, name="b", priority=2)
    told: list[str] = []
    item = manual.make(noop, name="c", priority=3)
    manual.scheduler.queue_when_told(item, lambda: told.append("c"))
    assert (told, started(manual.sync)) == (["c"], ["c", "b", "a"])


def test_finalizer_that_cancels_while_a_place_is_looked_for() -> None:
    """The place is looked for again where the queue became shorter meanwhile."""
    lane = Lane[Meddler]("sync")
    lane.keep_order()
    others = [Meddler() for _ in range(4)]
    for other in others:
        lane.put(other)

    def meddle() -> None:
        for other in others[:3]:
            lane.queue.remove(other)

    mine = Meddler(meddle)
    others[1].meddle = mine.meddle
    lane.put(mine)
    assert list(lane.queue) == [others[3], mine]


class Meddler:
    """An item at whose priority somebody looks, and something happens."""

    def __init__(self, meddle: Callable[[], None] | None = None) -> None:
        self.meddle = meddle

    @property
    def options(self) -> "Meddler":
        return self

    @property
    def priority(self) -> int:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return 0
