"""What one process says of itself, as plain values, to JSON and back.

What comes from the wire is copied field by field, each with its type: nothing else of it is ever used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable

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
    queued: int
    finished: int
    """Items that have ended since the start, however they ended."""
    failed: int
    """Those of them that ended by an exception."""
    limits: dict[str, float | None]
    """The settings that bound the work, by their names in lower case."""
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
        return cls(**_fields(value, _FIELDS))


def item_from_dict(value: Any) -> Item:
    """Return the description of an item that another process sent.

    Raises:
        ProcessUnreachable: It is none.
    """
    item = _fields(value, _ITEM_FIELDS)
    if item["error"] is not None:
        item["error"] = _fields(item["error"], _ERROR_FIELDS)
    return item


def text(value: Any, limit: int = 100_000) -> str:
    """Return `value`, which has to be a text, cut to `limit` characters."""
    if not isinstance(value, str):
        raise ProcessUnreachable(f"a process answered with {type(value).__name__} where a text belongs")
    return value[:limit]


def _items(value: Any) -> list[Item]:
    return [item_from_dict(entry) for entry in value]


def _limits(value: Any) -> dict[str, float | None]:
    if not all(entry is None or isinstance(entry, (int, float)) for entry in value.values()):
        raise ProcessUnreachable("a process answered with limits that are no numbers")
    return {text(key, 100): entry for key, entry in value.items()}


def _same(value: Any) -> Any:
    return value


_Rule = tuple[type | tuple[type, ...], Any]
_OPTIONAL_TEXT = (str, type(None))
_OPTIONAL_NUMBER = (float, int, type(None))

_FIELDS: Mapping[str, _Rule] = {
    "pid": (int, _same),
    "host": (str, text),
    "server": (str, text),
    "started_at": (str, text),
    "state": (str, text),
    "remaining": (_OPTIONAL_NUMBER, _same),
    "running": (int, _same),
    "queued": (int, _same),
    "finished": (int, _same),
    "failed": (int, _same),
    "limits": (dict, _limits),
    "items": (list, _items),
    "recent": (list, _items),
    "truncated": (bool, _same),
}
_ITEM_FIELDS: Mapping[str, _Rule] = {
    "id": (str, text),
    "name": (str, text),
    "kind": (str, text),
    "status": (str, text),
    "queued_at": (str, text),
    "started_at": (_OPTIONAL_TEXT, _same),
    "finished_at": (_OPTIONAL_TEXT, _same),
    "timeout": (_OPTIONAL_NUMBER, _same),
    "overdue": (bool, _same),
    "cancel_reason": (_OPTIONAL_TEXT, _same),
    "error": ((dict, type(None)), _same),
    "origin": (_OPTIONAL_TEXT, _same),
    "request_id": (_OPTIONAL_TEXT, _same),
    "pid": (int, _same),
    "thread": (_OPTIONAL_TEXT, _same),
}
_ERROR_FIELDS: Mapping[str, _Rule] = {"type": (str, text), "message": (str, text), "traceback": (str, text)}


def _fields(value: Any, rules: Mapping[str, _Rule]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProcessUnreachable(f"a process answered with {type(value).__name__} where an object belongs")
    found = {}
    for name, (kind, convert) in rules.items():
        entry = value.get(name)
        if not isinstance(entry, kind):
            raise ProcessUnreachable(f"a process answered with {type(entry).__name__} as {name!r}")
        found[name] = convert(entry)
    return found
