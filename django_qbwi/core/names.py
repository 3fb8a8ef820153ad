"""What a callable is called, and what it calls in turn.

Nothing here runs code of the object that is looked at: its type is asked with `type()`, and its attributes are read
from the namespaces of the object and of its class. `getattr` and `isinstance` would run a `__getattr__`, and evaluate
a lazy proxy.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

MAX_NAME_LENGTH = 200

_MAX_LAYERS = 100  # an object may say that it calls itself

_mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_namespace_of: Callable[[type], types.MappingProxyType[str, Any]] = type.__dict__["__dict__"].__get__
_qualified_name_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module_of: Callable[[type], Any] = type.__dict__["__module__"].__get__
_partial_call = functools.partial.__call__
_parts_of_partial: tuple[Callable[[Any], Any], ...] = tuple(
    functools.partial.__dict__[name].__get__ for name in ("func", "args", "keywords")
)
# Classes are compared by identity: a metaclass may have an equality, and a hash, of its own.
_TELL_THEIR_NAMES = frozenset(
    map(
        id,
        (
            types.FunctionType,
            types.BuiltinFunctionType,
            types.MethodWrapperType,
            types.MethodDescriptorType,
            types.WrapperDescriptorType,
            types.ClassMethodDescriptorType,
        ),
    )
)


class FunctionWrapper:
    """Base class of our callables around a function, which take the same arguments as that function."""

    __slots__ = ()

    cure = "Its first parameter must be the cancellation token"
    """What to do where it was given wrong arguments."""
    owner_missing: Any = None
    """What to do where it was queued without the instance or class that it is a method of; None if it is no method."""

    @property
    def carried(self) -> tuple[tuple[Any, Any], ...]:
        """What it restores around the function: carriers, each with what it has captured."""
        return ()

    @property
    def function(self) -> Callable[..., Any]:
        """The function inside."""
        raise NotImplementedError


def layers_of(work_item: Any) -> Iterator[Any]:
    """Yield a callable and then what it calls, below partials, bound methods and wrappers of ours."""
    for _ in range(_MAX_LAYERS):
        yield work_item
        kind = type(work_item)
        if kind is types.FunctionType:
            return
        if kind is types.MethodType:
            work_item = work_item.__func__
        elif is_partial(kind):
            work_item, _, _ = parts_of_partial(work_item)
        elif issubclass(kind, FunctionWrapper):
            work_item = work_item.function
        else:
            return


def is_partial(kind: type) -> bool:
    """Say whether objects of this type call a function as `functools.partial` does."""
    return kind is functools.partial or (
        issubclass(kind, functools.partial) and class_attribute(kind, "__call__") is _partial_call
    )


def parts_of_partial(partial: functools.partial[Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the function of a partial, its positional arguments and its keywords."""
    if type(partial) is functools.partial:
        return partial.func, partial.args, partial.keywords
    # A subclass may have properties of these names.
    function, args, keywords = (part(partial) for part in _parts_of_partial)
    return function, args, keywords


def class_attributes(kind: type, name: str) -> Iterator[Any]:
    """Yield what stands under `name` in a class and its bases, as it stands there, the nearest first."""
    for base in _mro_of(kind):
        namespace = _namespace_of(base)
        if name in namespace:
            yield namespace[name]


def class_attribute(kind: type, name: str) -> Any:
    """Return the nearest of `class_attributes`; None if there is none."""
    return next(class_attributes(kind, name), None)


def is_told_by_identity(kind: type) -> bool:
    """Say whether a class has the hash and the equality of every class; its metaclass may have others."""
    metaclass = type(kind)
    return metaclass is type or (
        class_attribute(metaclass, "__hash__") is object.__hash__
        and class_attribute(metaclass, "__eq__") is object.__eq__
    )


def namespace_of(value: Any) -> dict[str, Any]:
    """Return the namespace of an object, to be read only; an empty one for an object that has none."""
    for entry in class_attributes(type(value), "__dict__"):
        # Not a property of that name, which is somebody's code.
        if type(entry) is types.GetSetDescriptorType:
            namespace = entry.__get__(value)
            return namespace if type(namespace) is dict else {}
    return {}


def name_of(work_item: Any) -> str:
    """Return a name for display: module and qualified name of the function, bounded and without control characters.

    Never raises.
    """
    try:
        return printable(_name_of(work_item))
    except Exception:
        # A name is for display; an object that cannot even say its class must not stop the item.
        return "<unnamed>"


def clean(text: str, kept: str = "") -> str:
    """Return `text` without control and direction characters but those `kept`: on one line without any."""
    return "".join(character if character in kept or character.isprintable() else "?" for character in text)


def printable(text: str) -> str:
    """Return `text` without control and direction characters (log and terminal injection), bounded in length."""
    text = text[: MAX_NAME_LENGTH + 1]
    if not text.isprintable():
        text = clean(text)
    return text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 1] + "…"


def _name_of(work_item: Any) -> str:
    for layer in layers_of(work_item):
        work_item = layer
    kind = type(work_item)
    if id(kind) in _TELL_THEIR_NAMES:
        return _joined(getattr(work_item, "__module__", None), work_item.__qualname__)
    if issubclass(kind, type):
        return _joined(_module_of(work_item), _qualified_name_of(work_item))
    # `functools.update_wrapper` gives an object the names of the function that it stands for.
    namespace = namespace_of(work_item)
    qualified_name = namespace.get("__qualname__")
    if type(qualified_name) is str:
        return _joined(namespace.get("__module__"), qualified_name)
    return _joined(_module_of(kind), _qualified_name_of(kind))


def _joined(module: Any, qualified_name: str) -> str:
    return f"{module}.{qualified_name}" if type(module) is str else qualified_name
