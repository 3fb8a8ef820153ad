"""What our decorators make of a function: an object that is named, copied and pickled as the function would be."""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, Self, cast

from asgiref.sync import markcoroutinefunction

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import FunctionWrapper, layers_of, name_of
from django_qbwi.intake.callables import is_async


class DecoratedFunction(FunctionWrapper):
    """A function with something about it; it never changes.

    As for a function, a copy of it is itself, and it is pickled by the name under which its module has it.
    """

    hand_off: str | None = None
    """The alias of the engine that gets what this process cannot finish, None if there is none."""
    pool: str | None = None
    """The name of the pool whose workers run it, None for the default one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            # First: it copies the attributes of the function, which may be a callable of ours with the same ones.
            functools.update_wrapper(cast(Any, self), function)
        except Exception as error:
            raise InvalidWorkItem(
                f"{name_of(function)} cannot be decorated, since one of its attributes raises {error!r}: decorate a "
                "function that calls it"
            ) from error
        self._function = function
        self._is_async = is_async(function)
        if self._is_async:
            markcoroutinefunction(cast(Any, self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {name_of(self._function)}>"

    @property
    def function(self) -> Callable[..., Any]:
        """The decorated function."""
        return self._function

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        function = self._function
        if type(function) is types.MethodType:
            # As Python pickles a bound method: by the instance and the name.
            return _attribute_of, (function.__self__, function.__name__, self._changes())
        found = _in_its_module(function)
        if found is self:
            return str(function.__qualname__)
        for depth, layer in enumerate(layers_of(found)):
            if layer is self:
                return operator.attrgetter(".".join(["function"] * depth)), (found,)
            if type(layer) is type(self) and layer.function is function:
                return _changed, (layer, self._changes())
        raise TypeError(
            f"{name_of(function)} cannot be pickled: as with any function, decorated or not, its module has to have it "
            "under its own name"
        )

    def _changes(self) -> dict[str, Any]:
        """Return the options of `using` that it has."""
        return {}


def _in_its_module(function: Callable[..., Any]) -> Any:
    try:
        return operator.attrgetter(function.__qualname__)(sys.modules[function.__module__])
    except (AttributeError, KeyError):
        return None


def _attribute_of(instance: Any, name: str, changes: dict[str, Any]) -> Any:
    return _changed(getattr(instance, name), changes)


def _changed(decorated: Any, changes: dict[str, Any]) -> Any:
    return decorated.using(**changes) if changes else decorated
