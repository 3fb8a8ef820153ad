"""What may cross into a helper process: proven at the call, and packed there, as it was then."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

from django_qbwi.core.calls import import_path_of, parts_of_call
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.names import FunctionWrapper, layers_of, name_of, printable
from django_qbwi.intake.callables import is_async

PROCESS = "process"
EXECUTORS = ("thread", PROCESS)


class Crossing:
    """A call that can cross. Frozen, as a call is."""

    __slots__ = ("args", "carried", "keywords", "path", "payload")

    def __init__(self, path: str, args: tuple[Any, ...], keywords: dict[str, Any], carried: Any) -> None:
        """Pack it.

        Raises:
            Exception: Whatever pickling raises.
        """
        self.path: Final = path
        self.args: Final = args
        self.keywords: Final = keywords
        self.carried: Final = carried
        """What the carriers have captured, each by the sign of its carrier."""
        self.payload: Final = pickle.dumps((path, args, keywords, carried), pickle.HIGHEST_PROTOCOL)

    def __repr__(self) -> str:
        return f"<Crossing {self.path} size={len(self.payload)}>"

    def with_arguments(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Crossing:
        """Return it with these arguments, those of a checkpoint; itself if they are its own."""
        same = len(args) == len(self.args) and all(one is own for one, own in zip(args, self.args, strict=True))
        if same and not keywords:
            return self
        return Crossing(self.path, args, {**self.keywords, **keywords}, self.carried)


def checked_executor(executor: Any) -> str | None:
    """Return the executor as an item has it, None for the threads of this process.

    Raises:
        InvalidWorkItem: There is none of that name.
    """
    if executor is None or executor == "thread":
        return None
    if executor != PROCESS or type(executor) is not str:
        raise InvalidWorkItem(f'executor is {printable(repr(executor))}: give "thread" or "process", or leave it out')
    return PROCESS


def expect_crossing(decorated: Any, is_async: bool, is_method: bool) -> None:
    """Refuse at its decoration what never crosses.

    Raises:
        InvalidWorkItem: It is async, or a method; the message says what to do.
    """
    if is_method:
        raise InvalidWorkItem(
            f'{name_of(decorated)} is a method, and has executor="process": a helper process finds functions of '
            "modules by their names. Decorate a function, and give it the primary key of the instance"
        )
    if is_async:
        raise _async_refusal(f'{name_of(decorated)} has executor="process", and')


def crossing(work_item: Callable[..., Any], args: tuple[Any, ...]) -> Crossing:
    """Return a call, as it is queued, as it crosses.

    Raises:
        InvalidWorkItem: It cannot; the message says why, and what to do.
    """
    function, keywords = parts_of_call(work_item)
    who = f'{name_of(function)} has executor="process", and'
    if is_async(function):
        raise _async_refusal(who)
    path = import_path_of(function)
    if path is None or path.startswith("__main__:"):
        where = "stands in __main__, which a helper process does not run" if path else "cannot be imported by its name"
        raise InvalidWorkItem(
            f"{who} {where}: give a function of a module, under its own name, and not a lambda, a method, a nested "
            "function or an object; what it works with goes into its arguments"
        )
    wrappers = [layer for layer in layers_of(work_item) if issubclass(type(layer), FunctionWrapper)]
    carried = [(sign_of(carrier), value) for wrapper in wrappers for carrier, value in wrapper.carried]
    try:
        return Crossing(path, args, keywords, carried)
    except Exception as error:
        what = _what_does_not_cross(args, keywords)
        raise InvalidWorkItem(
            f"{who} {what} cannot be pickled ({type_of(error)}: {message_of(error)}): give plain values, and the "
            "primary key of an object"
        ) from error


def _async_refusal(who: str) -> InvalidWorkItem:
    return InvalidWorkItem(f"{who} is async: async items run on the loop of this process; leave the executor out")


def sign_of(carrier: Any) -> str:
    """Return by what the same carrier is known in another process."""
    kind = carrier if isinstance(carrier, type) else type(carrier)
    return f"{kind.__module__}.{kind.__qualname__}"


def _what_does_not_cross(args: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    for number, value in enumerate(args, 1):
        if not _is_pickled(value):
            return f"its argument {number}, a {name_of(type(value))},"
    for name, value in keywords.items():
        if not _is_pickled(value):
            return f"its argument {name}, a {name_of(type(value))},"
    return 'what QBWI["CONTEXT"] takes along'


def _is_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False
    return True
