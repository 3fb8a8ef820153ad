"""R13: what our threads leave undone in a forked child, seen in one process.

An item that changes the scheduler's pid makes this process a foreign one.
"""

import asyncio
import contextlib
import inspect
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.loop_repair import LoopMender
from django_qbwi.executors.loop_thread import LoopExecutor
from django_qbwi.machine.primitives import thread_ident_getter
from tests.support.gates import until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]


def await_end(runtime: Runtime, name: str) -> None:
    """Wait for the end of a thread of ours."""
    until(lambda: name not in [thread.name for thread in runtime.own_threads()])


def drop(executor: LoopExecutor) -> None:
    """Take apart what a child would just leave to its end: the loop, the tasks in it, the threads beside it."""
    loop = executor.loop
    assert loop is not None
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()
    loop.close()
    for threads in [executor._default_executor, *executor._executors.all()]:
        if threads is not None:
            threads.retire()


def test_worker_ends_without_a_word(start: Start) -> None:
    """The worker's thread ends behind the call: no status, no record, no further item."""
    runtime = start(max_workers=1)

    def item(token: Any) -> None:
        runtime.scheduler.process.pid = -1

    handle, behind = runtime.queue(item), runtime.queue(noop)
    await_end(runtime, "qbwi-worker-1")
    runtime.scheduler.process.pid = os.getpid()
    assert (handle.status, behind.status) == (S.RUNNING, S.QUEUED)
    assert runtime.observer.names() == ["started"]


@pytest.mark.parametrize("steps", [0, 2])
def test_loop_ends_without_a_word(start: Start, steps: int) -> None:
    """The loop's thread ends behind the item's step, the first or a later one: no status, no record, nothing closed."""
    runtime = start()

    async def item(token: Any) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        runtime.scheduler.process.pid = -1
        runtime.loop.stop_in_child()

    handle = runtime.queue(item)
    await_end(runtime, "qbwi-loop")
    loop = runtime.loop.loop
    assert loop is not None
    assert (handle.status, loop.is_closed()) == (S.RUNNING, False)
    assert runtime.observer.names() == ["started"]
    drop(runtime.loop)


def test_loop_that_is_left_by_an_exception_ends_without_a_word(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A task of the child that exits ends the loop's thread, which is not resumed and logs nothing."""
    runtime = start()
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        raise SystemExit

    async def item(token: Any) -> None:
        runtime.scheduler.process.pid = -1
        kept.append(asyncio.get_running_loop().create_task(leave()))

    runtime.queue(item)
    await_end(runtime, "qbwi-loop")
    assert isinstance(kept[0].exception(), SystemExit)
    assert "goes on" not in caplog.text
    drop(runtime.loop)


def test_items_behind_one_that_forks_are_the_parents(start: Start) -> None:
    """An item that forks in its first step: those behind it in the queue are not begun in the child."""
    runtime = start()

    async def item(token: Any) -> None:
        runtime.scheduler.process.pid = -1
        runtime.loop.stop_in_child()

    with runtime.scheduler.lock:
        runtime.queue(item)
        behind = runtime.queue(anoop)
    await_end(runtime, "qbwi-loop")
    assert behind.info.thread is None
    assert "finished" not in runtime.observer.names()
    drop(runtime.loop)


def test_loop_of_a_child_takes_no_further_step() -> None:
    """Neither what was ready or scheduled at the fork runs in the child, nor what is added afterwards."""
    executor = LoopExecutor(WorkItemScheduler(), Lane("async"))
    executor.stop_in_child()
    loop = executor._loop = asyncio.SelectorEventLoop()
    ran: list[str] = []
    loop.call_soon(ran.append, "ready")
    loop.call_later(0, ran.append, "scheduled")
    executor._ident = thread_ident_getter()()
    executor.stop_in_child()
    loop.call_soon(ran.append, "added")
    loop.run_forever()
    assert ran == []
    loop.close()


def test_loop_without_those_attributes_is_stopped_all_the_same() -> None:
    """Where the loop keeps its queue under another name, it stops a step later."""
    executor = LoopExecutor(WorkItemScheduler(), Lane("async"))
    stopped: list[int] = []
    executor._loop = SimpleNamespace(stop=lambda: stopped.append(1), set_exception_handler=lambda handler: None)  # type: ignore[assignment]
    executor._ident = thread_ident_getter()()
    executor.stop_in_child()
    assert stopped == [1]


def test_leftovers_are_the_parents() -> None:
    """A loop that is closed in a child waits for none of the tasks in it, and stays as it is."""
    scheduler = WorkItemScheduler()
    scheduler.process.pid = -1
    executor = LoopExecutor(scheduler, Lane("async"))
    loop = executor._loop = asyncio.SelectorEventLoop()

    async def swallow() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    task = loop.create_task(swallow())
    loop.run_until_complete(asyncio.sleep(0))
    executor._mender = LoopMender(loop)
    executor._close_loop(loop)
    assert not task.done()
    assert not loop.is_closed()
    drop(executor)
