"""G2: whatever leaves an item's code, and by whichever way, the item ends, and its slot is free."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_qbwi.core.failures import is_a
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.database.connections import ConnectionEnvironment
from tests.support.gates import PATIENCE
from tests.support.manual import anoop, noop
from tests.support.observers import RecordingObserver
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]
ERRORS = [GeneratorExit, asyncio.CancelledError, SystemExit, KeyboardInterrupt, StopAsyncIteration, BaseException]


class Slow(RecordingObserver):
    """Needs a while on the loop, as receivers do."""

    async def astarted(self, item: WorkItem) -> None:
        await asyncio.sleep(0)
        await super().astarted(item)

    async def afinished(self, item: WorkItem) -> None:
        await asyncio.sleep(0)
        await super().afinished(item)


def raises(error: type[BaseException]) -> None:
    """Raise it."""
    raise error


async def araises(error: type[BaseException]) -> None:
    """Raise it behind an await."""
    await asyncio.sleep(0)
    raise error


def at_once(error: type[BaseException]) -> Callable[[Any], Any]:
    """Return an async item that raises in its first step."""

    async def item(token: Any) -> None:
        raises(error)

    return item


def from_a_thread(error: type[BaseException]) -> Callable[[Any], Any]:
    """Return an async item whose sync code raises."""

    async def item(token: Any) -> None:
        await sync_to_async(raises)(error)

    return item


def from_another_pool(error: type[BaseException]) -> Callable[[Any], Any]:
    """Return an async item whose code in asyncio's threads raises, and that awaits once more on its way out."""

    async def item(token: Any) -> None:
        try:
            await asyncio.to_thread(raises, error)
        finally:
            await asyncio.sleep(0)

    return item


def from_a_child(error: type[BaseException]) -> Callable[[Any], Any]:
    """Return an async item whose child task raises."""

    async def item(token: Any) -> None:
        await asyncio.gather(araises(error))

    return item


def from_a_first_await(error: type[BaseException]) -> Callable[[Any], Any]:
    """Return an async item that waits for a future which fails."""

    async def item(token: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        future.get_loop().call_soon(future.set_exception, error())
        await future

    return item


WAYS = [at_once, from_a_thread, from_another_pool, from_a_child, from_a_first_await]


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("way", WAYS)
def test_g2_async_item_ends_whatever_comes_out_of_it(
    start: Start, way: Callable[..., Any], error: type[BaseException], follows: bool
) -> None:
    """It is FAILED, told of once, and the next item gets its slot."""
    runtime = start(max_in_flight=1, observer=Slow(follows=follows), environment=ConnectionEnvironment())
    handle = runtime.queue(way(error))
    assert handle.wait(PATIENCE)
    assert handle.status is S.FAILED
    raised = handle.exception()
    assert raised is not None
    assert is_a(raised, (error, RuntimeError))  # type: ignore[arg-type]
    assert runtime.run(anoop) is runtime.run(noop) is S.SUCCEEDED
    runtime.await_empty()
    assert len(runtime.observer.statuses("afinished") + runtime.observer.statuses("finished")) == 3
    assert runtime.loop._executors.lent == {}


@pytest.mark.parametrize("error", ERRORS)
def test_g2_adopted_awaitable_ends_whatever_comes_out_of_it(start: Start, error: type[BaseException]) -> None:
    """The same for what a sync item has returned."""
    runtime = start(max_in_flight=1, observer=Slow(follows=True), environment=ConnectionEnvironment())
    assert runtime.run(lambda token: from_a_thread(error)(token)) is S.FAILED
    assert runtime.run(lambda token: anoop(token)) is S.SUCCEEDED
    runtime.await_empty()


@pytest.mark.parametrize("event", ["astarted", "afinished"])
@pytest.mark.parametrize("error", [GeneratorExit, BaseException])
def test_g2_observer_that_breaks_its_promise(start: Start, event: str, error: type[BaseException]) -> None:
    """What comes out of the telling ends the item as well, and leaves its slot."""
    runtime = start(max_in_flight=1)
    runtime.observer.follows = True

    async def tells(item: Any) -> None:
        delattr(runtime.observer, event)
        await asyncio.to_thread(raises, error)

    setattr(runtime.observer, event, tells)
    handle = runtime.queue(anoop)
    assert handle.wait(PATIENCE)
    assert handle.status is (S.FAILED if event == "astarted" else S.SUCCEEDED)
    assert runtime.run(anoop) is S.SUCCEEDED
    runtime.await_empty()
