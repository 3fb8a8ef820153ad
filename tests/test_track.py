"""`track`: threads, futures and tasks that were started elsewhere are listed, counted, and waited for."""

import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import (
    CancelReason,
    InvalidWorkItem,
    NotHosted,
    OperationCancelled,
    SchedulerClosed,
    SchedulerDraining,
    WorkItemHandle,
    WorkItemStatus,
    hosting,
    live_items,
    queue_background_work_item,
    recent_items,
    track,
)
from django_qbwi.core.lanes import TRACKED_SYNC
from django_qbwi.signals import work_item_finished, work_item_queued, work_item_started
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.scripts import run_script

PATIENCE = 30


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it."""
    with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 1.0}):
        # As the first item does: not in `asyncio.run`, whose handler of SIGINT would stay below ours.
        here = hosting.this_process()
        here.admit()
        here.notice_handlers()
        yield


class Gate:
    """What runs until the test lets it go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.left: BaseException | None = None

    def run(self) -> None:
        """Wait, then end as the test wants."""
        assert self.released.wait(PATIENCE)
        if self.left is not None:
            raise self.left

    def release(self, left: BaseException | None = None) -> None:
        """Let it end, by an exception or by nothing."""
        self.left = left
        self.released.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that does not outlive its test."""
    gate = Gate()
    yield gate
    gate.released.set()


def started(target: Callable[[], object], **options: Any) -> threading.Thread:
    """Return a thread that was started."""
    thread = threading.Thread(target=target, daemon=True, **options)
    thread.start()
    return thread


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What Python tells of exceptions that have left a thread."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    return told


# Threads.


def test_thread_is_listed_and_counted(gate: Gate) -> None:
    """A tracked thread is among the live items: RUNNING, with its name, its own thread and its stack."""
    thread = started(gate.run, name="consumer")
    handle = track(thread)
    assert handle.status is WorkItemStatus.RUNNING
    [info] = live_items()
    assert info == handle.info
    assert (info.name, info.kind, info.thread, info.status) == ("consumer", "sync", "consumer", "running")
    assert info.started_at is not None
    assert info.finished_at is None
    scheduler = hosting.scheduler()
    assert (scheduler.running_count, scheduler.queued_count) == (1, 0)
    assert "in run" in scheduler.stack(scheduler.live_items()[0])
    gate.release()
    assert handle.wait(PATIENCE)
    assert live_items() == []
    assert recent_items() == [handle.info]


def test_end_of_a_thread_is_that_of_the_item(gate: Gate) -> None:
    """A thread that returns is SUCCEEDED, as soon as it has."""
    thread = started(gate.run)
    handle = track(thread, name="import")
    gate.release()
    assert handle.wait(PATIENCE)
    assert (handle.name, handle.status, handle.exception()) == ("import", WorkItemStatus.SUCCEEDED, None)
    assert handle.info.finished_at is not None
    thread.join(PATIENCE)
    assert {"_delete"} & vars(thread).keys() == set()


def test_exception_that_leaves_a_thread_is_failed(
    gate: Gate, printed: list[BaseException | None], caplog: pytest.LogCaptureFixture
) -> None:
    """FAILED, with the error and its traceback; Python is told as ever, and the exception keeps its frames."""
    handle = track(started(gate.run))
    error = ValueError("no such file")
    gate.release(error)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED
    assert handle.exception() is error
    assert error.__traceback__ is not None
    info = handle.info.error
    assert info is not None
    assert (info.type, info.message) == ("builtins.ValueError", "no such file")
    assert "in run" in info.traceback
    assert printed == [error]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    error.__traceback__ = None


def test_system_exit_ends_a_thread_well(gate: Gate, printed: list[BaseException | None]) -> None:
    """SystemExit is how a thread ends itself: Python says nothing of it, and neither do we."""
    handle = track(started(gate.run))
    gate.release(SystemExit(1))
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_thread_that_obeys_its_token_is_cancelled(printed: list[BaseException | None]) -> None:
    """OperationCancelled of its own token ends it CANCELLED, and Python prints no traceback."""
    handles: list[WorkItemHandle] = []
    ready = threading.Event()

    def poll() -> None:
        assert ready.wait(PATIENCE)
        token = handles[0].token
        assert token.wait(PATIENCE)
        token.raise_if_cancellation_requested()

    handles.append(track(started(poll)))
    ready.set()
    assert handles[0].cancel("enough") is True
    assert handles[0].wait(PATIENCE)
    assert handles[0].status is WorkItemStatus.CANCELLED
    assert handles[0].info.cancel_reason is CancelReason.REQUESTED
    assert printed == []


def test_other_cancellation_that_leaves_a_thread_is_failed(gate: Gate, printed: list[BaseException | None]) -> None:
    """An OperationCancelled of another token is a failure like any other."""
    from django_qbwi import CancellationTokenSource

    source = CancellationTokenSource()
    source.cancel()
    handle = track(started(gate.run))
    gate.release(OperationCancelled(source.token))
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED
    assert len(printed) == 1


def test_thread_that_has_ended_is_an_item_that_ends_at_once() -> None:
    """A quick thread is no race: what has ended when it is tracked is SUCCEEDED."""
    thread = started(lambda: None)
    thread.join(PATIENCE)
    handle = track(thread)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_timer_is_a_thread() -> None:
    """So are the subclasses of `threading.Thread`."""
    fired = threading.Event()
    timer = threading.Timer(0.0, fired.set)
    timer.start()
    assert track(timer).wait(PATIENCE)
    assert fired.is_set()


def test_nothing_of_a_thread_is_kept(gate: Gate) -> None:
    """After the end neither the thread nor what it has worked with is kept by a handle."""

    class Large:
        def work(self) -> None:
            gate.run()

    large = Large()
    thread = started(large.work)
    gone = weakref.ref(thread), weakref.ref(large)
    handle = track(thread)
    gate.release()
    assert handle.wait(PATIENCE)
    thread.join(PATIENCE)
    del thread, large
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


# Futures of an executor.


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """An executor with one thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool


def test_result_of_a_future_is_succeeded(gate: Gate, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """A future with a result is SUCCEEDED, and the result stays the future's."""
    future = pool.submit(gate.run)
    handle = track(future, name="report")
    assert (handle.status, handle.info.kind, handle.info.thread) == (WorkItemStatus.RUNNING, "sync", None)
    gate.release()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_failure_of_a_future_stays_the_future_s(gate: Gate, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """FAILED, with the same exception, which keeps its traceback for whoever asks for the result."""
    future = pool.submit(gate.run)
    handle = track(future)
    gate.release(KeyError("id"))
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED
    error = future.exception()
    assert handle.exception() is error
    assert error is not None
    assert error.__traceback__ is not None
    error.__traceback__ = None


def test_future_that_is_done_ends_at_once() -> None:
    """One with a result, and one that was cancelled before: FAILED, since its token was not."""
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(1)
    gone: concurrent.futures.Future[int] = concurrent.futures.Future()
    gone.cancel()
    handles = [track(done), track(gone)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert [handle.status for handle in handles] == [WorkItemStatus.SUCCEEDED, WorkItemStatus.FAILED]
    assert handles[0].name == "concurrent.futures._base.Future"
    assert isinstance(handles[1].exception(), asyncio.CancelledError)


def test_handle_cancels_a_future_that_has_not_begun(gate: Gate, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """`handle.cancel()` is somebody's wish: what has not begun never will, and is CANCELLED."""
    pool.submit(gate.run)
    future = pool.submit(lambda: None)
    handle = track(future)
    assert handle.cancel() is True
    assert future.cancelled()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.CANCELLED
    gate.release()


def test_handle_does_not_interrupt_a_future_that_runs(gate: Gate, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """One that runs goes on: its result is SUCCEEDED, its token was cancelled all the same."""
    begun = threading.Event()

    def work() -> None:
        begun.set()
        gate.run()

    handle = track(pool.submit(work))
    assert begun.wait(PATIENCE)
    assert handle.cancel() is True
    assert handle.token.is_cancellation_requested
    gate.release()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_cancellation_by_others_is_failed() -> None:
    """A future that its owner cancels is FAILED, as any item that ends by a cancellation which is not its own."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    handle = track(future)
    future.cancel()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED
    assert handle.info.error is not None
    assert handle.info.error.type == "asyncio.exceptions.CancelledError"


def test_future_that_is_kept_keeps_nothing_of_ours() -> None:
    """A future keeps its callbacks for ever; ours lets go of the item."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    handle = track(future)
    item = weakref.ref(handle._item)
    future.set_result(None)
    assert handle.wait(PATIENCE)
    assert drain(PATIENCE)
    with override_settings(QBWI={}):
        # The history of the other scheduler is gone with it, but for the block around.
        pass
    del handle
    # The keeper's work, who may be late with it: what has ended last waits to be counted.
    hosting.scheduler().statistics.count()
    hosting.scheduler()._finished.clear()
    gc.collect()
    assert item() is None


def test_nothing_of_a_future_is_kept() -> None:
    """After the end its result is not kept by the handle."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    gone = weakref.ref(future)
    handle = track(future)
    future.set_result(None)
    assert handle.wait(PATIENCE)
    del future
    gc.collect()
    assert gone() is None


# Tasks and futures of a loop.


def test_task_is_tracked_on_its_loop() -> None:
    """A task is an async item, named after its coroutine, with its await chain; `await handle` waits for it."""

    async def main() -> None:
        release = asyncio.Event()

        async def sync_prices() -> None:
            await release.wait()

        task = asyncio.create_task(sync_prices())
        handle = track(task)
        await asyncio.sleep(0)
        [info] = live_items()
        assert info.name.endswith("sync_prices")
        assert (info.kind, info.status) == ("async", "running")
        assert info.thread == threading.current_thread().name
        scheduler = hosting.scheduler()
        assert "in sync_prices" in scheduler.stack(scheduler.live_items()[0])
        release.set()
        assert (await handle).status is WorkItemStatus.SUCCEEDED
        assert task.done()

    asyncio.run(main())


def test_task_fails_with_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    """FAILED, logged once by us; the task has its exception for whoever awaits it."""

    async def main() -> None:
        async def fails() -> None:
            raise ValueError("no")

        task = asyncio.create_task(fails())
        info = await track(task)
        assert (info.status, info.error and info.error.message) == ("failed", "no")
        with pytest.raises(ValueError, match="no"):
            await task

    asyncio.run(main())
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_task_is_kept_alive_as_long_as_it_runs() -> None:
    """An event loop keeps its tasks weakly only; one that is tracked is not collected in the middle."""

    async def main() -> None:
        async def waits() -> None:
            # Nobody but the task knows of this future.
            await asyncio.get_running_loop().create_future()

        handle = track(asyncio.create_task(waits()))
        await asyncio.sleep(0)
        gc.collect()
        assert handle.status is WorkItemStatus.RUNNING
        handle.cancel()
        assert (await handle).status is WorkItemStatus.CANCELLED

    asyncio.run(main())


@pytest.mark.parametrize("by_handle", [True, False])
def test_cancelled_task(by_handle: bool) -> None:
    """`handle.cancel()` cancels a task too: CANCELLED. One that its owner cancels is FAILED."""

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(PATIENCE))
        handle = track(task)
        await asyncio.sleep(0)
        if by_handle:
            assert handle.cancel() is True
        else:
            task.cancel()
        info = await handle
        assert info.status == ("cancelled" if by_handle else "failed")
        assert task.cancelled()

    asyncio.run(main())


def test_task_that_raises_for_its_token_is_cancelled() -> None:
    """OperationCancelled cancels a task natively, and its item is CANCELLED."""

    async def main() -> None:
        handles: list[WorkItemHandle] = []

        async def polls() -> None:
            token = handles[0].token
            await token.cancelled()
            token.raise_if_cancellation_requested()

        handles.append(track(asyncio.create_task(polls())))
        await asyncio.sleep(0)
        hosting.scheduler().stop.request()
        info = await handles[0]
        assert (info.status, info.cancel_reason) == ("cancelled", "shutdown")

    asyncio.run(main())


def test_future_of_a_loop_is_tracked() -> None:
    """A bare asyncio.Future too, whoever sets its result."""

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        handle = track(future, name="answer")
        scheduler = hosting.scheduler()
        assert "cannot be seen" in scheduler.stack(scheduler.live_items()[0])
        future.set_result(42)
        assert (await handle).status is WorkItemStatus.SUCCEEDED
        assert (await track(future)).status is WorkItemStatus.SUCCEEDED

    asyncio.run(main())


def test_task_is_tracked_from_elsewhere() -> None:
    """A task may be given in any thread: its loop is told to tell."""
    tasks: list[asyncio.Task[None]] = []
    ready = threading.Event()

    async def main() -> None:
        stopped = asyncio.Event()
        tasks.append(asyncio.create_task(stopped.wait()))  # type: ignore[arg-type]
        ready.set()
        await tasks[0]

    def run() -> None:
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass

    thread = started(run)
    assert ready.wait(PATIENCE)
    handle = track(tasks[0])
    assert handle.info.thread is None
    scheduler = hosting.scheduler()
    assert "in wait" in scheduler.stack(scheduler.live_items()[0])
    assert handle.cancel() is True
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.CANCELLED
    thread.join(PATIENCE)


def test_future_of_a_closed_loop_is_refused() -> None:
    """Its end would never come; one that is done is an item that ends at once."""
    loop = asyncio.new_event_loop()
    never, done = loop.create_future(), loop.create_future()
    done.set_result(None)
    loop.close()
    with pytest.raises(InvalidWorkItem, match="never ends, since its event loop is closed: track it while that runs"):
        track(never)
    assert track(done).wait(PATIENCE)
    assert live_items() == []


# The end of the process.


def test_shutdown_cancels_the_token_and_nothing_else() -> None:
    """At the stop of the process a future and a task go on; whoever works at them looks at the token."""

    async def main() -> None:
        release = asyncio.Event()
        task = asyncio.create_task(release.wait())
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        handles = [track(task), track(future)]
        await asyncio.sleep(0)
        told = [asyncio.create_task(handle.token.cancelled()) for handle in handles]
        await asyncio.sleep(0)
        hosting.this_process().current.coordinator.sign("a test")
        await asyncio.wait_for(asyncio.gather(*told), PATIENCE)
        assert [handle.token.reason for handle in handles] == [CancelReason.SHUTDOWN] * 2
        assert not task.done()
        assert not future.cancelled()
        release.set()
        future.set_result(None)
        assert [(await handle).status for handle in handles] == ["succeeded", "succeeded"]

    asyncio.run(main())


def test_shutdown_waits_for_what_is_tracked(gate: Gate) -> None:
    """The end of the process is held until a tracked thread has ended."""
    handle = track(started(gate.run))
    handle.token.register(gate.release)
    hosting.this_process().renew(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED
    assert handle.info.cancel_reason is CancelReason.SHUTDOWN


def test_thread_is_abandoned_at_the_limit(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """What does not end is ABANDONED, with a record that has its current stack; its later end changes nothing."""
    thread = started(gate.run, name="stubborn")
    handle = track(thread)
    hosting.this_process().renew(0.1)
    assert handle.status is WorkItemStatus.ABANDONED
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "name=stubborn status=abandoned" in record.getMessage()
    assert "in run" in record.getMessage()
    gate.release()
    thread.join(PATIENCE)
    assert handle.status is WorkItemStatus.ABANDONED


def test_task_and_future_are_cancelled_at_the_limit() -> None:
    """In the last moment, as async items are, they are cancelled by their own means: CANCELLED, not ABANDONED."""

    async def main() -> None:
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        handles = [track(asyncio.create_task(asyncio.sleep(PATIENCE))), track(future)]
        await asyncio.to_thread(hosting.this_process().renew, 0.5)
        assert [handle.status for handle in handles] == ["cancelled", "cancelled"]
        assert future.cancelled()

    asyncio.run(main())


def test_nothing_is_taken_in_after_the_end(gate: Gate) -> None:
    """A closed scheduler refuses, as for any item, and what was started runs on."""
    thread = started(gate.run)
    hosting.scheduler().close()
    with pytest.raises(SchedulerClosed):
        track(thread)
    assert thread.is_alive()


@override_settings(QBWI={"ACCEPT_WHILE_DRAINING": False})
def test_draining_process_refuses_if_it_refuses_items(gate: Gate) -> None:
    """With ACCEPT_WHILE_DRAINING = False; otherwise it takes in, until the end."""
    queue_background_work_item(lambda token: gate.run())
    hosting.this_process().current.coordinator.sign("a test")
    thread = started(gate.run)
    with pytest.raises(SchedulerDraining):
        track(thread)


def test_draining_process_takes_in(gate: Gate) -> None:
    """What is tracked in a drain is undisturbed for half of the time that is left, as an item that begins then."""
    with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 1000.0}):
        hosting.this_process().current.coordinator.sign("a test")
        handle = track(started(gate.run))
        assert handle.status is WorkItemStatus.RUNNING
        assert not handle.token.is_cancellation_requested
        assert handle.token.remaining() is not None
        gate.release()
        assert handle.wait(PATIENCE)


# Bounds, tools and signals.


@override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1, "ITEM_TIMEOUT": 0.001})
def test_it_holds_no_place_of_an_item(gate: Gate) -> None:
    """Neither a worker nor a place in the queue, whose bound does not count for it; nor does a timeout."""
    running, begun = threading.Event(), threading.Event()

    def holds(token: object) -> None:
        begun.set()
        assert running.wait(PATIENCE)

    handles = [track(started(gate.run)) for _ in range(5)]
    queue_background_work_item(holds)
    assert begun.wait(PATIENCE)
    waiting = queue_background_work_item(lambda token: None)
    # The queue is full.
    handles.append(track(started(gate.run)))
    assert hosting.scheduler().running_count == 7
    assert [handle.info.timeout for handle in handles] == [None] * 6
    running.set()
    assert waiting.wait(PATIENCE)
    gate.release()
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert {handle.status for handle in handles} == {WorkItemStatus.SUCCEEDED}


@pytest.mark.parametrize("tool", [immediate_work_items, captured_work_items])
def test_test_tools_leave_it_alone(gate: Gate, tool: Callable[[], Any]) -> None:
    """What runs already is neither captured nor run at the call: it is tracked as ever."""
    with tool() as captured:
        handle = track(started(gate.run))
        assert handle.status is WorkItemStatus.RUNNING
        assert not captured
    gate.release()
    assert handle.wait(PATIENCE)


@override_settings(QBWI={"IMMEDIATE": True})
def test_immediate_leaves_it_alone(gate: Gate) -> None:
    """So with the setting."""
    handle = track(started(gate.run))
    assert handle.status is WorkItemStatus.RUNNING
    gate.release()
    assert handle.wait(PATIENCE)


def test_signals_and_callbacks(gate: Gate) -> None:
    """It is started and finished, never queued; a receiver of its end is not called in its own thread."""
    seen: list[tuple[str, str, bool]] = []
    thread = started(gate.run)

    def note(signal: Any, info: Any, **kwargs: Any) -> None:
        names = {work_item_queued: "queued", work_item_started: "started", work_item_finished: "finished"}
        seen.append((names[signal], info.status, threading.current_thread() is thread))

    signals = (work_item_queued, work_item_started, work_item_finished)
    for announced in signals:
        announced.connect(note)
    try:
        handle = track(thread)
        called: list[WorkItemHandle] = []
        handle.add_done_callback(called.append)
        gate.release()
        assert handle.wait(PATIENCE)
    finally:
        for announced in signals:
            announced.disconnect(note)
    assert seen == [("started", "running", False), ("finished", "succeeded", False)]
    assert called == [handle]


def test_what_is_tracked_twice_has_one_item(gate: Gate) -> None:
    """The second time the handle of the first one is returned."""
    thread = started(gate.run)
    first = track(thread, name="first")
    assert track(thread, name="second") == first
    assert len(live_items()) == 1
    gate.release()
    assert first.wait(PATIENCE)
    thread.join(PATIENCE)
    assert track(thread) != first


def test_what_was_tracked_in_another_scheduler_is_tracked_anew(gate: Gate) -> None:
    """A block of settings has its own; the end of the thread ends both items, and leaves nothing at the thread."""
    thread = started(gate.run)
    outer = track(thread)
    with override_settings(QBWI={}):
        inner = track(thread)
        assert inner != outer
        gate.release()
        assert inner.wait(PATIENCE)
        assert outer.wait(PATIENCE)
    assert [outer.status, inner.status] == ["succeeded", "succeeded"]


# What cannot be tracked.


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> None: ...


class Pretends:
    """An object that says it is a thread."""

    @property
    def __class__(self) -> Any:
        return threading.Thread

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: threading.Thread(target=print), r"was not started: call its start\(\) first, then track\(\) it"),
        (threading.current_thread, "is the main thread, which ends with the process"),
        (lambda: coroutine, r"coroutine is a callable, which nobody has started: queue it as a work item, queue_"),
        (lambda: coroutine(), r"is a coroutine object, which nobody has started: track\(asyncio.create_task\(corout"),
        (
            generator,
            "a builtins.generator cannot be followed to its end: track.. takes a threading.Thread that was started, a",
        ),
        (
            lambda: None,
            "a builtins.NoneType cannot be followed to its end: .* For anything else, track a thread that waits",
        ),
        (lambda: 7, "a builtins.int cannot be followed"),
        (lambda: "thread", "a builtins.str cannot be followed"),
        (Pretends, "Pretends cannot be followed"),
        (lambda: threading.Thread, "threading.Thread is a callable"),
    ],
)
def test_what_cannot_be_tracked_is_refused(make: Callable[[], Any], message: str) -> None:
    """The message names what was given, and what to give instead; nothing is taken in."""
    with pytest.raises(InvalidWorkItem, match=message):
        track(make())
    assert live_items() == []


def test_thread_that_calls_is_refused() -> None:
    """It may be one of a server or of a pool, which never ends."""
    refused: list[BaseException] = []

    def run() -> None:
        try:
            track(threading.current_thread())
        except InvalidWorkItem as error:
            refused.append(error)

    started(run).join(PATIENCE)
    assert "is the thread that calls track(), which a server or a pool may keep for ever" in str(refused[0])


def test_thread_that_python_did_not_start_is_refused(gate: Gate) -> None:
    """Nobody sees the end of one of `_thread` or of a C library."""
    import _thread

    found: list[threading.Thread] = []
    ready = threading.Event()

    def run() -> None:
        found.append(threading.current_thread())
        ready.set()
        gate.run()

    _thread.start_new_thread(run, ())
    assert ready.wait(PATIENCE)
    with pytest.raises(InvalidWorkItem, match=r"was not started by threading\.Thread: nobody can see its end"):
        track(found[0])
    gate.release()
    # Python keeps it before 3.13, and lets nobody join it.
    threading._active.pop(found[0].ident, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", 7, b"name", ["name"]])
def test_wrong_name_is_refused(gate: Gate, name: Any) -> None:
    """As for any item."""
    with pytest.raises(InvalidWorkItem, match=r"name is .*: give a non-empty str, or leave it out"):
        track(started(gate.run), name=name)


def test_name_is_shown_without_control_characters(gate: Gate) -> None:
    """That of a thread too, which may be anything."""
    handle = track(started(gate.run, name="a\x1b[31mb"))
    assert handle.name == "a?[31mb"
    gate.release()
    assert handle.wait(PATIENCE)


def test_process_that_hosts_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can run NotHosted says why; the parent of runserver, which only watches, discards."""
    here = hosting.this_process()
    thread = started(gate.run)
    monkeypatch.setattr(here.admit(), "refusal", "threads are off")
    with pytest.raises(NotHosted, match="threads are off"):
        track(thread)
    monkeypatch.undo()
    host = type("Host", (), {"serves": False, "__getattr__": lambda self, name: getattr(here.host, name)})
    original = here.host
    monkeypatch.setattr(here, "host", type("Watches", (type(original),), {"serves": False})())
    assert track(thread).status is WorkItemStatus.DISCARDED
    assert host is not None


def test_thread_that_cannot_be_started(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread of ours can be started it is refused, and the next one tries again."""
    from django_qbwi import WorkItemRejected

    scheduler = hosting.scheduler()
    thread = started(gate.run)
    with monkeypatch.context() as patch:

        def refuse(*args: object) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(scheduler, "_start", refuse)
        with pytest.raises(WorkItemRejected, match="no thread could be started"):
            track(thread)
    handle = track(thread)
    gate.release()
    assert handle.wait(PATIENCE)


# What strikes it.


def test_strike_of_a_signal_handler_leaves_no_item_behind(gate: Gate) -> None:
    """An exception that a handler raises anywhere in `track` is raised, and what was taken in is followed."""
    lines = 0

    def strike_at(number: int) -> Callable[..., Any]:
        seen = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal seen, lines
            if frame.f_code.co_filename.endswith(("tracker.py", "followed.py", "adoption.py", "thread_end.py")):
                if event == "line":
                    seen += 1
                    lines = max(lines, seen)
                    if seen == number:
                        raise KeyboardInterrupt
                return trace
            return None

        return trace

    threads = []
    number = 0
    while number <= lines:
        gate_of_this = Gate()
        threads.append((gate_of_this, started(gate_of_this.run)))
        number += 1
        before = sys.gettrace()
        try:
            sys.settrace(strike_at(number))
            track(threads[-1][1])
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
    assert len(threads) > 20
    for gate_of_this, thread in threads:
        gate_of_this.release()
        thread.join(PATIENCE)
    assert drain(PATIENCE)
    assert hosting.scheduler().lanes[TRACKED_SYNC].executor is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_a_tracked_thread_touches_nothing() -> None:
    """A thread that forks, and whose child comes to its end: the child's end is none of the item's."""
    ready, forked = threading.Event(), threading.Event()
    pids: list[int] = []

    def run() -> None:
        assert ready.wait(PATIENCE)
        pid = os.fork()
        if pid:
            pids.append(pid)
            forked.set()

    handle = track(started(run))
    ready.set()
    assert forked.wait(PATIENCE)
    assert handle.wait(PATIENCE)
    _, status = os.waitpid(pids[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert handle.status is WorkItemStatus.SUCCEEDED


# Whole processes.

PROCESS = """
import logging, os, signal, sys, threading
import django
from django.conf import settings

limit, daemon = float(sys.argv[1]), sys.argv[2] == "daemon"
settings.configure(INSTALLED_APPS=["django_qbwi"], QBWI={"SHUTDOWN_TIMEOUT": limit})
django.setup()
logging.getLogger("django_qbwi").setLevel(logging.CRITICAL)
from django_qbwi import track

ready, exits = threading.Event(), threading.Event()


def run():
    ready.wait()
    work()
    print("ended", flush=True)


def begin():
    global handle
    thread = threading.Thread(target=run, daemon=daemon)
    thread.start()
    handle = track(thread)
    ready.set()

"""


def test_exit_of_a_process_waits_for_a_daemon_thread() -> None:
    """At its normal end a command waits undisturbed for what it has tracked, which would else be cut off."""
    script = """
def work():
    # Until the exit is held, and a moment longer.
    while not scheduler.final_hold:
        scheduler.wait_until_empty(0.01)
    print(handle.token.is_cancellation_requested)

from django_qbwi import hosting
scheduler = hosting.scheduler()
begin()
"""
    assert run_script(PROCESS + script, "30", "daemon") == ["False", "ended"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_stop_signal_cancels_the_token_of_a_tracked_thread() -> None:
    """SIGTERM cancels the token, the thread ends, and the process has the status that it has with any item."""
    script = """
def work():
    print(handle.token.wait(30), handle.token.reason, flush=True)

begin()
os.kill(os.getpid(), signal.SIGTERM)
exits.wait(30)
"""
    assert run_script(PROCESS + script, "30", "daemon", status=128 + signal.SIGTERM) == ["True shutdown", "ended"]


@pytest.mark.parametrize("kind", ["daemon", "no daemon"])
def test_stuck_thread_does_not_hold_the_exit_beyond_the_limit(kind: str) -> None:
    """Also one that is no daemon, for which the interpreter would wait without a limit."""
    script = """
def work():
    exits.wait()

begin()
print("exits", flush=True)
"""
    assert run_script(PROCESS + script, "0.5", kind) == ["exits"]
