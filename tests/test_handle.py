"""The handle: to wait for an item, to cancel it, to see how it ended."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_qbwi import WorkItemStatus, queue_background_work_item
from django_qbwi.signals import work_item_finished

PATIENCE = 30


@pytest.fixture(autouse=True)
def one_worker() -> Iterator[None]:
    """Give each test a scheduler of its own, in which a second item waits for the first."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}):
        yield


class Gate:
    """An item that reports its start and stays until it is let go or cancelled."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def item(self, token) -> None:
        self.entered.set()
        with token.register(self.release.set):
            assert self.release.wait(PATIENCE)
        token.raise_if_cancellation_requested()

    async def async_item(self, token) -> None:
        self.entered.set()
        await token.cancelled()
        token.raise_if_cancellation_requested()


@pytest.fixture
def gate() -> Gate:
    """A gate, which the test opens before it ends."""
    return Gate()


def fail(token) -> None:
    raise ValueError("no such album")


async def fail_async(token) -> None:
    raise ValueError("no such album")


# Callbacks.


@pytest.mark.parametrize("asynchronous", [False, True])
def test_callback_is_called_at_the_end(gate: Gate, asynchronous: bool) -> None:
    """Once, with the handle, in the thread that ends the item; behind its record and signal, ahead of who waits."""
    called = []

    def callback(handle) -> None:
        called.append((handle, handle.status, threading.current_thread().name))

    handle = queue_background_work_item(gate.async_item if asynchronous else gate.item)
    assert gate.entered.wait(PATIENCE)
    handle.add_done_callback(callback)
    handle.cancel()
    assert handle.wait(PATIENCE)
    assert called == [(handle, "cancelled", "qbwi-loop" if asynchronous else "qbwi-worker-1")]


def test_callback_of_an_item_that_has_ended() -> None:
    """It is called at once, here."""
    handle = queue_background_work_item(fail)
    assert handle.wait(PATIENCE)
    called = []
    handle.add_done_callback(lambda ended: called.append((ended.status, threading.current_thread())))
    assert called == [("failed", threading.current_thread())]


def test_callback_of_an_item_that_never_starts(gate: Gate) -> None:
    """It is called by whoever cancels it."""
    queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    handle = queue_background_work_item(fail)
    called = []
    handle.add_done_callback(lambda ended: called.append(ended.status))
    assert handle.cancel()
    assert called == ["cancelled"]
    gate.release.set()


@pytest.mark.parametrize("error", [ValueError("no such album"), SystemExit(1), KeyboardInterrupt()])
def test_callback_that_raises_is_logged(gate: Gate, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It changes no outcome; the next one is called, and the worker goes on."""

    def callback(handle) -> None:
        raise error

    called = []
    handle = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    handle.add_done_callback(callback)
    handle.add_done_callback(lambda ended: called.append(ended.status))
    gate.release.set()
    assert handle.wait(PATIENCE)
    assert (handle.status, called) == ("succeeded", ["succeeded"])
    [record] = [record for record in caplog.records if "callback" in record.getMessage().lower()]
    assert record.exc_info[1] is error
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)


@pytest.mark.parametrize("callback", [None, 5, "callback"])
def test_callback_that_cannot_be_called(callback) -> None:
    """It is refused where it is given."""
    handle = queue_background_work_item(lambda token: None)
    with pytest.raises(TypeError, match="takes a callable with one argument"):
        handle.add_done_callback(callback)


# Waiting.


def test_wait_returns_true_at_the_end() -> None:
    """`wait()` is True when the item has ended."""
    handle = queue_background_work_item(lambda token: None)
    assert handle.wait(PATIENCE) is True
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_wait_gives_up_after_its_timeout(gate: Gate) -> None:
    """`wait(timeout)` is False when the item goes on, and changes nothing."""
    handle = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    assert handle.wait(0.01) is False
    assert handle.status is WorkItemStatus.RUNNING
    gate.release.set()


def test_wait_does_not_raise_the_failure() -> None:
    """A failed item is waited for as any other."""
    handle = queue_background_work_item(fail)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED


def test_many_threads_wait_for_one_item(gate: Gate) -> None:
    """All who wait are woken."""
    handle = queue_background_work_item(gate.item)
    woken = []
    threads = [threading.Thread(target=lambda: woken.append(handle.wait(PATIENCE))) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.release.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * 20


def test_wait_on_a_running_loop_is_refused(gate: Gate) -> None:
    """`wait()` would stop the loop; the message says what to do instead."""

    async def view() -> None:
        with pytest.raises(RuntimeError, match="await it"):
            queue_background_work_item(gate.item).wait()
        gate.release.set()

    asyncio.run(view())


def test_wait_on_a_running_loop_returns_for_an_ended_item() -> None:
    """An item that has ended needs no waiting, and so no loop is stopped."""

    async def view() -> bool:
        handle = queue_background_work_item(lambda token: None)
        await handle
        return handle.wait()

    assert asyncio.run(view()) is True


@pytest.mark.parametrize("work_item", [fail, fail_async])
def test_await_returns_the_info(work_item) -> None:
    """Awaiting a handle gives the info of the ended item and never raises its failure."""

    async def view():
        return await queue_background_work_item(work_item)

    info = asyncio.run(view())
    assert (info.status, info.error.type, info.error.message) == ("failed", "builtins.ValueError", "no such album")


def test_await_on_our_own_loop() -> None:
    """An async item may await another item."""
    seen = []

    async def outer(token) -> None:
        seen.append((await queue_background_work_item(lambda token: None)).status)

    assert queue_background_work_item(outer).wait(PATIENCE)
    assert seen == ["succeeded"]


def test_cancelling_the_awaiter_leaves_the_item(gate: Gate) -> None:
    """Who awaits a handle and is cancelled has not cancelled the item."""
    handle = queue_background_work_item(gate.item)

    async def view() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await handle

    asyncio.run(view())
    assert handle.status in {"queued", "running"}
    gate.release.set()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


@pytest.mark.parametrize("is_async", [False, True])
def test_who_waited_finds_the_signal_sent(is_async: bool) -> None:
    """When `wait()` returns, the receivers of work_item_finished have run."""
    received = []

    def receiver(info, **kwargs) -> None:
        received.append(info.id)

    async def async_item(token) -> None:
        pass

    work_item_finished.connect(receiver)
    try:
        for _ in range(20):
            handle = queue_background_work_item(async_item if is_async else (lambda token: None))
            assert handle.wait(PATIENCE)
            assert received[-1] == handle.id
    finally:
        work_item_finished.disconnect(receiver)


# Cancelling.


@pytest.mark.parametrize("name", ["item", "async_item"])
def test_cancel_before_the_start(gate: Gate, name: str) -> None:
    """An item that is cancelled while it is queued never starts, and has ended at once."""
    blocker, ran = queue_background_work_item(getattr(gate, name)), []

    async def async_item(token) -> None:
        ran.append(token)

    assert gate.entered.wait(PATIENCE)
    handle = queue_background_work_item(async_item if name == "async_item" else ran.append)
    assert handle.cancel() is True
    assert (handle.status, handle.wait(0), handle.info.started_at) == (WorkItemStatus.CANCELLED, True, None)
    blocker.cancel()
    assert blocker.wait(PATIENCE)
    assert ran == []


@pytest.mark.parametrize("name", ["item", "async_item"])
def test_cancel_during_the_run(gate: Gate, name: str) -> None:
    """A running item sees its token cancelled, with reason and message, and ends CANCELLED."""
    handle = queue_background_work_item(getattr(gate, name))
    assert gate.entered.wait(PATIENCE)
    assert handle.cancel("the album is gone") is True
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == ("cancelled", "requested")
    assert handle.token.message == "the album is gone"


def test_cancel_does_not_interrupt(gate: Gate) -> None:
    """An item that ignores its token and returns has SUCCEEDED."""
    started, release = threading.Event(), threading.Event()
    handle = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
    assert started.wait(PATIENCE)
    assert handle.cancel()
    assert handle.status is WorkItemStatus.RUNNING
    release.set()
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_only_the_first_cancel_counts(gate: Gate) -> None:
    """The second `cancel()` is False, and its message is not taken."""
    handle = queue_background_work_item(gate.item)
    assert [handle.cancel("first"), handle.cancel("second")] == [True, False]
    assert handle.wait(PATIENCE)
    assert handle.token.message == "first"


def test_cancel_after_the_end() -> None:
    """`cancel()` of an ended item is False and changes nothing."""
    handle = queue_background_work_item(lambda token: None)
    assert handle.wait(PATIENCE)
    assert handle.cancel() is False
    assert (handle.status, handle.info.cancel_reason) == ("succeeded", None)


def test_foreign_cancelled_error_is_a_failure() -> None:
    """A CancelledError that nobody asked for is FAILED and reported (F20)."""

    async def item(token) -> None:
        raise asyncio.CancelledError

    handle = queue_background_work_item(item)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.FAILED


# Looking.


def test_exception_of_a_failed_item() -> None:
    """`exception()` is what the item raised, without its frames."""
    handle = queue_background_work_item(fail)
    assert handle.wait(PATIENCE)
    error = handle.exception()
    assert isinstance(error, ValueError)
    assert error.__traceback__ is None


def test_exception_is_none_otherwise(gate: Gate) -> None:
    """`exception()` never blocks, and is None for an item that runs, succeeded or was cancelled."""
    handle = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    assert handle.exception() is None
    handle.cancel()
    assert handle.wait(PATIENCE)
    assert handle.exception() is None


@pytest.mark.parametrize("work_item", [fail, fail_async, lambda token: None])
def test_info_is_fit_for_json(work_item) -> None:
    """`to_dict()` goes through JSON unchanged and has every field."""
    handle = queue_background_work_item(work_item, name="report", timeout=60)
    assert handle.wait(PATIENCE)
    data = handle.info.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert list(data) == [
        *("id", "name", "kind", "status", "queued_at", "started_at", "finished_at", "due_at", "expires_at", "timeout"),
        *("priority", "pool", "attempt", "held", "overdue"),
        *("cancel_reason", "error", "origin", "request_id", "pid", "thread", "progress", "labels"),
    ]


def test_info_is_of_one_moment(gate: Gate) -> None:
    """An info does not change when the item goes on, and cannot be changed."""
    handle = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    info = handle.info
    gate.release.set()
    assert handle.wait(PATIENCE)
    assert (info.status, handle.info.status) == ("running", "succeeded")
    with pytest.raises(AttributeError):
        info.status = WorkItemStatus.FAILED


def test_times_follow_each_other() -> None:
    """queued_at <= started_at <= finished_at, in aware UTC."""
    handle = queue_background_work_item(lambda token: None)
    assert handle.wait(PATIENCE)
    info = handle.info
    assert info.queued_at <= info.started_at <= info.finished_at
    assert info.queued_at.utcoffset().total_seconds() == 0


def test_traceback_names_the_line_and_no_locals() -> None:
    """The traceback text shows where it was raised, and no value of a local (S8)."""

    def item(token) -> None:
        secret = "xyz" * 3
        raise ValueError(len(secret))

    handle = queue_background_work_item(item)
    assert handle.wait(PATIENCE)
    text = handle.info.error.traceback
    assert "raise ValueError(len(secret))" in text
    assert "xyzxyz" not in text


def test_error_is_bounded() -> None:
    """A message of a megabyte is cut in the info."""

    def item(token) -> None:
        raise ValueError("x" * 1_000_000)

    handle = queue_background_work_item(item)
    assert handle.wait(PATIENCE)
    assert len(handle.info.error.message) == 2_000
    assert len(handle.info.error.traceback) <= 20_000


def test_repr_says_what_it_is() -> None:
    """The repr of a handle has id, name and status."""
    handle = queue_background_work_item(lambda token: None, name="thumbs")
    assert handle.wait(PATIENCE)
    assert repr(handle) == f"<WorkItemHandle id={handle.id} name=thumbs status=succeeded>"
