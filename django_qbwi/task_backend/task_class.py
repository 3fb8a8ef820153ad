"""The class of tasks of our backend: what `@task` of Django 6.1 is given beyond the framework's own arguments.

The words are those proposed for `django.tasks`. Django 6.0 takes no further arguments in its `@task`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

FIELDS = ("max_attempts", "backoff")
"""What a task has beyond those of the framework."""


def task_class_of(base: Any, module: str) -> Any:
    """Return a subclass of the framework's task, which stands as `WorkItemTask` in `module`: a pickle looks there.

    Its values are looked at by the backend, where a task is made, as all the others are.
    """

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class WorkItemTask(base):  # type: ignore[misc]
        """A task that may say itself how often it is tried again; without a word the alias decides."""

        max_attempts: int | None = None
        """All of them, the first one included; 1 for no other."""
        backoff: Callable[[int, BaseException], float] | None = None
        """`backoff(attempt, exception)` returns the seconds until the next attempt."""

    WorkItemTask.__module__ = module
    WorkItemTask.__qualname__ = WorkItemTask.__name__
    return WorkItemTask
