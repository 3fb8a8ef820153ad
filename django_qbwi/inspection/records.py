"""What one process says of itself, as plain values, to JSON and back.

What comes from the wire, or from a table that others write, is copied field by field, each with its type and within
bounds: nothing else of it is ever used, and whoever gets it may compute with it. Times are aware and in UTC, numbers
finite, texts bounded, and without halves of surrogate pairs, which no output takes.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.core.lanes import DEFAULT
from django_qbwi.core.records import Label
from django_qbwi.inspection.pools import PoolCounts, pool_fields

SCHEMA = 1
"""The version of the JSON; a reader refuses any other."""

Item = dict[str, Any]
"""A `WorkItemInfo` as its `to_dict` makes it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process at one moment. Times are ISO 8601 strings, spans seconds."""

    pid: int
    host: str
    """Name of the machine."""
    server: str
    """Which server hosts the process: gunicorn, uvicorn, command, ..."""
    started_at: str
    state: str
    """open, draining or closed."""
    remaining: float | None
    """Seconds left of a drain, None outside of one."""
    running: int
    running_async: int = 0
    """Those of them that are async, and have a capacity of their own."""
    queued: int
    finished: int
    """Items that have ended since the start, however they ended."""
    failed: int
    """Those of them that ended by an exception."""
    left_behind: int = 0
    """Items that the last drain from outside was for, and that still go on after its limit."""
    limits: dict[str, float | None]
    """The settings that bound the work, by their names in lower case."""
    pools: dict[str, PoolCounts] = dataclasses.field(default_factory=dict)
    """What each pool runs and holds, and may, the default one included; empty where all items share that."""
    items: list[Item]
    """Those that run, then those that wait, oldest first."""
    recent: list[Item]
    """Those that ended last, newest first."""
    truncated: bool
    """Whether there were more items than the answer may have."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_dict(cls, value: Any) -> ProcessRecord:
        """Return the record that another process sent.

        Raises:
            ProcessUnreachable: It is none.
        """
        return cls(**fields(value, _FIELDS))


def item_from_dict(value: Any) -> Item:
    """Return the description of an item that another process sent.

    Raises:
        ProcessUnreachable: It is none.
    """
    return fields(value, _ITEM_FIELDS)


def log_from_list(value: Any) -> list[dict[str, Any]]:
    """Return the lines that an item of another process has logged, which another version may not send.

    Raises:
        ProcessUnreachable: They are none.
    """
    if not isinstance(value, list | None):
        raise _unfit(value, "a list")
    return [fields(line, _LINE_FIELDS) for line in (value or [])[:_MAX_LINES]]


def text(value: Any, limit: int = 100_000) -> str:
    """Return `value`, which has to be a text, cut to `limit` characters."""
    if not isinstance(value, str):
        raise _unfit(value, "a text")
    return value[:limit].encode("utf-8", "replace").decode("utf-8")


def whole(value: Any) -> int:
    """Return `value`, which has to be a whole number that is not negative, nor longer than 63 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_NUMBER:
        raise _unfit(value, "a whole number")
    return value


def number(value: Any) -> float:
    """Return `value`, which has to be a finite number of that size."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _unfit(value, "a number")
    # Compared first: an int of 400 digits is no float.
    if not -_MAX_NUMBER <= value <= _MAX_NUMBER or not math.isfinite(value):
        raise _unfit(value, "a finite number")
    return value


def flag(value: Any) -> bool:
    """Return `value`, which has to be true or false."""
    if not isinstance(value, bool):
        raise _unfit(value, "true or false")
    return value


def moment(value: Any) -> str:
    """Return `value`, which has to be an aware ISO 8601 time that any clock could show, in UTC."""
    try:
        found = datetime.datetime.fromisoformat(text(value, 64))
        if found.utcoffset() is None or not 1970 <= found.year <= 9000:
            raise _unfit(value, "an aware time")
        return found.astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise _unfit(value, "a time") from error


def optional(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a rule that lets None pass too."""
    return lambda value: None if value is None else rule(value)


def bounded(limit: int) -> Callable[[Any], str]:
    """Return the rule for a text of `limit` characters."""
    return lambda value: text(value, limit)


def fields(value: Any, rules: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Return those fields of `value` that have a rule.

    Raises:
        ProcessUnreachable: It is no object, or one of them is missing or unfit.
    """
    if not isinstance(value, dict):
        raise _unfit(value, "an object")
    return {name: rule(value.get(name)) for name, rule in rules.items()}


def _items(value: Any) -> list[Item]:
    if not isinstance(value, list):
        raise _unfit(value, "a list")
    return [item_from_dict(entry) for entry in value[:_MAX_ITEMS]]


def _limits(value: Any) -> dict[str, float | None]:
    if not isinstance(value, dict) or len(value) > _MAX_LIMITS:
        raise _unfit(value, "an object")
    rule = optional(number)
    return {text(key, 100): rule(entry) for key, entry in value.items()}


def _pools(value: Any) -> dict[str, PoolCounts]:
    # Another version may not say it.
    pools = {} if value is None else value
    if not isinstance(pools, dict) or len(pools) > _MAX_POOLS:
        raise _unfit(value, "an object")
    return {text(name, 100): fields(pool, _POOL_FIELDS) for name, pool in pools.items()}


def _error(value: Any) -> dict[str, Any]:
    return fields(value, _ERROR_FIELDS)


def _progress(value: Any) -> dict[str, Any]:
    return fields(value, _PROGRESS_FIELDS)


def _labels(value: Any) -> dict[str, Label]:
    if value is None:
        # Another version may not say them.
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_LABELS:
        raise _unfit(value, "an object")
    return {text(name, 100): _label(entry) for name, entry in value.items()}


def _label(value: Any) -> Label:
    if value is None or isinstance(value, bool):
        return value
    return text(value, 200) if isinstance(value, str) else number(value)


def _amount(value: Any) -> float:
    if number(value) < 0:
        raise _unfit(value, "a number that is not negative")
    return number(value)


def _count(value: Any) -> int:
    # Another version may not say it.
    return 0 if value is None else whole(value)


def _pool(value: Any) -> str:
    # As below.
    return DEFAULT if value is None else text(value, 100)


def _attempt(value: Any) -> int:
    # Another version may not say it, and has no other.
    return 1 if value is None else whole(value)


def _priority(value: Any) -> int:
    # Another version may not say it.
    return 0 if value is None else int(number(value))


def _unfit(value: Any, wanted: str) -> ProcessUnreachable:
    return ProcessUnreachable(f"a process answered with {type(value).__name__} where {wanted} belongs")


_MAX_NUMBER = 2**63
_MAX_ITEMS = 1_000
_MAX_LIMITS = 100
_MAX_POOLS = 1_000
_MAX_LABELS = 100
_MAX_LINES = 1_000

_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "pid": whole,
    "host": bounded(255),
    "server": bounded(100),
    "started_at": moment,
    "state": bounded(20),
    "remaining": optional(number),
    "running": whole,
    "running_async": _count,
    "queued": whole,
    "finished": whole,
    "failed": whole,
    "left_behind": _count,
    "limits": _limits,
    "pools": _pools,
    "items": _items,
    "recent": _items,
    "truncated": flag,
}
_POOL_FIELDS = pool_fields(whole)
_ITEM_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "id": bounded(100),
    "name": bounded(200),
    "kind": bounded(20),
    "status": bounded(20),
    "queued_at": moment,
    "started_at": optional(moment),
    "finished_at": optional(moment),
    "due_at": optional(moment),  # another version may say neither
    "expires_at": optional(moment),
    "timeout": optional(number),
    "priority": _priority,
    "pool": _pool,
    "attempt": _attempt,
    "held": lambda value: value is not None and flag(value),  # another version may not say it
    "overdue": flag,
    "cancel_reason": optional(bounded(20)),
    "error": optional(_error),
    "origin": optional(bounded(2_000)),
    "request_id": optional(bounded(200)),
    "pid": whole,
    "thread": optional(bounded(200)),
    "progress": optional(_progress),  # another version may not say it
    "labels": _labels,
}
_LINE_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "at": moment,
    "level": bounded(50),
    "logger": bounded(200),
    "text": bounded(1_000),
}
_PROGRESS_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "done": _amount,
    "total": optional(_amount),
    "text": bounded(200),
    "at": moment,
}
_ERROR_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "type": bounded(1_000),
    "message": bounded(10_000),
    "traceback": bounded(100_000),
}
