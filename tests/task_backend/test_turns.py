"""Tasks that expire, take turns, or stand for each other while they wait: by what `@task` is given."""

from __future__ import annotations

import datetime
import pickle
import threading
from typing import Any

import django
import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from django_qbwi import (
    CancelReason,
    InvalidWorkItem,
    OperationCancelled,
    QueueFull,
    background_work_item,
    hosting,
    live_items,
)
from django_qbwi.core.items import handle_of
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.gates import PATIENCE
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

ONE_WORKER = override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 10})


def occupy(tasks: Tasks) -> Any:
    """Enqueue a task that has begun, and waits for the gate; return its result."""
    result = tasks.of(functions.hold).enqueue()
    functions.gate.await_entered()
    return result


def finish(*results: Any) -> None:
    """Let all go on, and wait for their ends."""
    functions.gate.open()
    assert drain(PATIENCE)
    for result in results:
        result.refresh()


def test_task_that_has_not_started_in_time(extended: Tasks, signals: Any) -> None:
    """It has failed, by an error that says why, and was never attempted."""
    with ONE_WORKER:
        first = occupy(extended)
        late = extended.of(functions.add, expires=0.01).enqueue(1)
        extended.wait(late)
        assert (str(late.status), late.attempts) == ("FAILED", 0)
        [error] = late.errors
        assert error.exception_class is OperationCancelled
        assert "cancelled (expired): not started within 0.01 s" in error.traceback
        finish(first)
    assert signals.names.count("finished") == 2


def test_task_that_starts_in_time(extended: Tasks) -> None:
    """Expires no more."""
    result = extended.of(functions.add, expires=PATIENCE).enqueue(1)
    assert extended.wait(result).return_value == 1
    [item] = [item for item in hosting.scheduler().finished_items() if item.known_id == result.id]
    assert item.token.reason is not CancelReason.EXPIRED


def test_task_that_would_expire_before_its_time(extended: Tasks) -> None:
    """It is refused, with both moments and the cure."""
    soon = timezone.now() + datetime.timedelta(hours=1)
    task = extended.of(functions.add, expires=5).using(run_after=soon)
    with pytest.raises(InvalidWorkItem, match=r"run_after is .* and expires is 5\.0.*Give an earlier run_after"):
        task.enqueue(1)
    assert live_items() == []
    longer = extended.of(functions.add, expires=7200).using(run_after=soon).enqueue(1)
    [item] = hosting.scheduler().live_items()
    assert (item.known_id, item.options.expires) == (longer.id, 7200)
    assert handle_of(item).cancel()


def test_no_more_of_a_key_run_at_once(extended: Tasks) -> None:
    """The other one waits without a worker; another key has its turn."""
    task = extended.of(functions.hold_one, concurrency=1, concurrency_key=functions.key_of)
    results = [task.enqueue(key) for key in ("a", "a", "b")]
    functions.gate.await_entered(2)
    assert sorted(functions.seen) == ["a", "b"]
    assert [info.held for info in live_items()].count(True) == 1
    finish(*results)
    assert [result.return_value for result in results] == ["a", "a", "b"]


def test_limit_without_a_key(extended: Tasks) -> None:
    """Is that of the task's function."""
    task = extended.of(functions.hold_one, concurrency=1)
    results = [task.enqueue(key) for key in ("a", "b")]
    functions.gate.await_entered()
    assert functions.seen == ["a"]
    finish(*results)
    assert functions.seen == ["a", "b"]


def test_task_that_waits_stands_for_the_next(extended: Tasks, signals: Any) -> None:
    """Its result is returned, and nothing else is enqueued; one that runs does not count."""
    task = extended.of(functions.hold_one, unique_key=functions.key_of)
    with ONE_WORKER:
        running = task.enqueue("a")
        functions.gate.await_entered()
        waiting, other = task.enqueue("a"), task.enqueue("b")
        same = task.using(priority=5).enqueue("a")
        assert len({running.id, waiting.id, other.id}) == 3
        assert (same.id, str(same.status), same.enqueued_at) == (waiting.id, "READY", waiting.enqueued_at)
        finish(running, waiting, other, same)
    assert functions.seen == ["a", "a", "b"]
    assert str(same.status) == "SUCCESSFUL"
    assert signals.names.count("enqueued") == 3


def test_key_gets_the_arguments_of_the_task(extended: Tasks) -> None:
    """Without the context, in the caller's thread, and copies of them."""
    calls: list[Any] = []

    def key(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs, threading.current_thread()))
        return functions.key_of(*args, **kwargs)

    task = extended.of(functions.hold_one, unique_key=key)
    result = task.enqueue("a", more=[1])
    assert calls == [(("a",), {"more": [1, "by the key"]}, threading.current_thread())]
    assert result.kwargs == {"more": [1]}
    with_context = extended.of(functions.alook, unique_key=lambda: 1)
    finish(result, with_context.enqueue())


def test_others_never_stand_for_a_task(extended: Tasks) -> None:
    """Neither a work item of the same function, nor a task of another alias: their results are not found here."""
    decorated = background_work_item(unique_key=lambda: 1)(functions.note)
    with ONE_WORKER:
        first = occupy(extended)
        waiting = decorated.queue()
        result = extended.of(functions.note, unique_key=lambda value: 1).enqueue("task")
        assert result.id != waiting.id
        finish(first, result)
    assert (len(functions.seen), functions.seen[-1], str(result.status)) == (2, "task", "SUCCESSFUL")


def test_refused_key(extended: Tasks) -> None:
    """It is refused where it is enqueued, and nothing is known of it."""
    with pytest.raises(InvalidWorkItem, match=r"raised .*RuntimeError: oops"):
        extended.of(functions.add, unique_key=functions.key_that_raises).enqueue(1)
    with pytest.raises(InvalidWorkItem, match=r"returned a .*list, and not a plain value"):
        extended.of(functions.add, unique_key=lambda first: [first]).enqueue(1)
    assert live_items() == []


def test_what_waits_needs_no_room(extended: Tasks) -> None:
    """One that is new does."""
    task = extended.of(functions.hold_one, unique_key=functions.key_of)
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        first = occupy(extended)
        waiting = task.enqueue("a")
        assert task.enqueue("a").id == waiting.id
        with pytest.raises(QueueFull):
            task.enqueue("b")
        finish(first, waiting)


def test_tools_of_tests_know_no_turns(extended: Tasks) -> None:
    """Nobody waits there, as with any item."""
    task = extended.of(functions.give, unique_key=functions.key_of, concurrency=1, expires=5)
    with immediate_work_items():
        assert [task.enqueue(1).return_value, task.enqueue(1).return_value] == [1, 1]
    with captured_work_items() as captured:
        assert task.enqueue(1).id != task.enqueue(1).id
        captured.run_all()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"expires": 0}, "expires is 0: give a number of seconds above 0"),
        ({"expires": "soon"}, "expires is 'soon'"),
        ({"unique_key": "pk"}, "unique_key is 'pk', no function: give a function"),
        ({"unique_key": functions.aadd}, "an async function: give a function that returns a key"),
        ({"concurrency": 0}, "concurrency is 0: give how many items may run at once"),
        ({"concurrency": True}, "concurrency is True"),
        ({"concurrency_key": functions.key_of}, "say how many of a key, as concurrency=1"),
    ],
)
def test_nonsense_is_refused_at_definition(extended: Tasks, said: dict[str, Any], message: str) -> None:
    """With the framework's own class, the value and the cure."""
    with pytest.raises(extended.framework.invalid) as raised:
        extended.of(functions.add, **said)
    assert message in str(raised.value)
    assert "tests.task_backend.functions.add" in str(raised.value)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="before 6.1, no task can be pickled")
def test_task_is_pickled() -> None:
    """With all that it says, if its functions stand in modules."""
    again = pickle.loads(pickle.dumps(functions.turning))
    assert (again.expires, again.concurrency, again.unique_key) == (60, 2, functions.key_of)
    assert again == functions.turning


# After a commit.


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_commit_of_a_task_that_waits_already(extended: Tasks) -> None:
    """Its result is that of the task which waits, from the commit on, and as long as that is kept."""
    task = extended.of(functions.hold_one, unique_key=functions.key_of)
    with ONE_WORKER, extended.configured(ON_COMMIT="default", RESULTS=2):
        first = occupy(extended)
        waiting = task.enqueue("a")
        with transaction.atomic():
            same = task.enqueue("a")
            same.refresh()
            assert (same.id != waiting.id, str(same.status), same.enqueued_at) == (True, "READY", None)
        same.refresh()
        assert same.enqueued_at == waiting.enqueued_at
        finish(first, same)
        assert (str(same.status), functions.seen) == ("SUCCESSFUL", ["a"])
        for number in range(2):
            extended.run(functions.add, number)
        assert not extended.is_known(same)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_key_on_commit_is_made_at_the_call(extended: Tasks) -> None:
    """It is refused there, inside of the transaction."""
    task = extended.of(functions.add, unique_key=functions.key_that_raises)
    with extended.configured(ON_COMMIT="default"), transaction.atomic(), pytest.raises(InvalidWorkItem):
        task.enqueue(1)
