"""Async items beside each other: none waits for another's thread, whatever happens to that one (F16 to F18, F50)."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings

from django_qbwi import queue_background_work_item
from django_qbwi.testing import drain

PATIENCE = 30


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler whose overdue items are cancelled at once."""
    with override_settings(QBWI={"OVERDUE_AFTER": 0.0, "SHUTDOWN_TIMEOUT": 1.0}):
        yield


class StuckThread:
    """An async item whose thread-sensitive call does not return until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release, self.left = threading.Event(), threading.Event(), threading.Event()

    def call(self) -> None:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        self.left.set()

    async def item(self, token) -> None:
        await sync_to_async(self.call)()


async def uses_its_thread(token) -> None:
    """Do what an ORM call does."""
    await sync_to_async(lambda: None)()


def test_stuck_call_delays_no_other_item() -> None:
    """While the call of one item is stuck, others make theirs: each has a thread of its own."""
    stuck = StuckThread()
    first = queue_background_work_item(stuck.item)
    assert stuck.entered.wait(PATIENCE)
    others = [queue_background_work_item(uses_its_thread) for _ in range(10)]
    assert all(handle.wait(PATIENCE) for handle in others)
    assert first.status == "running"
    stuck.release.set()
    assert first.wait(PATIENCE)


def test_native_cancel_of_a_stuck_call_ends_the_item() -> None:
    """An overdue item is cancelled natively, and ends while its thread is still stuck (F50, R10)."""
    stuck = StuckThread()
    handle = queue_background_work_item(stuck.item, timeout=0.01)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason, stuck.left.is_set()) == ("cancelled", "timeout", False)
    stuck.release.set()
    assert stuck.left.wait(PATIENCE)


def test_native_cancel_of_a_stuck_call_delays_no_other_item() -> None:
    """While one item is cancelled in a stuck call, a heartbeat on the loop goes on without a gap (F50, R10)."""
    stuck, beats = StuckThread(), []
    ended = threading.Event()

    async def heartbeat(token) -> None:
        loop = asyncio.get_running_loop()
        while not ended.is_set():
            beats.append(loop.time())
            await asyncio.sleep(0.001)

    beating = queue_background_work_item(heartbeat)
    cancelled = queue_background_work_item(stuck.item, timeout=0.05)
    assert stuck.entered.wait(PATIENCE)
    assert cancelled.wait(PATIENCE)
    ended.set()
    assert beating.wait(PATIENCE)
    stuck.release.set()
    assert stuck.left.wait(PATIENCE)
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert len(beats) > 10
    # The promise is 0.1 s, but a busy machine may hold up any thread. A loop that froze would do so until the call
    # returns, which it does only after the wait above.
    assert max(gaps) < 2.0


def test_lost_thread_is_not_used_again() -> None:
    """The thread of a stuck call is given to no other item."""
    stuck = StuckThread()
    assert queue_background_work_item(stuck.item, timeout=0.01).wait(PATIENCE)
    for _ in range(10):
        following = queue_background_work_item(uses_its_thread)
        assert following.wait(PATIENCE)
        assert following.status == "succeeded"
    stuck.release.set()
    assert stuck.left.wait(PATIENCE)


def test_item_that_swallows_its_cancellation_is_abandoned() -> None:
    """An async item that swallows CancelledError is abandoned at the limit of the drain (F17)."""
    release = threading.Event()
    entered = threading.Event()

    async def stubborn(token) -> None:
        entered.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    handle = queue_background_work_item(stubborn)
    assert entered.wait(PATIENCE)
    drained = drain(0.01)
    release.set()
    assert (drained, handle.status) == (False, "abandoned")


def test_item_is_cancelled_natively_at_the_limit() -> None:
    """At the limit of a drain an async item that ignores its token is cancelled where it stands."""
    entered, cleaned = threading.Event(), threading.Event()

    async def ignores_its_token(token) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    handle = queue_background_work_item(ignores_its_token)
    assert entered.wait(PATIENCE)
    drain(0.01)
    assert cleaned.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == ("cancelled", "shutdown")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_base_exception_of_an_item_is_contained(error: type[BaseException]) -> None:
    """An async item that raises what ends a program is FAILED; the others go on (F5)."""
    entered, release = threading.Event(), asyncio.Event()
    loops = []

    async def other(token) -> None:
        loops.append(asyncio.get_running_loop())
        entered.set()
        await release.wait()

    async def exits(token) -> None:
        await asyncio.sleep(0)
        raise error

    beside = queue_background_work_item(other)
    assert entered.wait(PATIENCE)
    failed = queue_background_work_item(exits)
    assert failed.wait(PATIENCE)
    loops[0].call_soon_threadsafe(release.set)
    assert beside.wait(PATIENCE)
    assert (failed.status, beside.status) == ("failed", "succeeded")


def test_awaitable_of_another_loop_is_a_failure() -> None:
    """A future that belongs to another loop is FAILED with the cure in its message (R11)."""
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()
        handle = queue_background_work_item(lambda token: future)
        assert handle.wait(PATIENCE)
    finally:
        loop.close()
    assert handle.status == "failed"
    assert "make it an async function" in str(handle.exception())


def test_async_items_are_bounded() -> None:
    """At most MAX_ASYNC_IN_FLIGHT async items run at the same time; the others are queued."""
    running, most, lock = 0, 0, threading.Lock()

    async def item(token) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        while most < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        with lock:
            running -= 1

    with override_settings(QBWI={"MAX_ASYNC_IN_FLIGHT": 3}):
        handles = [queue_background_work_item(item) for _ in range(50)]
        assert all(handle.wait(PATIENCE) for handle in handles)
    assert most == 3
