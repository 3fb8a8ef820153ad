"""Plain values: what may be copied into a snapshot, and how it is written as JSON and read back.

Plain are str, int, float, bool, None, bytes, Decimal, UUID, dates, times and spans, and lists, tuples, dicts and
frozensets of plain values. Nothing else: a model instance or a lazy object would carry the request, a connection or
a query along.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of, printable

_MAX_DEPTH = 32
_TAG = "$"

# What needs no copy, and cannot hold a request.
PLAIN: frozenset[type] = frozenset(
    {
        str,
        int,
        float,
        bool,
        type(None),
        bytes,
        decimal.Decimal,
        uuid.UUID,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
    }
)
_SCALARS = (str, int, float, bytes)
# Bound at import: freezegun puts classes of its own into these modules.
_DATETIME, _DATE, _TIME, _TIMEDELTA = datetime.datetime, datetime.date, datetime.time, datetime.timedelta


def copy_plain(value: Any, field: str, depth: int = 0) -> Any:
    """Return a deep copy of a plain value.

    Subclasses of str, int, date and the like (safe strings, enum members) become what they derive from.

    Args:
        value: What to copy.
        field: What it is called, for the message.
        depth: How many containers it is inside of.

    Raises:
        InvalidWorkItem: It is not plain; the message names the field and the cure.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if depth > _MAX_DEPTH:
        raise InvalidWorkItem(f"{field} is nested more than {_MAX_DEPTH} deep, or contains itself: copy a part of it")
    if kind in (list, tuple, frozenset):
        return kind(copy_plain(element, f"{field}[...]", depth + 1) for element in value)
    if kind is dict:
        return {
            copy_plain(key, f"a key of {field}", depth + 1): copy_plain(entry, f"{field}[{key!r}]", depth + 1)
            for key, entry in list(value.items())  # another thread may change it meanwhile
        }
    # By type, never by isinstance(): that would evaluate a lazy object, which may be a query.
    for base in _SCALARS:
        if issubclass(kind, base):
            return base(value) if base is not str else str.__str__(value)
    for basis, copy in _COPIES:
        if issubclass(kind, basis):
            return copy(value)
    raise InvalidWorkItem(_refusal(value, field))


def _copy_of_datetime(at: Any) -> datetime.datetime:
    return _DATETIME(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, at.tzinfo, fold=at.fold)


def _copy_of_date(day: Any) -> datetime.date:
    return _DATE(day.year, day.month, day.day)


def _copy_of_time(at: Any) -> datetime.time:
    return _TIME(at.hour, at.minute, at.second, at.microsecond, at.tzinfo, fold=at.fold)


def _copy_of_timedelta(span: Any) -> datetime.timedelta:
    return _TIMEDELTA(span.days, span.seconds, span.microseconds)


def _copy_of_uuid(value: Any) -> uuid.UUID:
    return uuid.UUID(int=value.int)


# A datetime is a date, too.
_COPIES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (_DATETIME, _copy_of_datetime),
    (_DATE, _copy_of_date),
    (_TIME, _copy_of_time),
    (_TIMEDELTA, _copy_of_timedelta),
    (decimal.Decimal, decimal.Decimal),
    (uuid.UUID, _copy_of_uuid),
)


def text_of(value: Any) -> str | None:
    """Return a str and no subclass of it; None for None."""
    if value is None or type(value) is str:
        return value
    return str.__str__(value if issubclass(type(value), str) else str(value))


def is_plain(value: Any) -> bool:
    """Say whether `copy_plain` would take it."""
    if type(value) in PLAIN:
        return True
    try:
        copy_plain(value, "")
    except InvalidWorkItem:
        return False
    return True


def to_json(value: Any) -> Any:
    """Return a plain value as JSON has it; what JSON does not know becomes `{"$": type, "value": ...}`."""
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if kind is list:
        return [to_json(element) for element in value]
    if kind is dict:
        if all(type(key) is str and key != _TAG for key in value):
            return {key: to_json(entry) for key, entry in value.items()}
        return {_TAG: "dict", "value": [[to_json(key), to_json(entry)] for key, entry in value.items()]}
    name, write, _ = _TYPES[kind]
    return {_TAG: name, "value": write(value)}


def from_json(value: Any) -> Any:
    """Return the plain value that `to_json` wrote."""
    if isinstance(value, list):
        return [from_json(element) for element in value]
    if not isinstance(value, dict):
        return value
    if _TAG in value:
        return _READERS[value[_TAG]](value["value"])
    return {key: from_json(entry) for key, entry in value.items()}


def _timedelta_from(seconds: list[int]) -> datetime.timedelta:
    return datetime.timedelta(*seconds)


_TYPES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: ("tuple", lambda value: [to_json(part) for part in value], lambda parts: tuple(map(from_json, parts))),
    frozenset: ("frozenset", lambda value: [to_json(part) for part in value], lambda p: frozenset(map(from_json, p))),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode("ascii"), base64.b64decode),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    uuid.UUID: ("uuid", str, uuid.UUID),
    datetime.datetime: ("datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: ("date", datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: ("time", datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: ("timedelta", lambda span: [span.days, span.seconds, span.microseconds], _timedelta_from),
}
_READERS: dict[str, Callable[[Any], Any]] = {name: read for name, _, read in _TYPES.values()} | {
    "dict": lambda pairs: {from_json(key): from_json(entry) for key, entry in pairs}
}


def _refusal(value: Any, field: str) -> str:
    kind = type(value)
    bases = {base.__name__ for base in kind.__mro__}
    if hasattr(kind, "_meta") and hasattr(kind, "_base_manager"):
        cure = "copy its primary key (`.pk`) and fetch it in the item"
    elif "BaseManager" in bases or "QuerySet" in bases or "RawQuerySet" in bases:
        cure = "copy a list of values, such as list(queryset.values_list('pk', flat=True))"
    elif "LazyObject" in bases or "Promise" in bases:
        cure = "a lazy object is evaluated too late in an item: copy a value of it, such as its `.pk` or str(it)"
    elif "HttpRequest" in bases or "Request" in bases:
        cure = "copy values of it"
    elif "File" in bases or hasattr(kind, "read"):
        cure = "copy uploaded files by name with files=(...), or save it and copy its name"
    elif hasattr(kind, "__await__"):
        cure = "await it before, and copy the result"
    elif kind is set:
        cure = "copy frozenset(it)"
    else:
        cure = "copy plain values of it (str, int, UUID, datetime, ..., and lists, tuples and dicts of those)"
    return f"{field} is a {printable(name_of(kind))}, which a snapshot cannot hold: {cure}"
