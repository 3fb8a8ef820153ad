"""`wait_for_room` of `using`, and `aqueue`: fan-out into a full queue, from commands, items and loops."""

import asyncio
import signal
import threading
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from django_qbwi import (
    CancelReason,
    InvalidWorkItem,
    OperationCancelled,
    QueueFull,
    SchedulerDraining,
    background_work_item,
    current_work_item,
    hosting,
    live_items,
    queue_background_work_item,
)
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.gates import PATIENCE, Gate, until

seen: list[Any] = []


@background_work_item
def note(token: Any, *args: Any) -> None:
    """Write down what it is called with."""
    seen.append(args)


@background_work_item
async def anote(token: Any, *args: Any) -> None:
    """Do the same on the loop."""
    seen.append(args)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Begin anew."""
    seen.clear()


def callers() -> int:
    """Return how many wait for room."""
    return len(hosting.scheduler()._callers)


@pytest.mark.parametrize("item", [note, anote])
def test_1500_items_of_a_command(item: Any) -> None:
    """Into a queue of 1,000: none is refused, each is run once, in their order."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}):
        gate = Gate()
        queue_background_work_item(gate if item is note else gate.hold)
        gate.await_entered()
        opener = threading.Thread(target=lambda: (until(callers), gate.open()))
        opener.start()
        fan_out = item.using(wait_for_room=PATIENCE)
        for number in range(1_500):
            fan_out.queue(number)
        opener.join(PATIENCE)
        assert drain(PATIENCE)
    assert seen == [(number,) for number in range(1_500)]


@pytest.mark.parametrize("item", [note, anote])
def test_1500_items_of_an_item(item: Any) -> None:
    """The other worker, or the loop, makes room for it."""

    def fan_out(token: Any) -> None:
        for number in range(1_500):
            item.using(wait_for_room=PATIENCE).queue(number)

    with override_settings(QBWI={"MAX_WORKERS": 2}):
        handle = queue_background_work_item(fan_out)
        assert handle.wait(PATIENCE)
        assert handle.status == "succeeded"
        assert drain(PATIENCE)
    assert sorted(seen) == [(number,) for number in range(1_500)]


@pytest.mark.parametrize("item", [note, anote])
def test_1500_items_of_an_async_item(item: Any) -> None:
    """By `aqueue`: the loop goes on, and runs what it has queued."""

    async def fan_out(token: Any) -> None:
        for number in range(1_500):
            await item.using(wait_for_room=PATIENCE).aqueue(number)

    handle = queue_background_work_item(fan_out)
    assert handle.wait(PATIENCE)
    assert handle.status == "succeeded"
    assert drain(PATIENCE)
    assert sorted(seen) == [(number,) for number in range(1_500)]


def test_item_on_the_only_worker() -> None:
    """It fills the queue, and is refused at once then, with the reason: nobody else could make room."""
    errors: list[QueueFull] = []

    def fan_out(token: Any) -> None:
        for number in range(1_500):
            try:
                note.using(wait_for_room=3600).queue(number)
            except QueueFull as error:
                errors.append(error)
                return

    with override_settings(QBWI={"MAX_WORKERS": 1}):
        assert queue_background_work_item(fan_out).wait(PATIENCE)
        assert drain(PATIENCE)
    assert len(seen) == 1_000
    assert "everything that runs waits for room itself" in str(errors[0])


def test_all_workers_fan_out() -> None:
    """The last one is refused, and the others go on when its worker is free."""
    together = threading.Barrier(2)
    refused: list[QueueFull] = []

    def fan_out(token: Any) -> None:
        together.wait(PATIENCE)
        for number in range(5):
            try:
                note.using(wait_for_room=PATIENCE).queue(number)
            except QueueFull as error:
                refused.append(error)
                return

    with override_settings(QBWI={"MAX_WORKERS": 2, "MAX_QUEUED": 2}):
        handles = [queue_background_work_item(fan_out) for _ in range(2)]
        assert all(handle.wait(PATIENCE) for handle in handles)
        assert drain(PATIENCE)
    assert len(refused) == 1
    assert len(seen) >= 5


# Who waits no longer.


@pytest.fixture
def full() -> Any:
    """A queue of one with one in it, behind items that stay until the test opens their gate."""
    gate = Gate()
    with override_settings(QBWI={"MAX_WORKERS": 2, "MAX_QUEUED": 1}):
        for _ in range(2):
            queue_background_work_item(gate)
            gate.await_entered()
        queue_background_work_item(note, "waits")
        yield gate


def test_no_room_within_the_time(full: Gate) -> None:
    """QueueFull, as without a wait."""
    with pytest.raises(QueueFull, match=r"there was no room for 0\.01 s, by QBWI"):
        note.using(wait_for_room=0.01).queue(1)
    with pytest.raises(QueueFull):
        note.using(wait_for_room=0).queue(1)
    full.open()


@pytest.mark.parametrize("is_async", [False, True])
def test_item_that_is_cancelled_while_it_waits(is_async: bool) -> None:
    """It is CANCELLED by its own token, and has queued nothing."""
    left: list[BaseException] = []
    begun, go_on, gate = threading.Event(), threading.Event(), Gate()

    def fan_out(token: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        try:
            note.using(wait_for_room=PATIENCE).queue("never")
        except BaseException as error:
            left.append(error)
            raise

    async def afan_out(token: Any) -> None:
        begun.set()
        assert await asyncio.to_thread(go_on.wait, PATIENCE)
        try:
            await note.using(wait_for_room=PATIENCE).aqueue("never")
        except BaseException as error:
            left.append(error)
            raise

    with override_settings(QBWI={"MAX_WORKERS": 2, "MAX_QUEUED": 1}):
        handle = queue_background_work_item(afan_out if is_async else fan_out)
        assert begun.wait(PATIENCE)
        for _ in range(2 if is_async else 1):
            queue_background_work_item(gate)
            gate.await_entered()
        note.queue("first")
        go_on.set()
        until(callers)
        assert handle.cancel()
        assert handle.wait(PATIENCE)
        assert (handle.status, handle.info.cancel_reason) == ("cancelled", CancelReason.REQUESTED)
        gate.open()
        assert drain(PATIENCE)
    assert isinstance(left[0], OperationCancelled)
    assert seen == [("first",)]


def test_drain_that_accepts_nothing_ends_the_wait() -> None:
    """With its own error, soon."""
    errors: list[BaseException] = []
    gate = Gate()

    def wait() -> None:
        try:
            note.using(wait_for_room=PATIENCE).queue("never")
        except SchedulerDraining as error:
            errors.append(error)

    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1, "ACCEPT_WHILE_DRAINING": False}):
        queue_background_work_item(gate)
        gate.await_entered()
        note.queue("waits")
        thread = threading.Thread(target=wait)
        thread.start()
        until(callers)
        hosting.this_process().current.coordinator.sign("a test", at_most=PATIENCE)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        gate.open()
    assert len(errors) == 1


class StoppedError(Exception):
    """Stands for what a server's handler raises."""


def test_main_thread_hears_a_signal_while_it_waits(full: Gate) -> None:
    """Also one that another thread has received: it waits in turns. What a handler raises leaves nothing behind."""

    def stop(signum: int, frame: Any) -> None:
        raise StoppedError

    previous = signal.signal(signal.SIGUSR1, stop)
    try:
        sender = threading.Thread(target=lambda: (until(callers), signal.raise_signal(signal.SIGUSR1)))
        sender.start()
        with pytest.raises(StoppedError):
            note.using(wait_for_room=PATIENCE).queue("never")
        sender.join(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert callers() == 0
    full.open()


# Loops.


def test_running_loop_is_not_blocked() -> None:
    """It is refused there at once, whether there is room or not, with the cure."""

    async def call() -> None:
        note.using(wait_for_room=1).queue(1)

    with pytest.raises(InvalidWorkItem, match=r"wait_for_room=1\.0 on a running event loop.*aqueue"):
        asyncio.run(call())
    assert live_items() == []


def test_aqueue_of_an_item_that_does_not_wait() -> None:
    """It is `queue`, with an `await`."""

    async def call() -> Any:
        return [await note.aqueue(1), await note.using(delay=3600).aqueue(2)]

    first, second = asyncio.run(call())
    assert first.wait(PATIENCE)
    assert second.cancel()
    assert seen == [(1,)]


def test_handle_of_aqueue() -> None:
    """It is that of the item, once that has its place."""

    async def call() -> Any:
        handle = await note.using(wait_for_room=1).aqueue(1)
        return await handle

    assert asyncio.run(call()).status == "succeeded"


# Elsewhere.


@pytest.mark.django_db(transaction=True)
def test_on_commit_waits_behind_the_commit(full: Gate) -> None:
    """In the thread of the one who commits."""
    opener = threading.Thread(target=lambda: (until(callers), full.open()))
    opener.start()
    with transaction.atomic():
        note.using(wait_for_room=PATIENCE).queue_on_commit("after")
        assert callers() == 0
    opener.join(PATIENCE)
    assert drain(PATIENCE)
    assert ("after",) in seen


def test_none_is_waited_for_at_the_call() -> None:
    """Run at the call, or captured, an item needs no room."""
    with immediate_work_items():
        assert note.using(wait_for_room=5).queue(1).status == "succeeded"
    with captured_work_items() as captured:
        note.using(wait_for_room=5).queue(2)
        captured.run_all()
    assert seen == [(1,), (2,)]


def test_method_and_options() -> None:
    """Of an instance's method too, and beside other options."""

    class Shop:
        @background_work_item(expires=3600)
        def ship(self, token: Any) -> None:
            seen.append(current_work_item() is not None)

    assert Shop().ship.using(wait_for_room=5, delay=0.01).queue().wait(PATIENCE)
    assert seen == [True]
    with pytest.raises(InvalidWorkItem, match="it has no instance"):
        Shop.ship.aqueue(Shop())  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True, [], 10**400], ids=str)
def test_wrong_wait(seconds: Any) -> None:
    """It is named, with the cure."""
    with pytest.raises(InvalidWorkItem, match=r"wait_for_room is .*: give a number of seconds, 0 or more"):
        note.using(wait_for_room=seconds)


def test_decorator_has_no_wait() -> None:
    """It is a matter of the one who calls."""
    with pytest.raises(InvalidWorkItem, match="'wait_for_room'; it takes"):
        background_work_item(wait_for_room=5)  # type: ignore[call-overload]
