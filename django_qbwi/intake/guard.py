"""The guard: an item that would carry its request along is refused when it is queued.

A request is over when the item runs: its body is closed, its user and session may need a query on a connection that
belongs to another thread, and it keeps everything it refers to alive. Found are a request (Django's, or a wrapper such
as Django REST framework's), an ASGI scope, a WSGI environ, a lazy user and an uploaded file, in arguments, closures,
defaults, partials, bound methods and the `request` attribute of objects. A bounded number of values is looked at, what
is near first, so that a large argument does not make queueing slow.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import functools
import itertools
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.utils.functional import LazyObject

from django_qbwi.core.exceptions import CapturedRequest, WorkItemWarning
from django_qbwi.core.names import (
    FunctionWrapper,
    class_attribute,
    class_attributes,
    is_told_by_identity,
    name_of,
    namespace_of,
    parts_of_partial,
)
from django_qbwi.intake.callables import parameter_of
from django_qbwi.intake.copier import RequestCopier
from django_qbwi.intake.plain import PLAIN
from django_qbwi.intake.snapshot import RequestSnapshot
from django_qbwi.machine.stacks import caller_level

_MAX_LOOKS = 100
_MAX_ELEMENTS = 32
_MAX_TRIES = 3

# By identity: a metaclass may have a hash of its own.
_HARMLESS = frozenset(map(id, (*PLAIN, type, types.ModuleType, RequestSnapshot)))

_COPY = "pass the values that the item needs, or decorate the item with @copies_request and pass the request first"
_USER = "pass request.user.pk, and fetch the user in the item"
_FILE = "save the file and pass its name, or copy it with @copies_request(files=(...))"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and where."""

    variable: str
    what: str
    cure: str


def guard(work_item: Callable[..., Any], args: tuple[Any, ...], warn: bool = False) -> None:
    """Refuse a call that would carry a request along, or warn of it.

    Raises:
        CapturedRequest: It would; the message names the variable and the cure.
    """
    finding = find_request(work_item, args)
    if finding is None:
        return
    message = (
        f"{name_of(work_item)} would carry {finding.what} along, in {finding.variable}: the request is over when the "
        f"item runs. Instead, {finding.cure}"
    )
    if not warn:
        raise CapturedRequest(f"{message}.")
    warnings.warn(f'{message} (QBWI["REQUEST_CAPTURE"] is "warn").', WorkItemWarning, stacklevel=caller_level())


def find_request(work_item: Callable[..., Any], args: tuple[Any, ...]) -> Finding | None:
    """Return the first request, or part of one, that a call would carry along."""
    named = [
        (value, _parameter(work_item, index)) for index, value in enumerate(args) if id(type(value)) not in _HARMLESS
    ]
    # Two searches: a large argument leaves enough looks for the work item.
    return (named and _search(named)) or _search([(work_item, "the work item")])


class _Kind(enum.Enum):
    HARMLESS = enum.auto()
    REQUEST = enum.auto()
    FILE = enum.auto()
    LAZY = enum.auto()
    DICT = enum.auto()
    SEQUENCE = enum.auto()
    FUNCTION = enum.auto()
    METHOD = enum.auto()
    BUILTIN_METHOD = enum.auto()
    PARTIAL = enum.auto()
    WRAPPER = enum.auto()
    OBJECT = enum.auto()


_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))

_BASES: tuple[tuple[type | tuple[type, ...], _Kind], ...] = (
    (HttpRequest, _Kind.REQUEST),
    (UploadedFile, _Kind.FILE),
    (LazyObject, _Kind.LAZY),
    (dict, _Kind.DICT),
    ((list, tuple, set, frozenset, collections.deque, *_VIEWS), _Kind.SEQUENCE),
    (types.FunctionType, _Kind.FUNCTION),
    (types.MethodType, _Kind.METHOD),
    ((types.BuiltinMethodType, types.MethodWrapperType), _Kind.BUILTIN_METHOD),
    (functools.partial, _Kind.PARTIAL),
    (FunctionWrapper, _Kind.WRAPPER),
    (type, _Kind.HARMLESS),
)


def _once_for_each_class(look: Callable[[type], Any]) -> Callable[[type], Any]:
    remembered = functools.lru_cache(maxsize=1024)(look)
    return lambda kind: remembered(kind) if is_told_by_identity(kind) else look(kind)


@_once_for_each_class
def _kind_of(kind: type) -> _Kind:
    # By type: isinstance() would ask a lazy object for its class, and load it.
    if id(kind) in _HARMLESS:
        return _Kind.HARMLESS
    return next((found for bases, found in _BASES if issubclass(kind, bases)), _Kind.OBJECT)


Parts = Iterator[tuple[Any, str]]


def _search(waiting: list[tuple[Any, str]]) -> Finding | None:
    """Look at values and at what they hold, level by level: what is near is found, however large the rest is."""
    # Where the lazy objects are that they were found in, by their place in the list.
    lazy: dict[int, str] = {}
    seen: set[int] = set()
    # The list grows while it is iterated; it keeps the values, lest another one gets the id of one that was seen.
    for place, (value, variable) in enumerate(waiting):
        kind: _Kind = _kind_of(type(value))
        if kind is _Kind.HARMLESS or id(value) in seen:
            continue
        if len(seen) == _MAX_LOOKS:
            break
        seen.add(id(value))
        finding = _finding(value, kind, variable)
        if finding is not None:
            return _in_lazy_object(lazy[place]) if place in lazy else finding
        if len(waiting) - place < _MAX_LOOKS:
            before = len(waiting)
            waiting += _PARTS[kind](value, variable)
            if kind is _Kind.LAZY or place in lazy:
                lazy.update(dict.fromkeys(range(before, len(waiting)), lazy.get(place, variable)))
    return None


def _in_lazy_object(variable: str) -> Finding:
    return Finding(variable, "a lazy object that holds the request, such as request.user,", _USER)


def _finding(value: Any, kind: _Kind, variable: str) -> Finding | None:
    if kind is _Kind.REQUEST:
        return Finding(variable, f"the request ({_last_name_of(type(value))})", _COPY)
    if kind is _Kind.FILE:
        return Finding(variable, f"a file of the request ({_last_name_of(type(value))})", _FILE)
    what = _environment(value) if kind is _Kind.DICT else None
    return None if what is None else Finding(variable, what, _COPY)


def _environment(value: dict[Any, Any]) -> str | None:
    # That of dict: a subclass's own would run somebody's code on the path of an item.
    has = dict.__contains__
    if has(value, "wsgi.input") or (has(value, "REQUEST_METHOD") and has(value, "QUERY_STRING")):
        return "a WSGI environ"
    if has(value, "headers") and has(value, "path"):
        protocol = dict.get(value, "type")
        if type(protocol) is str and protocol in ("http", "websocket"):
            return "an ASGI scope"
    return None


def _parts_of_dict(value: dict[Any, Any], variable: str) -> Parts:
    # dict.items, since a MultiValueDict's own shows the last value of each list only.
    for key, entry in _some(lambda: dict.items(value)):
        if id(type(key)) not in _HARMLESS:  # here and below: most are, and a name takes longer than the look
            yield key, f"a key of {variable}"
        if id(type(entry)) not in _HARMLESS:
            yield entry, f"{variable}[{key!r}]" if type(key) in (str, int) else f"{variable}[...]"


def _parts_of_sequence(value: Any, variable: str) -> Parts:
    for index, element in enumerate(_some(lambda: _ITERATORS[_base_of(value)](value))):
        if id(type(element)) not in _HARMLESS:
            yield element, f"{variable}[{index}]"


def _some(elements: Callable[[], Iterable[Any]]) -> list[Any]:
    """Return the first elements of a container, which other threads may be changing."""
    for _ in range(_MAX_TRIES):
        try:
            # In C from beginning to end: with a GIL nobody comes in between.
            return list(itertools.islice(elements(), _MAX_ELEMENTS))
        except RuntimeError:
            continue
    return []


def _base_of(value: Any) -> type:
    return next(base for base in _ITERATORS if issubclass(type(value), base))


# Those of the base classes: a subclass's own would run somebody's code on the path of an item.
_ITERATORS: dict[type, Callable[[Any], Iterable[Any]]] = {
    kind: kind.__iter__ for kind in (list, tuple, set, frozenset, collections.deque, *_VIEWS)
}


def _parts_of_function(function: types.FunctionType, variable: str) -> Parts:
    name = function.__name__
    for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if id(type(content)) in _HARMLESS:
            continue
        yield content, f"the variable {cell_name!r} of the enclosing function, which {name} uses"
    names = function.__code__.co_varnames
    defaults = function.__defaults__ or ()
    for index, value in enumerate(defaults, function.__code__.co_argcount - len(defaults)):
        if id(type(value)) not in _HARMLESS:
            yield value, f"the default of {name}'s parameter {names[index]!r}"
    for key, value in (function.__kwdefaults__ or {}).items():
        if id(type(value)) not in _HARMLESS:
            yield value, f"the default of {name}'s parameter {key!r}"
    if function.__dict__:
        yield from _parts_of_object(function, variable)


def _parts_of_builtin_method(method: Any, variable: str) -> Parts:
    yield method.__self__, f"'self' of the bound method {method.__name__}"


def _parts_of_lazy_object(value: Any, variable: str) -> Parts:
    yield namespace_of(value).get("_setupfunc"), variable


def _parts_of_method(method: types.MethodType, variable: str) -> Parts:
    yield method.__self__, f"'self' of the bound method {_last_name_of(method.__func__)}"
    yield method.__func__, variable


def _parts_of_partial(partial: functools.partial[Any], variable: str) -> Parts:
    function, args, keywords = parts_of_partial(partial)
    for index, value in enumerate(args):
        if id(type(value)) not in _HARMLESS:
            yield value, f"argument {index} of the partial"
    for key, value in list(keywords.items()):
        if id(type(value)) not in _HARMLESS:
            yield value, f"argument {key!r} of the partial"
    yield function, variable


def _parts_of_wrapper(wrapper: FunctionWrapper, variable: str) -> Parts:
    yield wrapper.function, variable
    copier: Any = wrapper
    if issubclass(type(copier), RequestCopier):
        for name, function in copier.computed.items():
            yield function, f"the function that computes {name!r}"


# What an object may have its request by: class-based views and forms; serializers and the request of Django REST
# framework; asgiref's sync_to_async; functools' decorators.
_ATTRIBUTES = ("request", "_request", "_context", "func", "__wrapped__")
_NAMED = frozenset({"request", "_context"})


def _parts_of_object(value: Any, variable: str) -> Parts:
    state = namespace_of(value)
    for name in _ATTRIBUTES:
        if name in state:
            yield state[name], _attribute(variable, name)
    for name, read in _readers_of(type(value)).items():
        with contextlib.suppress(AttributeError):  # not assigned yet
            yield read(value), _attribute(variable, name)


def _attribute(variable: str, name: str) -> str:
    return f"{variable}, as its attribute {name!r}" if name in _NAMED else variable


@_once_for_each_class
def _readers_of(kind: type) -> dict[str, Callable[[Any], Any]]:
    """Return how to read the attributes that are not in the namespace of an object: those in slots."""
    readers: dict[str, Callable[[Any], Any]] = {}
    hidden = type(class_attribute(kind, "__dict__")) is property
    for name in _ATTRIBUTES:
        entries = [*class_attributes(kind, name)]
        slot = next((entry for entry in entries if type(entry) is types.MemberDescriptorType), None)
        if slot is not None:
            readers[name] = slot.__get__
        elif hidden and not entries:
            # With a property in its place the namespace cannot be had; this finds nothing but what is in it.
            readers[name] = functools.partial(_attribute_of_object, name)
    return readers


def _attribute_of_object(name: str, value: Any) -> Any:
    return object.__getattribute__(value, name)


def _last_name_of(value: Any) -> str:
    return name_of(value).rpartition(".")[2]


def _parameter(work_item: Any, index: int) -> str:
    name = parameter_of(work_item, index)
    return f"argument {index + 1} after the token" if name is None else f"the argument {name!r}"


_PARTS: dict[_Kind, Callable[[Any, str], Parts]] = {
    _Kind.DICT: _parts_of_dict,
    _Kind.SEQUENCE: _parts_of_sequence,
    _Kind.FUNCTION: _parts_of_function,
    _Kind.METHOD: _parts_of_method,
    _Kind.BUILTIN_METHOD: _parts_of_builtin_method,
    _Kind.LAZY: _parts_of_lazy_object,
    _Kind.PARTIAL: _parts_of_partial,
    _Kind.WRAPPER: _parts_of_wrapper,
    _Kind.OBJECT: _parts_of_object,
}
