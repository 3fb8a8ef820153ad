"""Tasks of an alias with OPTIONS["HAND_OFF"]: what the engine gets, and where their results are."""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_qbwi import InvalidWorkItem, QueueFull, hosting, recent_items
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.handoff import frameworks
from django_qbwi.signals import work_item_retried
from tests.handoff import functions
from tests.handoff.conftest import at_full_queue, end, end_and_open, full_queue
from tests.handoff.listed import Down, ListedBackend, tasks
from tests.support.gates import PATIENCE, until

S = WorkItemStatus
FRAMEWORK = frameworks.present()


def task_of(function: Callable[..., Any], **options: Any) -> Any:
    """Return a function as a task of the default alias."""
    backend = FRAMEWORK.backends["default"]
    takes_context = function is functions.count
    return backend.task_class(
        func=function, backend="default", takes_context=takes_context, **{**frameworks.UNSAID, **options}
    )


def down() -> None:
    """Cannot be reached."""
    raise Down("no route")


@at_full_queue
def test_full_queue_hands_off(rows: list[SimpleNamespace]) -> None:
    """The engine has the user's own task, under the id of the result that the caller has."""
    result = task_of(functions.add, priority=5).enqueue(1, second=2)
    (row,) = rows
    assert row.id == uuid.UUID(hex=result.id)
    assert (row.task.module_path, row.args, row.kwargs) == ("tests.handoff.functions.add", [1], {"second": 2})
    assert (row.task.backend, row.task.priority) == ("durable", 5)
    assert recent_items()[0].status is S.HANDED_OFF


@at_full_queue
def test_result_is_the_engines_by_its_old_id(rows: list[SimpleNamespace]) -> None:
    """By our alias too, and for the caller who refreshes what it has."""
    task = task_of(functions.add)
    result = task.enqueue(1)
    found = task.get_result(result.id)
    assert found.backend == "durable"
    result.refresh()
    assert str(result.status) == "READY"
    assert asyncio.run(task.aget_result(result.id)).backend == "durable"


def test_result_of_an_engine_with_other_ids(rows: list[SimpleNamespace]) -> None:
    """This process still knows which one it was."""
    with full_queue(OPTIONS={"KEEPS_IDS": False}):
        task = task_of(functions.add)
        result = task.enqueue(1)
        assert rows[0].id != uuid.UUID(hex=result.id)
        assert task.get_result(result.id).id == str(rows[0].id)


@at_full_queue
def test_unknown_result_is_unknown_there_too(rows: list[SimpleNamespace]) -> None:
    """With the reason as ever."""
    with pytest.raises(FRAMEWORK.does_not_exist, match="no result 'nothing' is known"):
        FRAMEWORK.backends["default"].get_result("nothing")


@at_full_queue
def test_task_that_moved_has_not_finished(rows: list[SimpleNamespace]) -> None:
    """Its signal is the engine's to send."""
    told: list[str] = []
    receivers = {
        name: lambda name=name, **kwargs: told.append(name)
        for name in ("task_enqueued", "task_started", "task_finished")
    }
    for name, receiver in receivers.items():
        getattr(FRAMEWORK, name).connect(receiver)
    try:
        task_of(functions.add).enqueue(1)
    finally:
        for name, receiver in receivers.items():
            getattr(FRAMEWORK, name).disconnect(receiver)
    assert told == ["task_enqueued"]


@at_full_queue
def test_engine_that_is_down_at_the_call(rows: list[SimpleNamespace]) -> None:
    """The caller is told, and no result is left."""
    ListedBackend.before = staticmethod(down)  # type: ignore[assignment]
    task = task_of(functions.add)
    kept = FRAMEWORK.backends["default"]._results
    before = set(kept._tasks)
    with pytest.raises(QueueFull, match="nor could it be handed off"):
        task.enqueue(1)
    assert set(kept._tasks) == before


@at_full_queue
def test_full_queue_of_a_running_loop(rows: list[SimpleNamespace]) -> None:
    """`aenqueue` does not wait for the engine; until it has answered, the task is READY here."""

    async def enqueue() -> Any:
        return await task_of(functions.add).aenqueue(1)

    result = asyncio.run(enqueue())
    assert str(result.status) == "READY"
    until(lambda: rows)
    assert rows[0].id == uuid.UUID(hex=result.id)
    until(lambda: FRAMEWORK.backends["default"].get_result(result.id).backend == "durable")


def test_delayed_task_moves_at_the_end(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """With its moment; without an engine it would fail."""
    from datetime import timedelta

    from django.utils import timezone

    configure()
    due = timezone.now() + timedelta(hours=1)
    result = task_of(functions.add).using(run_after=due).enqueue(1)
    end()
    (row,) = rows
    assert row.id == uuid.UUID(hex=result.id)
    assert abs(row.task.run_after - due) < timedelta(seconds=1)


def test_running_task_moves_from_its_checkpoint(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """The engine calls it with its arguments, and those of the checkpoint in their place."""
    configure()
    task = task_of(functions.count)
    result = task.enqueue(5)
    functions.gate.await_entered()
    end_and_open()
    (row,) = rows
    assert (row.args, row.kwargs, row.task.takes_context) == ([5, 1], {}, True)
    assert row.id == uuid.UUID(hex=result.id)
    assert task.get_result(result.id).backend == "durable"


def test_waiting_attempt_moves_from_its_checkpoint(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """At the end of the process the engine gets a task that waits to be tried again, as that would have gone on."""
    configure()
    failed = threading.Semaphore(0)

    def note(**kwargs: Any) -> None:
        failed.release()

    work_item_retried.connect(note)
    try:
        result = task_of(functions.give_up, max_attempts=3, backoff=functions.much_later).enqueue(5)
        assert failed.acquire(timeout=PATIENCE)
    finally:
        work_item_retried.disconnect(note)
    end()
    (row,) = rows
    assert (row.args, row.kwargs) == ([5, 1], {})
    assert row.id == uuid.UUID(hex=result.id)
    result.refresh()
    assert str(result.status) == "READY"


@pytest.mark.parametrize("function", [functions.count, functions.acount])
def test_task_that_moves_has_not_failed(
    configure: Callable[..., None], rows: list[SimpleNamespace], function: Callable[..., Any]
) -> None:
    """Nobody is told of an end: it has none yet."""
    configure()
    told = []

    def note(task_result: Any, **kwargs: Any) -> None:
        told.append(task_result)

    FRAMEWORK.task_finished.connect(note)
    try:
        result = task_of(function).enqueue(5)
        functions.gate.await_entered()
        end_and_open()
    finally:
        FRAMEWORK.task_finished.disconnect(note)
    assert told == []
    assert len(rows) == 1
    found = task_of(function).get_result(result.id)
    assert (found.backend, str(found.status)) == ("durable", "READY")


def test_task_without_a_checkpoint_is_abandoned(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """It runs, and nobody can say how far it is."""
    configure()
    result = task_of(functions.hold).enqueue()
    functions.gate.await_entered()
    hosting.this_process().renew(0.5)
    functions.gate.open()
    assert rows == []
    assert str(task_of(functions.hold).get_result(result.id).status) == "FAILED"


def test_async_task(rows: list[SimpleNamespace]) -> None:
    """Engines that take one get it as it is."""
    with full_queue():
        task_of(functions.aadd).using(run_after=None).enqueue(1)
    assert functions.ran == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"BACKEND": "tests.handoff.listed.SyncOnlyBackend"}, "async"),
        ({"QUEUES": ["other"]}, "Queue 'default' is not valid"),
    ],
)
def test_task_that_does_not_fit_the_engine(
    configure: Callable[..., None], options: dict[str, Any], problem: str
) -> None:
    """Refused where it is defined, as the framework refuses one that does not fit its own backend."""
    configure(durable=options)
    with pytest.raises(Exception, match=problem) as refusal:
        task_of(functions.aadd)
    assert type(refusal.value).__name__ in ("InvalidTask", "InvalidTaskError")


def test_engine_without_priorities_gets_none(rows: list[SimpleNamespace]) -> None:
    """They count here, and are no reason to lose a task."""
    with full_queue(BACKEND="tests.handoff.listed.SyncOnlyBackend"):
        task_of(functions.add, priority=5).enqueue(1)
    assert rows[0].task.priority == 0


def test_engine_without_moments_cannot_have_a_delayed_one(
    configure: Callable[..., None], rows: list[SimpleNamespace], caplog: pytest.LogCaptureFixture
) -> None:
    """It would run at once there: it is DISCARDED by name, as without an engine."""
    configure(durable={"BACKEND": "tests.handoff.listed.SyncOnlyBackend"})
    functions.resize.using(delay=500).queue(1)
    hosting.this_process().renew(0.5)
    assert rows == []
    assert "status=discarded" in caplog.text


def test_arguments_are_proved(configure: Callable[..., None]) -> None:
    """As ever."""
    configure()
    with pytest.raises(InvalidWorkItem, match="JSON"):
        task_of(functions.add).enqueue(object())


# Settings.


PROBLEMS = [
    ({"OPTIONS": {"HAND_OFF": "durabel"}}, "'durabel' is no alias of TASKS: did you mean \"durable\"?"),
    ({"OPTIONS": {"HAND_OFF": 5}}, "5 is no alias of TASKS"),
    ({"OPTIONS": {"HAND_OFF": "default"}}, "is run by django_qbwi itself"),
    ({"OPTIONS": {"HAND_OFF": "at_once"}}, "runs its tasks at the call"),
    ({"OPTIONS": {"HAND_OFF": "broken"}}, "cannot be used"),
]


@pytest.mark.parametrize(("ours", "problem"), PROBLEMS)
def test_checks_name_a_wrong_engine(rows: list[SimpleNamespace], ours: dict[str, Any], problem: str) -> None:
    """Also a task of such an alias can be defined, so that the checks come to run; it cannot be enqueued."""
    found = tasks()
    found["default"] = {**found["default"], **ours}
    found["at_once"] = {"BACKEND": f"{FRAMEWORK.name}.backends.immediate.ImmediateBackend"}
    found["broken"] = {"BACKEND": "tests.handoff.listed.NoSuchBackend"}
    with override_settings(TASKS=found):
        task = task_of(functions.add)
        messages = FRAMEWORK.backends["default"].check()
        assert [message.id for message in messages] == ["qbwi.E010"]
        assert problem in messages[0].msg
        with pytest.raises(ImproperlyConfigured) as refusal:
            task.enqueue(1)
        assert problem in str(refusal.value)


def test_checks_name_a_queue_that_the_engine_has_not(rows: list[SimpleNamespace]) -> None:
    """A task of that queue could not be defined."""
    found = tasks(QUEUES=["default"])
    found["default"]["QUEUES"] = ["default", "mails"]
    with override_settings(TASKS=found):
        (message,) = FRAMEWORK.backends["default"].check()
        assert (message.id, "'durable' has no queue 'mails'" in message.msg) == ("qbwi.E010", True)


def test_checks_of_decorated_functions_and_of_the_setting(rows: list[SimpleNamespace]) -> None:
    """Each alias that is used anywhere is looked at."""
    with override_settings(TASKS=tasks(), QBWI={"ENGINE": "nowhere"}):
        messages = [message for message in run_checks() if message.id == "qbwi.E011"]
    assert len(messages) == 1
    assert "QBWI[\"ENGINE\"] is 'nowhere': 'nowhere' is no alias of TASKS" in messages[0].msg
    found = tasks()
    del found["durable"]
    found["default"]["OPTIONS"] = {}
    with override_settings(TASKS=found):
        messages = [message for message in run_checks() if message.id == "qbwi.E011"]
    assert len(messages) == 1
    assert "has hand_off='durable': 'durable' is no alias of TASKS" in messages[0].msg
    with override_settings(TASKS=tasks()):
        assert [message for message in run_checks() if (message.id or "").startswith("qbwi.E01")] == []


def test_ledger_of_a_full_queue(rows: list[SimpleNamespace], caplog: pytest.LogCaptureFixture) -> None:
    """Every accepted task has one end: here, or in the engine."""
    with caplog.at_level(logging.INFO, logger="django_qbwi.scheduler"), full_queue():
        task = task_of(functions.add)
        results = [task.enqueue(number) for number in range(20)]
    assert len(rows) == 20
    assert {uuid.UUID(hex=result.id) for result in results} == {row.id for row in rows}
    assert len([record for record in caplog.records if "status=handed_off" in record.getMessage()]) == 20
