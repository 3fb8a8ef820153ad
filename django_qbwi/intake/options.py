"""The options of an item: checked where they are given."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import connections

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.keys import Keyed
from django_qbwi.core.lanes import DEFAULT
from django_qbwi.core.names import printable
from django_qbwi.core.records import Labels
from django_qbwi.intake.crossing import Crossing, checked_executor, crossing
from django_qbwi.intake.keys import Keys, checked_keys, keyed
from django_qbwi.intake.labels import checked_labels
from django_qbwi.intake.retries import Retry

P = ParamSpec("P")
R = TypeVar("R")

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
    pool: str | None = None
    """Whose workers run it; None for the default one."""
    executor: str | None = None
    """What runs it, None for the threads and the loop of this process."""
    crossing: Crossing | None = None
    """One call as it gets into a helper process, packed where it was queued."""
    labels: Labels = ()
    """For display and search."""

    def of_method(self) -> Start:
        """Return it for a method that was decorated in its class."""
        return self if self.keys is None else self._replace(keys=Keys(*self.keys[:3], of_method=True))

    def of_call(self, work_item: Callable[..., Any], args: tuple[Any, ...]) -> Start:
        """Return it with what is made of a call as it is queued, its keys for instance; once made that stays.

        Raises:
            InvalidWorkItem: A key raises, or is no plain value; or the call cannot get into a helper process.
        """
        start = self
        if start.executor is not None and start.crossing is None:
            start = start._replace(crossing=crossing(work_item, args))
        if start.keys is None or start.keyed is not None:
            return start
        return start._replace(keyed=keyed(start.keys, work_item, args))


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
    pool: Any = None,
    executor: Any = None,
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
    if pool is not None and (not isinstance(pool, str) or not pool):
        raise InvalidWorkItem(f'pool is {pool!r}: give the name of a pool, as QBWI["POOLS"] has it, or leave it out')
    keys = checked_keys(unique_key, concurrency, concurrency_key)
    start = Start(delay, int(priority), hand_off, retry, expires, wait_for_room, keys=keys, pool=pool)
    return start._replace(executor=_checked_place(executor, pool), labels=checked_labels(labels))


def _checked_place(executor: Any, pool: str | None) -> str | None:
    found: str | None = None if executor is None else checked_executor(executor)
    if found is not None and pool is not None:
        raise InvalidWorkItem(
            f'pool is {pool!r} and executor is "process": helper processes are no part of a pool. Leave one of them out'
        )
    return found


def check_pool(pool: str | None, pools: Iterable[str]) -> None:
    """Refuse a pool that is none of `pools`, nor the default one.

    Raises:
        InvalidWorkItem: The message names the nearest one, and all of them.
    """
    known = [DEFAULT, *pools]
    if pool is None or pool in known:
        return
    close = difflib.get_close_matches(pool, known, n=1, cutoff=0.5)
    nearest = f"did you mean {close[0]!r}? " if close else ""
    raise InvalidWorkItem(
        f'pool is {pool!r}, which there is not: {nearest}The pools are {", ".join(map(repr, known))}; QBWI["POOLS"] '
        "makes them"
    )


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


def refusing_unknown(function: Callable[P, R]) -> Callable[P, R]:
    """Return a method whose keywords are options with its refusal of others, which names the nearest one."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def look_first(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
            cure = f"did you mean {close[0]}=?" if close else f"it takes {', '.join(known)}"
            raise InvalidWorkItem(
                f"{function.__name__}() got unknown option(s) {', '.join(map(repr, unknown))}: {cure}"
            )
        return function(*args, **kwargs)

    return look_first


def checked_alias(using: Any) -> None:
    """Look at the alias of a database.

    Raises:
        InvalidWorkItem: There is none of that name; the message has those that there are.
    """
    if using is not None and (not isinstance(using, str) or using not in connections):
        raise InvalidWorkItem(
            f"using is {using!r}: give an alias of DATABASES ({', '.join(connections)}), or leave it out"
        )


def unknown_keyword(unknown: dict[str, Any]) -> InvalidWorkItem:
    """Return the refusal of options that there are not."""
    names = ", ".join(map(repr, unknown))
    return InvalidWorkItem(
        f"unknown option(s) {names}: options never reach the work item. To pass keyword arguments to it, queue "
        "functools.partial(work_item, keyword=value)"
    )
