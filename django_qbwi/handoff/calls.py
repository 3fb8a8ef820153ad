"""A call as another engine gets it: a task of that engine, and arguments that are plain JSON."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from typing import Any

from django_qbwi.core.calls import found_at, import_path_of, parts_of_call
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import FunctionWrapper, name_of
from django_qbwi.handoff.engines import Engine
from django_qbwi.handoff.plain_json import round_trip


class PlainCall:
    """A call whose arguments are plain JSON; `args` and `kwargs` are those of the user's function, behind what it gets.

    It can go on from the state of a checkpoint.
    """

    __slots__ = ("_function", "_given", "_signature", "args", "kwargs")

    def __init__(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], given: int) -> None:
        """Make it of plain arguments; `function` gets `given` others ahead of them: a token, a context."""
        self.args = args
        self.kwargs = kwargs
        self._function = function
        self._given = given
        self._signature: inspect.Signature | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {name_of(self._function)}>"

    def with_state(self, state: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with which the function goes on from `state`.

        Raises:
            InvalidWorkItem: Its values are no JSON, or its names are none of the function's parameters.
        """
        if self._signature is None:
            self._signature = inspect.signature(self._function)
        what = f"the checkpoint of {name_of(self._function)}"
        plain = round_trip(state, what, dict)
        try:
            ahead = [None] * self._given
            bound = self._signature.bind(*ahead, *self.args, **self.kwargs)
            names = [*bound.arguments][: self._given]
            # Bound once more: what was given by its place may be given by its name now.
            for name, value in plain.items():
                _replace(bound, name, value)
            self._signature.bind(*bound.args, **bound.kwargs)
        except TypeError as error:
            raise InvalidWorkItem(
                f"{what} cannot be called again: {error}. Give the names of parameters of the function"
            ) from error
        taken = set(names)
        if taken & set(plain):
            raise InvalidWorkItem(f"{what} names {sorted(taken & set(plain))}, which the function gets from its engine")
        return list(bound.args)[self._given :], bound.kwargs

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Have it called with the arguments of a checkpoint."""
        self.args, self.kwargs = self.with_state(state)


class EngineCall(PlainCall):
    """One call for one engine."""

    __slots__ = ("engine", "task")

    def __init__(
        self,
        engine: Engine,
        task: Any,
        function: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        given: int,
    ) -> None:
        """Make it of plain arguments, and of the engine's own task."""
        super().__init__(function, args, kwargs, given)
        self.engine = engine
        self.task = task

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {name_of(self._function)} engine={self.engine.alias}>"

    def send(self, known: str, due: datetime.datetime | None, priority: int) -> str:
        """Have the engine take it; see `Engine.send`."""
        args, kwargs = self._sent()
        return self.engine.send(self.task, args, kwargs, known, due=due, priority=priority)

    def _sent(self) -> tuple[list[Any], dict[str, Any]]:
        return self.args, self.kwargs


class DecoratedCall(EngineCall):
    """A call of a decorated function, which a task of ours finds again by its path."""

    __slots__ = ("_options", "_path")

    def __init__(
        self, engine: Engine, work_item: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        """Make it of a call as it is queued; `options` are what the work item is to be run with there.

        Raises:
            InvalidWorkItem: The function cannot be imported by its path, or its arguments are no JSON.
        """
        function, kwargs = parts_of_call(work_item)
        path = path_of(function)
        if path is None:
            raise InvalidWorkItem(
                f"{name_of(work_item)} cannot be handed off to {engine.alias!r}: its workers have to import it by its "
                "name. Decorate a function of a module that stands there under its own name"
            )
        what = f"the arguments of {name_of(function)}, which may be handed off to {engine.alias!r},"
        plain = round_trip({"args": list(args), "kwargs": kwargs}, what, dict)
        super().__init__(engine, engine.task_for_items(), function, plain["args"], plain["kwargs"], 1)
        self._path = path
        self._options = {name: value for name, value in options.items() if value is not None}

    def _sent(self) -> tuple[list[Any], dict[str, Any]]:
        return [self._path, self.args, self.kwargs, self._options], {}


def path_of(function: Callable[..., Any]) -> str | None:
    """Return the path `module:name` by which another process finds a decorated function, None if it cannot."""
    path = import_path_of(function)
    # Only what is decorated: whoever can write to the engine shall not be able to call anything else.
    is_found = path is not None and not path.startswith("__main__:") and isinstance(found_at(path), FunctionWrapper)
    return path if is_found else None


def stands_in_its_module(work_item: Callable[..., Any]) -> bool:
    """Return whether a call is one of a decorated function that other processes find by its path."""
    return path_of(parts_of_call(work_item)[0]) is not None


def _replace(bound: inspect.BoundArguments, name: str, value: Any) -> None:
    parameter = bound.signature.parameters.get(name)
    if parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        bound.arguments[name] = value
        return
    rest = next((one for one in bound.signature.parameters.values() if one.kind is one.VAR_KEYWORD), None)
    if rest is None:
        raise TypeError(f"it has no parameter {name!r}")
    bound.arguments[rest.name] = {**bound.arguments.get(rest.name, {}), name: value}
