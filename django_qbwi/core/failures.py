"""How an exception is looked at when an item ends: without running a line of its class.

A class of exceptions may refuse attributes (a frozen dataclass does), answer them with code of its own, or have such a
metaclass. Whatever stands between the end of an item and those who wait for it must not depend on that: the attributes
are read and set by the descriptors of `BaseException` and of `type`, and a class is asked for by `type()`.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from typing import Any

_MAX_TYPE = 500
_MAX_MESSAGE = 2_000
_MAX_TRACEBACK = 20_000
_MAX_LINE = 2_000
_MAX_FRAMES = 50
_MAX_VALUES = 100

_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_EXCEPTIONS: Any = BaseExceptionGroup.__dict__["exceptions"]
_ARGS: Any = BaseException.__dict__["args"]
_MODULE: Any = type.__dict__["__module__"]
_QUALNAME: Any = type.__dict__["__qualname__"]


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether `error` is of a kind of ours or Python's; `isinstance` would ask its `__class__` too."""
    return issubclass(type(error), kind)


def traceback_of(error: BaseException) -> types.TracebackType | None:
    """Return its frames; never raises."""
    frames: types.TracebackType | None = _TRACEBACK.__get__(error)
    return frames


def without_frames(error: BaseException) -> BaseException:
    """Strip the tracebacks of `error` and of all that it chains, so that it keeps no frame alive; never raises."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        _TRACEBACK.__set__(current, None)
        pending += [_CAUSE.__get__(current), _CONTEXT.__get__(current)]
        if is_a(current, BaseExceptionGroup):
            pending += _EXCEPTIONS.__get__(current)
        pending += _held_by(current)
    return error


def _held_by(error: BaseException) -> list[BaseException]:
    """Return the exceptions among its arguments and attributes, and in lists and tuples there; never raises."""
    values = list(_ARGS.__get__(error))
    try:
        values += dict.values(object.__getattribute__(error, "__dict__"))
    except Exception:
        # It has none, or answers for it with code of its own.
        pass
    for value in values[:_MAX_VALUES]:
        if type(value) in (list, tuple):
            values += value[:_MAX_VALUES]
    return [value for value in values if issubclass(type(value), BaseException)]


def type_of(error: BaseException) -> str:
    """Return module and qualified name of its class, bounded; never raises."""
    kind = type(error)
    qualified_name = _QUALNAME.__get__(kind)
    try:
        module = _MODULE.__get__(kind)
    except AttributeError:
        # The class has deleted it.
        module = None
    return (f"{module}.{qualified_name}" if type(module) is str else qualified_name)[:_MAX_TYPE]


def message_of(error: BaseException) -> str:
    """Return what it says, bounded; never raises, even if its `__str__` does."""
    return _safe_text(lambda: _plain(str(error))[:_MAX_MESSAGE])


def traceback_text(error: BaseException) -> str:
    """Return its traceback and that of all it chains, bounded, without locals; never raises."""
    return _safe_text(lambda: _format(error)[-_MAX_TRACEBACK:])


def _format(error: BaseException) -> str:
    try:
        # Each line by itself: a class with a name of nine million characters is at the end, and would leave no other.
        return "".join(map(_bounded_line, traceback.format_exception(error, limit=-_MAX_FRAMES)))
    except Exception:
        # It does not let itself be looked at; where it was raised can be said all the same.
        frames = traceback.format_tb(traceback_of(error), limit=-_MAX_FRAMES)
        return "".join(["Traceback (most recent call last):\n", *frames, f"{type_of(error)}: {message_of(error)}\n"])


def _bounded_line(line: str) -> str:
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 2]}…\n"


def _plain(text: str) -> str:
    # A `__str__` may return an instance of a subclass, whose slices are code of its own.
    return text if type(text) is str else str.__getitem__(text, slice(None))


def _safe_text(make: Callable[[], str]) -> str:
    try:
        return make()
    except BaseException as error:
        # User code returns to us here as well: the `__str__` of an exception.
        return f"<unprintable: {_QUALNAME.__get__(type(error))[:_MAX_TYPE]}>"
