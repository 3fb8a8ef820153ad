"""When an item may start: `delay`, `expires` and `priority`, of the functions, the decorator and `using`."""

import threading
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from django_qbwi import (
    InvalidWorkItem,
    QueueFull,
    background_work_item,
    copies_request,
    hosting,
    live_items,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.signals import work_item_finished
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.gates import PATIENCE, Gate

seen: list[Any] = []


def note(token: Any, *args: Any) -> None:
    """Write down what it is called with."""
    seen.append(args)


async def anote(token: Any, *args: Any) -> None:
    """Do the same on the loop."""
    seen.append(args)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Begin anew."""
    seen.clear()


def due_in() -> list[int]:
    """Return the seconds for which items wait, rounded."""
    scheduler = hosting.scheduler()
    return [round(due - scheduler.clock()) for due in scheduler._delayed.values()]


@pytest.mark.parametrize("item", [note, anote])
def test_delayed_item_starts_later(item: Any) -> None:
    """It waits on a timer, and runs as any other then."""
    handle = queue_background_work_item(item, 1, delay=0.05)
    assert (handle.status, hosting.scheduler().delayed_count) == ("queued", 1)
    assert handle.wait(PATIENCE)
    assert (handle.status, seen) == ("succeeded", [(1,)])
    assert handle.info.started_at is not None
    assert (handle.info.started_at - handle.info.queued_at).total_seconds() >= 0.045


def test_delayed_item_is_listed_and_can_be_cancelled() -> None:
    """It is QUEUED, and ends at once."""
    handle = queue_background_work_item(note, delay=3600)
    assert [(info.id, str(info.status)) for info in live_items()] == [(handle.id, "queued")]
    assert handle.cancel()
    assert (handle.status, live_items(), due_in()) == ("cancelled", [], [])


def test_decorated_item_with_a_delay() -> None:
    """By `using`, for one call; the decorated item itself has none."""
    item = background_work_item(note)
    handle = item.using(delay=3600).queue(1)
    assert due_in() == [3600]
    assert handle.cancel()
    assert item.queue(2).wait(PATIENCE)
    assert seen == [(2,)]


@pytest.mark.parametrize("delay", [0, 0.0, None])
def test_no_delay(delay: Any) -> None:
    """It starts as soon as there is a worker."""
    assert queue_background_work_item(note, delay=delay).wait(PATIENCE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by_using", [False, True])
def test_delay_counts_from_the_commit(by_using: bool) -> None:
    """Before it, nothing is queued."""
    with transaction.atomic():
        if by_using:
            background_work_item(note).using(delay=3600).queue_on_commit(1)
        else:
            queue_on_commit(note, 1, delay=3600)
        assert live_items() == []
    assert due_in() == [3600]
    drain(0.01)


@pytest.mark.django_db(transaction=True)
def test_delayed_item_in_a_transaction_warns() -> None:
    """As any other: it would run after a rollback too."""
    with transaction.atomic(), pytest.warns(match="inside an open transaction"):
        queue_background_work_item(note, delay=3600)
    drain(0.01)


def test_too_many_delayed_items() -> None:
    """They have a bound of their own."""
    with override_settings(QBWI={"MAX_DELAYED": 1}):
        queue_background_work_item(note, delay=3600)
        with pytest.raises(QueueFull, match="MAX_DELAYED"):
            queue_background_work_item(note, delay=3600)
        queue_background_work_item(note)


def test_settings_that_end_give_up_delayed_items() -> None:
    """They cannot begin any more: DISCARDED, at once."""
    with override_settings(QBWI={}):
        handle = queue_background_work_item(note, delay=3600)
    assert handle.status == "discarded"


# Priority.


def test_priority() -> None:
    """The highest first, whichever way it was given; within one, first in, first out."""
    gate = Gate()
    urgent = background_work_item(priority=5)(note)
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        queue_background_work_item(gate)
        gate.await_entered()
        queue_background_work_item(note, "usual")
        urgent.queue("urgent")
        urgent.using(priority=-5).queue("last")
        urgent.using(name="other").queue("urgent too")
        background_work_item(note).using(priority=100, timeout=60).queue("first")
        gate.open()
        assert drain(PATIENCE)
    assert [name for (name,) in seen] == ["first", "urgent", "urgent too", "usual", "last"]


def test_methods_have_options_too() -> None:
    """Those of an instance's method are those of its class's."""

    class Shop:
        @background_work_item(priority=3)
        def ship(self, token: Any) -> None:
            seen.append(threading.current_thread().name)

    assert Shop().ship.queue().wait(PATIENCE)
    assert Shop().ship.using(delay=0.01).queue().wait(PATIENCE)
    assert seen == ["qbwi-worker-1"] * 2


def test_copied_requests_keep_the_options(rf: Any) -> None:
    """Whichever decorator is the outer one."""
    for item in (
        background_work_item(priority=3)(copies_request(note)),
        copies_request(background_work_item(priority=3)(note)),
    ):
        handle = item.using(delay=3600).queue(rf.get("/"))
        assert (due_in(), handle._item.options.priority) == ([3600], 3)
        handle.cancel()


# Expiry.


@pytest.mark.parametrize("item", [note, anote])
@pytest.mark.parametrize("way", ["function", "decorator", "using"])
def test_item_expires(item: Any, way: str) -> None:
    """What has not started in time never does; whichever way it was said, and for both kinds."""
    gate, agate = Gate(), Gate()
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}):
        queue_background_work_item(gate)
        queue_background_work_item(agate.hold)
        gate.await_entered()
        agate.await_entered()
        if way == "function":
            handle = queue_background_work_item(item, 1, expires=0.01)
        elif way == "decorator":
            handle = background_work_item(expires=0.01)(item).queue(1)
        else:
            handle = background_work_item(item).using(expires=0.01).queue(1)
        assert handle.wait(PATIENCE)
        assert (handle.status, handle.info.cancel_reason, seen) == ("discarded", "expired", [])
        gate.open()
        agate.open()


def test_expiry_is_recorded_once(caplog: pytest.LogCaptureFixture) -> None:
    """At ERROR, as whatever is discarded, with the reason; and with one signal."""
    told: list[Any] = []

    def receive(info: Any, **kwargs: Any) -> None:
        told.append((info.id, info.status))

    gate = Gate()
    work_item_finished.connect(receive)
    try:
        with override_settings(QBWI={"MAX_WORKERS": 1}):
            queue_background_work_item(gate)
            gate.await_entered()
            handle = queue_background_work_item(note, expires=0.01, name="too late")
            assert handle.wait(PATIENCE)
            assert told == [(handle.id, "discarded")]
            gate.open()
    finally:
        work_item_finished.disconnect(receive)
    [record] = [record for record in caplog.records if "too late" in record.getMessage()]
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith("s: not started within 0.01 s")


def test_item_that_starts_in_time() -> None:
    """It runs as any other, and may take longer than that."""
    handle = queue_background_work_item(note, 1, expires=3600)
    assert handle.wait(PATIENCE)
    assert (handle.status, seen, handle.info.expires_at) == ("succeeded", [(1,)], None)


@pytest.mark.django_db(transaction=True)
def test_expiry_counts_from_the_commit() -> None:
    """Before it, nothing is queued."""
    with transaction.atomic():
        queue_on_commit(note, 1, delay=3600, expires=7200)
        background_work_item(note).using(delay=3600).using(expires=7200).queue_on_commit(2)
        assert live_items() == []
    left = [info.expires_at and round((info.expires_at - info.queued_at).total_seconds()) for info in live_items()]
    assert left == [7200, 7200]
    drain(0.01)


# In tests.


def test_none_counts_at_the_call() -> None:
    """Run at the call, an item starts at the call; captured, when the test says so."""
    with immediate_work_items():
        assert queue_background_work_item(note, 1, delay=3600, expires=7200).status == "succeeded"
    with override_settings(QBWI={"IMMEDIATE": True}):
        assert background_work_item(note).using(delay=3600, priority=3).queue(2).status == "succeeded"
    with captured_work_items() as captured:
        queue_background_work_item(note, 3, delay=3600, expires=7200)
        captured.run_all()
    assert seen == [(1,), (2,), (3,)]


# Bad input.


@pytest.mark.parametrize("delay", [-1, -0.001, float("nan"), float("inf"), "5", True, [], 10**400], ids=str)
def test_wrong_delay(delay: Any) -> None:
    """It is named, with the cure; nothing is queued."""
    for call in (
        lambda: queue_background_work_item(note, delay=delay),
        lambda: queue_on_commit(note, delay=delay),
        lambda: background_work_item(note).using(delay=delay),
    ):
        with pytest.raises(InvalidWorkItem, match=r"delay is .*: give a number of seconds"):
            call()
    assert live_items() == []


@pytest.mark.parametrize("priority", [101, -101, 1.5, "high", True, float("nan"), 10**30], ids=str)
def test_wrong_priority(priority: Any) -> None:
    """It is named, with the cure, where the item is decorated."""
    with pytest.raises(InvalidWorkItem, match=r"priority is .*: give a whole number from -100 to 100"):
        background_work_item(priority=priority)(note)
    with pytest.raises(InvalidWorkItem, match="priority is"):
        background_work_item(note).using(priority=priority)


@pytest.mark.parametrize("expires", [0, -1, float("nan"), float("inf"), "5", True, [], 10**400], ids=str)
def test_wrong_expiry(expires: Any) -> None:
    """It is named, with the cure; nothing is queued."""
    for call in (
        lambda: queue_background_work_item(note, expires=expires),
        lambda: queue_on_commit(note, expires=expires),
        lambda: background_work_item(expires=expires)(note),
        lambda: background_work_item(note).using(expires=expires),
    ):
        with pytest.raises(InvalidWorkItem, match=r"expires is .*: give a number of seconds above 0"):
            call()
    assert live_items() == []


@pytest.mark.parametrize("delay", [5, 6.0])
def test_delay_that_is_not_before_the_expiry(delay: float) -> None:
    """It could never start: refused at the call, whoever has given which."""
    for call in (
        lambda: queue_background_work_item(note, delay=delay, expires=5),
        lambda: queue_on_commit(note, delay=delay, expires=5),
        lambda: background_work_item(expires=5)(note).using(delay=delay),
        lambda: queue_background_work_item(background_work_item(expires=5)(note), delay=delay),
    ):
        with pytest.raises(InvalidWorkItem, match=r"delay is .* and expires is .*Give a smaller delay"):
            call()
    assert live_items() == []


def test_delay_of_a_decorator() -> None:
    """A function has no delay of its own: each call may have one."""
    with pytest.raises(InvalidWorkItem, match="'delay'; it takes name, timeout, priority, hand_off, retry, expires, "):
        background_work_item(delay=5)  # type: ignore[call-overload]


def test_delay_of_a_hundred_years() -> None:
    """It waits; the process ends long before."""
    handle = queue_background_work_item(note, delay=3.2e9)
    assert due_in() == [3_200_000_000]
    assert handle.cancel()
