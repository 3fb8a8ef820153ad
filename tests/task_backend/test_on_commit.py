"""`OPTIONS["ON_COMMIT"]`: queued after the commit, never after a rollback, and without harm to anybody else."""

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import TestCase, override_settings

from django_qbwi import QueueFull, hosting, live_items
from django_qbwi.core.exceptions import WorkItemWarning
from django_qbwi.testing import immediate_work_items
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

COMMITTED = pytest.mark.django_db(transaction=True, databases=["default", "other"])
IN_A_TEST_CASE = pytest.mark.django_db


@pytest.fixture(autouse=True)
def waits_for_the_commit(tasks: Tasks) -> Iterator[None]:
    """Give each test a backend with the option."""
    with tasks.configured(ON_COMMIT="default"):
        yield


def enqueue_and_fail(tasks: Tasks) -> Any:
    """Enqueue a task in a block that is rolled back; return its result."""
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        result = tasks.of(functions.note).enqueue("rolled back")
        raise ZeroDivisionError
    return result


@COMMITTED
@pytest.mark.parametrize("function", [functions.add, functions.aadd])
def test_queued_after_the_commit(tasks: Tasks, signals: Any, function: Any) -> None:
    """Inside of the block it is known and not enqueued; behind it, it is."""
    with transaction.atomic():
        result = tasks.of(function).enqueue(1)
        found = tasks.backend.get_result(result.id)
        assert (str(found.status), found.enqueued_at, signals.names, live_items()) == ("READY", None, [], [])
    assert signals.names[0] == "enqueued"
    assert tasks.wait(result).return_value == 1
    assert result.enqueued_at <= result.started_at


@COMMITTED
def test_never_queued_after_a_rollback(tasks: Tasks, signals: Any) -> None:
    """Nobody knows of it any more."""
    result = enqueue_and_fail(tasks)
    gc.collect()
    assert (tasks.is_known(result), live_items(), signals.names) == (False, [], [])


@COMMITTED
def test_error_names_the_rollback(tasks: Tasks) -> None:
    """Who asks for the result of such a task is told why nobody has it."""
    result = enqueue_and_fail(tasks)
    gc.collect()
    with pytest.raises(tasks.framework.does_not_exist, match="or its transaction was rolled back"):
        result.refresh()


@COMMITTED
def test_nothing_is_left_after_a_rollback(tasks: Tasks) -> None:
    """What was kept of the task is collected."""
    with transaction.atomic():
        result = tasks.of(functions.note).enqueue(1)
        entry = weakref.ref(tasks.entry(result))
        transaction.set_rollback(True)
    gc.collect()
    assert entry() is None


@COMMITTED
def test_savepoint_that_is_rolled_back(tasks: Tasks) -> None:
    """What was enqueued in it goes with it; the rest is queued."""
    with transaction.atomic():
        kept = tasks.of(functions.note).enqueue("kept")
        gone = enqueue_and_fail(tasks)
    tasks.wait(kept)
    gc.collect()
    assert (functions.seen, tasks.is_known(gone)) == (["kept"], False)


@COMMITTED
def test_order_is_that_of_the_calls(tasks: Tasks) -> None:
    """Tasks of one transaction are queued in the order of the calls."""
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        with transaction.atomic():
            results = [tasks.of(functions.note).enqueue(number) for number in range(5)]
        for result in results:
            tasks.wait(result)
    assert functions.seen == [0, 1, 2, 3, 4]


@COMMITTED
def test_outside_of_a_transaction(tasks: Tasks) -> None:
    """Where none is open, it is queued at once."""
    result = tasks.of(functions.add).enqueue(1)
    assert result.enqueued_at is not None
    assert tasks.wait(result).return_value == 1


@COMMITTED
def test_transaction_of_another_database(tasks: Tasks) -> None:
    """Only that of the named alias is waited for."""
    with transaction.atomic(using="other"):
        assert tasks.run(functions.add, 1).return_value == 1


@COMMITTED
def test_alias_is_that_of_the_option(tasks: Tasks) -> None:
    """With another alias its transaction is waited for, around which others may end."""
    with tasks.configured(ON_COMMIT="other"), transaction.atomic(using="other"):
        with transaction.atomic():
            result = tasks.of(functions.add).enqueue(1)
        assert (tasks.backend.get_result(result.id).enqueued_at, live_items()) == (None, [])
    assert tasks.wait(result).return_value == 1


@COMMITTED
def test_on_a_running_loop(tasks: Tasks) -> None:
    """No transaction can be open there: it is queued at once."""

    async def view() -> Any:
        return await tasks.of(functions.add).aenqueue(1)

    result = asyncio.run(view())
    assert result.enqueued_at is not None
    assert tasks.wait(result).return_value == 1


@COMMITTED
def test_in_a_thread_beside_a_loop(tasks: Tasks) -> None:
    """In the thread of a sync view under ASGI it waits as everywhere."""

    def view() -> Any:
        with transaction.atomic():
            result = tasks.of(functions.add).enqueue(1)
            assert live_items() == []
        return result

    assert tasks.wait(asyncio.run(sync_to_async(view)())).return_value == 1


@COMMITTED
def test_arguments_are_those_of_the_call(tasks: Tasks) -> None:
    """What the caller does to them before the commit is not seen."""
    values = [1]
    with transaction.atomic():
        result = tasks.of(functions.give).enqueue(values)
        values.append(2)
    assert tasks.wait(result).return_value == [1]


@COMMITTED
def test_wrong_arguments_are_refused_at_the_call(tasks: Tasks) -> None:
    """Not behind the commit, where nobody could mend them."""
    with transaction.atomic(), pytest.raises(TypeError, match="Unsupported type"):
        tasks.of(functions.note).enqueue(object())


# Refused behind the commit.


@contextlib.contextmanager
def full_queue(tasks: Tasks) -> Iterator[None]:
    """Let nothing more fit into the queue."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        with tasks.configured():
            tasks.of(functions.hold).enqueue()
            functions.gate.await_entered()
            tasks.of(functions.note).enqueue("waits")
        yield
        # Here: the items of a test are waited for before its fixtures end.
        functions.gate.open()


def enqueue_too_much(tasks: Tasks) -> Any:
    """Enqueue a task that is refused behind the commit; return its result."""
    with transaction.atomic():
        return tasks.of(functions.note).enqueue("too much")


@COMMITTED
def test_refusal_fails_the_task(tasks: Tasks) -> None:
    """The transaction is committed and its caller gone: the error is in the result."""
    with full_queue(tasks):
        result = enqueue_too_much(tasks)
        result.refresh()
    assert (str(result.status), result.started_at, result.attempts) == ("FAILED", None, 0)
    assert result.errors[0].exception_class is QueueFull
    assert result.finished_at is not None


@COMMITTED
def test_refusal_is_told_by_a_signal(tasks: Tasks, signals: Any) -> None:
    """`task_finished` is sent, as of any task that has failed; `task_enqueued` is not."""
    with full_queue(tasks):
        before = len(signals.names)
        result = enqueue_too_much(tasks)
        told = [(name, sent.id, str(sent.status)) for name, sent in zip(signals.names, signals.results, strict=True)]
    assert told[before:] == [("finished", result.id, "FAILED")]


@COMMITTED
def test_refusal_is_told_by_a_record(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """At ERROR, with the task and the reason."""
    with full_queue(tasks):
        result = enqueue_too_much(tasks)
    [record] = [record for record in caplog.records if record.getMessage().startswith("After the commit")]
    assert (record.name, record.levelno) == ("django_qbwi.scheduler", logging.ERROR)
    assert f"functions.note id={result.id} was not queued: " in record.getMessage()


@COMMITTED
def test_refusal_harms_no_other_hook(tasks: Tasks) -> None:
    """What else waits for the commit is called, and who commits sees no error."""
    called: list[str] = []
    with full_queue(tasks), transaction.atomic():
        transaction.on_commit(lambda: called.append("before"))
        tasks.of(functions.note).enqueue("too much")
        transaction.on_commit(lambda: called.append("behind"))
    assert called == ["before", "behind"]


# Inside of the transaction of a TestCase, whose commit never comes.


@IN_A_TEST_CASE
@pytest.mark.parametrize("function", [functions.query, functions.aquery])
def test_at_the_call(tasks: Tasks, function: Any) -> None:
    """`immediate_work_items(on_commit=True)` runs it there."""
    with immediate_work_items(on_commit=True):
        result = tasks.of(function).enqueue()
    assert (str(result.status), result.return_value) == ("SUCCESSFUL", 1)


@IN_A_TEST_CASE
def test_at_the_call_by_the_setting(tasks: Tasks) -> None:
    """IMMEDIATE does that too, as it has nothing that would commit there."""
    with override_settings(QBWI={"IMMEDIATE": True}):
        result = tasks.of(functions.query).enqueue()
    assert (str(result.status), result.return_value) == ("SUCCESSFUL", 1)


@IN_A_TEST_CASE
def test_not_at_the_call(tasks: Tasks) -> None:
    """Without `on_commit=True` it waits for the commit, as in production."""
    with immediate_work_items():
        result = tasks.of(functions.note).enqueue(1)
    assert (str(result.status), functions.seen) == ("READY", [])


@IN_A_TEST_CASE
def test_hooks_that_a_test_case_captures(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """`captureOnCommitCallbacks(execute=True)` queues it, with the warning that any item gets there."""
    # Only the first item of a process gets it.
    monkeypatch.setattr(hosting.this_process().hints, "test_warned", False)
    warned = pytest.warns(WorkItemWarning, match="inside a TestCase's transaction")
    with warned, TestCase.captureOnCommitCallbacks(execute=True) as hooks:
        result = tasks.of(functions.add).enqueue(1)
        assert result.enqueued_at is None
    assert (len(hooks), tasks.wait(result).return_value) == (1, 1)


@IN_A_TEST_CASE
def test_captured_hooks_run_tasks_at_the_call(tasks: Tasks) -> None:
    """With `immediate_work_items()` beside it the task is done behind the block."""
    with immediate_work_items(), TestCase.captureOnCommitCallbacks(execute=True):
        result = tasks.of(functions.add).enqueue(1)
    result.refresh()
    assert result.return_value == 1
