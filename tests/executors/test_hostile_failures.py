"""G1: an item ends, and leaves its slot, whatever its exception or its callable does to those who handle it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from django_qbwi.core.calls import Call
from django_qbwi.core.failures import traceback_of
from django_qbwi.core.records import WorkItemStatus
from tests.support import hostile
from tests.support.gates import PATIENCE
from tests.support.manual import ManualRuntime, anoop, noop
from tests.support.runtime import Runtime

Start = Callable[..., Runtime]
S = WorkItemStatus


def sync(error: BaseException) -> Callable[..., Any]:
    """Return a sync item that raises `error`."""

    def item(token: Any) -> None:
        raise error

    return item


def asynchronous(error: BaseException) -> Callable[..., Any]:
    """Return an async item that raises `error` behind an await."""

    async def item(token: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return item


def adopted(error: BaseException) -> Callable[..., Any]:
    """Return a sync item whose awaitable raises `error`."""
    return lambda token: asynchronous(error)(token)


def in_a_thread(error: BaseException) -> Callable[..., Any]:
    """Return an async item whose thread raises `error`."""

    async def item(token: Any) -> None:
        await asyncio.to_thread(sync(error), token)

    return item


@pytest.mark.parametrize("make", [sync, asynchronous, adopted, in_a_thread])
@pytest.mark.parametrize("name", hostile.NAMES)
def test_g1_item_with_a_hostile_exception_ends(
    start: Start, make: Callable[[BaseException], Callable[..., Any]], name: str
) -> None:
    """The item is FAILED with its exception, who waits is woken, and the slot is free for the next one."""
    error = hostile.make(name)
    runtime = start(max_workers=1, max_in_flight=1)
    handle = runtime.queue(make(error))
    assert handle.wait(PATIENCE)
    assert handle.status is S.FAILED
    assert handle.exception() is error or make is in_a_thread
    assert traceback_of(error) is None or make is in_a_thread
    assert runtime.run(noop) is runtime.run(anoop) is S.SUCCEEDED
    runtime.await_empty()


@pytest.mark.parametrize("make", [sync, asynchronous])
def test_g1_hostile_exception_within_a_chain(start: Start, make: Callable[[BaseException], Callable[..., Any]]) -> None:
    """One that is only the cause of the item's exception is stripped as well."""
    runtime = start()
    error, cause = ValueError("after"), hostile.Frozen()
    error.__cause__ = cause
    cause.with_traceback(None)
    handle = runtime.queue(make(error))
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.exception()) == (S.FAILED, error)
    assert traceback_of(cause) is None


class Nameless:
    """A callable that leaves where it is asked for its name."""

    def __call__(self, token: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise SystemExit


def test_g1_name_that_leaves_keeps_nobody_waiting(start: Start) -> None:
    """A callable that is named at its end is not asked: it ends, is called by its class, and leaves nothing behind."""
    runtime = start(max_workers=1)
    handle = runtime.queue(Nameless())
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.name) == (S.SUCCEEDED, f"{__name__}.Nameless")
    assert runtime.run(noop) is S.SUCCEEDED
    runtime.await_empty()


def test_g1_waiter_that_raises_keeps_nobody_else(manual: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """The loop of one who waits may be anybody's: what it raises is logged, and the others are woken."""
    caplog.set_level(logging.ERROR, "django_qbwi.scheduler")
    handle = manual.handle()
    woken: list[int] = []

    def broken() -> None:
        raise OSError("this loop is broken")

    for wake in (broken, lambda: woken.append(1)):
        handle._item.add_waiter(wake)
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    assert woken == [1]
    assert manual.scheduler.is_empty
    assert "this loop is broken" in caplog.text


class HostileAwaitable:
    """Cannot be asked for `close`."""

    def __await__(self) -> Any:
        return (yield)

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


def test_g1_awaitable_that_cannot_be_asked_is_dropped(start: Start) -> None:
    """An awaitable that comes after the end, and does not let itself be closed, ends nobody's thread."""
    runtime = start()
    runtime.run(noop)
    runtime.scheduler.retire()
    awaitable: Awaitable[Any] = HostileAwaitable()
    handle = runtime.scheduler.make_item(Call(noop))
    runtime.loop.adopt(handle, awaitable, None)  # type: ignore[arg-type]
    assert runtime.observer.names(handle) == ["late"]
