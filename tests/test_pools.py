"""Named pools as users have them: settings.QBWI["POOLS"] and the option `pool`."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import transaction
from django.template.loader import render_to_string
from django.test import override_settings

from django_qbwi import (
    InvalidWorkItem,
    QueueFull,
    Retry,
    WorkItemStatus,
    background_work_item,
    conf,
    exponential,
    hosting,
    queue_background_work_item,
)
from django_qbwi.checks import check_pools
from django_qbwi.console import operations
from django_qbwi.console.dashboard import Filters, compose
from django_qbwi.testing import captured_work_items, drain, immediate_work_items, simulate_shutdown
from tests.support.gates import PATIENCE, Gate
from tests.support.scripts import run_script

S = WorkItemStatus
POOLS: dict[str, Any] = {
    "mail": {"MAX_WORKERS": 1, "MAX_QUEUED": 1, "MAX_ASYNC_IN_FLIGHT": 1},
    "reports": {"MAX_WORKERS": 1},
}


@pytest.fixture(autouse=True)
def pools() -> Iterator[None]:
    """Have two pools beside the default one."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1, "MAX_QUEUED": 3, "POOLS": POOLS}):
        yield
        drain()


def send_now(token: Any, *args: Any) -> None:
    """Do nothing."""


async def asend_now(token: Any, *args: Any) -> None:
    """Do nothing, on the loop."""


# No names of the module: the check of all decorated functions finds those, in other tests, too.


@pytest.fixture
def send() -> Any:
    """An item of the pool for mail."""
    return background_work_item(pool="mail")(send_now)


@pytest.fixture
def asend() -> Any:
    """The same, on the loop."""
    return background_work_item(pool="mail")(asend_now)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds items until it is opened, at the end of the test at the latest."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def mail(gate: Gate) -> Any:
    """An item of the pool that is held by the gate."""
    return background_work_item(pool="mail")(gate.__call__)


def test_item_runs_in_its_pool(send: Any) -> None:
    """The info says so, and so does the name of the thread; others are in the default one."""
    handle, other = send.queue(), send.using(pool="default").queue()
    assert handle.wait(PATIENCE)
    assert other.wait(PATIENCE)
    assert (handle.info.pool, handle.info.thread) == ("mail", "qbwi-worker-mail-1")
    assert (other.info.pool, other.info.thread) == ("default", "qbwi-worker-1")
    assert handle.info.to_dict()["pool"] == "mail"


def test_using_chooses_the_pool_of_one_call(send: Any) -> None:
    """As any option of the decorator; the others stay."""
    handle = send.using(pool="reports", name="report").queue()
    assert (handle.info.pool, handle.name) == ("reports", "report")
    assert send.using(name="mail").queue().info.pool == "mail"


def test_full_pool_is_refused_and_no_other(mail: Any, gate: Gate, send: Any, asend: Any) -> None:
    """QueueFull names it and its setting; what is queued elsewhere begins."""
    mail.queue()
    gate.await_entered()
    waiting = send.queue()
    with pytest.raises(QueueFull, match=r"in the pool 'mail', which is .*\[\"mail\"\]\[\"MAX_QUEUED\"\]"):
        send.queue()
    with pytest.raises(QueueFull, match="in the pool 'mail'"):
        asend.queue()
    assert send.using(pool="reports").queue().wait(PATIENCE)
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    gate.open()
    assert waiting.wait(PATIENCE)


def test_slow_default_pool_does_not_stop_a_named_one(gate: Gate, send: Any) -> None:
    """The two have no worker in common."""
    queue_background_work_item(gate)
    gate.await_entered()
    assert send.queue().wait(PATIENCE)
    gate.open()


def test_async_items_have_slots_of_their_own(gate: Gate, asend: Any) -> None:
    """One that holds the slot of its pool lets those of others begin, on the same loop."""
    held = background_work_item(pool="mail")(gate.hold)
    held.queue()
    gate.await_entered()
    behind = asend.queue()
    assert asend.using(pool="reports").queue().wait(PATIENCE)
    assert asend.using(pool="default").queue().wait(PATIENCE)
    assert behind.status is S.QUEUED
    gate.open()
    assert behind.wait(PATIENCE)


def test_pool_that_is_not_used_has_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of the default pool start with the first item; on Python 3.12.0 to 3.12.2 all do."""
    monkeypatch.setattr("django_qbwi.core.starting.STARTS_NO_THREADS_LATE", False)
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith(("qbwi-worker-mail", "qbwi-worker-reports")) for name in names)


def test_what_a_pool_leaves_out_is_as_the_setting_says() -> None:
    """Its bounds are those of QBWI itself where it has none of its own."""
    assert conf.load().pools == {
        "mail": conf.PoolSettings(max_workers=1, max_queued=1, max_async_in_flight=1),
        "reports": conf.PoolSettings(max_workers=1, max_queued=3, max_async_in_flight=1),
    }


# Together with the other options.


def test_failed_item_is_tried_again_in_its_pool() -> None:
    """Each attempt has a worker of the pool."""
    threads: list[str] = []

    @background_work_item(pool="mail", retry=Retry(max_attempts=3, backoff=exponential(first=0.0)))
    def fail(token: Any) -> None:
        threads.append(threading.current_thread().name)
        raise ValueError

    handle = fail.queue()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.attempt) == (S.FAILED, 3)
    assert threads == ["qbwi-worker-mail-1"] * 3


def test_awaitable_of_a_sync_item_is_tried_again_in_its_pool() -> None:
    """It goes on among the async ones of the pool, and begins again among the sync ones."""
    threads: list[str] = []

    async def fail() -> None:
        threads.append(threading.current_thread().name)
        raise ValueError

    @background_work_item(pool="mail", retry=Retry(max_attempts=2, backoff=exponential(first=0.0)))
    def start(token: Any) -> Any:
        threads.append(threading.current_thread().name)
        return fail()

    handle = start.queue()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.pool) == (S.FAILED, "mail")
    assert threads == ["qbwi-worker-mail-1", "qbwi-loop"] * 2


def test_delayed_item_comes_to_its_pool(send: Any) -> None:
    """It counts against MAX_DELAYED of all, and then has a worker of its own pool."""
    handle = send.using(delay=0.05).queue()
    assert hosting.scheduler().delayed_count == 1
    assert handle.wait(PATIENCE)
    assert handle.info.thread == "qbwi-worker-mail-1"


def test_priority_counts_within_a_pool(mail: Any, gate: Gate, send: Any) -> None:
    """An item of another pool is not ahead of it, whatever its priority is."""
    order: list[str] = []
    note = background_work_item(pool="reports")(lambda token, name: order.append(name))
    background_work_item(pool="reports")(gate).queue()
    gate.await_entered()
    handles = [note.using(priority=priority).queue(name) for priority, name in ((0, "low"), (5, "high"))]
    assert send.using(priority=-100).queue().wait(PATIENCE)
    gate.open()
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert order == ["high", "low"]


def test_unique_key_holds_over_all_pools(gate: Gate) -> None:
    """While one waits, the call in another pool has its handle."""
    touch = background_work_item(pool="reports", unique_key=lambda: "all")(lambda token: None)
    background_work_item(pool="reports")(gate).queue()
    gate.await_entered()
    assert touch.queue() == touch.using(pool="mail").queue()
    gate.open()


def test_caller_waits_for_room_in_the_pool(mail: Any, gate: Gate, send: Any) -> None:
    """Room in another one is none."""
    mail.queue()
    gate.await_entered()
    send.queue()
    with pytest.raises(QueueFull, match=r'no room for 0.01 s, by QBWI\["POOLS"\]\["mail"\]\["MAX_QUEUED"\]'):
        send.using(wait_for_room=0.01).queue()
    patient = threading.Thread(target=send.using(wait_for_room=PATIENCE).queue)
    patient.start()
    gate.open()
    patient.join(PATIENCE)
    assert not patient.is_alive()


def test_caller_awaits_room_in_the_pool(mail: Any, gate: Gate, send: Any) -> None:
    """Also on an event loop."""
    mail.queue()
    gate.await_entered()
    send.queue()

    async def main() -> str:
        waiting = asyncio.ensure_future(send.using(wait_for_room=PATIENCE).aqueue())
        await asyncio.sleep(0)
        gate.open()
        return (await waiting).info.pool

    assert asyncio.run(main()) == "mail"


@pytest.mark.django_db(transaction=True)
def test_item_on_commit_goes_to_its_pool(send: Any) -> None:
    """When it is queued, its options are those of the call."""
    with captured_work_items() as captured:
        with transaction.atomic():
            send.queue_on_commit()
            assert captured == []
        assert len(captured) == 1
    send.queue_on_commit()
    assert drain(PATIENCE)
    [info] = [info for info in hosting.recent_items() if info.status is S.SUCCEEDED]
    assert info.pool == "mail"


# Who looks.


def written(*arguments: str) -> str:
    """What `manage.py qbwi` writes."""
    output = io.StringIO()
    call_command("qbwi", *arguments, stdout=output)
    return output.getvalue()


def test_pools_are_told_of(mail: Any, gate: Gate) -> None:
    """In the tables, the JSON and the description of the command: where something happens, and whose an item is."""
    handle = mail.queue()
    gate.await_entered()
    pools = json.loads(written("list", "--format", "json"))["processes"][0]["pools"]
    assert list(pools) == ["default", "mail", "reports"]
    assert pools["mail"] == {
        "running": 1,
        "running_async": 0,
        "queued": 0,
        "max_workers": 1,
        "max_async_in_flight": 1,
        "max_queued": 1,
    }
    table = written("list")
    assert "pool mail" in table
    assert re.search(r"mail +1/1 sync, 0/1 async +0/1", table)
    assert not re.search(r"reports +\d", table)
    assert re.search(r"pool +mail", written("show", handle.id))
    other = background_work_item(gate.__call__).queue()
    gate.await_entered()
    assert not re.search(r"^  pool", written("show", other.id), re.MULTILINE)
    gate.open()


def test_pools_are_on_the_page(mail: Any, gate: Gate) -> None:
    """As a badge of the item, and one line for the process."""
    handle = mail.queue()
    gate.await_entered()
    page = compose(operations.overview().to_dict(), Filters(), datetime.datetime.now(datetime.UTC))
    [section] = page.processes
    assert [(pool.name, pool.capacity) for pool in section.pools] == [("mail", "1/1 sync, 0/1 async")]
    [row] = [row for row in section.rows if row.id == handle.id]
    assert "pool mail" in render_to_string("admin/django_qbwi/workitem/status.html", {"row": row})
    gate.open()


def test_process_without_pools_tells_of_none() -> None:
    """All its items share what the limits say already."""
    with override_settings(QBWI={}):
        assert queue_background_work_item(lambda token: None).wait(PATIENCE)
        assert operations.overview().to_dict()["processes"][0]["pools"] == {}


# The end, forks, tests.


def test_shutdown_reaches_all_pools(mail: Any, gate: Gate, send: Any) -> None:
    """What waits in a pool runs in the time that is left, as any other; the stop cancels what runs there."""
    stopped = background_work_item(pool="reports")(lambda token: token.wait(PATIENCE))
    handle = stopped.queue()
    waiting = send.queue()
    shutdown = simulate_shutdown(after=0.0, timeout=PATIENCE)
    assert {*shutdown.finished, *shutdown.cancelled} == {handle, waiting}
    assert send.queue().wait(PATIENCE)


def test_items_run_at_the_call_or_are_captured(send: Any) -> None:
    """The tools for tests have them as all others."""
    with immediate_work_items():
        assert send.queue().status is S.SUCCEEDED
    with captured_work_items() as captured:
        send.queue(5)
    assert captured[0].args == (5,)
    with override_settings(QBWI={"IMMEDIATE": True, "POOLS": POOLS}):
        handle = send.queue()
        assert (handle.status, handle.info.pool) == (S.SUCCEEDED, "mail")


FORKED = """
import os, sys, threading, warnings
import django
from django.conf import settings
warnings.simplefilter("ignore", DeprecationWarning)
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django_qbwi"], QBWI={"INSPECTION": False, "POOLS": {"mail": {}}})
django.setup()
from django_qbwi import background_work_item

@background_work_item(pool="mail")
def send(token):
    pass

@background_work_item(pool="mail")
async def asend(token):
    pass

for function in (send, asend):
    assert function.queue().wait(30)
child = os.fork()
for function in (send, asend):
    handle = function.queue()
    assert handle.wait(30)
    assert handle.info.pid == os.getpid()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_has_pools_of_its_own() -> None:
    """Parent and child go on, each with threads of its own."""
    assert run_script(FORKED) == ["0"]


# Bad input.


@pytest.mark.parametrize("pool", [5, "", b"mail", ["mail"], True])
def test_pool_that_is_no_name(pool: Any, send: Any) -> None:
    """It is refused where it is given."""
    for give in (lambda: background_work_item(pool=pool)(lambda token: None), lambda: send.using(pool=pool)):
        with pytest.raises(InvalidWorkItem, match="give the name of a pool") as refused:
            give()
        assert repr(pool) in str(refused.value)


@pytest.mark.django_db
def test_unknown_pool_names_the_nearest(send: Any) -> None:
    """It is refused at the call, which is made before its transaction ends, or is captured, or run at once."""
    typo = send.using(pool="mial")
    text = r"pool is 'mial', which there is not: did you mean 'mail'\? The pools are 'default', 'mail', 'reports'"
    for call in (typo.queue, typo.queue_on_commit):
        with pytest.raises(InvalidWorkItem, match=text):
            call()
    with captured_work_items(), pytest.raises(InvalidWorkItem, match=text):
        typo.queue()
    with immediate_work_items(), pytest.raises(InvalidWorkItem, match=text):
        typo.queue()


def test_unknown_pool_without_a_near_one(send: Any) -> None:
    """All there are are listed."""
    with pytest.raises(InvalidWorkItem, match=r"which there is not: The pools are 'default', 'mail', 'reports'; QBWI"):
        send.using(pool="zzz").queue()


@pytest.mark.parametrize(
    ("given", "message", "hint", "number"),
    [
        ([], 'QBWI["POOLS"] is []', "Set it to a dict of pools", "E003"),
        ({"mail": None}, 'QBWI["POOLS"]["mail"] is None', "Set it to a dict with any of MAX_WORKERS", "E003"),
        ({"mail": {"MAX_WORKERS": 0}}, 'QBWI["POOLS"]["mail"]["MAX_WORKERS"] is 0', "an integer of 1 or more", "E003"),
        ({"mail": {"MAX_QUEUED": "5"}}, """QBWI["POOLS"]["mail"]["MAX_QUEUED"] is '5'""", "Set it to", "E003"),
        (
            {"mail": {"MAX_WORKER": 1}},
            'QBWI["POOLS"]["mail"] has no key \'MAX_WORKER\'',
            'mean "MAX_WORKERS"?',
            "E002",
        ),
        ({"mail": {5: 1}}, 'QBWI["POOLS"]["mail"] has no key 5', "The keys are: MAX_WORKERS, MAX_QUEUED", "E002"),
        ({"": {}}, "QBWI[\"POOLS\"] has a pool ''", "Name it by a str", "E003"),
        ({5: {}}, 'QBWI["POOLS"] has a pool 5', "Name it by a str", "E003"),
        ({"a\n": {}}, "QBWI[\"POOLS\"] has a pool 'a\\n'", "Name it by a str", "E003"),
        ({"default": {}}, "QBWI[\"POOLS\"] has a pool 'default'", "is bounded by MAX_WORKERS", "E003"),
    ],
)
def test_wrong_setting(given: Any, message: str, hint: str, number: str) -> None:
    """A check error, and ImproperlyConfigured at the first queueing, say what is wrong and what to do."""
    with override_settings(QBWI={"POOLS": given}):
        [error] = checks.run_checks()
        with pytest.raises(ImproperlyConfigured):
            queue_background_work_item(lambda token: None)
    assert (error.id, error.msg) == (f"qbwi.{number}", message)
    assert hint in error.hint


unknown = None


def test_decorated_function_of_an_unknown_pool_is_a_check_error(monkeypatch: pytest.MonkeyPatch, send: Any) -> None:
    """It is told of before anybody calls it; a known one is not, nor the default one."""
    assert check_pools(None) == []
    monkeypatch.setitem(globals(), "unknown", send.using(pool="mial"))
    [error] = check_pools(None)
    assert error.id == "qbwi.E015"
    assert "tests.test_pools.send_now: pool is 'mial', which there is not: did you mean 'mail'?" in error.msg
    with override_settings(QBWI={"POOLS": 5}):
        assert check_pools(None) == []
