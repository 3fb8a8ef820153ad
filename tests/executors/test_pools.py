"""Pools on real threads: workers of their own, and slots of their own on the one loop."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_qbwi.core.calls import Call, Options
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.lanes import Lane, Limits, Pool, lane_name
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors.loop_shares import LoopShare
from django_qbwi.executors.threads import ThreadExecutor
from django_qbwi.intake.callables import examine
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, Gate, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus


class Pools(Runtime):
    """A scheduler with one worker and one slot for async items, in the default pool and in two others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_workers=1, max_in_flight=1, **options)
        self.shares: dict[str, LoopShare] = {}
        lanes = []
        for name in ("mail", "reports"):
            sync = Lane[WorkItem](lane_name(name, False) or "", "sync", Limits(running=1))
            asynchronous = Lane[WorkItem](lane_name(name, True) or "", "async", Limits(running=1))
            Pool(name, 100, sync, asynchronous)
            self.shares[name] = LoopShare(self.loop, asynchronous, self.scheduler.lock)
            ThreadExecutor(self.scheduler, sync, adopt=self.shares[name].adopt)
            lanes += [sync, asynchronous]
        self.scheduler.attach(*self.scheduler.lanes.values(), *lanes)

    def put(self, pool: str | None, function: Callable[..., Any], *args: Any, **options: Any) -> WorkItemHandle:
        """Queue an item of a pool."""
        is_async = examine(function, args)
        options["lane"] = lane_name(pool, is_async)
        item = self.scheduler.make_item(Call(function, args, is_async, options=Options(**options)))
        return handle_of(self.scheduler.queue_when_told(item, lambda: None))


@pytest.fixture(autouse=True)
def late_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a Python that starts threads as long as a process ends; 3.12.0 to 3.12.2 do not."""
    monkeypatch.setattr("django_qbwi.core.starting.STARTS_NO_THREADS_LATE", False)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def pools(clock: FakeClock) -> Iterator[Pools]:
    """The scheduler, taken apart at the end."""
    runtime = Pools(clock=clock)
    yield runtime
    runtime.retire()


def thread_names(runtime: Runtime) -> set[str]:
    """The names of the threads that run items."""
    return {thread.name for thread in runtime.own_threads() if thread.name.startswith(("qbwi-worker", "qbwi-loop"))}


def test_pool_that_is_not_used_has_no_thread(pools: Pools) -> None:
    """Its worker comes with its first sync item, and is called by it; async ones start none."""
    assert pools.put(None, noop).wait(PATIENCE)
    assert pools.put("reports", anoop).wait(PATIENCE)
    assert thread_names(pools) == {"qbwi-worker-1", "qbwi-loop"}
    handle = pools.put("mail", noop)
    assert handle.wait(PATIENCE)
    assert handle.info.thread == "qbwi-worker-mail-1"
    assert thread_names(pools) == {"qbwi-worker-1", "qbwi-worker-mail-1", "qbwi-loop"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_full_pool_starves_no_other(pools: Pools, gate: Gate, asynchronous: bool) -> None:
    """With its workers, or its slots, taken, items of other pools begin, and its own wait."""
    held, quick = (gate.hold, anoop) if asynchronous else (gate, noop)
    slow = pools.put("mail", held)
    gate.await_entered()
    behind = pools.put("mail", quick)
    assert pools.put(None, quick).wait(PATIENCE)
    assert pools.put("reports", quick).wait(PATIENCE)
    assert (slow.status, behind.status) == (S.RUNNING, S.QUEUED)
    gate.open()
    assert behind.wait(PATIENCE)
    assert (slow.status, behind.status) == (S.SUCCEEDED, S.SUCCEEDED)


def test_default_pool_starves_no_other(pools: Pools, gate: Gate) -> None:
    """It is a pool as any other."""
    pools.put(None, gate.hold)
    gate.await_entered()
    assert pools.put("mail", anoop).wait(PATIENCE)
    gate.open()


def test_all_share_one_loop(pools: Pools) -> None:
    """What belongs to an event loop, a lock or a client, can be used by items of all pools."""
    found: list[asyncio.AbstractEventLoop] = []

    async def look(token: Any) -> None:
        found.append(asyncio.get_running_loop())

    for pool in (None, "mail", "reports"):
        assert pools.put(pool, look).wait(PATIENCE)
    assert found == [pools.loop.loop] * 3


def test_awaitable_goes_on_in_the_pool_of_its_item(pools: Pools, gate: Gate) -> None:
    """It waits for a slot of that one, and is stopped with the others at the end."""
    first = pools.put("mail", gate.hold)
    gate.await_entered()
    second = pools.put("mail", lambda token: anoop(token))
    until(lambda: pools.shares["mail"]._slots.adopted)
    assert second._item.lane.name == "async of mail"
    assert pools.put(None, lambda token: anoop(token)).wait(PATIENCE)
    gate.open()
    assert second.wait(PATIENCE)
    assert (first.status, second.status) == (S.SUCCEEDED, S.SUCCEEDED)


def test_awaitable_that_waits_for_a_slot_is_closed_at_the_end(pools: Pools, gate: Gate) -> None:
    """Python does not complain of one that was never awaited."""
    pools.put("mail", gate.hold)
    gate.await_entered()
    second = pools.put("mail", lambda token: anoop(token))
    until(lambda: pools.shares["mail"]._slots.adopted)
    for item in pools.scheduler.give_up():
        pools.scheduler.report_unstarted(item)
    pools.loop.retire()
    assert second.status is S.ABANDONED
    assert not pools.shares["mail"]._slots.adopted
    gate.open()


def test_lanes_take_turns_on_the_loop(pools: Pools) -> None:
    """A hundred items of one pool are not all ahead of the one of another."""
    order: list[str] = []

    async def note(token: Any, name: str) -> None:
        order.append(name)

    # In the loop's thread, so that nothing begins before all are there.
    async def queue_all(token: Any) -> None:
        for _ in range(100):
            pools.put("mail", note, "mail")
        pools.put("reports", note, "reports")

    assert pools.put(None, queue_all).wait(PATIENCE)
    pools.await_empty()
    assert len(order) == 101
    assert order.index("reports") < 5


async def deaf(token: Any, gate: Gate) -> None:
    """Hold a slot, and hear nothing, until the gate is opened."""
    gate.entered.release()
    while not gate.opened.is_set():
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue


def have_overdue(pools: Pools, clock: FakeClock, gate: Gate) -> WorkItemHandle:
    """Have an item of the pool run beyond its timeout."""
    handle = pools.put("mail", deaf, gate, timeout=1.0)
    gate.await_entered()
    for seconds in (1.0, 5.0):
        clock.advance(seconds)
        pools.look_at_clock()
    assert handle.info.overdue
    return handle


def test_overdue_item_gives_up_a_slot_of_its_pool(pools: Pools, clock: FakeClock, gate: Gate) -> None:
    """The next one of the pool begins beside it; those of others are as free as before."""
    handle = have_overdue(pools, clock, gate)
    assert pools.put("mail", anoop).wait(PATIENCE)
    assert "deaf" in pools.scheduler.stack(handle._item)
    gate.open()
    assert handle.wait(PATIENCE)
    assert pools.put("mail", anoop).wait(PATIENCE)


def test_pool_without_a_slot_is_stuck(pools: Pools, clock: FakeClock, gate: Gate) -> None:
    """With as many overdue items as slots, and others in these, the scheduler says so; others go on."""
    have_overdue(pools, clock, gate)
    assert not pools.shares["mail"].is_stuck
    have_overdue(pools, clock, gate)
    assert pools.shares["mail"].is_stuck
    assert pools.scheduler.is_stuck
    assert not pools.loop.is_stuck
    assert pools.put(None, anoop).wait(PATIENCE)
    gate.open()
    until(lambda: not pools.scheduler.is_stuck)


def test_item_of_a_pool_is_cancelled_natively(pools: Pools, gate: Gate) -> None:
    """At the limit of a drain, as any other on the loop."""
    handle = pools.put("mail", gate.hold)
    gate.await_entered()
    pools.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert handle.status is S.FAILED


def test_executors_of_pools_say_what_they_do(pools: Pools) -> None:
    """Their repr is for a debugger; what the loop does is not theirs."""
    share = pools.shares["mail"]
    assert repr(share) == "<LoopShare <LoopLane async of mail in_flight=0 adopted=0>>"
    assert repr(pools.loop._lanes) == "<LoopLanes lanes=3 woken=1 in_flight=0>"
    share.grow()
    share.stop_in_child()
    share.retire()
    assert share.join(0.0)
    assert pools.put("mail", anoop).wait(PATIENCE)
