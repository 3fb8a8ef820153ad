"""The items that the tests queue; each reports when it starts, sees its token cancelled, and finishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async

from tests.processes.site.models import Note
from tests.processes.site.report import report

SECONDS = float(os.environ.get("QBWI_SITE_SECONDS", "2"))
_STEP = 0.05


def sync_item(token: Any, seconds: float = SECONDS) -> None:
    """Work for `seconds`, with the database in the second half."""
    with _reported("sync_item", token):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(_STEP)
            _look_at(token)
            if time.monotonic() > end - seconds / 2:
                _write("sync")
        _write("sync, the last")


async def async_item(token: Any, seconds: float = SECONDS) -> None:
    """Work for `seconds`, with the async ORM, sync_to_async and the default executor in the second half."""
    with _reported("async_item", token):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(_STEP)
            _look_at(token)
            if time.monotonic() > end - seconds / 2:
                await Note.objects.acreate(text="async")
                assert await Note.objects.acount() > 0
                await sync_to_async(_write)("sync in async")
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, _STEP)
        await sync_to_async(time.sleep, thread_sensitive=False)(_STEP)
        await Note.objects.acreate(text="async, the last")


def checking_item(token: Any) -> None:
    """Look at the token before the work, as the documentation teaches."""
    token.raise_if_cancellation_requested()
    with _reported("checking_item", token):
        time.sleep(_STEP)


async def checking_async_item(token: Any) -> None:
    """Look at the token before the work."""
    token.raise_if_cancellation_requested()
    with _reported("checking_async_item", token):
        await asyncio.sleep(_STEP)


def honouring_item(token: Any) -> None:
    """Wait for the cancellation, and leave."""
    with _reported("honouring_item", token):
        token.wait(600)
        _look_at(token)


async def honouring_async_item(token: Any) -> None:
    """Await the cancellation, and leave."""
    with _reported("honouring_async_item", token):
        await token.cancelled()
        _look_at(token)


def endless_item(token: Any) -> None:
    """Never look at the token, never end."""
    with _reported("endless_item", token):
        while True:
            time.sleep(600)


async def stuck_item(token: Any) -> None:
    """Wait for a thread that nobody can interrupt."""
    with _reported("stuck_item", token):
        await sync_to_async(time.sleep)(600)


async def stuck_executor_item(token: Any) -> None:
    """Wait for a thread of the loop's default executor that nobody can interrupt."""
    with _reported("stuck_executor_item", token):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)


def stuck_pool_item(token: Any) -> None:
    """Wait for a thread of somebody else's pool, which the interpreter joins at its end."""
    with ThreadPoolExecutor(1) as pool:
        # Before it has started for the tests: Python 3.12.1 starts no thread when the end has begun.
        sleeping = pool.submit(time.sleep, 600)
        with _reported("stuck_pool_item", token):
            sleeping.result()


async def stubborn_item(token: Any) -> None:
    """Swallow every cancellation."""
    with _reported("stubborn_item", token):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)


def quick_item(token: Any) -> None:
    """Do one thing."""
    with _reported("quick_item", token):
        _write("quick")


async def quick_async_item(token: Any) -> None:
    """Do one thing, on the loop and in a thread."""
    with _reported("quick_async_item", token):
        await sync_to_async(_write)("quick, async")


def forking_item(token: Any) -> None:
    """Fork, and let the child return into the code that called this."""
    with _reported("forking_item", token):
        child = os.fork()
        if child:
            os.waitpid(child, 0)


def multiprocessing_item(token: Any) -> None:
    """Run a forked child of multiprocessing that queues an item of its own, and tell how it ended."""
    start = time.monotonic()
    child = multiprocessing.get_context("fork").Process(target=queue, args=("quick_item",))
    with _quiet_log():
        child.start()
    with _reported("multiprocessing_item", token):
        child.join()
        report("child", status=child.exitcode, seconds=time.monotonic() - start)


def waiting_item(token: Any) -> None:
    """Wait for another item and then for the cancellation, both without a limit."""
    from django_qbwi import queue_background_work_item  # the site also runs without django_qbwi

    with _reported("waiting_item", token):
        queue_background_work_item(quick_item).wait()
        report("waited")
        token.wait()
        _look_at(token)


def program_item(token: Any) -> None:
    """Start a program when the end has begun, and stop it."""
    with _reported("program_item", token):
        token.wait(600)
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
            start = time.monotonic()
            child.terminate()
            try:
                status = child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                status = child.wait()
            report("child", status=status, seconds=time.monotonic() - start)


def forked_child_item(token: Any) -> None:
    """Fork a child, and stop it when the end has begun."""
    hears, tells = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_wait_forked, args=(tells,))
    # Before it has started for the tests: Python 3.12.1 forks no child when the end has begun.
    with _quiet_log():
        child.start()
    # CPython drops a signal that reaches a child in the middle of its fork.
    hears.recv()
    with _reported("forked_child_item", token):
        token.wait(600)
        start = time.monotonic()
        child.terminate()
        child.join(10)
        report("child", status=child.exitcode, seconds=time.monotonic() - start)
        child.kill()


def _wait_forked(tells: Any) -> None:
    tells.send("forked")
    time.sleep(600)


def helped_item(token: Any) -> None:
    """Work for `SECONDS` in a helper process, whatever comes."""
    sync_item(token)


def helped_honouring_item(token: Any) -> None:
    """Wait in a helper process for the cancellation, and leave."""
    honouring_item(token)


def helped_endless_item(token: Any) -> None:
    """Never look at the token, never end, in a helper process."""
    endless_item(token)


HELPED = {function.__name__: function for function in (helped_item, helped_honouring_item, helped_endless_item)}

ITEMS = {
    function.__name__: function
    for function in (
        sync_item,
        async_item,
        honouring_item,
        honouring_async_item,
        endless_item,
        stuck_item,
        stuck_executor_item,
        stubborn_item,
        quick_item,
        quick_async_item,
        forking_item,
        multiprocessing_item,
        program_item,
        stuck_pool_item,
        forked_child_item,
        waiting_item,
        checking_item,
        checking_async_item,
    )
}


# Threads that are no items, as an older part of a site starts them, and are tracked.


def legacy_thread(stop: threading.Event) -> None:
    """Work for `SECONDS`, whatever comes."""
    report("started", "legacy_thread")
    time.sleep(SECONDS)
    report("finished", "legacy_thread")


def honouring_thread(stop: threading.Event) -> None:
    """Work until the bell rings."""
    report("started", "honouring_thread")
    stop.wait()
    report("finished", "honouring_thread")


def stuck_thread(stop: threading.Event) -> None:
    """Never end."""
    report("started", "stuck_thread")
    time.sleep(600)


THREADS = {thread.__name__: thread for thread in (legacy_thread, honouring_thread, stuck_thread)}


def _track(name: str) -> None:
    from django_qbwi import track

    stop = threading.Event()
    thread = threading.Thread(target=THREADS[name], args=(stop,), name=name, daemon=True)
    thread.start()
    track(thread).token.register(stop.set)
    report("queued", name)


def queue(name: str) -> None:
    """Queue an item, and report whether it was accepted; without django_qbwi nothing happens."""
    from django.apps import apps  # the site also runs without django_qbwi

    if not apps.is_installed("django_qbwi"):
        return
    if name in THREADS:
        _track(name)
        return
    from django_qbwi import WorkItemRejected, queue_background_work_item

    try:
        if name in HELPED:
            queue_background_work_item(HELPED[name], executor="process")
        else:
            queue_background_work_item(ITEMS[name])
    except WorkItemRejected as error:
        report("rejected", name, error=type(error).__name__)
    else:
        report("queued", name)


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    # CPython gives the child new locks for its log handlers, but not for their streams: one that another thread writes
    # to at the moment of the fork is locked in the child for ever.
    with contextlib.ExitStack() as stack:
        for handler in logging.getLogger("django_qbwi").handlers:
            handler.acquire()
            stack.callback(handler.release)
        yield


@contextlib.contextmanager
def _reported(name: str, token: Any) -> Iterator[None]:
    registration = token.register(lambda: report("called back", name, reason=str(token.reason)))
    _seen.pop(id(token), None)
    _seen[id(token)] = name
    report("started", name, cancelled=token.is_cancellation_requested)
    try:
        yield
    except BaseException as error:
        report("raised", name, error=repr(error))
        raise
    else:
        report("finished", name)
    finally:
        registration.close()


_seen: dict[int, str] = {}


def _look_at(token: Any) -> None:
    if token.is_cancellation_requested:
        name = _seen.pop(id(token), None)
        if name is not None:
            report("cancelled", name, reason=str(token.reason), remaining=token.remaining())


def _write(text: str) -> None:
    Note.objects.create(text=text)
    assert Note.objects.exists()
