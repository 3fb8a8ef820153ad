"""The keys of an item: asked for in the caller's thread, and made plain, so that comparing two runs nobody's code."""

from __future__ import annotations

import datetime
import hashlib
import types
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django_qbwi.core.calls import parts_of_call
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.keys import Keyed
from django_qbwi.core.names import name_of
from django_qbwi.intake.callables import is_async

_MAX_TEXT = 200
_MAX_DEPTH = 8
_PLAIN: Final = "None, str, bytes, int, bool, UUID, date, datetime, and tuples of these"


class Keys(NamedTuple):
    """How the keys of the calls of a function are made."""

    unique: Callable[..., object] | None = None
    concurrency: int | None = None
    limit: Callable[..., object] | None = None
    of_method: bool = False
    """Whether they are those of a method that was decorated in its class: they get the instance, as the method does."""


def checked_keys(unique_key: Any, concurrency: Any, concurrency_key: Any) -> Keys | None:
    """Return these options as calls use them, None if there are none.

    Raises:
        InvalidWorkItem: One of them is wrong; the message says what to give.
    """
    for name, key in (("unique_key", unique_key), ("concurrency_key", concurrency_key)):
        if key is not None and (not callable(key) or is_async(key)):
            what = "an async function" if callable(key) else "no function"
            raise InvalidWorkItem(
                f"{name} is {key!r}, {what}: give a function that returns a key and takes the arguments of the work "
                f"item without the token, as in {name}=lambda album_id: album_id"
            )
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise InvalidWorkItem(
            f"concurrency is {concurrency!r}: give how many items may run at once, a whole number of 1 or more"
        )
    if concurrency_key is not None and concurrency is None:
        raise InvalidWorkItem("there is a concurrency_key and no concurrency: say how many of a key, as concurrency=1")
    if unique_key is None and concurrency is None:
        return None
    return Keys(unique_key, concurrency, concurrency_key)


def keyed(keys: Keys, work_item: Callable[..., Any], args: tuple[Any, ...]) -> Keyed:
    """Return the keys of a call as it is queued; the user's functions are called here.

    Raises:
        InvalidWorkItem: One of them raises, or what it returns is no plain value.
    """
    function: Any
    function, keywords = parts_of_call(work_item)
    owner = ""
    if isinstance(function, types.MethodType):
        if keys.of_method:
            args = (function.__self__, *args)
        else:
            owner = f"{id(function.__self__)} "
    identity = id(getattr(function, "__func__", function))
    unique = limit = None
    if keys.unique is not None:
        unique = (identity, owner + _text("unique_key", keys.unique, function, args, keywords))
    if keys.limit is not None:
        limit = (identity, owner + _text("concurrency_key", keys.limit, function, args, keywords))
    elif keys.concurrency is not None:
        limit = (identity, owner)
    return Keyed(unique, limit, keys.concurrency or 1)


def _text(
    option: str, key: Callable[..., object], function: Any, args: tuple[Any, ...], keywords: dict[str, Any]
) -> str:
    try:
        text = _plain(key(*args, **keywords), _MAX_DEPTH)
    except _NotPlainError as error:
        raise InvalidWorkItem(
            f"the {option} of {name_of(function)} returned {error}, and not a plain value ({_PLAIN}): return the "
            "primary key of an object, or a str"
        ) from error
    except Exception as error:
        raise InvalidWorkItem(
            f"the {option} of {name_of(function)} raised {type_of(error)}: {message_of(error)}. It is called with the "
            "arguments of the work item without the token, where that is queued"
        ) from error
    if len(text) > _MAX_TEXT:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    return text


class _NotPlainError(Exception):
    """Names the type of a value that is no key."""


def _plain(value: object, depth: int) -> str:
    """Return a text that only equal values of the same type have; subclasses count as what they are made of."""
    kind = type(value)
    if value is None or kind is bool:
        return repr(value)
    for plain, text in _TEXTS.items():
        if issubclass(kind, plain):
            return text(value)
    if issubclass(kind, tuple) and depth:
        assert isinstance(value, tuple)  # as its type says
        return f"({','.join(_plain(entry, depth - 1) for entry in tuple.__iter__(value))})"
    if issubclass(kind, types.CoroutineType):
        value.close()  # type: ignore[attr-defined]  # else it complains that it was never awaited
    raise _NotPlainError(f"a {name_of(kind)}")


# By the methods of the types themselves: those of a subclass are the user's. A datetime is a date.
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: str.__repr__,
    bytes: bytes.__repr__,
    int: int.__repr__,
    uuid.UUID: lambda value: f"UUID{value.int:d}",
    datetime.datetime: lambda value: f"datetime {datetime.datetime.isoformat(value)}",
    datetime.date: lambda value: f"date {datetime.date.isoformat(value)}",
}
