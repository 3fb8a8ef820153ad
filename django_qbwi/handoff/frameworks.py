"""The framework of tasks: `django.tasks` (Django 6.0 and later), or its backport, the package django-tasks.

Both have the same classes, under two names in two places. They may be there side by side.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal

UNSAID: dict[str, Any] = {"priority": 0, "queue_name": "default", "run_after": None}
"""What Django 6.0 has to be told of a task at its making; later, and in the backport, these are the defaults."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """The names of one framework that the backend uses."""

    name: str
    """The module: `django.tasks` or `django_tasks`."""
    backends: Any
    """The backends of this thread, by alias."""
    backend_base: Any
    context: Any
    error: Any
    result: Any
    status: Any
    task: Any
    does_not_exist: type[Exception]
    invalid: type[Exception]
    normalize: Callable[[Any], Any]
    task_enqueued: Signal
    task_started: Signal
    task_finished: Signal

    def __repr__(self) -> str:
        return f"<Framework {self.name}>"


def core() -> Framework:
    """Return the framework of Django itself.

    Raises:
        ImportError: Django is older than 6.0.
    """
    return _named("django.tasks", "django.utils.json")


def backport() -> Framework:
    """Return the backport.

    Raises:
        ImproperlyConfigured: It is not installed.
    """
    try:
        return _named("django_tasks", "django_tasks.utils")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("django_tasks"):
            raise
        raise ImproperlyConfigured(
            "there is no framework of tasks: Django has one from 6.0 on; for 5.2 there is the package django-tasks: "
            "pip install django-tasks. Work items need neither: django_qbwi.background_work_item"
        ) from error


def present() -> Framework:
    """Return the framework of Django itself if there is one, else the backport: by what can be imported.

    Raises:
        ImproperlyConfigured: There is none.
    """
    try:
        return core()
    except ImportError:
        return backport()


def framework_of(task: Any) -> Framework | None:
    """Return the framework that a task belongs to, None if it is no task."""
    for base in type(task).__mro__:
        if base.__name__ == "Task" and base.__module__ in ("django.tasks.base", "django_tasks.base"):
            return core() if base.__module__ == "django.tasks.base" else backport()
    return None


def _named(name: str, json: str) -> Framework:
    base, signals = importlib.import_module(f"{name}.base"), importlib.import_module(f"{name}.signals")
    exceptions = importlib.import_module(f"{name}.exceptions")
    return Framework(
        name=name,
        backends=importlib.import_module(name).task_backends,
        backend_base=importlib.import_module(f"{name}.backends.base").BaseTaskBackend,
        context=base.TaskContext,
        error=base.TaskError,
        result=base.TaskResult,
        status=base.TaskResultStatus,
        task=base.Task,
        does_not_exist=exceptions.TaskResultDoesNotExist,
        # The backport has another name for it.
        invalid=getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError,
        normalize=importlib.import_module(json).normalize_json,
        task_enqueued=signals.task_enqueued,
        task_started=signals.task_started,
        task_finished=signals.task_finished,
    )
