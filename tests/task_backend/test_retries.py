"""Tasks that are tried again: by the option of their alias, with their results, signals and records."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_qbwi import InvalidWorkItem, OperationCancelled, Retry, exponential, hosting, live_items
from django_qbwi.core.items import handle_of
from django_qbwi.handoff import frameworks
from django_qbwi.signals import work_item_retried
from django_qbwi.task_backend.outcome import MAX_FAILURES
from django_qbwi.task_backend.policy import retry_from
from django_qbwi.testing import immediate_work_items
from tests.support.gates import PATIENCE, Gate
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

NOW = {"max_attempts": 3, "on": ["ValueError"], "backoff": {"first": 0}}
LATER = {"backoff": {"first": 3600, "longest": 3600, "jitter": 0}}
KINDS = [functions.stumble, functions.astumble]


def fail_once(tasks: Tasks, function: Callable[..., Any] = functions.stumble) -> Any:
    """Enqueue a task that fails once, wait for that, and return its result, of before."""
    failed = Gate()

    def note(**kwargs: Any) -> None:
        failed.entered.release()

    work_item_retried.connect(note)
    try:
        result = tasks.of(function).enqueue(1)
        failed.await_entered()
    finally:
        work_item_retried.disconnect(note)
    return result


@pytest.mark.parametrize("function", KINDS)
def test_task_is_tried_again(tasks: Tasks, signals: Any, function: Callable[..., Any]) -> None:
    """Its attempts, workers and errors grow; it is told to have finished once."""
    with tasks.configured(RETRY=NOW):
        result = tasks.run(function, 2)
    assert (str(result.status), result.return_value, result.attempts) == ("SUCCESSFUL", 3, 3)
    assert [worker.rpartition(":")[0] for worker in result.worker_ids] == [tasks.entry(result).results.worker] * 3
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert ["attempt 1" in result.errors[0].traceback, "attempt 2" in result.errors[1].traceback] == [True, True]
    assert result.started_at < result.last_attempted_at < result.finished_at
    assert signals.names == ["enqueued", "started", "started", "started", "finished"]
    assert [str(found.status) for found in signals.results] == ["READY", *["RUNNING"] * 3, "SUCCESSFUL"]
    assert [found.attempts for found in signals.results] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("function", KINDS)
def test_last_attempt_fails(tasks: Tasks, signals: Any, function: Callable[..., Any]) -> None:
    """It has failed with as many errors as attempts, and receivers find the last one."""
    found: list[Any] = []

    def note(**kwargs: Any) -> None:
        found.append(str(sys.exc_info()[1]))

    tasks.framework.task_finished.connect(note)
    try:
        with tasks.configured(RETRY=NOW):
            result = tasks.run(function, 9)
    finally:
        tasks.framework.task_finished.disconnect(note)
    assert (str(result.status), result.attempts, len(result.errors)) == ("FAILED", 3, 3)
    assert found == ["attempt 3"]
    assert signals.names == ["enqueued", "started", "started", "started", "finished"]


@pytest.mark.parametrize("function", KINDS)
def test_other_failures_are_not_tried_again(tasks: Tasks, function: Callable[..., Any]) -> None:
    """Only what `on` names."""
    with tasks.configured(RETRY={**NOW, "on": ["KeyError", "smtplib.SMTPException"]}):
        result = tasks.run(function, 1)
    assert (str(result.status), result.attempts, len(result.errors)) == ("FAILED", 1, 1)


@pytest.mark.parametrize("function", KINDS)
def test_records_are_on_the_logger_of_the_framework(
    tasks: Tasks, function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A WARNING with its traceback for each attempt that is followed by another one."""
    with tasks.configured(RETRY=NOW), caplog.at_level(logging.INFO, tasks.framework.name):
        result = tasks.run(function, 1)
    records = [record for record in caplog.records if record.name == tasks.framework.name]
    about = f"Task id={result.id} path={tasks.entry(result).path}"
    assert [record.getMessage() for record in records] == [
        f"{about} state=RUNNING",
        f"{about} state=READY attempt=1 failed: the next one follows in 0.0s",
        f"{about} state=RUNNING",
        f"{about} state=SUCCESSFUL",
    ]
    warning = records[1]
    assert warning.levelno == logging.WARNING
    assert warning.exc_info is not None
    assert isinstance(warning.exc_info[1], ValueError)
    assert warning.exc_info[2] is not None


@pytest.mark.parametrize("function", [functions.stumble_without_words, functions.astumble_as_if_closed])
def test_failures_that_are_hard_to_tell_of(
    tasks: Tasks, function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot say what it is, and one behind which nothing can be awaited: each is a WARNING all the same."""
    with tasks.configured(RETRY={"on": ["Exception", "GeneratorExit"], "backoff": {"first": 0}}):
        result = tasks.run(function)
    assert (str(result.status), result.attempts) == ("SUCCESSFUL", 2)
    records = [record for record in caplog.records if record.name == tasks.framework.name]
    assert [record.levelname for record in records].count("WARNING") == 1


def test_task_is_ready_while_it_waits(tasks: Tasks) -> None:
    """As the framework says of one that is to be executed again; it takes no room among those that run."""
    with tasks.configured(RETRY=LATER):
        result = fail_once(tasks)
        result.refresh()
        assert (str(result.status), result.attempts, len(result.errors)) == ("READY", 1, 1)
        assert (result.is_finished, result.finished_at) == (False, None)
        [info] = live_items()
        assert info.id == result.id


def test_task_that_is_cancelled_while_it_waits(tasks: Tasks, signals: Any) -> None:
    """It has failed, with that as its last error."""
    with tasks.configured(RETRY=LATER):
        result = fail_once(tasks)
        [item] = hosting.scheduler().live_items()
        assert handle_of(item).cancel("enough")
        assert item.wait(PATIENCE)
        result.refresh()
        assert (str(result.status), result.attempts) == ("FAILED", 1)
        assert [error.exception_class for error in result.errors] == [ValueError, OperationCancelled]
        assert signals.names == ["enqueued", "started", "finished"]


@pytest.mark.parametrize("function", KINDS)
def test_end_of_the_process(tasks: Tasks, signals: Any, function: Callable[..., Any]) -> None:
    """An attempt that cannot begin any more is left out: it has failed with the error that is there already."""
    with tasks.configured(RETRY=LATER):
        with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 1.0}):
            result = fail_once(tasks, function)
        result.refresh()
        assert (str(result.status), result.attempts) == ("FAILED", 1)
        assert [error.exception_class for error in result.errors] == [ValueError]
        assert result.finished_at is not None
        assert signals.names == ["enqueued", "started", "finished"]


def test_next_attempt_goes_on_from_the_checkpoint(tasks: Tasks) -> None:
    """Each one by the arguments of all before it; those of the result are those of `enqueue`."""
    with tasks.configured(RETRY=NOW):
        result = tasks.run(functions.go_on, 0)
    assert functions.seen == [(0, 9, 1), (3, 9, 1), (3, 9, 4)]
    assert (result.return_value, result.args, result.kwargs) == (3, [0], {})


def test_checkpoint_with_which_it_cannot_be_called(tasks: Tasks) -> None:
    """It fails there, as in an item."""
    with tasks.configured(RETRY={**NOW, "on": "KeyError"}):
        result = tasks.run(functions.go_nowhere, 0)
    assert result.errors[0].exception_class is InvalidWorkItem
    assert "has no parameter 'nobody'" in result.errors[0].traceback


def test_errors_are_bounded(tasks: Tasks) -> None:
    """The first one is kept, and the last ones; the attempts are counted on."""
    with tasks.configured(RETRY={**NOW, "max_attempts": MAX_FAILURES + 3}):
        result = tasks.run(functions.stumble, 1_000)
    assert (result.attempts, len(result.errors)) == (MAX_FAILURES + 3, MAX_FAILURES)
    kept = [error.traceback.strip().rpartition(" ")[2] for error in result.errors]
    assert kept == ["1", *map(str, range(5, MAX_FAILURES + 4))]


def test_context_knows_the_attempt(tasks: Tasks) -> None:
    """`TaskContext.attempt` is that of the run."""
    with tasks.configured(RETRY=NOW):
        result = tasks.run(functions.stumble_with_context)
    assert (functions.seen, result.return_value) == ([1, 2], 2)


def test_attempts_at_the_call(tasks: Tasks, settings: Any) -> None:
    """Where items run at the call, all attempts follow at once."""
    settings.QBWI = {"IMMEDIATE": True}
    with tasks.configured(RETRY=LATER):
        result = tasks.of(functions.stumble).enqueue(1)
    assert (str(result.status), result.attempts) == ("SUCCESSFUL", 2)


def test_block_of_a_test_runs_one_attempt(tasks: Tasks) -> None:
    """As with any item."""
    with tasks.configured(RETRY=LATER), immediate_work_items():
        result = tasks.of(functions.stumble).enqueue(1)
        assert (str(result.status), result.attempts) == ("FAILED", 1)


@pytest.mark.parametrize(
    ("given", "attempts", "backoff"),
    [
        ({}, 3, exponential()),
        ({"max_attempts": 5}, 5, exponential()),
        ({"on": "builtins.ValueError"}, 3, exponential()),
        ({"on": (ValueError,)}, 3, exponential()),
        ({"backoff": {"first": 2.0, "factor": 3}}, 3, exponential(first=2.0, factor=3)),
        ({"backoff": "tests.task_backend.functions.at_once"}, 3, functions.at_once),
        ({"backoff": functions.at_once}, 3, functions.at_once),
        ("tests.task_backend.functions.POLICY", 3, functions.at_once),
        (functions.POLICY, 3, functions.at_once),
    ],
    ids=repr,
)
def test_what_the_option_may_be(given: Any, attempts: int, backoff: Any) -> None:
    """A dict of plain values, a policy, or the path of one."""
    retry = retry_from(given)
    assert isinstance(retry, Retry)
    assert (retry.max_attempts, retry.backoff) == (attempts, backoff)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "it is 3: give a dict"),
        ([], "it is []: give a dict"),
        ({"max_attempt": 3}, "it has no key 'max_attempt': did you mean \"max_attempts\"?"),
        ({5: 3}, "it has no key 5: the keys are max_attempts, on, backoff"),
        ({"max_attempts": 0}, "max_attempts is 0: give a whole number, 1 or more"),
        ({"on": []}, "on is (): give a class of exceptions"),
        ({"on": ["smtplib.SMTPExeption"]}, "'smtplib.SMTPExeption' cannot be imported"),
        ({"on": ["nonsense"]}, "'nonsense' cannot be imported"),
        ({"on": ["json.loads"]}, "on names 'json.loads', which is no exception"),
        ({"on": [5]}, "on is (5,)"),
        ({"backoff": {"frist": 1}}, "backoff has no key 'frist': did you mean \"first\"?"),
        ({"backoff": {"first": "1"}}, "first is '1': give a number of at least 0"),
        ({"backoff": 5}, "backoff is 5: give a function"),
        ({"backoff": "json.nothing"}, "'json.nothing' cannot be imported"),
        ("json.nothing", "'json.nothing' cannot be imported"),
        ("json.loads", "give the path of a Retry"),
    ],
    ids=repr,
)
def test_wrong_options(tasks: Tasks, given: Any, message: str) -> None:
    """`manage.py check` names the value and the cure, and `enqueue` refuses."""
    with tasks.configured(RETRY=given):
        [found] = tasks.backend.check()
        with pytest.raises(ImproperlyConfigured) as raised:
            tasks.of(functions.add).enqueue(1)
    assert found.id == "qbwi.E010"
    assert message in found.msg
    assert '"max_attempts": 3' in found.hint
    assert message in str(raised.value)
    assert f'TASKS["{tasks.alias}"]["OPTIONS"]["RETRY"]' in str(raised.value)


def test_right_option_is_not_told_of(tasks: Tasks) -> None:
    """By no check."""
    with tasks.configured(RETRY=NOW):
        assert list(tasks.backend.check()) == []


def test_backoff_that_raises(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """The task has failed by its own error, and a record says why there is no other attempt."""
    with tasks.configured(RETRY={"backoff": "tests.task_backend.functions.badly"}):
        result = tasks.run(functions.stumble, 1)
    assert (str(result.status), len(result.errors)) == ("FAILED", 1)
    assert "its backoff raised builtins.RuntimeError: oops" in caplog.text


# What a task says itself.


@pytest.mark.parametrize("function", KINDS)
def test_task_says_how_often(extended: Tasks, function: Callable[..., Any]) -> None:
    """Without the option of its alias."""
    with extended.configured():
        result = extended.wait(extended.of(function, max_attempts=2, backoff=functions.at_once).enqueue(1))
    assert (str(result.status), result.attempts) == ("SUCCESSFUL", 2)


@pytest.mark.parametrize(
    ("said", "usual", "attempts"),
    [
        ({"max_attempts": 4}, NOW, 4),
        ({"max_attempts": 1}, NOW, 1),
        ({"backoff": functions.at_once}, {**LATER, "max_attempts": 2}, 2),
        ({"backoff": functions.at_once}, None, 3),
        ({"max_attempts": 4}, {**NOW, "on": ["KeyError"]}, 1),
    ],
    ids=repr,
)
def test_word_of_a_task_wins(extended: Tasks, said: dict[str, Any], usual: Any, attempts: int) -> None:
    """Each one over that of the alias, which stands where the task says nothing."""
    with extended.configured(RETRY=usual):
        result = extended.wait(extended.of(functions.stumble, **said).enqueue(9))
    assert (str(result.status), result.attempts) == ("FAILED", attempts)


def test_using_keeps_what_a_task_says(extended: Tasks) -> None:
    """Whatever else it changes."""
    with extended.configured():
        task = extended.of(functions.stumble, max_attempts=2, backoff=functions.at_once)
        changed = task.using(priority=5)
        assert (changed.max_attempts, changed.backoff, changed.priority) == (2, functions.at_once, 5)
        assert extended.wait(changed.enqueue(1)).attempts == 2
    assert type(task) is extended.backend.task_class
    assert isinstance(task, extended.framework.task)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"max_attempts": 0}, "max_attempts is 0: give a whole number, 1 or more"),
        ({"max_attempts": "3"}, "max_attempts is '3'"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"backoff": 5}, "backoff is 5: give a function"),
        ({"backoff": {"first": 1}}, "backoff is {'first': 1}: give a function"),
    ],
    ids=repr,
)
def test_nonsense_is_refused_at_definition(extended: Tasks, said: dict[str, Any], message: str) -> None:
    """As the framework refuses a priority: with its own class, the value and the cure."""
    with pytest.raises(extended.framework.invalid) as raised:
        extended.of(functions.stumble, **said)
    assert message in str(raised.value)
    assert "tests.task_backend.functions.stumble" in str(raised.value)


@pytest.mark.skipif(not (6, 0) <= django.VERSION < (6, 1), reason="Django 6.0 alone takes no further arguments")
def test_other_decorators() -> None:
    """There the option of the alias, or a changed copy of the task, says it."""
    from django.tasks import task

    with pytest.raises(TypeError, match="max_attempts"):
        task(max_attempts=2)(functions.stumble)
    functions.start_afresh()
    tasks = Tasks("django.tasks")
    with tasks.configured():
        changed = dataclasses.replace(tasks.of(functions.stumble), max_attempts=2, backoff=functions.at_once)
        assert tasks.wait(changed.enqueue(1)).attempts == 2


@pytest.mark.skipif(django.VERSION < (6, 1), reason="before 6.1, no task can be pickled")
@pytest.mark.parametrize("backoff", [exponential(first=2), functions.at_once])
def test_task_is_pickled(backoff: Any) -> None:
    """It is found again by its path, with all that it says; a copy is another one, which we never make."""
    again = pickle.loads(pickle.dumps(functions.named.using(priority=3)))
    assert (again.max_attempts, again.backoff, again.priority) == (4, functions.at_once, 3)
    assert again == functions.named.using(priority=3)
    changed = dataclasses.replace(functions.named, backoff=backoff)
    assert pickle.loads(pickle.dumps(changed)) == changed


@pytest.mark.skipif(django.VERSION < (6, 1), reason="before 6.1, nothing imports a copied task again")
def test_task_is_never_copied() -> None:
    """Neither where it is enqueued, nor where it is tried again: a copy would import its module again."""
    functions.start_afresh()

    def refuse(self: Any, *args: Any) -> Any:
        raise AssertionError("it was copied")

    tasks = Tasks("django.tasks")
    task = tasks.of(functions.stumble, max_attempts=2, backoff=functions.at_once)
    kind = type(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__reduce__", refuse)
        patch.setattr(kind, "__reduce_ex__", refuse)
        result = tasks.wait(task.enqueue(1))
    assert (str(result.status), result.attempts) == ("SUCCESSFUL", 2)


def test_task_of_another_class(tasks: Tasks) -> None:
    """One that was made by another backend, and changed to ours, follows the option of the alias."""
    with tasks.configured(RETRY=NOW):
        plain = tasks.framework.task(func=functions.stumble, backend=tasks.alias, **frameworks.UNSAID)
        assert tasks.wait(plain.enqueue(1)).attempts == 2
