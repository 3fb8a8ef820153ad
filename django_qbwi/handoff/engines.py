"""Engines: aliases of settings.TASKS to which items and tasks can move.

An engine is asked in whichever thread moves something: the framework makes a backend object for each thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django.utils.module_loading import import_string

from django_qbwi.core.names import printable
from django_qbwi.handoff import frameworks
from django_qbwi.handoff.frameworks import UNSAID, Framework
from django_qbwi.handoff.ids import known_as, same_id

WORK = "django_qbwi.task_backend.work.run_work_item"
"""The task that runs a decorated function: by its path, as the workers of an engine find it."""

_AT_ONCE = ("django.tasks.backends.immediate.", "django_tasks.backends.immediate.")
_HUEY = "huey."


@dataclasses.dataclass(frozen=True, slots=True)
class Engine:
    """One alias of settings.TASKS, for one framework."""

    framework: Framework
    alias: str

    @property
    def backend(self) -> Any:
        """The backend object of this thread.

        Raises:
            Exception: That of the framework, or whatever the backend raises at its making.
        """
        return self.framework.backends[self.alias]

    def task_of(self, function: Callable[..., Any], **options: Any) -> Any:
        """Return a task of this engine for a module's function, made by the engine's own class.

        Raises:
            Exception: The framework's InvalidTask: it does not fit; or whatever the engine raises.
        """
        return self.backend.task_class(func=function, backend=self.alias, **{**UNSAID, **options})

    def task_for_items(self) -> Any:
        """Return the task of this engine that runs decorated functions."""
        options = {} if self.takes_queue("default") else {"queue_name": min(self.backend.queues)}
        return self.task_of(import_string(WORK).func, takes_context=True, **options)

    def takes_queue(self, name: str) -> bool:
        """Return whether the engine has a queue of this name."""
        queues = self.backend.queues
        return not queues or name in queues

    def send(
        self, task: Any, args: Any, kwargs: Any, known: str, *, due: datetime.datetime | None, priority: int
    ) -> str:
        """Enqueue a task under the id `known`, if the engine takes one; blocks.

        Returns:
            The id that it has there.

        Raises:
            Exception: Whatever the engine raises; it may have accepted it all the same.
        """
        backend = self.backend
        changes: dict[str, Any] = {}
        if due is not None and due > timezone.now():
            changes["run_after"] = due
        if priority and backend.supports_priority:
            changes["priority"] = priority
        with known_as(known):
            result = backend.enqueue(task.using(**changes) if changes else task, args, kwargs)
        return known if same_id(known, result.id) else str(result.id)

    def has(self, known: str) -> bool:
        """Return whether the engine has a task under this id; blocks.

        Raises:
            Exception: It cannot be asked.
        """
        backend = self.backend
        if not backend.supports_get_result:
            return False
        try:
            backend.get_result(known)
        except self.framework.does_not_exist:
            return False
        return True


def engine(alias: str, framework: Framework | None = None) -> Engine:
    """Return the engine of an alias, in the framework that there is, or in a given one.

    Raises:
        ImproperlyConfigured: There is no such alias, or nothing can move to it; the message says what to do.
    """
    found = Engine(frameworks.present() if framework is None else framework, alias)
    problem = problem_of(found)
    if problem is not None:
        raise ImproperlyConfigured(problem)
    return found


def expect_items(alias: str) -> None:
    """Have an engine know the task that runs decorated functions, before its workers are asked for it.

    Celery drops what it does not know.
    """
    with contextlib.suppress(Exception):
        # What is wrong with the alias is told by the system checks, and by the first item.
        engine(alias).task_for_items()


def problem_of(found: Engine) -> str | None:
    """Return why nothing can move to an engine, None if it can."""
    alias, aliases = found.alias, list(found.framework.backends.settings)
    if alias not in aliases:
        close = difflib.get_close_matches(str(alias), aliases, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(map(repr, aliases)) or 'none'}"
        return f"{alias!r} is no alias of TASKS: {hint}"
    path = str(found.framework.backends.settings[alias].get("BACKEND"))
    if path.startswith(_AT_ONCE):
        return f'TASKS["{alias}"] runs its tasks at the call: name an engine with workers of its own'
    try:
        backend = found.backend
    except Exception as error:
        # Importing it runs code of its own.
        return f'TASKS["{alias}"] cannot be used: {printable(str(error))}'
    if getattr(backend, "runs_in_this_process", False):
        return f'TASKS["{alias}"] is run by django_qbwi itself, in the process that ends: name another engine'
    if path.startswith(_HUEY) and _huey_is_immediate():
        return (
            f'TASKS["{alias}"] runs its tasks at the call, since huey is immediate, as it is by default under DEBUG: '
            'set HUEY["immediate"] to False'
        )
    return None


def _huey_is_immediate() -> bool:
    try:
        return bool(import_string("huey.contrib.djhuey.HUEY").immediate)
    except Exception:
        return False
