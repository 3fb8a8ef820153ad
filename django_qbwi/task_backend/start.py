"""When a task starts, and beside which others: what it says itself, beyond its attempts."""

from __future__ import annotations

import functools
from typing import Any

from django.utils import timezone

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.keys import Keyed
from django_qbwi.handoff.frameworks import Framework
from django_qbwi.intake.options import Start, checked_start
from django_qbwi.intake.retries import Retry
from django_qbwi.task_backend.policy import policy_of
from django_qbwi.task_backend.task_class import TURNS


def refuse_nonsense(task: Any, refusal: type[Exception]) -> None:
    """Look at what a task says itself.

    Raises:
        Exception: A `refusal`; the message names the value, and what to give.
    """
    try:
        policy_of(task, None)
        _said(task, None)
    except InvalidWorkItem as error:
        raise refusal(f"{task.module_path}: {error}") from error


def start_of(
    framework: Framework, task: Any, retry: Retry | None, args: list[Any], kwargs: dict[str, Any], kept_under: str
) -> Start:
    """Return how a task starts that is enqueued now; the user's functions for its keys are called here.

    Args:
        framework: That of the task.
        task: What is enqueued.
        retry: What follows a failed attempt.
        args, kwargs: What it is called with; the functions for the keys get copies.
        kept_under: Where its result is kept: nothing that is kept elsewhere stands for it, and no other item does.

    Raises:
        InvalidWorkItem: A key raises, or is no plain value; or it would expire before it may start.
    """
    start = _said(task, retry)
    if start.expires is not None and delay_of(task) >= start.expires:
        raise InvalidWorkItem(
            f"{task.module_path}: run_after is {task.run_after} and expires is {start.expires!r}, seconds from now "
            "on: it would expire before it may start. Give an earlier run_after, or a larger expires"
        )
    if start.keys is None:
        return start
    function = functools.partial(task.func, **framework.normalize(kwargs))
    start = start.of_call(function, tuple(framework.normalize(args)))
    keyed = start.keyed
    assert keyed is not None  # as there are keys
    if keyed.unique is None:
        return start
    identity, text = keyed.unique
    return start._replace(keyed=Keyed((identity, f"{kept_under} {text}"), keyed.limit, keyed.most))


def with_delay(start: Start, task: Any) -> Start:
    """Return how a task starts that is queued now."""
    return start if task.run_after is None else start._replace(delay=delay_of(task))


def delay_of(task: Any) -> float:
    """Return the seconds from now on until a task may start; none, or less, for one that may start at once."""
    if task.run_after is None:
        return 0.0
    due, now = task.run_after, timezone.now()
    if timezone.is_naive(due) is not timezone.is_naive(now):
        # USE_TZ is False, and somebody gives an aware moment all the same.
        due = timezone.make_naive(due) if timezone.is_naive(now) else timezone.make_aware(due)
    return float((due - now).total_seconds())


def _said(task: Any, retry: Retry | None) -> Start:
    # A task of another alias, which was changed to ours by `using`, may be of another class.
    said = {name: value for name in TURNS if (value := getattr(task, name, None)) is not None}
    priority = int(task.priority)
    return checked_start(None, priority, retry=retry, **said) if said else Start(0.0, priority, None, retry)
