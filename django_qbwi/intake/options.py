"""The options of an item: checked where they are given."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.keys import Keyed
from django_qbwi.core.names import printable
from django_qbwi.core.records import Labels
from django_qbwi.intake.keys import Keys, checked_keys, keyed
from django_qbwi.intake.labels import checked_labels
from django_qbwi.intake.retries import Retry

MAX_PRIORITY = 100
"""As in `django.tasks`; the lowest one is the same below 0."""


def checked(name: Any, timeout: Any) -> tuple[str | None, float | None]:
    """Return name and timeout as an item has them.

    Raises:
        InvalidWorkItem: One of them is wrong; the message says what to give.
    """
    if name is not None:
        if not isinstance(name, str) or not name:
            raise InvalidWorkItem(f"name is {name!r}: give a non-empty str, or leave it out")
        name = printable(str(name))
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= sys.float_info.max:
            raise InvalidWorkItem(f"timeout is {timeout!r}: give a number of seconds above 0, or None for no limit")
        timeout = float(timeout)
    return name, timeout


class Start(NamedTuple):
    """When an item may start, ahead of which others, and where else it may run."""

    delay: float = 0.0
    """Seconds from queueing on."""
    priority: int = 0
    hand_off: str | None = None
    """The alias of an engine that gets what this process cannot finish."""
    retry: Retry | None = None
    """Whether it is tried again where it has failed."""
    expires: float | None = None
    """Seconds from queueing on within which it starts, or never."""
    wait_for_room: float | None = None
    """Seconds for which its caller waits where the queue is full."""
    pending: list[Callable[[], Awaitable[WorkItemHandle]]] | None = None
    """Gets what is to be awaited for that, in place of a wait that blocks; None where the caller may block."""
    keys: Keys | None = None
    """How its keys are made."""
    keyed: Keyed | None = None
    """Those of one call, made where it was queued."""
    labels: Labels = ()
    """For display and search."""

    def of_method(self) -> Start:
        """Return it for a method that was decorated in its class."""
        return self if self.keys is None else self._replace(keys=Keys(*self.keys[:3], of_method=True))

    def of_call(self, work_item: Callable[..., Any], args: tuple[Any, ...]) -> Start:
        """Return it with the keys of a call as it is queued, if there are to be any; once made they stay.

        Raises:
            InvalidWorkItem: A key raises, or is no plain value.
        """
        if self.keys is None or self.keyed is not None:
            return self
        return self._replace(keyed=keyed(self.keys, work_item, args))


NO_START = Start()


def checked_start(
    delay: Any,
    priority: Any,
    hand_off: Any = None,
    retry: Any = None,
    expires: Any = None,
    wait_for_room: Any = None,
    *,
    unique_key: Any = None,
    concurrency: Any = None,
    concurrency_key: Any = None,
    labels: Any = None,
) -> Start:
    """Return these as an item has them.

    Raises:
        InvalidWorkItem: One of them is wrong; the message says what to give.
    """
    delay = 0.0 if delay is None else _checked_seconds("delay", delay)
    if wait_for_room is not None:
        wait_for_room = _checked_seconds("wait_for_room", wait_for_room)
    if priority is None:
        priority = 0
    elif isinstance(priority, bool) or not isinstance(priority, int) or not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise InvalidWorkItem(
            f"priority is {priority!r}: give a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}, or leave it out"
        )
    if hand_off is not None and (not isinstance(hand_off, str) or not hand_off):
        raise InvalidWorkItem(f"hand_off is {hand_off!r}: give an alias of TASKS, or leave it out")
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidWorkItem(f"retry is {retry!r}: give a Retry, as in Retry(max_attempts=3), or leave it out")
    if expires is not None:
        expires = _checked_expiry(expires, delay)
    keys = checked_keys(unique_key, concurrency, concurrency_key)
    found = checked_labels(labels)
    return Start(delay, int(priority), hand_off, retry, expires, wait_for_room, keys=keys, labels=found)


def _checked_seconds(name: str, seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= sys.float_info.max:
        raise InvalidWorkItem(f"{name} is {seconds!r}: give a number of seconds, 0 or more, or leave it out")
    return float(seconds)


def _checked_expiry(expires: Any, delay: float) -> float:
    if isinstance(expires, bool) or not isinstance(expires, (int, float)) or not 0 < expires <= sys.float_info.max:
        raise InvalidWorkItem(f"expires is {expires!r}: give a number of seconds above 0, or leave it out")
    if delay >= expires:
        raise InvalidWorkItem(
            f"delay is {delay!r} and expires is {expires!r}, both from queueing on: it would expire before it may "
            "start. Give a smaller delay, or a larger expires"
        )
    return float(expires)


def unknown_keyword(unknown: dict[str, Any]) -> InvalidWorkItem:
    """Return the refusal of options that there are not."""
    names = ", ".join(map(repr, unknown))
    return InvalidWorkItem(
        f"unknown option(s) {names}: options never reach the work item. To pass keyword arguments to it, queue "
        "functools.partial(work_item, keyword=value)"
    )
