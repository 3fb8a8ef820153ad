"""The signals: who is told of what, in which thread, and that no receiver can change an outcome."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.dispatch import Signal
from django.test import override_settings

from django_qbwi import QueueFull, WorkItemInfo, current_work_item, queue_background_work_item, signals
from django_qbwi.testing import drain, immediate_work_items

PATIENCE = 30

OF_ITEMS = ["work_item_queued", "work_item_started", "work_item_finished"]


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it, and room for one waiting item."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1, "SHUTDOWN_TIMEOUT": 1.0}):
        yield


@contextlib.contextmanager
def connected(signal: str, receiver: Callable) -> Iterator[None]:
    """Connect a receiver for a block."""
    chosen: Signal = getattr(signals, signal)
    chosen.connect(receiver, weak=False)
    try:
        yield
    finally:
        chosen.disconnect(receiver)


class Received:
    """Receivers that note the info, the thread and the current item of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.called = threading.Event()

    def sync_receiver(self, sender, info, **kwargs) -> None:
        assert sender is WorkItemInfo
        item = current_work_item()
        self.calls.append((info, threading.current_thread().name, item and item.id))
        self.called.set()

    async def async_receiver(self, sender, info, **kwargs) -> None:
        self.sync_receiver(sender, info)


@pytest.fixture
def received() -> Received:
    """Fresh receivers."""
    return Received()


def sync_item(token) -> None:
    """Do nothing."""


async def async_item(token) -> None:
    """Do nothing."""


def here() -> str:
    return threading.current_thread().name


@contextlib.contextmanager
def full_queue() -> Iterator[None]:
    """Occupy the worker and the place in the queue."""
    started, release = threading.Event(), threading.Event()
    queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
    assert started.wait(PATIENCE)
    waiting = queue_background_work_item(sync_item)
    try:
        yield
    finally:
        release.set()
        assert waiting.wait(PATIENCE)


# What is sent, and where.


@pytest.mark.parametrize("work_item", [sync_item, async_item])
@pytest.mark.parametrize(
    ("signal", "status"),
    [("work_item_queued", "queued"), ("work_item_started", "running"), ("work_item_finished", "succeeded")],
)
def test_one_signal_with_info(received: Received, work_item, signal: str, status: str) -> None:
    """Each of the signals of an item is sent once, with its info of that moment."""
    with connected(signal, received.sync_receiver):
        handle = queue_background_work_item(work_item)
        assert handle.wait(PATIENCE)
    [(info, _, _)] = received.calls
    assert (info.id, info.status) == (handle.id, status)


def test_queued_is_sent_in_the_callers_thread(received: Received) -> None:
    """work_item_queued is the caller's business."""
    with connected("work_item_queued", received.sync_receiver):
        assert queue_background_work_item(sync_item).wait(PATIENCE)
    assert received.calls[0][1] == here()


@pytest.mark.parametrize("receiver", ["sync_receiver", "async_receiver"])
@pytest.mark.parametrize("work_item", [sync_item, async_item])
@pytest.mark.parametrize("signal", OF_ITEMS)
def test_every_receiver_is_called(received: Received, signal: str, work_item, receiver: str) -> None:
    """Sync and async receivers of sync and async items are called, before the item counts as ended."""
    with connected(signal, getattr(received, receiver)):
        handle = queue_background_work_item(work_item)
        assert handle.wait(PATIENCE)
        assert [info.id for info, _, _ in received.calls] == [handle.id]


@pytest.mark.parametrize("signal", ["work_item_started", "work_item_finished"])
def test_sync_item_tells_in_its_thread(received: Received, signal: str) -> None:
    """Started and finished of a sync item are sent in the worker's thread, in the item's context."""
    with connected(signal, received.sync_receiver):
        handle = queue_background_work_item(sync_item)
        assert handle.wait(PATIENCE)
    [(info, thread, current)] = received.calls
    assert thread == info.thread == handle.info.thread
    assert (current, thread.startswith("qbwi-worker")) == (handle.id, True)


@pytest.mark.parametrize("signal", ["work_item_started", "work_item_finished"])
def test_async_item_tells_on_its_loop(received: Received, signal: str) -> None:
    """Async receivers of an async item run on our loop, in the item's context."""
    with connected(signal, received.async_receiver):
        handle = queue_background_work_item(async_item)
        assert handle.wait(PATIENCE)
    assert received.calls[0][1:] == ("qbwi-loop", handle.id)


@pytest.mark.parametrize("signal", ["work_item_started", "work_item_finished"])
def test_async_item_keeps_sync_receivers_off_the_loop(received: Received, signal: str) -> None:
    """Sync receivers of an async item run in the item's own thread, where the ORM works."""
    with connected(signal, received.sync_receiver):
        handle = queue_background_work_item(async_item)
        assert handle.wait(PATIENCE)
    assert received.calls[0][1:] == ("qbwi-item-executor", handle.id)


@pytest.mark.parametrize("work_item", [sync_item, async_item])
def test_queued_on_a_running_loop_sync_receiver(received: Received, work_item) -> None:
    """On a running loop a sync receiver of work_item_queued is called in the caller's thread."""

    async def view() -> None:
        with connected("work_item_queued", received.sync_receiver):
            await queue_background_work_item(work_item)

    asyncio.run(view())
    assert [call[1] for call in received.calls] == [here()]


@pytest.mark.parametrize("work_item", [sync_item, async_item])
def test_queued_on_a_running_loop_async_receiver(received: Received, work_item) -> None:
    """On a running loop an async receiver of work_item_queued is scheduled on our loop."""

    async def view() -> None:
        with connected("work_item_queued", received.async_receiver):
            await queue_background_work_item(work_item)
            await asyncio.to_thread(received.called.wait, PATIENCE)

    asyncio.run(view())
    assert [call[1] for call in received.calls] == ["qbwi-loop"]


def test_queued_is_sent_before_a_worker_can_see_the_item() -> None:
    """While receivers of work_item_queued run, the item stays queued, though a worker is idle."""
    started, seen = threading.Event(), []

    def receiver(info, **kwargs) -> None:
        seen.append((info.status, started.wait(0.05)))

    assert queue_background_work_item(sync_item).wait(PATIENCE)
    with connected("work_item_queued", receiver):
        assert queue_background_work_item(lambda token: started.set()).wait(PATIENCE)
    assert seen == [("queued", False)]


@pytest.mark.parametrize("receiver", ["sync_receiver", "async_receiver"])
def test_rejected_is_sent_in_the_callers_thread(received: Received, receiver: str) -> None:
    """work_item_rejected is sent once, before the caller gets the exception."""
    with connected("work_item_rejected", getattr(received, receiver)), full_queue():
        with pytest.raises(QueueFull):
            queue_background_work_item(sync_item, name="refused")
        assert [info.name for info, _, _ in received.calls] == ["refused"]
    if receiver == "sync_receiver":
        assert received.calls[0][1] == here()


def test_rejected_on_a_running_loop(received: Received) -> None:
    """On a running loop an async receiver of work_item_rejected is scheduled on ours."""

    async def view() -> None:
        with pytest.raises(QueueFull):
            queue_background_work_item(sync_item)
        await asyncio.to_thread(received.called.wait, PATIENCE)

    with connected("work_item_rejected", received.async_receiver), full_queue():
        asyncio.run(view())
    assert [call[1] for call in received.calls] == ["qbwi-loop"]


@pytest.mark.parametrize("work_item", [sync_item, async_item])
def test_immediate_items_send_the_same(received: Received, work_item) -> None:
    """An item that runs at the call, on a running loop, sends the same three signals to async receivers."""

    async def view() -> None:
        with immediate_work_items():
            queue_background_work_item(work_item)

    with contextlib.ExitStack() as stack:
        for signal in OF_ITEMS:
            stack.enter_context(connected(signal, received.async_receiver))
        asyncio.run(view())
    assert [info.status for info, _, _ in received.calls] == ["queued", "running", "succeeded"]


# Each end has one signal.


def ends_by_cancel(token) -> None:
    token.wait(PATIENCE)
    token.raise_if_cancellation_requested()


async def ends_by_cancel_async(token) -> None:
    await token.cancelled()
    token.raise_if_cancellation_requested()


@pytest.mark.parametrize("work_item", [ends_by_cancel, ends_by_cancel_async])
def test_cancelled_item_sends_one_finished(received: Received, work_item) -> None:
    """A cancelled item sends work_item_finished once, with status and reason."""
    with connected("work_item_finished", received.sync_receiver):
        handle = queue_background_work_item(work_item)
        handle.cancel()
        assert handle.wait(PATIENCE)
    [(info, _, _)] = received.calls
    assert (info.status, info.cancel_reason) == ("cancelled", "requested")


def test_item_cancelled_before_its_start_sends_finished_only(received: Received) -> None:
    """An item that never starts is never said to have started."""
    with full_queue(), contextlib.ExitStack() as stack:
        for handle in [signals.work_item_started, signals.work_item_finished]:
            handle.connect(received.sync_receiver)
            stack.callback(handle.disconnect, received.sync_receiver)
        started, release = threading.Event(), threading.Event()
        with override_settings(QBWI={"MAX_WORKERS": 1}):
            blocker = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
            assert started.wait(PATIENCE)
            received.calls.clear()
            assert queue_background_work_item(sync_item).cancel()
            assert [(info.status, thread) for info, thread, _ in received.calls] == [("cancelled", here())]
            release.set()
            assert blocker.wait(PATIENCE)


def test_given_up_items_send_one_finished_each(received: Received) -> None:
    """At the limit of a drain ABANDONED and DISCARDED items send work_item_finished once; a late end sends nothing."""
    started, release = threading.Event(), threading.Event()
    with connected("work_item_finished", received.sync_receiver):
        running = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE), name="stuck")
        assert started.wait(PATIENCE)
        queue_background_work_item(sync_item, name="waiting")
        assert drain(0.01) is False
        release.set()
        assert running.wait(PATIENCE)
    ends = [(info.name, info.status) for info, _, _ in received.calls]
    assert ends == [("stuck", "abandoned"), ("waiting", "discarded")]


def test_signals_of_a_drain() -> None:
    """drain_started and drain_finished are sent once each, with what was there and what was left."""
    calls = []
    started, release = threading.Event(), threading.Event()

    def receiver(signal, **kwargs) -> None:
        calls.append({key: value for key, value in kwargs.items() if key not in {"sender", "limit", "elapsed"}})

    with connected("drain_started", receiver), connected("drain_finished", receiver):
        stuck = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
        assert started.wait(PATIENCE)
        queue_background_work_item(sync_item)
        drain(0.01)
        release.set()
        assert stuck.wait(PATIENCE)
    assert calls == [
        {"sign": "the end of its settings", "queued": 1, "running": 1},
        {"finished": 0, "cancelled": 0, "abandoned": 1, "discarded": 1, "handed_off": 0},
    ]


# Receivers that raise (F45).


class Broken(Exception):
    """What a bad receiver raises."""


@pytest.mark.parametrize(
    ("work_item", "is_async", "error"),
    [
        (work_item, is_async, error)
        for error in (Broken, SystemExit, asyncio.CancelledError)
        for work_item in (sync_item, async_item)
        for is_async in (False, True)
        # An async receiver of a sync item runs in a thread of asgiref's, which such an exception keeps alive.
        if (work_item, is_async) != (sync_item, True) or error is Broken
    ],
)
@pytest.mark.parametrize("signal", ["work_item_started", "work_item_finished"])
def test_receiver_cannot_change_the_outcome(signal: str, work_item, is_async: bool, error: type) -> None:
    """Whatever a receiver raises, the item ends as it would without it, and so does the next one."""
    ran = []

    def receiver(**kwargs) -> None:
        ran.append(1)
        raise error("from a receiver")

    async def async_receiver(**kwargs) -> None:
        receiver()

    with connected(signal, async_receiver if is_async else receiver):
        handles = [queue_background_work_item(work_item)]
        assert handles[0].wait(PATIENCE)
    handles.append(queue_background_work_item(work_item))
    assert handles[1].wait(PATIENCE)
    assert [handle.status for handle in handles] == ["succeeded", "succeeded"]
    assert ran == [1]


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync receiver", "async receiver"])
def test_receiver_of_queued_cannot_refuse(on_loop: bool, is_async: bool, caplog) -> None:
    """A receiver of work_item_queued that raises is logged; the item is queued and the caller gets the handle."""

    def receiver(**kwargs) -> None:
        raise Broken

    async def async_receiver(**kwargs) -> None:
        raise Broken

    async def view():
        return queue_background_work_item(sync_item)

    with connected("work_item_queued", async_receiver if is_async else receiver):
        handle = asyncio.run(view()) if on_loop else queue_background_work_item(sync_item)
        assert handle.wait(PATIENCE)
        assert queue_background_work_item(async_item).wait(PATIENCE)
    assert handle.status == "succeeded"
    assert drain(PATIENCE)
    assert "receiver" in caplog.text


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_receiver_of_queued_reaches_the_main_thread(on_loop: bool, error: type[BaseException]) -> None:
    """It may be a server's handler that struck there: it goes on, and the item runs all the same."""

    def receiver(**kwargs) -> None:
        raise error

    ran = threading.Event()

    def queue() -> None:
        queue_background_work_item(lambda token: ran.set())

    async def view():
        queue()

    with connected("work_item_queued", receiver), pytest.raises(error):
        asyncio.run(view()) if on_loop else queue()
    assert ran.wait(PATIENCE)
    assert drain(PATIENCE)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_receiver_of_queued_does_not_end_a_worker(error: type[BaseException], caplog) -> None:
    """In a thread of ours nobody waits for it: it is logged, and the item that queued goes on."""

    def receiver(info, **kwargs) -> None:
        if info.name == "second":
            raise error

    def first(token) -> None:
        assert queue_background_work_item(sync_item, name="second") is not None

    with connected("work_item_queued", receiver):
        handle = queue_background_work_item(first)
        assert handle.wait(PATIENCE)
        assert drain(PATIENCE)
    assert handle.status == "succeeded"
    assert "Sending a signal of work items failed" in caplog.text


def test_receiver_of_rejected_cannot_hide_the_refusal() -> None:
    """A receiver of work_item_rejected that raises leaves the caller with QueueFull."""

    def receiver(**kwargs) -> None:
        raise Broken

    with connected("work_item_rejected", receiver), full_queue(), pytest.raises(QueueFull):
        queue_background_work_item(sync_item)


def test_other_receivers_are_called(received: Received) -> None:
    """A receiver that raises keeps no other receiver from its call."""

    def receiver(**kwargs) -> None:
        raise Broken

    with connected("work_item_finished", receiver), connected("work_item_finished", received.sync_receiver):
        assert queue_background_work_item(sync_item).wait(PATIENCE)
    assert len(received.calls) == 1


def test_a_receiver_may_queue(received: Received) -> None:
    """A receiver of work_item_finished may queue the next item."""
    following = []

    def receiver(info, **kwargs) -> None:
        if info.name == "first":
            following.append(queue_background_work_item(sync_item))

    with connected("work_item_finished", receiver):
        assert queue_background_work_item(sync_item, name="first").wait(PATIENCE)
        assert following[0].wait(PATIENCE)


def test_receiver_in_a_view_under_asgi(received: Received) -> None:
    """In a sync view under ASGI, where a loop waits for the thread, async receivers are called too."""

    async def server() -> None:
        with connected("work_item_queued", received.async_receiver):
            handle = await sync_to_async(queue_background_work_item)(sync_item)
            await handle

    asyncio.run(server())
    assert len(received.calls) == 1
