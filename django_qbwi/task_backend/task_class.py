"""The class of tasks of our backend: what `@task` of Django 6.1 is given beyond the framework's own arguments.

The words for attempts are those proposed for `django.tasks`, the others those of our decorator. Django 6.0 takes no
further arguments in its `@task`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

ATTEMPTS = ("max_attempts", "backoff")
TURNS = ("expires", "unique_key", "concurrency", "concurrency_key")
FIELDS = (*ATTEMPTS, *TURNS)
"""What a task has beyond those of the framework."""


def task_class_of(base: Any, module: str) -> Any:
    """Return a subclass of the framework's task, which stands as `WorkItemTask` in `module`: a pickle looks there.

    Its values are looked at by the backend, where a task is made, as all the others are.
    """

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class WorkItemTask(base):  # type: ignore[misc]
        """A task that may say itself how often it is tried again, until when it starts, and beside which."""

        max_attempts: int | None = None
        """All of them, the first one included; 1 for no other."""
        backoff: Callable[[int, BaseException], float] | None = None
        """`backoff(attempt, exception)` returns the seconds until the next attempt; else the alias says that."""
        expires: float | None = None
        """Seconds from queueing on within which it starts, or never."""
        unique_key: Callable[..., object] | None = None
        """Called with the task's own arguments; while one with the same key waits, `enqueue` returns its result."""
        concurrency: int | None = None
        """How many of it run at once in this process."""
        concurrency_key: Callable[..., object] | None = None
        """As `unique_key`; `concurrency` is counted for each key."""

    WorkItemTask.__module__ = module
    WorkItemTask.__qualname__ = WorkItemTask.__name__
    return WorkItemTask
