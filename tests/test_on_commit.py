"""`queue_on_commit`: queued after the commit, never after a rollback, and without harm to anybody else."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test import override_settings

from django_qbwi import InvalidWorkItem, WorkItemRejected, queue_background_work_item, queue_on_commit
from django_qbwi.signals import work_item_rejected
from django_qbwi.testing import CapturedWorkItems, captured_work_items

PATIENCE = 30

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def item(token, *args) -> None:
    """Do nothing."""


@pytest.fixture
def captured() -> Iterator[CapturedWorkItems]:
    """What was queued."""
    with override_settings(QBWI={}), captured_work_items() as captured:
        yield captured


def test_queued_after_the_commit(captured) -> None:
    """Inside of the block nothing is queued; after it, the item is, with arguments and options."""
    with transaction.atomic():
        assert queue_on_commit(item, 1, name="mail", timeout=5) is None
        assert captured == []
    [queued] = captured
    assert (queued.name, queued.args, queued.timeout) == ("mail", (1,), 5)


def queue_and_fail(*args: object) -> None:
    with transaction.atomic():
        queue_on_commit(item, *args)
        raise ZeroDivisionError


def test_never_queued_after_a_rollback(captured) -> None:
    """A block that is left by an exception queues nothing (F42)."""
    with pytest.raises(ZeroDivisionError):
        queue_and_fail()
    assert captured == []


def test_set_rollback(captured) -> None:
    """A block that is marked for rollback queues nothing."""
    with transaction.atomic():
        queue_on_commit(item)
        transaction.set_rollback(True)
    assert captured == []


def test_nested_block_waits_for_the_outer_one(captured) -> None:
    """The end of an inner block is no commit."""
    with transaction.atomic():
        with transaction.atomic():
            queue_on_commit(item)
        assert captured == []
    assert len(captured) == 1


def test_savepoint_that_is_rolled_back(captured) -> None:
    """What was queued in a savepoint goes with it; the rest is queued."""
    with transaction.atomic():
        queue_on_commit(item, "outer")
        with pytest.raises(ZeroDivisionError):
            queue_and_fail("inner")
    assert [queued.args for queued in captured] == [("outer",)]


def test_order_is_that_of_the_calls(captured) -> None:
    """Items of one transaction are queued in the order of the calls."""
    with transaction.atomic():
        for number in range(5):
            queue_on_commit(item, number)
    assert [queued.args for queued in captured] == [(number,) for number in range(5)]


def test_outside_of_a_transaction(captured) -> None:
    """Where no transaction is open, the item is queued at once."""
    queue_on_commit(item)
    assert len(captured) == 1


def test_other_database(captured) -> None:
    """`using=` names the database whose transaction counts."""
    with transaction.atomic(using="other"):
        with transaction.atomic():
            queue_on_commit(item, using="other")
        assert captured == []
    assert len(captured) == 1


def test_transaction_of_another_database_does_not_count(captured) -> None:
    """A block of another database does not delay the item."""
    with transaction.atomic(using="other"):
        queue_on_commit(item)
        assert len(captured) == 1


def test_queued_in_a_thread_with_a_transaction(captured) -> None:
    """In the thread of a sync view under ASGI it works as everywhere."""

    def view() -> None:
        with transaction.atomic():
            queue_on_commit(item)
            assert captured == []

    asyncio.run(sync_to_async(view)())
    assert len(captured) == 1


# Refusals at the call.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: queue_on_commit(5), "must be callable"),
        (lambda: queue_on_commit(item, timeout=0), "timeout is 0"),
        (lambda: queue_on_commit(item, size=3), r"functools\.partial"),
        (lambda: queue_on_commit(lambda token: None, 1), "takes at most 1"),
    ],
)
def test_validated_at_the_call(captured, call, message: str) -> None:
    """What cannot be queued is refused at the call, before the commit."""
    with transaction.atomic(), pytest.raises(InvalidWorkItem, match=message):
        call()
    assert captured == []


def test_refused_on_a_running_loop(captured) -> None:
    """On a running event loop no transaction can be open: refused, with the cure."""

    async def view() -> None:
        with pytest.raises(InvalidWorkItem, match=r"queue_background_work_item\(\).*sync_to_async\(\)"):
            queue_on_commit(item)

    asyncio.run(view())
    assert captured == []


@pytest.fixture
def async_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow what Django allows to notebooks and browser tests: connections on a running loop."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


def run_on_loop(cell: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function on a loop, and close the connections that it opened there."""

    async def run() -> None:
        try:
            await cell()
        finally:
            for connection in connections.all(initialized_only=True):
                # close() leaves an in-memory database open.
                if connection.connection is not None:
                    connection.connection.close()

    asyncio.run(run())


def test_g18_transaction_on_a_running_loop(captured, async_unsafe) -> None:
    """G18: where Django allows a transaction on a running loop, the item waits for its commit there."""

    async def cell() -> None:
        with transaction.atomic():
            queue_on_commit(item, 1)
            assert captured == []
        assert [queued.args for queued in captured] == [(1,)]

    run_on_loop(cell)


def test_g18_rollback_on_a_running_loop(captured, async_unsafe) -> None:
    """G18: after a rollback there it is not queued."""

    async def cell() -> None:
        with pytest.raises(ZeroDivisionError):
            queue_and_fail()

    run_on_loop(cell)
    assert captured == []


def test_g18_no_transaction_on_a_running_loop(captured, async_unsafe) -> None:
    """G18: without a transaction it is queued at once there, too."""

    async def cell() -> None:
        queue_on_commit(item)
        assert len(captured) == 1

    run_on_loop(cell)


def test_wrong_settings_are_said_at_the_call() -> None:
    """Wrong settings are no secret of a hook: the call raises."""
    wrong = override_settings(QBWI={"MAX_WORKERS": 0})
    with wrong, transaction.atomic(), pytest.raises(ImproperlyConfigured, match="MAX_WORKERS"):
        queue_on_commit(item)


# Refused after the commit.


@pytest.fixture
def rejected() -> Iterator[list]:
    """The infos of refused items."""
    infos = []

    def receiver(info, **kwargs) -> None:
        infos.append(info)

    work_item_rejected.connect(receiver)
    yield infos
    work_item_rejected.disconnect(receiver)


@pytest.fixture
def refused_after_commit(rejected) -> tuple[list, list]:
    """What the receivers and the log have of an item that found no room, and of the hook after it."""
    later = []
    started, release = threading.Event(), threading.Event()
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
        assert started.wait(PATIENCE)
        waiting = queue_background_work_item(item)
        with transaction.atomic():
            queue_on_commit(item, name="mail")
            transaction.on_commit(lambda: later.append("ran"))
        release.set()
        assert waiting.wait(PATIENCE)
    return rejected, later


def test_refusal_after_the_commit_is_logged(refused_after_commit, caplog) -> None:
    """The refusal is an ERROR record that names the item and the reason."""
    errors = [record for record in caplog.get_records("setup") if record.levelno == logging.ERROR]
    [record] = [record for record in errors if record.name == "django_qbwi.scheduler"]
    assert "mail was not queued: 1 items are waiting already" in record.getMessage()


def test_refusal_after_the_commit_is_sent(refused_after_commit) -> None:
    """The refusal is sent as work_item_rejected, once."""
    infos, _ = refused_after_commit
    assert [info.name for info in infos] == ["mail"]


def test_refusal_after_the_commit_harms_no_other_hook(refused_after_commit) -> None:
    """The other hooks run, and whoever committed gets no exception."""
    _, later = refused_after_commit
    assert later == ["ran"]


# G20: nothing gets out of the hook.


@pytest.mark.parametrize("failure", [ValueError("any"), ImproperlyConfigured("settings"), WorkItemRejected("no")])
def test_g20_nothing_gets_out_of_the_hook(monkeypatch: pytest.MonkeyPatch, caplog, failure: Exception) -> None:
    """G20: whatever queueing raises after the commit is an ERROR of ours, and the other hooks run."""
    later = []
    with override_settings(QBWI={}), transaction.atomic():
        queue_on_commit(item, name="mail")
        transaction.on_commit(lambda: later.append("ran"))

        def fail(*args: object) -> None:
            raise failure

        monkeypatch.setattr("django_qbwi.hosting.queue", fail)
    assert later == ["ran"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "django_qbwi.scheduler"
    assert record.getMessage().startswith("After the commit")


def test_g20_hook_is_a_function(captured) -> None:
    """G20: Django 5.2 asks a robust hook that raises for its `__qualname__`, which a partial has not."""
    with transaction.atomic():
        queue_on_commit(item)
        [(_, hook, robust)] = transaction.get_connection().run_on_commit
        assert (inspect.isfunction(hook), robust) == (True, True)


def test_g20_an_exit_in_the_hook_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """G20: Ctrl-C in the moment of queueing is no error of the item."""

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    def queue() -> None:
        with transaction.atomic():
            queue_on_commit(item)
            monkeypatch.setattr("django_qbwi.hosting.queue", interrupt)

    with override_settings(QBWI={}), pytest.raises(KeyboardInterrupt):
        queue()
