"""Results that another process has; the channel between processes is stood for by a function here."""

import asyncio
import datetime
import json
from collections.abc import Callable
from typing import Any

import django
import pytest
from django.test import override_settings
from django.utils import timezone

from django_qbwi import hosting
from django_qbwi.core.exceptions import InspectionError
from django_qbwi.inspection.publisher import answer
from django_qbwi.inspection.reader import Answers
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Have other processes answer so; return what they are asked."""

    def say(*answers: Any, **gaps: list[int]) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def ask_others(request: dict[str, Any], pids: object = None) -> Answers | None:
            asked.append(request)
            if answers and isinstance(answers[0], Exception):
                raise answers[0]
            found: dict[str, Any] = {"unresponsive": [], "refused": [], **gaps}
            return Answers(answers=list(enumerate(answers, 100)), **found)

        monkeypatch.setattr(hosting, "ask_others", ask_others)
        return asked

    return say


def told(tasks: Tasks, result: Any, **changes: Any) -> Any:
    """Return what this process tells others of a task, behind the channel."""
    request = {"operation": "result", "kept": f"{tasks.framework.name}:{tasks.alias}", "id": result.id}
    found = json.loads(json.dumps(answer(hosting.this_process().subject, request, 10, "a test")))
    assert isinstance(found, dict)
    return {**found, **changes}


def read(tasks: Tasks) -> Any:
    """Look for the result of the other process."""
    return tasks.backend.get_result(ID)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_result_of_another_process(tasks: Tasks, others: Any, asynchronous: bool) -> None:
    """It is as if it were of this one, but for its id."""
    task = tasks.of(functions.give, priority=7)
    mine = tasks.wait(task.enqueue([1]))
    asked = others(None, told(tasks, mine))
    found = asyncio.run(task.aget_result(ID)) if asynchronous else task.get_result(ID)
    assert asked == [{"operation": "result", "kept": f"{tasks.framework.name}:{tasks.alias}", "id": ID}]
    for name in ("task", "status", "args", "kwargs", "return_value", "errors", "worker_ids", "backend"):
        assert getattr(found, name) == getattr(mine, name)
    for name in ("enqueued_at", "started_at", "finished_at", "last_attempted_at"):
        assert getattr(found, name) == getattr(mine, name)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="`@task` of Django 6.0 takes no further arguments")
def test_attempts_of_a_task_of_another_process(others: Any) -> None:
    """What the task says of them is read where it is asked for: a function cannot be told."""
    tasks = Tasks("django.tasks")
    mine = tasks.wait(functions.named.enqueue())
    others(told(tasks, mine))
    assert read(tasks).task == functions.named


def test_failed_task_of_another_process(tasks: Tasks, others: Any) -> None:
    """With class and traceback."""
    mine = tasks.run(functions.fail, "no such album")
    others(told(tasks, mine))
    assert read(tasks).errors == mine.errors


def test_task_of_another_process_that_waits(tasks: Tasks, others: Any) -> None:
    """With the moment for which it waits, and without those that have not come."""
    moment = timezone.now() + datetime.timedelta(hours=1)
    mine = tasks.of(functions.add).using(run_after=moment).enqueue(1)
    others(told(tasks, mine))
    found = read(tasks)
    assert (str(found.status), found.task.run_after, found.started_at) == ("READY", moment, None)


@override_settings(USE_TZ=False, TIME_ZONE="America/Chicago")
def test_moments_without_time_zones(tasks: Tasks, others: Any) -> None:
    """They are naive there as here, whatever is said over the channel."""
    mine = tasks.run(functions.add, 1)
    others(told(tasks, mine))
    assert (read(tasks).started_at, mine.started_at.tzinfo) == (mine.started_at, None)


def test_own_result_asks_nobody(tasks: Tasks, others: Any) -> None:
    """It is found at once."""
    mine = tasks.run(functions.add, 1)
    asked = others()
    assert tasks.backend.get_result(mine.id).return_value == 1
    assert asked == []


def test_channel_knows_no_other_result(tasks: Tasks) -> None:
    """Neither one that is not there, nor that of another alias or framework."""
    mine = tasks.run(functions.add, 1)
    subject = hosting.this_process().subject
    for kept, result_id in ((f"{tasks.framework.name}:{tasks.alias}", ID), ("nowhere", mine.id), ("", "")):
        assert answer(subject, {"operation": "result", "kept": kept, "id": result_id}, 10, "a test") is None


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ({"unresponsive": [42]}, "process 42 did not answer"),
        ({"refused": [43]}, "process 43 runs as another user"),
    ],
)
def test_processes_that_could_not_be_asked_are_named(tasks: Tasks, others: Any, gaps: Any, message: str) -> None:
    """The result may be there."""
    others(None, **gaps)
    with pytest.raises(tasks.framework.does_not_exist, match=f"has ended.*; {message}"):
        read(tasks)


def test_channel_that_is_closed(tasks: Tasks, others: Any) -> None:
    """Why nobody can be asked is a part of the message."""
    others(InspectionError('QBWI["INSPECTION"] is False'))
    with pytest.raises(tasks.framework.does_not_exist, match="INSPECTION"):
        read(tasks)


@pytest.mark.parametrize("error", [OSError("no sockets here"), ValueError("a name that is none"), RecursionError()])
def test_g32_result_survives_any_discovery(tasks: Tasks, others: Any, error: Exception) -> None:
    """What another user of the machine makes of the search is a part of the message, not an error of the request."""
    others(error)
    with pytest.raises(tasks.framework.does_not_exist, match="could not be looked for"):
        read(tasks)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "tests.nowhere.task"},
        {"path": "tests.task_backend.functions.gone"},
        {"path": "no path"},
    ],
    ids=str,
)
def test_task_whose_function_is_not_here(tasks: Tasks, others: Any, changes: Any) -> None:
    """Another version of the site may have it: the error names the path."""
    mine = tasks.run(functions.add, 1)
    others(told(tasks, mine, **changes))
    with pytest.raises(tasks.framework.does_not_exist, match=f"{changes['path']}, which cannot be imported here"):
        read(tasks)


@pytest.mark.parametrize(
    ("changes", "message"), [({"priority": 101}, "priority must be"), ({"takes_context": True}, "takes context")]
)
def test_task_that_does_not_fit_here(tasks: Tasks, others: Any, changes: Any, message: str) -> None:
    """Another version of the site may have it otherwise."""
    mine = tasks.run(functions.add, 1)
    others(told(tasks, mine, **changes))
    with pytest.raises(tasks.framework.does_not_exist, match=f"functions.add, which is no task here: .*{message}"):
        read(tasks)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "LOST"},
        {"status": ["READY"]},
        {"args": {}},
        {"kwargs": []},
        {"failures": [["a", "b"]]},
        {"failures": [{"exception_class_path": "a"}]},
        {"failures": "none"},
        {"worker_ids": [1]},
        {"takes_context": 1},
        {"priority": "high"},
        {"started_at": "yesterday"},
        {"path": None},
        {"value": None, "queue_name": 5},
    ],
    ids=str,
)
def test_answer_that_is_none(tasks: Tasks, others: Any, changes: Any) -> None:
    """Another version may say something else: it is named, and what the others say still counts."""
    mine = tasks.run(functions.add, 1)
    others(told(tasks, mine, **changes))
    with pytest.raises(tasks.framework.does_not_exist, match="process 100 answered in another way"):
        read(tasks)
    others(told(tasks, mine, **changes), told(tasks, mine))
    assert read(tasks).return_value == 1
