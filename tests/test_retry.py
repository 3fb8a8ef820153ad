"""Items that are tried again: on threads and on the loop, by signals and records, at the call, and by bad options."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_qbwi import (
    InvalidWorkItem,
    Retry,
    WorkItemHandle,
    WorkItemStatus,
    background_work_item,
    current_work_item,
    exponential,
    hosting,
)
from django_qbwi.core.items import handle_of
from django_qbwi.signals import work_item_finished, work_item_retried, work_item_started
from django_qbwi.testing import immediate_work_items
from tests.support.gates import PATIENCE

S = WorkItemStatus


class Flaky(Exception):
    """What is tried again."""


class Journal:
    """What the attempts have seen; each of them fails but the last."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, Any]] = []
        self.fails = 2
        self.lock = threading.Lock()

    def attempt(self, token: Any, what: Any) -> None:
        with self.lock:
            handle = current_work_item()
            assert handle is not None
            assert handle.token is token
            self.seen.append((handle.info.attempt, threading.current_thread().name, what))
            if len(self.seen) <= self.fails:
                raise Flaky(f"attempt {len(self.seen)}")


@pytest.fixture
def journal() -> Journal:
    """A journal of two failures."""
    return Journal()


@pytest.fixture
def told() -> Iterator[list[tuple[str, int]]]:
    """The signals of items, each with the attempt that its info names."""
    found: list[tuple[str, int]] = []

    def receiver(name: str) -> Callable[..., None]:
        return lambda info, **kwargs: found.append((name, info.attempt))

    signals = {"started": work_item_started, "retried": work_item_retried, "finished": work_item_finished}
    receivers = {name: receiver(name) for name in signals}
    for name, signal in signals.items():
        signal.connect(receivers[name])
    yield found
    for name, signal in signals.items():
        signal.disconnect(receivers[name])


NOW = Retry(max_attempts=3, on=(Flaky,), backoff=lambda attempt, error: 0)


def queue(kind: str, journal: Journal, retry: Retry = NOW) -> WorkItemHandle:
    """Queue an item of that kind, which is written into the journal."""

    @background_work_item(retry=retry)
    def sync(token: Any, what: str) -> None:
        journal.attempt(token, what)

    @background_work_item(retry=retry)
    async def asynchronous(token: Any, what: str) -> None:
        await asyncio.sleep(0)
        journal.attempt(token, what)

    async def rest(token: Any, what: str) -> None:
        journal.attempt(token, what)

    @background_work_item(retry=retry)
    def awaitable(token: Any, what: str) -> Any:
        return rest(token, what)

    return {"sync": sync, "async": asynchronous, "awaitable": awaitable}[kind].queue("it")


KINDS = ("sync", "async", "awaitable")


@pytest.mark.parametrize("kind", KINDS)
def test_item_is_tried_again(
    kind: str, journal: Journal, told: list[tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """Two failures are two warnings with their tracebacks and two signals; then it has succeeded."""
    handle = queue(kind, journal)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.attempt, handle.exception()) == (S.SUCCEEDED, 3, None)
    assert [(attempt, what) for attempt, _, what in journal.seen] == [(1, "it"), (2, "it"), (3, "it")]
    assert told == [
        *(("started", 1), ("retried", 1)),
        *(("started", 2), ("retried", 2)),
        *(("started", 3), ("finished", 3)),
    ]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().partition("attempt=")[2][:8] for record in warnings] == ["1 failed", "2 failed"]
    for record in warnings:
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Flaky)
        assert record.exc_info[2] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_last_attempt_fails(kind: str, journal: Journal, told: list[tuple[str, int]]) -> None:
    """It is FAILED with what the last one has raised, once."""
    journal.fails = 9
    handle = queue(kind, journal)
    assert handle.wait(PATIENCE)
    assert (handle.status, str(handle.exception())) == (S.FAILED, "attempt 3")
    assert [event for event, _ in told].count("finished") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_other_failures_are_not_tried_again(kind: str, journal: Journal) -> None:
    """Only what `on` names."""
    handle = queue(kind, journal, Retry(on=(KeyError,), backoff=lambda attempt, error: 0))
    assert handle.wait(PATIENCE)
    assert (handle.status, len(journal.seen)) == (S.FAILED, 1)


def test_signal_tells_of_failure_and_pause(journal: Journal) -> None:
    """What follows the info: the error in plain text, and the seconds until the next attempt."""
    found: list[tuple[Any, float]] = []

    def receive(info: Any, error: Any, seconds: float, **kwargs: Any) -> None:
        found.append((error, seconds))

    work_item_retried.connect(receive)
    try:
        assert queue("sync", journal).wait(PATIENCE)
    finally:
        work_item_retried.disconnect(receive)
    assert [(error.message, seconds) for error, seconds in found] == [("attempt 1", 0.0), ("attempt 2", 0.0)]


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_at_the_call(kind: str, journal: Journal, settings: Any, told: list[tuple[str, int]]) -> None:
    """Where items run at the call all attempts follow at once, whatever the pause is."""
    settings.QBWI = {"IMMEDIATE": True}
    handle = queue(kind, journal, Retry(on=Flaky, backoff=exponential(first=1000)))
    assert (handle.status, handle.info.attempt, len(journal.seen)) == (S.SUCCEEDED, 3, 3)
    assert [event for event, _ in told].count("retried") == 2


def test_attempt_at_the_call_that_a_receiver_cancels(journal: Journal, settings: Any) -> None:
    """No other attempt follows: it is CANCELLED."""
    settings.QBWI = {"IMMEDIATE": True}

    def cancel(info: Any, **kwargs: Any) -> None:
        [item] = hosting.scheduler().running_items()
        assert handle_of(item).cancel()

    work_item_retried.connect(cancel)
    try:
        handle = queue("sync", journal)
    finally:
        work_item_retried.disconnect(cancel)
    assert (handle.status, len(journal.seen)) == (S.CANCELLED, 1)


def test_using_replaces_the_policy(journal: Journal) -> None:
    """One call may have another one than the decorator."""

    @background_work_item(retry=NOW)
    def item(token: Any) -> None:
        journal.attempt(token, None)

    handle = item.using(retry=Retry(max_attempts=1)).queue()
    assert handle.wait(PATIENCE)
    assert (handle.status, len(journal.seen)) == (S.FAILED, 1)


def test_waiters_wait_for_the_last_attempt(journal: Journal) -> None:
    """A done callback, and who awaits, hear of the end once."""
    ended: list[WorkItemStatus] = []
    handle = queue("async", journal)
    handle.add_done_callback(lambda done: ended.append(done.status))

    async def wait() -> WorkItemStatus:
        return (await handle).status

    assert asyncio.run(wait()) is S.SUCCEEDED
    assert ended == [S.SUCCEEDED]


def test_captured_requests_and_names_stay(journal: Journal) -> None:
    """The block of a test runs an item as before: its options are those of the call."""
    with immediate_work_items():
        handle = queue("sync", journal, Retry(max_attempts=1))
    assert handle.status is S.FAILED


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attempts": 0}, "max_attempts is 0: give a whole number, 1 or more"),
        ({"max_attempts": 2.0}, "max_attempts is 2.0"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"on": "ValueError"}, "on is 'ValueError': give a class of exceptions"),
        ({"on": ()}, r"on is \(\)"),
        ({"on": (int,)}, "on is "),
        ({"on": [ValueError]}, "on is "),
        ({"backoff": 5}, r"backoff is 5: give a function .* exponential\(first=1.0\)"),
    ],
)
def test_policy_that_makes_no_sense(options: dict[str, Any], text: str) -> None:
    """It is refused where it is made, with the value and the cure."""
    with pytest.raises(InvalidWorkItem, match=text):
        Retry(**options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"first": -1}, "first is -1: give a number of at least 0"),
        ({"first": float("nan")}, "first is nan"),
        ({"first": "1"}, "first is '1'"),
        ({"factor": 0.5}, "factor is 0.5: give a number of at least 1"),
        ({"longest": float("inf")}, "longest is inf"),
        ({"jitter": 1.5}, "jitter is 1.5: give a number of at least 0 and at most 1"),
        ({"jitter": True}, "jitter is True"),
    ],
)
def test_backoff_that_makes_no_sense(options: dict[str, Any], text: str) -> None:
    """It is refused where it is made, with the value and the cure."""
    with pytest.raises(InvalidWorkItem, match=text):
        exponential(**options)


@pytest.mark.parametrize("retry", [3, "3", Retry, {"max_attempts": 3}], ids=repr)
def test_retry_that_is_none(retry: Any) -> None:
    """What is no Retry is refused by the decorator, and by `using`."""
    with pytest.raises(InvalidWorkItem, match=r"give a Retry, as in Retry\(max_attempts=3\)"):
        background_work_item(retry=retry)(lambda token: None)
    with pytest.raises(InvalidWorkItem, match="give a Retry"):
        background_work_item(lambda token: None).using(retry=retry)


@pytest.mark.parametrize(("attempt", "most"), [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (5_000, 300.0)])
def test_exponential(attempt: int, most: float) -> None:
    """It doubles up to the longest pause, and a random share of the half of it is left out."""
    backoff = exponential()
    pauses = [backoff(attempt, Flaky()) for _ in range(100)]
    assert most / 2 <= min(pauses) < max(pauses) <= most
    assert exponential(jitter=0)(attempt, Flaky()) == most
