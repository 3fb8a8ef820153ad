"""R11: a sync callable that returns an awaitable: the call on a worker, the awaitable on the loop, one item."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest

from django_qbwi.core.calls import Call
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItemHandle, current_work_item
from django_qbwi.core.records import WorkItemStatus
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, Gate, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]
variable = contextvars.ContextVar("variable", default="untouched")


def returning(awaitable: Callable[..., Any]) -> Callable[..., Any]:
    """Return a sync item that returns what `awaitable(token)` makes."""
    return lambda token: awaitable(token)


def test_call_on_a_worker_and_awaitable_on_the_loop(runtime: Runtime) -> None:
    """The function runs in a worker's thread, its coroutine on the loop; the item ends when the coroutine does."""
    threads: list[str] = []

    async def rest(token: Any) -> None:
        threads.append(threading.current_thread().name)
        await asyncio.sleep(0)

    def item(token: Any) -> Coroutine[Any, Any, None]:
        threads.append(threading.current_thread().name)
        return rest(token)

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert threads == ["qbwi-worker-1", "qbwi-loop"]
    assert handle.status is S.SUCCEEDED
    assert runtime.observer.names() == ["started", "finished"]


def test_context_is_the_same(runtime: Runtime) -> None:
    """What the function sets in a context variable, its coroutine sees; both are inside the same item."""
    seen: list[Any] = []

    async def rest(token: Any) -> None:
        seen.extend([variable.get(), current_work_item()])

    def item(token: Any) -> Coroutine[Any, Any, None]:
        variable.set("by the function")
        return rest(token)

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert seen == ["by the function", handle]


@pytest.mark.parametrize("error", [ValueError("no such album"), SystemExit(3), KeyboardInterrupt()])
def test_failure_of_the_awaitable_is_that_of_the_item(runtime: Runtime, error: BaseException) -> None:
    """What the coroutine raises is the item's failure, and contained."""

    async def rest(token: Any) -> None:
        raise error

    handle = runtime.queue(returning(rest))
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.exception()) == (S.FAILED, error)
    assert runtime.run(anoop) is S.SUCCEEDED


def test_worker_is_not_held(start: Start, gate: Gate) -> None:
    """While the coroutine runs the worker does other work, and the item is RUNNING."""
    runtime = start(max_workers=1)
    handle = runtime.queue(returning(gate.hold))
    gate.await_entered()
    assert runtime.run(noop) is S.SUCCEEDED
    assert (handle.status, runtime.scheduler.running_count) == (S.RUNNING, 1)


def test_awaitable_waits_for_an_async_slot(start: Start, gate: Gate) -> None:
    """Without a free slot on the loop the item stays RUNNING, holds no worker, and goes on when there is one."""
    runtime = start(max_workers=1, max_in_flight=1)
    runtime.queue(gate.hold)
    gate.await_entered()
    handle = runtime.queue(returning(anoop))
    assert runtime.run(noop) is S.SUCCEEDED
    assert handle.status is S.RUNNING
    assert "adopted=1" in repr(runtime.loop)
    assert "waiting for a slot" in runtime.scheduler.stack(handle._item)
    gate.open()
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED


def test_one_token_for_both_halves(runtime: Runtime) -> None:
    """The coroutine waits for the same token that the function got, and is CANCELLED by it."""
    entered = threading.Event()

    async def rest(token: Any) -> None:
        entered.set()
        await token.cancelled()
        token.raise_if_cancellation_requested()

    handle = runtime.queue(returning(rest))
    assert entered.wait(PATIENCE)
    assert handle.cancel() is True
    assert handle.wait(PATIENCE)
    assert handle.status is S.CANCELLED


def test_one_timeout_for_both_halves(start: Start, gate: Gate, clock: FakeClock) -> None:
    """The timeout counts from the start of the function; past it the item is interrupted on the loop."""
    runtime = start(clock=clock)
    handle = runtime.queue(returning(gate.hold), timeout=2.0)
    gate.await_entered()
    for seconds in (2.0, 5.0):
        clock.advance(seconds)
        runtime.look_at_clock()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.TIMEOUT)
    [(_, stack, replaced)] = runtime.observer.overdue_items
    assert ", in hold\n" in stack
    assert replaced


def test_awaitable_is_interrupted_at_the_limit(runtime: Runtime, gate: Gate) -> None:
    """At the limit of a drain the coroutine is cancelled natively, as that of any async item."""
    handle = runtime.queue(returning(gate.hold))
    gate.await_entered()
    handle.cancel()
    runtime.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert handle.status is S.CANCELLED


@pytest.mark.parametrize("make", ["future of this loop", "task of this loop", "object"])
def test_other_awaitables(runtime: Runtime, make: str) -> None:
    """Futures and tasks of our own loop, and objects with `__await__`, are awaited like coroutines."""

    class Waits:
        def __await__(self) -> Any:
            return asyncio.sleep(0).__await__()

    def item(token: Any) -> Any:
        loop = runtime.loop.loop
        assert loop is not None
        if make == "object":
            return Waits()
        made: list[Any] = []
        done = threading.Event()

        def on_loop() -> None:
            made.append(loop.create_future() if make.startswith("future") else loop.create_task(anoop(None)))
            if make.startswith("future"):
                loop.call_soon(made[0].set_result, None)
            done.set()

        loop.call_soon_threadsafe(on_loop)
        assert done.wait(PATIENCE)
        return made[0]

    assert runtime.run(item) is S.SUCCEEDED


def test_future_of_another_loop_fails_with_the_cure(runtime: Runtime) -> None:
    """A future that is bound to another loop would wait for ever: FAILED, and the error says what to return."""
    loop = asyncio.new_event_loop()
    handle = runtime.queue(lambda token: loop.create_future())
    assert handle.wait(PATIENCE)
    loop.close()
    assert handle.status is S.FAILED
    assert "future of another event loop: make it an async function" in str(handle.exception())


def test_awaitable_that_waits_at_the_end_is_closed(start: Start, gate: Gate) -> None:
    """A coroutine that never got a slot is closed when the loop ends: no warning that it was never awaited."""
    runtime = start(max_in_flight=1)
    runtime.queue(gate.hold)
    gate.await_entered()
    handle = runtime.queue(returning(anoop))
    until(lambda: runtime.loop._adopted)
    for item in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(item)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert handle.status is S.ABANDONED


def test_abandoned_item_is_not_begun_on_the_loop(start: Start, gate: Gate) -> None:
    """An item that was given up while it waited for a slot is closed when its turn comes, and noted as late."""
    runtime = start(max_in_flight=1)
    runtime.queue(gate.hold)
    gate.await_entered()
    ran: list[int] = []

    async def rest(token: Any) -> None:
        ran.append(1)

    handle = runtime.queue(returning(rest))
    until(lambda: runtime.loop._adopted)
    for item in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(item)
    gate.open()
    until(lambda: "late" in runtime.observer.names(handle._item))
    assert ran == []
    assert handle.status is S.ABANDONED


def test_awaitable_that_comes_after_the_end_is_closed(start: Start) -> None:
    """A function that returns its coroutine when the loop is gone: closed, and the item noted as late."""
    runtime = start()
    entered, release = threading.Event(), threading.Event()

    def item(token: Any) -> Any:
        entered.set()
        assert release.wait(PATIENCE)
        return anoop(token)

    handle = runtime.queue(item)
    assert entered.wait(PATIENCE)
    for given_up in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(given_up)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    release.set()
    until(lambda: "late" in runtime.observer.names(handle._item))
    assert handle.status is S.ABANDONED


def test_what_cannot_be_closed_is_dropped(start: Start) -> None:
    """An awaitable without `close`, or whose `close` raises, is simply dropped."""

    class Stubborn:
        def __await__(self) -> Any:
            yield

        def close(self) -> None:
            raise RuntimeError("coroutine ignored GeneratorExit")

    class Endless:
        def __await__(self) -> Any:
            yield

    runtime = start()
    runtime.loop.retire()
    for awaitable in (Stubborn(), Endless()):
        item = runtime.scheduler.make_item(Call(noop))
        runtime.loop.adopt(item, awaitable, Context())
    assert runtime.observer.names() == ["late", "late"]


def test_mixed_callables_keep_their_place(start: Start) -> None:
    """Adopted items go before new async ones: they have started already."""
    runtime = start(max_workers=1, max_in_flight=1)
    gate = Gate()
    order: list[str] = []

    async def note(token: Any, name: str) -> None:
        order.append(name)

    try:
        runtime.queue(gate.hold)
        gate.await_entered()
        new = runtime.queue(note, "new")
        adopted = runtime.queue(lambda token: note(token, "adopted"))
        until(lambda: runtime.loop._adopted)
    finally:
        gate.open()
    assert new.wait(PATIENCE)
    assert adopted.wait(PATIENCE)
    assert order == ["adopted", "new"]
    assert isinstance(adopted, WorkItemHandle)
