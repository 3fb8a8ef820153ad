"""Tasks run as work items: results, signals, order, time, and what can go wrong with one."""

import asyncio
import datetime
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from django_qbwi import OperationCancelled, QueueFull, SchedulerClosed, hosting, live_items, recent_items
from django_qbwi.core.exceptions import WorkItemWarning
from django_qbwi.core.items import handle_of
from django_qbwi.task_backend.entries import TaskEntry
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.gates import PATIENCE, until
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

BOTH = [functions.add, functions.aadd]


@pytest.mark.parametrize("function", BOTH)
def test_task_runs_in_the_background(tasks: Tasks, function: Callable[..., Any]) -> None:
    """Its result is READY at first, and SUCCESSFUL behind its end, with times, worker and value."""
    result = tasks.of(function).enqueue(1, second=2)
    assert (str(result.status), result.args, result.kwargs, result.attempts) == ("READY", [1], {"second": 2}, 0)
    assert result.enqueued_at.utcoffset() == datetime.timedelta(0)
    tasks.wait(result)
    assert (str(result.status), result.return_value, result.errors, result.attempts) == ("SUCCESSFUL", 3, [], 1)
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert result.backend == tasks.alias


@pytest.mark.parametrize("function", BOTH)
def test_task_is_a_work_item(tasks: Tasks, function: Callable[..., Any]) -> None:
    """It is listed under the id of its result and the path of its function."""
    result = tasks.run(function, 1)
    info = recent_items()[0]
    assert (info.id, info.name, info.kind) == (
        result.id,
        f"tests.task_backend.functions.{function.__name__}",
        "sync" if function is functions.add else "async",
    )


@pytest.mark.parametrize("function", [functions.look, functions.alook])
def test_task_gets_its_context_and_finds_its_token(tasks: Tasks, function: Callable[..., Any]) -> None:
    """TaskContext is as the framework has it; the token is that of the current work item."""
    functions.variable.set("of the caller")
    result = tasks.run(function)
    thread = "qbwi-worker-1" if function is functions.look else "qbwi-loop"
    assert result.return_value == {
        "attempt": 1,
        "id": result.id,
        "item": result.id,
        "cancelled": False,
        "status": "RUNNING",
        "thread": thread,
        "variable": "nothing",
    }
    assert result.worker_ids[0].endswith(f":{thread}")


def test_aenqueue_neither_blocks_nor_changes_threads(tasks: Tasks) -> None:
    """It is over before the loop has turned once."""

    async def view() -> Any:
        turned: list[int] = []
        asyncio.get_running_loop().call_soon(turned.append, 1)
        result = await tasks.of(functions.add).aenqueue(1)
        assert not turned
        return result

    result = asyncio.run(view())
    assert tasks.wait(result).return_value == 1


def test_result_is_found_by_its_id(tasks: Tasks) -> None:
    """By the task, by the backend, and on a loop; always as it is now, in an object of its own."""
    task = tasks.of(functions.give)
    found = tasks.wait(task.enqueue([1]))
    again = task.get_result(found.id)
    assert (again == found, again is found, again.return_value is found.return_value) == (True, False, False)
    assert asyncio.run(task.aget_result(found.id)) == found
    assert tasks.backend.get_result(found.id) == found


def test_unknown_result(tasks: Tasks) -> None:
    """The error says why nobody knows it."""
    with pytest.raises(tasks.framework.does_not_exist, match=r"'1234'.*has ended, or more than 1000 tasks"):
        tasks.backend.get_result("1234")


def test_result_of_another_task(tasks: Tasks) -> None:
    """As the framework has it."""
    result = tasks.run(functions.add, 1)
    with pytest.raises(Exception, match="Task does not match"):
        tasks.of(functions.give).get_result(result.id)


# Arguments and values.


@pytest.mark.parametrize("function", [functions.give, functions.agive])
@pytest.mark.parametrize(
    ("given", "got"),
    [
        pytest.param((1, 2), [1, 2], id="tuple"),
        pytest.param({1: "a"}, {"1": "a"}, id="key-that-is-a-number"),
        pytest.param({"a": [{2: (3,)}]}, {"a": [{"2": [3]}]}, id="nested"),
        pytest.param({None: 1, True: 2, 1.5: 3}, {"null": 1, "true": 2, "1.5": 3}, id="other-keys"),
        pytest.param("\ud800 \N{GREEK SMALL LETTER ALPHA}", "\ud800 \N{GREEK SMALL LETTER ALPHA}", id="text"),
        pytest.param(None, None, id="none"),
    ],
)
def test_values_are_those_behind_json(tasks: Tasks, function: Callable[..., Any], given: Any, got: Any) -> None:
    """A task sees here what it would see if an engine had stored its arguments; so does who reads its result."""
    result = tasks.run(function, given)
    assert (result.args, result.return_value) == ([got], got)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(object(), "Unsupported type", id="object"),
        pytest.param(float("nan"), "not JSON compliant", id="nan"),
        pytest.param({1: "a", "1": "b"}, "the same in JSON", id="keys"),
        pytest.param({"a": {1.0: "a", "1.0": "b"}}, "the same in JSON", id="nested-keys"),
        pytest.param(datetime.date(2026, 1, 1), "a text in ISO format", id="date"),
    ],
)
def test_arguments_that_are_no_json(tasks: Tasks, value: Any, message: str) -> None:
    """They are refused at the call, with the cure; nothing is queued."""
    with pytest.raises(TypeError, match=message):
        tasks.of(functions.note).enqueue(value)
    with pytest.raises(TypeError, match="note cannot be passed on"):
        tasks.of(functions.note).enqueue(key=value)
    assert live_items() == []


def test_argument_that_contains_itself(tasks: Tasks) -> None:
    """It has no end in JSON."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError, match="contains itself"):
        tasks.of(functions.note).enqueue(value)


def test_changed_arguments_are_not_seen_in_the_result(tasks: Tasks) -> None:
    """Nor are those that the caller changes behind the call, nor what is done to a result."""
    values = [1]
    result = tasks.of(functions.change).enqueue(values)
    values.append(2)
    tasks.wait(result)
    result.return_value.append("mine")
    result.refresh()
    assert (result.args, result.return_value) == ([[1]], [1, "more"])


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (functions.give_unplain, "InvalidWorkItem", "has returned"),
        (functions.give_unsupported, "TypeError", "Unsupported"),
    ],
)
def test_value_that_is_no_json(tasks: Tasks, function: Callable[..., Any], error: str, message: str) -> None:
    """The task has FAILED, as with the framework's own backends."""
    result = tasks.run(function)
    assert (str(result.status), result.errors[0].exception_class.__name__) == ("FAILED", error)
    assert message in result.errors[0].traceback


# Failures.


@pytest.mark.parametrize("function", [functions.fail, functions.afail])
def test_failure(tasks: Tasks, function: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """The result has class and traceback; the framework's logger has one record with both."""
    result = tasks.run(function, "no such album")
    assert str(result.status) == "FAILED"
    [error] = result.errors
    assert (error.exception_class, error.traceback.splitlines()[-1]) == (ValueError, "ValueError: no such album")
    [record] = [
        record for record in caplog.records if record.name == tasks.framework.name and record.levelname == "ERROR"
    ]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize(("function", "args"), [(functions.leave, (3,)), (functions.interrupt, ())])
def test_task_that_exits_fails_alone(tasks: Tasks, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """SystemExit and KeyboardInterrupt in a task end neither the worker nor the process."""
    result = tasks.run(function, *args)
    assert (str(result.status), issubclass(result.errors[0].exception_class, BaseException)) == ("FAILED", True)
    assert tasks.run(functions.add, 1).return_value == 1


# Signals.


@pytest.mark.parametrize("function", BOTH)
def test_signals_tell_of_each_step(tasks: Tasks, signals: Any, function: Callable[..., Any]) -> None:
    """In order, each with the result of its moment, sent by the class of the backend."""
    result = tasks.run(function, 1)
    assert signals.names == ["enqueued", "started", "finished"]
    assert [str(sent.status) for sent in signals.results] == ["READY", "RUNNING", "SUCCESSFUL"]
    assert {sent.id for sent in signals.results} == {result.id}
    assert set(signals.senders) == {type(tasks.backend)}
    assert signals.results[-1].return_value == 1


@pytest.mark.parametrize("function", [functions.fail, functions.afail])
def test_receivers_find_what_was_raised(tasks: Tasks, function: Callable[..., Any]) -> None:
    """`sys.exc_info()` is that of the task while `task_finished` is sent, in whatever thread that is."""
    found: list[Any] = []

    def receive(**kwargs: Any) -> None:
        found.append(sys.exc_info()[1])

    tasks.framework.task_finished.connect(receive)
    try:
        tasks.run(function, "no such album")
    finally:
        tasks.framework.task_finished.disconnect(receive)
    assert [str(error) for error in found] == ["no such album"]


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("name", ["task_enqueued", "task_started", "task_finished"])
@pytest.mark.parametrize("error", [ValueError("receiver"), SystemExit(1)])
def test_receivers_change_no_outcome(
    tasks: Tasks, name: str, error: BaseException, function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever they raise is logged; only who enqueues is left by what would end a process."""

    def receive(**kwargs: Any) -> None:
        raise error

    signal = getattr(tasks.framework, name)
    signal.connect(receive)
    leaves = name == "task_enqueued" and isinstance(error, SystemExit)
    try:
        if leaves:
            with pytest.raises(SystemExit):
                tasks.of(function).enqueue(1)
            until(lambda: not live_items())
            assert recent_items()[0].status == "succeeded"
        else:
            assert tasks.run(function, 1).return_value == 1
    finally:
        signal.disconnect(receive)


def test_what_limits_the_time_of_the_caller_goes_on(tasks: Tasks) -> None:
    """An exception that a library throws into the thread of a request, while receivers run, reaches its owner."""

    class Timeout(BaseException):
        pass

    def receive(**kwargs: Any) -> None:
        raise Timeout

    caught: list[type[BaseException]] = []

    def view() -> None:
        try:
            tasks.of(functions.add).enqueue(1)
        except Timeout as error:
            caught.append(type(error))

    tasks.framework.task_enqueued.connect(receive)
    try:
        thread = threading.Thread(target=view)
        thread.start()
        thread.join(PATIENCE)
    finally:
        tasks.framework.task_enqueued.disconnect(receive)
    assert caught == [Timeout]
    until(lambda: not live_items())
    assert recent_items()[0].status == "succeeded"


def test_closed_coroutine_fails_its_task(tasks: Tasks, signals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be awaited then; the outcome is stored, and told, all the same."""

    async def tell(entry: Any, signal: Any) -> None:
        """Take the place of what awaits a thread."""

    monkeypatch.setattr(TaskEntry, "_atell", tell)
    with captured_work_items():
        result = tasks.of(functions.apause).enqueue()
        coroutine = tasks.entry(result).arun(None)
        coroutine.send(None)
        coroutine.close()
        result.refresh()
    assert (str(result.status), result.errors[0].exception_class) == ("FAILED", GeneratorExit)
    assert signals.names == ["enqueued", "finished"]


@pytest.mark.parametrize("function", BOTH)
def test_async_receivers_are_called(tasks: Tasks, function: Callable[..., Any]) -> None:
    """On a loop, behind which the task ends."""
    found: list[str] = []

    async def receive(task_result: Any, **kwargs: Any) -> None:
        found.append(str(task_result.status))

    for name in ("task_started", "task_finished"):
        getattr(tasks.framework, name).connect(receive)
    try:
        tasks.run(function, 1)
    finally:
        for name in ("task_started", "task_finished"):
            getattr(tasks.framework, name).disconnect(receive)
    assert found == ["RUNNING", "SUCCESSFUL"]


def test_outcome_is_there_before_anybody_is_told(tasks: Tasks) -> None:
    """Who is told of the end finds it, and who waits for the item does so behind the signal."""
    order: list[str] = []
    task = tasks.of(functions.hold)

    def receive(task_result: Any, **kwargs: Any) -> None:
        order.append(str(task.get_result(task_result.id).status))

    tasks.framework.task_finished.connect(receive)
    try:
        result = task.enqueue()
        functions.gate.await_entered()
        [item] = hosting.scheduler().running_items()
        item.add_waiter(lambda: order.append("woken"))
        functions.gate.open()
        assert item.wait(PATIENCE)
    finally:
        tasks.framework.task_finished.disconnect(receive)
    assert (order, tasks.wait(result).return_value) == (["SUCCESSFUL", "woken"], "let go")


# Order and time.


def test_priority(tasks: Tasks) -> None:
    """The highest first; within one as they came."""
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        tasks.of(functions.hold).enqueue()
        functions.gate.await_entered()
        note = tasks.of(functions.note)
        for priority in (0, -5, 10, 0, 10):
            note.using(priority=priority).enqueue([priority, len(live_items())])
        functions.gate.open()
        assert drain(PATIENCE)
    assert functions.seen == [[10, 3], [10, 5], [0, 1], [0, 4], [-5, 2]]


def test_run_after(tasks: Tasks) -> None:
    """It waits for its moment, and holds no worker."""
    task = tasks.of(functions.add)
    moment = timezone.now() + datetime.timedelta(seconds=0.2)
    result = task.using(run_after=moment).enqueue(1)
    assert (str(result.status), hosting.scheduler().delayed_count) == ("READY", 1)
    assert tasks.wait(result).return_value == 1
    assert result.started_at >= moment - datetime.timedelta(milliseconds=5)


def test_run_after_a_moment_that_has_passed(tasks: Tasks) -> None:
    """It runs now."""
    moment = timezone.now() - datetime.timedelta(days=1)
    assert tasks.wait(tasks.of(functions.add).using(run_after=moment).enqueue(1)).return_value == 1


@override_settings(USE_TZ=False, TIME_ZONE="America/Chicago")
@pytest.mark.parametrize("aware", [False, True])
def test_run_after_without_time_zones(tasks: Tasks, aware: bool) -> None:
    """Naive moments are those of TIME_ZONE; an aware one is taken for what it says."""
    now = datetime.datetime.now(tz=datetime.UTC if aware else None)
    if not aware:
        now = timezone.now()
    task = tasks.of(functions.add).using(run_after=now + datetime.timedelta(hours=1))
    task.enqueue(1)
    [due] = hosting.scheduler()._delayed.values()
    assert 3590 < due - hosting.scheduler().clock() <= 3600
    [handle] = map(handle_of, hosting.scheduler().live_items())
    assert handle.cancel()


# The end.


@pytest.mark.parametrize("function", [functions.honour, functions.ahonour])
def test_cancelled_task(tasks: Tasks, signals: Any, function: Callable[..., Any]) -> None:
    """It is CANCELLED as a work item, and FAILED as a task, with OperationCancelled as its error."""
    result = tasks.of(function).enqueue()
    functions.gate.await_entered()
    [handle] = map(handle_of, hosting.scheduler().running_items())
    handle.cancel("enough")
    tasks.wait(result)
    assert (str(result.status), result.errors[0].exception_class) == ("FAILED", OperationCancelled)
    assert "enough" in result.errors[0].traceback
    assert handle.status == "cancelled"
    assert signals.names == ["enqueued", "started", "finished"]


@pytest.mark.parametrize("delayed", [False, True])
def test_task_that_is_cancelled_before_it_begins(tasks: Tasks, signals: Any, delayed: bool) -> None:
    """Its end is told as that of any other."""
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        tasks.of(functions.hold).enqueue()
        functions.gate.await_entered()
        task = tasks.of(functions.note)
        if delayed:
            task = task.using(run_after=timezone.now() + datetime.timedelta(hours=1))
        result = task.enqueue(1)
        [item] = [item for item in hosting.scheduler().live_items() if item.known_id == result.id]
        assert handle_of(item).cancel()
        result.refresh()
        assert (str(result.status), result.started_at, result.attempts) == ("FAILED", None, 0)
        assert result.errors[0].exception_class is OperationCancelled
        assert signals.names[-1] == "finished"
        functions.gate.open()
    assert functions.seen == []


def test_task_that_the_end_of_the_process_cuts_off(tasks: Tasks, signals: Any) -> None:
    """Given up or never begun: FAILED, and an end that comes too late changes nothing."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "SHUTDOWN_TIMEOUT": 0.2}):
        begun = tasks.of(functions.hold).enqueue()
        functions.gate.await_entered()
        waits = tasks.of(functions.note).enqueue(1)
    for result, words in ((begun, "did not finish it in time"), (waits, "had not begun it")):
        result.refresh()
        assert (str(result.status), result.errors[0].exception_class) == ("FAILED", SchedulerClosed)
        assert words in result.errors[0].traceback
    [thread] = [thread for thread in threading.enumerate() if thread.name == "qbwi-worker-1"]
    functions.gate.open()
    thread.join(PATIENCE)
    begun.refresh()
    assert (str(begun.status), signals.names.count("finished")) == ("FAILED", 2)


def test_full_queue(tasks: Tasks, signals: Any) -> None:
    """It is refused at the call, and nobody is told of it."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        tasks.of(functions.hold).enqueue()
        functions.gate.await_entered()
        tasks.of(functions.note).enqueue(1)
        with pytest.raises(QueueFull):
            tasks.of(functions.note).enqueue(2)
        assert signals.names.count("enqueued") == 2
        functions.gate.open()


# Results are bounded.


def test_results_are_bounded(tasks: Tasks) -> None:
    """The oldest of those that have finished goes first; those that run stay."""
    held = tasks.of(functions.hold).enqueue()
    functions.gate.await_entered()
    bounded = {"TASKS": {tasks.alias: {"BACKEND": _path(tasks), "OPTIONS": {"RESULTS": 2}}}}
    with override_settings(**bounded):
        results = [tasks.run(functions.add, number) for number in range(4)]
        known = [result.id for result in results if _is_known(tasks, result)]
        assert known == [result.id for result in results[-2:]]
        assert _is_known(tasks, held)
        functions.gate.open()
        tasks.wait(held)


def _path(tasks: Tasks) -> str:
    return f"{type(tasks.backend).__module__}.{type(tasks.backend).__qualname__}"


def _is_known(tasks: Tasks, result: Any) -> bool:
    try:
        tasks.backend.get_result(result.id)
    except tasks.framework.does_not_exist:
        return False
    return True


def test_backend_objects_share_what_is_kept(tasks: Tasks) -> None:
    """There is one in each thread, and new ones when the setting changes."""
    result = tasks.run(functions.add, 1)
    with override_settings(TASKS={tasks.alias: {"BACKEND": _path(tasks)}}):
        assert tasks.backend.get_result(result.id).return_value == 1


# What a task takes along.


@pytest.mark.parametrize("function", [functions.look, functions.alook])
def test_carriers_count_for_tasks(tasks: Tasks, function: Callable[..., Any]) -> None:
    """What QBWI["CONTEXT"] takes along from who enqueues is there around the task."""
    with override_settings(QBWI={"CONTEXT": ["tests.task_backend.functions.Carrier"]}):
        result = _enqueued_for("acme", tasks.of(function))
        assert tasks.wait(result).return_value["variable"] == "acme"


@pytest.mark.django_db(transaction=True)
def test_carriers_are_those_of_the_call(tasks: Tasks) -> None:
    """Not those of the moment of the commit, where ON_COMMIT waits for it."""
    options = {"ON_COMMIT": "default"}
    configured = {tasks.alias: {"BACKEND": _path(tasks), "QUEUES": [], "OPTIONS": options}}
    with override_settings(QBWI={"CONTEXT": ["tests.task_backend.functions.Carrier"]}, TASKS=configured):
        with transaction.atomic():
            result = _enqueued_for("acme", tasks.of(functions.look))
        assert tasks.wait(result).return_value["variable"] == "acme"


def _enqueued_for(tenant: str, task: Any) -> Any:
    token = functions.variable.set(tenant)
    try:
        return task.enqueue()
    finally:
        functions.variable.reset(token)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wanted", [True, False])
def test_task_inside_a_transaction_warns_once(tasks: Tasks, wanted: bool, recwarn: pytest.WarningsRecorder) -> None:
    """It may run before the commit: the warning names the option of the backend."""
    hints = hosting.this_process().hints
    hints.transaction_warned = False
    warnings.simplefilter("always", WorkItemWarning)
    with override_settings(QBWI={"WARN_IN_TRANSACTION": wanted}), transaction.atomic():
        functions.query()
        results = [tasks.of(functions.add).enqueue(number) for number in range(2)]
        for result in results:
            tasks.wait(result)
    hints.transaction_warned = False
    messages = [str(warning.message) for warning in recwarn if warning.category is WorkItemWarning]
    assert len(messages) == wanted
    assert all("functions.add was queued inside" in text and '["ON_COMMIT"]' in text for text in messages)


# Tools and settings.


@pytest.mark.parametrize("function", [functions.look, functions.alook])
@pytest.mark.parametrize("by_setting", [False, True])
def test_tasks_run_at_the_call(tasks: Tasks, signals: Any, function: Callable[..., Any], by_setting: bool) -> None:
    """Under IMMEDIATE and in `immediate_work_items()`: the result is there when `enqueue` returns."""
    with override_settings(QBWI={"IMMEDIATE": by_setting}):
        if by_setting:
            result = tasks.of(function).enqueue()
        else:
            with immediate_work_items():
                result = tasks.of(function).enqueue()
    assert (str(result.status), result.return_value["item"]) == ("SUCCESSFUL", result.id)
    assert signals.names == ["enqueued", "started", "finished"]


def test_tasks_are_captured(tasks: Tasks) -> None:
    """And run when the test says so."""
    with captured_work_items() as captured:
        result = tasks.of(functions.add).enqueue(1)
        [item] = captured
        assert (item.name, item.handle.id) == ("tests.task_backend.functions.add", result.id)
        item.run()
    result.refresh()
    assert result.return_value == 1


def test_task_that_was_captured_and_never_run(tasks: Tasks) -> None:
    """It is discarded, as its item is."""
    with captured_work_items():
        result = tasks.of(functions.add).enqueue(1)
    result.refresh()
    assert (str(result.status), result.errors[0].exception_class) == ("FAILED", SchedulerClosed)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("function", [functions.query, functions.aquery])
def test_connections_are_closed_behind_a_task(tasks: Tasks, function: Callable[..., Any]) -> None:
    """As behind any item."""
    assert tasks.run(function).return_value == 1


def test_checks_are_silent(tasks: Tasks) -> None:
    """With what the test settings say."""
    assert list(tasks.backend.check()) == []
    call_command("check")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"RESULT": 5}, "has no key 'RESULT'"),
        ({"RESULTS": -1}, '["RESULTS"] is -1'),
        ({"RESULTS": True}, '["RESULTS"] is True'),
        ({"ON_COMMIT": "nowhere"}, "[\"ON_COMMIT\"] is 'nowhere'"),
        ("no dict", "is 'no dict'"),
    ],
)
def test_wrong_options(tasks: Tasks, options: Any, message: str) -> None:
    """`manage.py check` names the key, the value and the cure."""
    with override_settings(TASKS={tasks.alias: {"BACKEND": _path(tasks), "OPTIONS": options}}):
        [found] = tasks.backend.check()
    assert found.id == "qbwi.E010"
    assert message in found.msg
    assert found.hint


def test_app_that_is_not_installed(tasks: Tasks) -> None:
    """`manage.py check` says what to add."""
    backend = tasks.backend
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        [found] = backend.check()
    assert "INSTALLED_APPS" in found.hint


def test_records_are_those_of_the_framework(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """On its logger, as it documents them."""
    with caplog.at_level(logging.DEBUG, tasks.framework.name):
        result = tasks.run(functions.add, 1)
    records = [record.getMessage() for record in caplog.records if record.name == tasks.framework.name]
    path = "tests.task_backend.functions.add"
    assert records == [
        f"Task id={result.id} path={path} enqueued backend={tasks.alias}",
        f"Task id={result.id} path={path} state=RUNNING",
        f"Task id={result.id} path={path} state=SUCCESSFUL",
    ]


def test_result_is_fit_for_json(tasks: Tasks) -> None:
    """What it holds is plain."""
    result = tasks.run(functions.give, {"a": (1, 2)})
    assert json.loads(json.dumps([result.args, result.return_value])) == [[{"a": [1, 2]}], {"a": [1, 2]}]
