"""Run an item at the call, in the caller's thread: QBWI["IMMEDIATE"] and `testing.immediate_work_items`.

The item sees the caller's database connections, and so a TestCase's transaction; it still gets a context of its own,
a token, a status, a record and its signals, and a failure does not reach the caller. Nor does it find the request's
user in the thread locals of the libraries that are known for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync

from django_qbwi.core.attempts import failed_attempt
from django_qbwi.core.failures import is_a
from django_qbwi.core.items import WorkItem
from django_qbwi.core.results import to_wait_for, waited_for
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.hosting.thread_locals import Emptied
from django_qbwi.machine.running_loop import on_running_loop

Scope = Callable[[Any], AbstractAsyncContextManager[Any]]


def run_immediately(scheduler: WorkItemScheduler, item: WorkItem, scope: Scope) -> None:
    """Run `item` to its end, and block for as long.

    On a running event loop the item runs in the thread that this loop's thread-sensitive code uses, so that it sees
    the same connections, while the loop stands still.

    Raises:
        SchedulerDraining, SchedulerClosed: Refused.
        KeyboardInterrupt: Somebody pressed Ctrl-C in a test run; the item is FAILED, and the run shall end.
    """
    if item.timeout is not None:
        scheduler.keeper.start()
    scheduler.run_at_once(item)
    if not on_running_loop():
        Context().run(_run, scheduler, item, _in_this_thread)
        return
    executor = executor_of_sync_code()
    if item.is_async:
        run_in_a_thread(lambda: Context().run(_run, scheduler, item, lambda call: _on_own_loop(call, scope, executor)))
    else:
        executor.submit(_beside_a_loop, lambda: Context().run(_run, scheduler, item, _in_this_thread)).result()


def executor_of_sync_code() -> Executor:
    """Return the executor that runs the sync code of the running loop: the database connections are in its thread."""
    executor: Executor = getattr(AsyncToSync.executors, "current", None) or SyncToAsync.single_thread_executor
    return executor


def run_in_a_thread(call: Callable[[], None]) -> None:
    """Run `call()` in a thread of its own, and block until it has returned or raised."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            call()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="qbwi-immediate", daemon=True)
    thread.start()
    done.result()
    thread.join()


def _beside_a_loop(call: Callable[[], None]) -> None:
    # In this thread `async_to_sync` would hand its coroutine to the loop that stands still until we return.
    thread = SyncToAsync.threadlocal
    loop = getattr(thread, "main_event_loop", None)
    thread.main_event_loop = None
    try:
        call()
    finally:
        thread.main_event_loop = loop


def _run(
    scheduler: WorkItemScheduler, item: WorkItem, wait_for: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    while _run_once(scheduler, item, wait_for):
        # Nobody waits here: the next attempt follows at once.
        pass


def _run_once(
    scheduler: WorkItemScheduler, item: WorkItem, wait_for: Callable[[Callable[[], Awaitable[Any]]], None]
) -> bool:
    """Run it once; return whether another attempt has begun."""
    item.run.thread = threading.current_thread().name
    item.run.ident = threading.get_ident()
    scheduler.begin(item)
    error: BaseException | None = None
    try:
        with Emptied():
            scheduler.observer.started(item)
            _call(item, wait_for)
    except BaseException as caught:
        # User code returns to us here.
        error = caught
    if scheduler.conclude(item, error):
        scheduler.report_unstarted(item)
    elif failed_attempt(item) is not None and item.ending is None:
        scheduler.observer.record_retry(item)
        scheduler.observer.retried(item)
        return scheduler.begin_again_at_once(item)
    else:
        # Given up at the limit of a drain, or its rest moves to another engine.
        scheduler.late(item)
    if error is not None and is_a(error, KeyboardInterrupt):
        raise error
    return False


def _call(item: WorkItem, wait_for: Callable[[Callable[[], Awaitable[Any]]], None]) -> None:
    if item.is_async:
        wait_for(lambda: _wait_out(item))
        return
    function, args = item.work
    result = function(item.token, *args)
    if result is not None and to_wait_for(result) is not None:
        wait_for(lambda: waited_for(result))


async def _wait_out(item: WorkItem) -> None:
    function, args = item.work
    await waited_for(await function(item.token, *args))


def _in_this_thread(call: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        await call()

    async_to_sync(run)()


def _on_own_loop(call: Callable[[], Awaitable[Any]], scope: Scope, executor: Executor) -> None:
    async def run() -> None:
        async with scope(executor):
            await call()

    # The sync code of the item runs there, in the thread of the request's.
    block = contextlib.ExitStack()
    executor.submit(block.enter_context, Emptied()).result()
    try:
        asyncio.run(run())
    finally:
        executor.submit(block.close).result()
