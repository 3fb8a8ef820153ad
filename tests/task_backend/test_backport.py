"""What the documentation of the package django-tasks promises holds with our backend, on each version of Django."""

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import django
import django_tasks
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings
from django.utils import timezone
from django_tasks import TaskContext, TaskResultStatus, default_task_backend
from django_tasks.exceptions import InvalidTaskBackendError, InvalidTaskError, TaskResultDoesNotExist

from django_qbwi.testing import drain
from tests.support.gates import PATIENCE
from tests.task_backend import functions

PATHS = ["django_qbwi.backport.WorkItemBackend"]
if django.VERSION < (6, 0):
    # From there on this one is for `django.tasks`.
    PATHS.append("django_qbwi.backend.WorkItemBackend")


@pytest.fixture(autouse=True, params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Configure the backport as its documentation says, with our backend; give the path of that."""
    path: str = request.param
    apps = [*settings.INSTALLED_APPS, "django_tasks"]
    aliases = {
        "default": {"BACKEND": path, "QUEUES": ["default", "special"]},
        "any": {"BACKEND": path, "QUEUES": []},
    }
    functions.start_afresh()
    with override_settings(INSTALLED_APPS=apps, TASKS=aliases):
        yield path
    functions.gate.open()


def finished(result: Any) -> Any:
    """Wait for the end of a task, and return its result."""
    assert drain(PATIENCE)
    result.refresh()
    return result


# Defining tasks.


def test_bare_decorator() -> None:
    """`@task` is `@task()`."""
    assert finished(django_tasks.task(functions.add).enqueue(1, 2)).return_value == 3


def test_arguments_of_the_decorator() -> None:
    """They are in the task, and in that of its result."""
    task = django_tasks.task(priority=7, queue_name="special", backend="any")(functions.add)
    found = task.enqueue(1).task
    assert (found.priority, found.queue_name, found.backend, found.func) == (7, "special", "any", functions.add)


def test_using_makes_another_task() -> None:
    """The one that it was called on is unchanged."""
    task = django_tasks.task()(functions.add)
    now = timezone.now()
    other = task.using(priority=10, queue_name="special", run_after=now, backend="any")
    assert (other.priority, other.queue_name, other.run_after, other.backend) == (10, "special", now, "any")
    assert (task.priority, task.queue_name, task.run_after, task.backend) == (0, "default", None, "default")


def test_context_is_that_of_the_package() -> None:
    """With `takes_context` the first argument is a TaskContext."""
    result = finished(django_tasks.task(takes_context=True)(functions.name_of_class).enqueue())
    assert result.return_value == f"{TaskContext.__module__}.{TaskContext.__qualname__}"


@pytest.mark.parametrize("function", [functions.add, functions.aadd])
def test_called_here(function: Any) -> None:
    """`call` and `acall` run the function in the caller's thread; nothing is queued."""
    task = django_tasks.task()(function)
    assert task.call(1, second=2) == 3
    assert asyncio.run(task.acall(1, second=2)) == 3
    assert functions.seen == []


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_wrong_priority(priority: Any) -> None:
    """It is a whole number between -100 and 100."""
    with pytest.raises(InvalidTaskError, match="priority must be a whole number"):
        django_tasks.task(priority=priority)(functions.add)


def test_naive_moment() -> None:
    """With USE_TZ, `run_after` is aware."""
    with pytest.raises(InvalidTaskError, match="must be an aware datetime"):
        django_tasks.task()(functions.add).using(run_after=datetime.datetime(2026, 1, 1))  # noqa: DTZ001


def test_function_that_is_not_at_module_level() -> None:
    """No worker could import it."""
    with pytest.raises(InvalidTaskError, match="module level"):
        django_tasks.task()(lambda: None)


# Queue names.


def test_unknown_queue() -> None:
    """QUEUES has the names that are allowed."""
    with pytest.raises(InvalidTaskError, match="Queue 'other' is not valid"):
        django_tasks.task(queue_name="other")(functions.add)


def test_queue_that_is_unknown_when_it_is_enqueued() -> None:
    """The settings of that moment count."""
    task = django_tasks.task(queue_name="other", backend="any")(functions.note)
    any_backend = {**settings.TASKS["any"], "QUEUES": ["default"]}
    with override_settings(TASKS={"any": any_backend}), pytest.raises(InvalidTaskError, match="not valid"):
        task.enqueue(1)
    assert functions.seen == []


def test_any_queue() -> None:
    """No name is refused where QUEUES is empty."""
    task = django_tasks.task(queue_name="other", backend="any")(functions.add)
    assert finished(task.enqueue(1)).return_value == 1


def test_unknown_backend() -> None:
    """Its error is one of configuration, by its name of the package."""
    with pytest.raises(InvalidTaskBackendError, match="nowhere") as caught:
        django_tasks.task(backend="nowhere")(functions.add)
    assert isinstance(caught.value, ImproperlyConfigured)


# Results.


def test_result_of_any_task() -> None:
    """`default_task_backend` finds it, in another thread's object too."""
    result = finished(django_tasks.task()(functions.add).enqueue(1))
    assert default_task_backend.get_result(result.id) == result
    assert asyncio.run(default_task_backend.aget_result(result.id)) == result


def test_result_of_another_alias() -> None:
    """Each alias has its own."""
    result = finished(django_tasks.task()(functions.add).enqueue(1))
    with pytest.raises(TaskResultDoesNotExist):
        django_tasks.task_backends["any"].get_result(result.id)


def test_id_is_an_opaque_text() -> None:
    """Of 64 characters at the most."""
    result = finished(django_tasks.task()(functions.add).enqueue(1))
    assert isinstance(result.id, str)
    assert 0 < len(result.id) <= 64


@pytest.mark.parametrize("by_loop", [False, True])
def test_refresh(by_loop: bool) -> None:
    """READY or RUNNING before, SUCCESSFUL after; the value is there from then on."""
    result = django_tasks.task()(functions.hold).enqueue()
    functions.gate.await_entered()
    with pytest.raises(ValueError, match="has not finished"):
        _ = result.return_value
    assert (result.status, result.is_finished) == (TaskResultStatus.READY, False)
    functions.gate.open()
    assert drain(PATIENCE)
    if by_loop:
        asyncio.run(result.arefresh())
    else:
        result.refresh()
    assert (result.status, result.is_finished, result.return_value) == (TaskResultStatus.SUCCESSFUL, True, "let go")


def test_error() -> None:
    """A single one, with its class and a text."""
    result = finished(django_tasks.task()(functions.fail).enqueue("no such album"))
    [error] = result.errors
    assert (result.status, error.exception_class) == (TaskResultStatus.FAILED, ValueError)
    assert "no such album" in error.traceback


def test_attempts() -> None:
    """Zero before it begins, one behind that, with its time."""
    later = timezone.now() + datetime.timedelta(seconds=0.05)
    result = django_tasks.task()(functions.add).using(run_after=later).enqueue(1)
    assert (result.attempts, result.last_attempted_at) == (0, None)
    finished(result)
    assert (result.attempts, result.last_attempted_at) == (1, result.started_at)


# The backend.


@pytest.mark.parametrize(
    "feature", ["supports_defer", "supports_async_task", "supports_get_result", "supports_priority"]
)
def test_what_the_backend_supports(feature: str) -> None:
    """All of it."""
    assert getattr(default_task_backend, feature) is True


def test_it_is_a_backend_of_the_package() -> None:
    """So that code which looks at its class knows it."""
    assert isinstance(django_tasks.task_backends["default"], django_tasks.backends.base.BaseTaskBackend)


def test_checks_of_the_package(path: str) -> None:
    """`manage.py check` calls ours for each alias."""
    wrong = {"default": {"BACKEND": path, "OPTIONS": {"RESULT": 5}}}
    # Its own app registers them, when it is ready.
    with override_settings(TASKS=wrong), pytest.raises(SystemCheckError, match=r"qbwi\.E010"):
        call_command("check")
