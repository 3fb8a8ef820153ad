"""A call that was accepted for the background, as it was made: what to call, with what, and how."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.keys import Keyed
from django_qbwi.core.names import FunctionWrapper, is_partial, name_of, parts_of_partial
from django_qbwi.core.ports import Movable, Retries
from django_qbwi.core.records import Labels

Origin = tuple[str | None, str | None]
"""Method and path of the request that queued it, and the request's id, where known."""

NO_ORIGIN: Origin = (None, None)

_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Options:
    """How a call wants to be run. Frozen, as a call is; the same object serves all calls that ask for the same."""

    __slots__ = ("expires", "keyed", "labels", "lane", "movable", "name", "priority", "retry", "timeout")

    def __init__(
        self,
        name: str | None = None,
        timeout: float | None = None,
        lane: str | None = None,
        priority: int = 0,
        movable: Movable[Any] | None = None,
        retry: Retries | None = None,
        expires: float | None = None,
        keyed: Keyed | None = None,
        labels: Labels = (),
    ) -> None:
        self.name: Final = name
        """For display; None stands for that of the function."""
        self.timeout: Final = timeout
        """Seconds after its start at which its token is cancelled."""
        self.lane: Final = lane
        """The lane it goes to; None stands for the one of its kind."""
        self.priority: Final = priority
        """Those with a higher one start first in their lane."""
        self.movable: Final = movable
        """How another engine gets the call; None if it cannot leave this process. With one they serve one call only."""
        self.retry: Final = retry
        """Whether another attempt follows one that has failed; None if none does."""
        self.expires: Final = expires
        """Seconds from queueing within which it starts, or never; None where there is no such limit."""
        self.keyed: Final = keyed
        """With which other items it takes turns; None if with none. With keys they serve one call only."""
        self.labels: Final = labels
        """For display and search; with some they serve one call only."""

    def __repr__(self) -> str:
        return f"<Options name={self.name!r} timeout={self.timeout} lane={self.lane!r} priority={self.priority}>"


NO_OPTIONS = Options()


class Call:
    """One call: `function(token, *args)`.

    Frozen, by its type: nothing sets an attribute of one, so that it may cross a thread. One is made for each item,
    and a frozen dataclass takes six times as long.
    """

    __slots__ = ("args", "function", "is_async", "options", "origin")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        is_async: bool = False,
        origin: Origin = NO_ORIGIN,
        options: Options = NO_OPTIONS,
    ) -> None:
        self.function: Final = function
        self.args: Final = args
        self.is_async: Final = is_async
        """Whether calling the function only makes a coroutine."""
        self.origin: Final = origin
        self.options: Final = options

    def __repr__(self) -> str:
        # Without the arguments: they may be large, or secret.
        return f"<Call {self.options.name or name_of(self.function)}>"

    @property
    def import_path(self) -> str | None:
        """The path `module:name` by which another process finds the function, None where there is none."""
        return import_path_of(self.function)


def import_path_of(function: Any) -> str | None:
    """Return the path `module:name` by which another process finds a function, None where there is none.

    One of our wrappers around the function may stand there.
    """
    while isinstance(function, FunctionWrapper):
        function = function.function
    if type(function) is not types.FunctionType:
        return None
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    while isinstance(found, FunctionWrapper):
        found = found.function
    return f"{function.__module__}:{function.__qualname__}" if found is function else None


def found_at(path: str) -> Any:
    """Return what stands at a path `module:name`, imported if need be.

    Raises:
        ImportError, AttributeError: Nothing does.
        Exception: Whatever the module raises where it is imported.
    """
    module, _, name = path.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))


def parts_of_call(work_item: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function of a call as it is queued, and its keyword arguments."""
    kwargs: dict[str, Any] = {}
    function: Any = work_item
    while True:
        if is_partial(type(function)):
            inner, args, keywords = parts_of_partial(function)
            if args:
                # One of them would stand in the place of the token.
                return work_item, {}
            function, kwargs = inner, {**keywords, **kwargs}
        elif issubclass(type(function), FunctionWrapper):
            function = function.function
        else:
            return function, kwargs


def continued(
    work_item: Callable[..., Any], args: tuple[Any, ...], state: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a call as it goes on from the state of a checkpoint, by its parameters' names.

    Raises:
        InvalidWorkItem: They are none of the function's parameters, or that of its token.
    """
    function, keywords = parts_of_call(work_item)
    signature = inspect.signature(function)
    places = [name for name, parameter in signature.parameters.items() if parameter.kind in _PLACED][1 : len(args) + 1]
    changed = [state.get(name, value) for name, value in zip(places, args, strict=False)]
    # Behind them is what a `*rest` takes.
    args = (*changed, *args[len(changed) :])
    further = {name: value for name, value in state.items() if name not in places}
    try:
        signature.bind(None, *args, **{**keywords, **further})
    except TypeError as error:
        raise InvalidWorkItem(
            f"the checkpoint of {name_of(function)} cannot be called again: {error}. Give the names of parameters of "
            "the function"
        ) from error
    return functools.partial(work_item, **further) if further else work_item, args
