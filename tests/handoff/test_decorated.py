"""Decorated functions with `hand_off`, and QBWI["ENGINE"]: what an engine gets, and what its workers make of it."""

import asyncio
import datetime
import functools
import logging
import threading
import traceback
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone

from django_qbwi import (
    InvalidWorkItem,
    OperationCancelled,
    QueueFull,
    WorkItemHandle,
    WorkItemRejected,
    WorkItemStatus,
    background_work_item,
    handoff,
    hosting,
    queue_background_work_item,
    recent_items,
)
from django_qbwi.console import running
from django_qbwi.handoff.movable import movable_of
from django_qbwi.task_backend.work import run_work_item
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests.handoff import functions
from tests.handoff.conftest import at_full_queue, end, end_and_open, full_queue
from tests.handoff.listed import Down, KnownTask, ListedBackend, tasks
from tests.support.gates import PATIENCE

S = WorkItemStatus
WORK = "django_qbwi.task_backend.work.run_work_item"


def down() -> None:
    """Cannot be reached."""
    raise Down("no route")


def same(row: SimpleNamespace, handle: WorkItemHandle) -> bool:
    """Say whether a row has the id of an item."""
    return bool(row.id == uuid.UUID(hex=handle.id))


# At a full queue.


@at_full_queue
def test_full_queue_hands_off(rows: list[SimpleNamespace]) -> None:
    """The engine has the function by its path, its arguments, and the id of the item."""
    handle = functions.resize.queue(3, width=7)
    (row,) = rows
    assert handle.status is S.HANDED_OFF
    assert same(row, handle)
    assert row.task.module_path == WORK
    assert row.args == ["tests.handoff.functions:resize", [3], {"width": 7}, {}]
    assert recent_items()[0].status is S.HANDED_OFF
    assert handle.wait(0)
    assert handle.exception() is None


@at_full_queue
def test_options_go_along(rows: list[SimpleNamespace]) -> None:
    """Name, timeout and labels are those of the item there; priority and moment are the engine's to keep."""
    before = timezone.now()
    functions.read.using(priority=9).queue("a book")
    # It waits for its time here, where there is room for those.
    labelled = functions.read.using(name="other", labels={"order": 42})
    waiting = labelled.using(timeout=1.5, delay=60, priority=-3).queue("another")
    (first,) = rows
    assert first.args[3] == {"name": "pages", "timeout": 30.0}
    assert (first.task.priority, first.task.run_after) == (9, None)
    functions.gate.open()
    end()
    (_, second) = rows
    assert second.args[3] == {"name": "other", "timeout": 1.5, "labels": {"order": 42}}
    assert second.task.priority == -3
    assert before + datetime.timedelta(seconds=50) < second.task.run_after < before + datetime.timedelta(seconds=70)
    assert same(second, waiting)


@at_full_queue
def test_record_names_the_engine(rows: list[SimpleNamespace], caplog: pytest.LogCaptureFixture) -> None:
    """And the id there."""
    with caplog.at_level(logging.INFO, logger="django_qbwi.scheduler"):
        handle = functions.resize.queue(3)
    (record,) = [record for record in caplog.records if record.args and handle.id in record.args]
    text = f"Work item id={handle.id} name=tests.handoff.functions.resize status=handed_off elapsed="
    assert record.getMessage().startswith(text)
    assert record.getMessage().endswith(f": 'durable' as {handle.id}")
    assert record.levelno == logging.INFO


@at_full_queue
def test_engine_is_asked_in_the_callers_transaction(rows: list[SimpleNamespace]) -> None:
    """An engine in the same database stores its row with the caller's own rows."""
    threads: list[str] = []
    ListedBackend.before = lambda: threads.append(threading.current_thread().name)  # type: ignore[assignment]
    functions.resize.queue(3)
    assert threads == [threading.current_thread().name]


@at_full_queue
def test_engine_that_is_down_at_the_call(rows: list[SimpleNamespace]) -> None:
    """The refusal is that of the queue, with the reason of the engine behind it."""
    ListedBackend.before = staticmethod(down)  # type: ignore[assignment]
    with pytest.raises(QueueFull, match=r"waiting already.*'durable' has not accepted it.*no route") as refusal:
        functions.resize.queue(3)
    assert type(refusal.value.__cause__) is Down
    assert rows == []


@at_full_queue
def test_lost_reply_at_the_call(rows: list[SimpleNamespace]) -> None:
    """What has the item's id was accepted."""
    ListedBackend.behind = staticmethod(down)  # type: ignore[assignment]
    assert functions.resize.queue(3).status is S.HANDED_OFF
    assert len(rows) == 1


@at_full_queue
def test_running_loop_does_not_wait(rows: list[SimpleNamespace]) -> None:
    """There a database cannot be asked: a thread of ours does it, and the handle tells when it is there."""
    threads: list[str] = []
    ListedBackend.before = lambda: threads.append(threading.current_thread().name)  # type: ignore[assignment]

    async def queue() -> WorkItemHandle:
        handle = functions.resize.queue(3)
        await handle
        return handle

    handle = asyncio.run(queue())
    assert handle.status is S.HANDED_OFF
    assert same(rows[0], handle)
    assert threads == ["qbwi-mover"]


def test_engine_with_ids_of_its_own(rows: list[SimpleNamespace]) -> None:
    """The item keeps its own, and its record has both."""
    with full_queue(OPTIONS={"KEEPS_IDS": False}):
        handle = functions.resize.queue(3)
    (row,) = rows
    assert not same(row, handle)
    assert str(row.id) in movable_of(handle._item).target


# At the end of the process.


def test_delayed_item_moves_at_the_end(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """It would be discarded without an engine."""
    configure()
    handle = functions.resize.using(delay=500).queue(3)
    end()
    assert handle.status is S.HANDED_OFF
    assert rows[0].task.run_after is not None


def test_delayed_item_of_a_site_without_time_zones(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """Its moment is a naive one, as all that the engine knows."""
    configure()
    with override_settings(USE_TZ=False):
        before = timezone.now()
        handle = functions.resize.using(delay=500).queue(3)
        end()
        assert handle.status is S.HANDED_OFF
        assert rows[0].task.run_after > before
        assert timezone.is_naive(rows[0].task.run_after)


def test_item_of_a_static_method(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """It is found by the name of its class."""
    configure()
    functions.Albums.scan.using(delay=500).queue(3)
    end()
    assert rows[0].args[0] == "tests.handoff.functions:Albums.scan"
    run(rows[0])
    assert functions.ran == [3]


def test_running_item_moves_from_its_checkpoint(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """The rest of it is what the engine gets, under the item's id."""
    configure()
    handle = functions.read.queue("a book")
    functions.gate.await_entered(3)
    end_and_open()
    assert handle.status is S.HANDED_OFF
    assert rows[0].args == ["tests.handoff.functions:read", ["a book", 3], {}, {"name": "pages", "timeout": 30.0}]
    run(rows[0])
    assert functions.ran == [("a book", page) for page in range(5)]


# In a worker of the engine.


def run(row: SimpleNamespace) -> None:
    """Run a row as the worker of an engine does."""
    result = SimpleNamespace(id=str(row.id), backend="durable")
    run_work_item.func(SimpleNamespace(task_result=result), *row.args, **row.kwargs)


def row_of(function: str, *args: Any, **kwargs: Any) -> SimpleNamespace:
    """Return a row as a decorated function has it."""
    path = f"tests.handoff.functions:{function}"
    return SimpleNamespace(id=uuid.uuid4(), args=[path, list(args), kwargs, {}], kwargs={})


@pytest.mark.parametrize(("function", "ran"), [("resize", (3, 7)), ("aresize", (3, True))])
def test_worker_runs_it_as_a_work_item(configure: Callable[..., None], function: str, ran: tuple[Any, ...]) -> None:
    """With a token, a record, and the id that it has had from the beginning."""
    configure()
    row = row_of(function, 3, **({"width": 7} if function == "resize" else {}))
    run(row)
    assert functions.ran[0][:2] == ran
    info = recent_items()[0]
    assert (uuid.UUID(hex=info.id), info.status) == (row.id, S.SUCCEEDED)
    row.args[3]["labels"] = {"order": 42}
    run(row)
    assert recent_items()[0].labels == {"order": 42}


def test_failure_fails_the_task(configure: Callable[..., None]) -> None:
    """With what the function has raised, and where."""
    configure()
    with pytest.raises(ValueError, match="no such album") as failure:
        run(row_of("fail"))
    assert 'raise ValueError("no such album")' in "".join(traceback.format_exception(failure.value))


def test_cancellation_fails_the_task(configure: Callable[..., None]) -> None:
    """An engine knows no other word for it."""
    configure()
    with pytest.raises(OperationCancelled, match="enough"):
        run(row_of("stop"))


@pytest.mark.parametrize("path", ["tests.handoff.functions:bare", "os:getpid"])
def test_worker_runs_nothing_else(configure: Callable[..., None], path: str) -> None:
    """Whoever can write to the engine shall not be able to call whatever there is."""
    configure()
    with pytest.raises(InvalidWorkItem, match="is not decorated"):
        run(SimpleNamespace(id=uuid.uuid4(), args=[path, [], {}, {}], kwargs={}))


def test_end_of_the_worker_moves_the_rest_again(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """Under a new id, since the engine has a row of the old one; the task itself has done its part."""
    configure()
    row = row_of("read", "a book")
    worker = threading.Thread(target=run, args=(row,))
    worker.start()
    functions.gate.await_entered(3)
    end_and_open()
    worker.join(PATIENCE)
    (rest,) = rows
    assert rest.id != row.id
    assert rest.args[1] == ["a book", 3]
    assert recent_items() == []


# Refused.


def test_not_importable(configure: Callable[..., None]) -> None:
    """A function that only this process knows is refused, with what to do."""
    configure()

    @background_work_item(hand_off="durable")
    def inner(token: object) -> None:
        """Stands nowhere."""

    with pytest.raises(InvalidWorkItem, match=r"inner cannot be handed off to 'durable'.*Decorate a function of a mod"):
        inner.queue()


def test_method_is_refused_where_it_is_decorated() -> None:
    """Its instance stays in this process."""
    with pytest.raises(InvalidWorkItem, match=r"is a method, and has hand_off='durable'.*primary key"):

        class Album:
            @background_work_item(hand_off="durable")
            def scan(self, token: object) -> None:
                """Belongs to one."""


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), uuid.uuid4()])
def test_arguments_that_are_no_json(configure: Callable[..., None], value: object) -> None:
    """Refused at the call, whether it will ever move or not."""
    configure()
    with pytest.raises(InvalidWorkItem, match=r"the arguments of .*resize, which may be handed off to 'durable', can"):
        functions.resize.queue(value)  # type: ignore[arg-type]


def test_request_is_no_json(configure: Callable[..., None]) -> None:
    """Nor is a snapshot of it."""
    configure()
    with pytest.raises(InvalidWorkItem, match="cannot be passed on as JSON"):
        functions.visit.queue(HttpRequest())


@pytest.mark.parametrize("state", [{"first": object()}, {"page": 3}, {"token": 1}])
def test_checkpoint_with_which_it_could_not_go_on(configure: Callable[..., None], state: dict[str, Any]) -> None:
    """Refused each time, with the name of the function."""
    configure()
    handle = functions.read.using(delay=500).queue("a book")
    with pytest.raises(InvalidWorkItem, match=r"the checkpoint of tests.handoff.functions.read"):
        handle.token.checkpoint(**state)


@pytest.mark.parametrize("alias", ["", 5, b"durable"])
def test_alias_that_is_none(alias: Any) -> None:
    """Refused where it is given."""
    with pytest.raises(InvalidWorkItem, match="give an alias of TASKS"):
        background_work_item(hand_off=alias)(functions.bare)


@pytest.mark.django_db(transaction=True)
def test_on_commit_is_proved_at_the_call(configure: Callable[..., None]) -> None:
    """Behind the commit nobody could be told."""
    configure()
    with transaction.atomic(), pytest.raises(InvalidWorkItem, match="JSON"):
        functions.resize.queue_on_commit(object())  # type: ignore[arg-type]


def test_missing_engine_is_said_at_the_first_item(configure: Callable[..., None]) -> None:
    """With the nearest name."""
    configure()
    with pytest.raises(ImproperlyConfigured, match="'durabel' is no alias of TASKS: did you mean \"durable\""):
        functions.plain.using(hand_off="durabel").queue()


# Where items are not queued.


def test_engine_does_not_count_where_items_run_at_the_call(
    configure: Callable[..., None], rows: list[SimpleNamespace]
) -> None:
    """In tests the function runs, or is captured."""
    configure()
    with immediate_work_items():
        assert functions.resize.queue(3).status is S.SUCCEEDED
    with captured_work_items() as captured:
        functions.resize.queue(4)
    assert len(captured) == 1
    assert rows == []


def test_no_thread_where_items_run_at_the_call(configure: Callable[..., None]) -> None:
    """Neither the mover's nor any other: nothing is left to move."""
    before = threading.active_count()
    configure(IMMEDIATE=True)
    assert functions.resize.queue(3).status is S.SUCCEEDED
    assert threading.active_count() == before
    assert not hosting.scheduler().started


def test_plain_call_is_still_one() -> None:
    """A unit test calls it with a token."""
    functions.start_afresh()
    functions.resize(functions.CancellationToken.none(), 3)
    assert functions.ran == [(3, 100, None)]


def test_call_is_forgotten_at_the_end(configure: Callable[..., None]) -> None:
    """What is kept of an item that has ended keeps none of its arguments."""
    configure()
    handle = functions.resize.queue(3)
    assert handle.wait(PATIENCE)
    assert movable_of(handle._item)._call is None


# QBWI["ENGINE"].


def test_engine_gets_decorated_functions(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """Without a change to the code that queues."""
    configure(ENGINE="durable")
    handle = functions.plain.queue(5)
    assert handle.status is S.HANDED_OFF
    assert same(rows[0], handle)
    assert rows[0].args[:2] == ["tests.handoff.functions:plain", [5]]
    run(rows[0])
    assert functions.ran == [5]


def test_engine_keeps_delay_and_priority(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """They are the engine's to keep."""
    configure(ENGINE="durable")
    functions.plain.using(delay=60, priority=4).queue()
    assert rows[0].task.priority == 4
    assert rows[0].task.run_after > timezone.now()


def test_engine_gets_nothing_else(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """What is no decorated function of a module runs here, as ever."""
    configure(ENGINE="durable", MAX_QUEUED=10)
    handles = [
        queue_background_work_item(lambda token: None),
        queue_background_work_item(functions.bare),
        queue_background_work_item(functools.partial(functions.bare)),
    ]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert {handle.status for handle in handles} == {S.SUCCEEDED}
    assert rows == []


def test_call_that_cannot_leave_runs_here(
    configure: Callable[..., None], rows: list[SimpleNamespace], caplog: pytest.LogCaptureFixture
) -> None:
    """One WARNING for each function says so."""
    configure(ENGINE="durable", MAX_QUEUED=10)
    handles = [functions.plain.queue(object()) for _ in range(3)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert rows == []
    assert caplog.text.count("runs in this process, and not by") == 1


def test_engine_of_a_running_loop(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """There a thread of ours brings it to the engine; the handle tells when it is there."""
    configure(ENGINE="durable", MAX_QUEUED=10)

    async def queue() -> WorkItemStatus:
        handle = functions.plain.queue(5)
        info = await handle
        return info.status

    assert asyncio.run(queue()) is S.HANDED_OFF
    assert len(rows) == 1


def test_engine_that_is_down(configure: Callable[..., None]) -> None:
    """The caller is told, and nothing is queued."""
    configure(ENGINE="durable")
    ListedBackend.before = staticmethod(down)  # type: ignore[assignment]
    with pytest.raises(WorkItemRejected, match=r"was not queued here; nor could it be handed off: .*no route"):
        functions.plain.queue(5)
    assert hosting.scheduler().is_empty


@pytest.mark.django_db(transaction=True)
def test_engine_behind_a_commit(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """`queue_on_commit` asks it then, and not before."""
    configure(ENGINE="durable")
    with transaction.atomic():
        functions.plain.queue_on_commit(5)
        assert rows == []
    assert len(rows) == 1


# Ids.


def test_item_id_is_new_where_nothing_moves() -> None:
    """What is enqueued by itself gets an id as ever."""
    assert handoff.item_id() != handoff.item_id()
    assert isinstance(handoff.item_id(), uuid.UUID)


@at_full_queue
def test_full_queue_is_full_for_the_others(rows: list[SimpleNamespace]) -> None:
    """Only what has an engine goes there."""
    with pytest.raises(QueueFull):
        functions.plain.queue(1)
    assert rows == []


def test_command_runs_here(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """`manage.py qbwi run` is a process of its own for one item; what is queued behind it goes to the engine."""
    configure(ENGINE="durable", MAX_QUEUED=10)
    handle = running.run("tests.handoff.functions.plain", ["5"], ends_process=False)
    assert (handle.status, functions.ran, rows) == (S.SUCCEEDED, [5], [])
    assert functions.plain.queue(6).status is S.HANDED_OFF
    assert len(rows) == 1


def test_setting_is_known_to_the_engine_from_the_start(rows: list[SimpleNamespace]) -> None:
    """Its workers import no function with `hand_off`, and shall know the task that runs the others all the same."""
    KnownTask.known.clear()
    durable = {"BACKEND": "tests.handoff.listed.KnowingBackend"}
    with override_settings(TASKS=tasks(**durable), QBWI={"ENGINE": "durable"}):
        apps.get_app_config("django_qbwi").ready()
    assert KnownTask.known == ["django_qbwi.task_backend.work.run_work_item"]


@pytest.mark.parametrize("wrong", [{"ENGINE": "nowhere"}, {"ENGINE": 5}, {"NOTHING": 1}, {}])
def test_a_wrong_setting_keeps_no_site_from_starting(wrong: dict[str, object]) -> None:
    """The checks tell what is wrong, and the first item."""
    KnownTask.known.clear()
    with override_settings(QBWI=wrong):
        apps.get_app_config("django_qbwi").ready()
    assert KnownTask.known == []
