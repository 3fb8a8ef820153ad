"""What an item can be told: nonsense is refused at the call, with the cure, and what is told nothing pays nothing."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.template.loader import render_to_string

from django_qbwi import (
    InvalidWorkItem,
    Retry,
    WorkItemStatus,
    background_work_item,
    exponential,
    hosting,
    live_items,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.console.dashboard import ItemRow
from django_qbwi.testing import drain
from tests.support.gates import PATIENCE, Gate

S = WorkItemStatus
NAN, INFINITY = float("nan"), float("inf")


def sync(token: Any, *args: Any) -> None:
    """Do nothing."""


async def asynchronous(token: Any, *args: Any) -> None:
    """Do nothing, on the loop."""


async def akey() -> int:
    """Return a key, later."""
    return 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds items until it is opened, at the latest at the end of the test."""
    gate = Gate()
    yield gate
    gate.open()


KINDS = pytest.mark.parametrize("function", [sync, asynchronous])

# Each option, values of it that make no sense, and what the refusal says to give.
BAD: list[tuple[str, list[Any], str]] = [
    ("name", ["", 5, b"thumbnails", ["a"]], "give a non-empty str"),
    ("timeout", [0, -1, "5", True, NAN, INFINITY, decimal.Decimal(5)], "give a number of seconds above 0"),
    ("delay", [-1, -0.001, "5", True, NAN, INFINITY, datetime.timedelta(1)], "give a number of seconds, 0 or more"),
    ("priority", [101, -101, 1.0, "1", True], "give a whole number from -100 to 100"),
    ("expires", [0, -1, "5", True, NAN, INFINITY, datetime.timedelta(1)], "give a number of seconds above 0"),
    ("retry", [3, True, {"max_attempts": 3}, Retry, exponential()], "give a Retry, as in Retry(max_attempts=3)"),
    ("concurrency", [0, -1, 2.0, "2", True], "a whole number of 1 or more"),
    ("concurrency_key", ["pk", 5, akey], "give a function that returns a key"),
    ("unique_key", ["pk", 5, akey], "give a function that returns a key"),
    ("wait_for_room", [-1, "60", True, NAN, INFINITY], "give a number of seconds, 0 or more"),
    ("hand_off", ["", 5, True], "give an alias of TASKS"),
    ("pool", ["", 5, True], 'give the name of a pool, as QBWI["POOLS"] has it'),
    ("executor", ["", "processes", 5, True], 'give "thread" or "process"'),
    ("labels", ["order", 5, [("order", 42)]], 'give a dict, as in labels={"order": 42}'),
]
ROWS = [
    pytest.param(option, value, cure, id=f"{option}-{number}")
    for option, values, cure in BAD
    for number, value in enumerate(values)
]
OF_THE_CALL_ALONE = {"delay", "wait_for_room"}
OF_THE_FUNCTIONS = {"name", "timeout", "delay", "expires", "executor", "labels"}


@KINDS
@pytest.mark.parametrize(("option", "value", "cure"), ROWS)
def test_value_that_makes_no_sense(function: Callable[..., Any], option: str, value: Any, cure: str) -> None:
    """It is named, with the cure, wherever it is given, for both kinds; nothing is queued."""
    given: dict[str, Any] = {option: value}
    ways: list[Callable[[], Any]] = [lambda: background_work_item(function).using(**given)]
    if option not in OF_THE_CALL_ALONE:
        ways.append(lambda: background_work_item(**given)(function))
    if option in OF_THE_FUNCTIONS:
        ways.append(lambda: queue_background_work_item(function, **given))
        ways.append(lambda: queue_on_commit(function, **given))
    for way in ways:
        with pytest.raises(InvalidWorkItem) as refused:
            way()
        assert f"{option} is {value!r}" in str(refused.value)
        assert cure in str(refused.value)
    assert live_items() == []


def test_pool_and_helper_process() -> None:
    """Helper processes are no part of a pool: one of the two is too much."""
    with pytest.raises(InvalidWorkItem, match=r"pool is 'mail' and executor is \"process\".*Leave one of them out"):
        background_work_item(pool="mail", executor="process")(sync)


@KINDS
@pytest.mark.parametrize("option", ["executors", "prioriti", "labells"])
def test_option_that_there_is_not(function: Callable[..., Any], option: str) -> None:
    """It is refused by all that take options, also for an async item, as any other keyword."""
    given: dict[str, Any] = {option: 1}
    for way in (
        lambda: background_work_item(**given)(function),
        lambda: background_work_item(function).using(**given),
        lambda: queue_background_work_item(function, **given),
        lambda: queue_on_commit(function, **given),
    ):
        with pytest.raises(InvalidWorkItem, match=rf"unknown option\(s\) '{option}'"):
            way()
    assert live_items() == []


def test_nearest_option_is_named() -> None:
    """Where there is one; else all of them."""
    with pytest.raises(
        InvalidWorkItem, match=r"using\(\) got unknown option\(s\) 'prioriti': did you mean priority=\?"
    ):
        background_work_item(sync).using(prioriti=5)  # type: ignore[call-arg]
    with pytest.raises(InvalidWorkItem, match=r"'xyz': it takes name, timeout, using, delay"):
        background_work_item(sync).using(xyz="mail")  # type: ignore[call-arg]


@pytest.mark.parametrize("using", [5, "otter", ""])
def test_database_that_there_is_not(using: Any) -> None:
    """It is refused where it is queued for the commit, with those that there are."""
    for way in (
        lambda: queue_on_commit(sync, using=using),
        lambda: background_work_item(sync).using(using=using).queue_on_commit(),
    ):
        with pytest.raises(InvalidWorkItem, match=r"using is .*: give an alias of DATABASES \(default, other\)"):
            way()


def test_options_that_exclude_each_other() -> None:
    """Each by itself makes sense."""
    with pytest.raises(InvalidWorkItem, match="a concurrency_key and no concurrency: say how many"):
        background_work_item(concurrency_key=lambda: 1)(sync)
    with pytest.raises(InvalidWorkItem, match="it would expire before it may start"):
        background_work_item(expires=5)(sync).using(delay=5)


@KINDS
@pytest.mark.parametrize("option", ["unique_key", "concurrency_key"])
def test_keys_of_the_user_that_go_wrong(function: Callable[..., Any], option: str) -> None:
    """One that raises, or returns what is no key: refused at the call, in the thread of the caller, with the cure."""
    threads: list[threading.Thread] = []

    def bad_key(value: Any) -> Any:
        threads.append(threading.current_thread())
        return [value] if value else 1 // value

    given: dict[str, Any] = {option: bad_key, "concurrency": 1}
    decorated = background_work_item(**given)(function)
    with pytest.raises(InvalidWorkItem, match=rf"the {option} of .* raised .*ZeroDivisionError"):
        decorated.queue(0)
    with pytest.raises(InvalidWorkItem, match=rf"the {option} of .* returned a .*list, .*return the primary key"):
        decorated.queue(1)
    assert threads == [threading.current_thread()] * 2
    assert live_items() == []


@pytest.mark.parametrize("pause", ["soon", -1, True, NAN, INFINITY, None, "raise"], ids=repr)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_backoff_that_goes_wrong(kind: str, pause: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It ends the item FAILED, by the failure of its own, and a record names the backoff and what to return."""

    def backoff(attempt: int, error: BaseException) -> Any:
        if pause == "raise":
            raise RuntimeError("oops")
        return pause

    def fail(token: Any) -> None:
        raise KeyError("its own")

    async def afail(token: Any) -> None:
        raise KeyError("its own")

    decorated = background_work_item(retry=Retry(backoff=backoff))(fail if kind == "sync" else afail)
    with caplog.at_level(logging.WARNING):
        handle = decorated.queue()
        assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.attempt) == (S.FAILED, 1)
    assert isinstance(handle.exception(), KeyError)
    assert "is not tried again: its backoff " in caplog.text
    assert ("raised builtins.RuntimeError: oops" if pause == "raise" else repr(pause)) in caplog.text


def test_wait_that_would_block_a_loop() -> None:
    """It is refused there, with the cure, also for an async item."""

    async def queue() -> None:
        background_work_item(asynchronous).using(wait_for_room=1).queue()

    with pytest.raises(InvalidWorkItem, match=r"on a running event loop.*aqueue"):
        asyncio.run(queue())


# What is said of the options.


def test_defaults() -> None:
    """Of a policy, and of its pauses."""
    policy = Retry()
    assert (policy.max_attempts, policy.on) == (3, (Exception,))
    assert policy.backoff == exponential(first=1.0, factor=2.0, longest=300.0, jitter=0.5)


def test_backoff_gets_attempt_and_exception() -> None:
    """The number of the attempt that has failed, from 1 on, and what that has raised."""
    calls: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float:
        calls.append((attempt, repr(error)))
        return 0

    @background_work_item(retry=Retry(backoff=backoff))
    def fail(token: Any) -> None:
        raise KeyError(len(calls))

    assert fail.queue().wait(PATIENCE)
    assert calls == [(1, "KeyError(0)"), (2, "KeyError(1)")]


def test_key_of_a_limit_gets_the_arguments_of_the_item() -> None:
    """Its own, by position and by keyword, in the caller's thread."""
    seen: list[Any] = []

    def key(tenant_id: int, deep: bool = False) -> int:
        seen.append((tenant_id, deep, threading.current_thread()))
        return tenant_id

    def rebuild(token: Any, tenant_id: int, deep: bool = False) -> None:
        """Do nothing."""

    handle = background_work_item(concurrency=1, concurrency_key=key)(rebuild).queue(7, deep=True)
    assert handle.wait(PATIENCE)
    assert seen == [(7, True, threading.current_thread())]


@pytest.mark.parametrize(
    "given", [{"delay": 60}, {"retry": Retry(backoff=lambda attempt, error: 60)}], ids=["delay", "retry"]
)
def test_what_waits_for_its_time_holds_no_worker(given: dict[str, Any], settings: Any) -> None:
    """The only one is free for the next item, and the queue has its room."""
    settings.QBWI = {"MAX_WORKERS": 1, "MAX_QUEUED": 1, "SHUTDOWN_TIMEOUT": 1.0}
    failed = Gate()

    @background_work_item
    def fail(token: Any) -> None:
        failed.entered.release()
        raise KeyError

    waiting = fail.using(**given).queue()
    if "retry" in given:
        failed.await_entered()
    assert all(queue_background_work_item(sync).wait(PATIENCE) for _ in range(3))
    assert waiting.status is S.QUEUED
    assert waiting.cancel()


@KINDS
def test_item_that_is_told_nothing(function: Callable[..., Any], gate: Gate, settings: Any) -> None:
    """It has the options of all of them, the same object; nothing is made for it before it starts."""
    settings.QBWI = {"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}
    held = gate.hold if function is asynchronous else gate
    queue_background_work_item(held)  # type: ignore[arg-type]
    gate.await_entered()
    handles = [queue_background_work_item(function), background_work_item(function).queue()]
    items = [item for item in hosting.scheduler().live_items() if item.waits]
    assert len(items) == 2
    assert items[0].options is items[1].options is hosting.this_process().current.options
    assert [item.last_run for item in items] == [None, None]
    assert hosting.scheduler()._turns.is_empty
    assert not hosting.scheduler()._timetable.timers
    gate.open()
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert drain(PATIENCE)


def test_priority_is_told_of(gate: Gate, settings: Any) -> None:
    """In the info, in the table and the description of the command, and on the page; the usual one is no note."""
    settings.QBWI = {"MAX_WORKERS": 1}
    queue_background_work_item(gate)
    gate.await_entered()
    plain, urgent = background_work_item(sync).queue(), background_work_item(sync).using(priority=-7).queue()
    assert [plain.info.priority, urgent.info.priority] == [0, -7]
    for arguments, told in ((["list"], "priority -7"), (["show", urgent.id], "priority      -7")):
        written = io.StringIO()
        call_command("qbwi", *arguments, stdout=written)
        assert written.getvalue().count(told) == 1
        assert "priority 0" not in written.getvalue()
    rows = [ItemRow.of(handle.info.to_dict(), datetime.datetime.now(datetime.UTC)) for handle in (plain, urgent)]
    badges = [render_to_string("admin/django_qbwi/workitem/status.html", {"row": row}) for row in rows]
    assert ["priority -7" in badge for badge in badges] == [False, True]
    gate.open()
    assert drain(PATIENCE)
    assert urgent.info.priority == -7
