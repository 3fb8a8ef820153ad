"""What can be queued: is it callable as `work_item(token, *args)`, and is it async.

A call is followed to the Python function that it will reach: through partials, bound methods, the `__call__` of an
object and the constructor of a class, but never by a `__wrapped__`, which says what a function is to be taken for and
not what it takes. What is written in C is let through: the call will tell. No code of the callable runs meanwhile, see
`core.names`.

This stands on the path of every item, so code flags are read where `inspect` would take 3 to 20 microseconds.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import (
    FunctionWrapper,
    class_attribute,
    is_partial,
    layers_of,
    name_of,
    namespace_of,
    parts_of_partial,
)
from django_qbwi.intake.mistakes import mistake_in

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
# With keyword arguments of any name come the functions of others: views, tasks.
_UNCOMMON = _GENERATORS | inspect.CO_COROUTINE | inspect.CO_VARKEYWORDS
# Set by inspect.markcoroutinefunction, and before Python 3.12 by the function of that name in asgiref.
COROUTINE_MARK = "_is_coroutine_marker" if hasattr(inspect, "markcoroutinefunction") else "_is_coroutine"
# unittest.mock sets the older one on every Python.
_OLDER_MARK = "_is_coroutine"
_MAX_LAYERS = 100

# Classes are compared by identity: a metaclass may have an equality, and a hash, of its own.
_BUILTIN_KINDS = frozenset(map(id, (types.BuiltinFunctionType, types.MethodWrapperType, types.MethodDescriptorType)))
_PLACEHOLDER = getattr(functools, "Placeholder", None)  # Python 3.14: positional arguments of a partial may be holes
_CACHED_FUNCTION = type(functools.cache(len))  # written in C, and passes all arguments on
_CALL_OF_CLASSES = type.__dict__["__call__"]


def examine(work_item: Any, args: tuple[Any, ...]) -> bool:
    """Check that `work_item(token, *args)` can be called, without calling it; return True if it is async.

    Raises:
        InvalidWorkItem: It is not callable so; the message says what to pass instead.
    """
    if type(work_item) is types.FunctionType:
        # By far the most common kind: a plain function that takes just these arguments.
        code = work_item.__code__
        flags = code.co_flags
        if code.co_argcount == len(args) + 1 and not flags & _UNCOMMON and not code.co_kwonlyargcount:
            return hasattr(work_item, COROUTINE_MARK)
    call = _Call(1 + len(args))
    reached = call.follow(work_item)
    mistake = mistake_in(reached if call.constructed is None else call.constructed)
    if mistake is not None:
        raise InvalidWorkItem(mistake)
    if call.function is not None and call.function.__code__.co_flags & _GENERATORS:
        raise InvalidWorkItem(
            f"{name_of(work_item)} is a generator function: calling it runs none of its body. "
            "Queue a plain or an async function that consumes it"
        )
    problem = call.problem()
    if problem:
        raise InvalidWorkItem(_refusal(work_item, args, problem))
    return call.is_async


def is_async(work_item: Any) -> bool:
    """Say whether a callable is an async function, or calls one."""
    call = _Call(1)
    call.follow(work_item)
    return call.is_async


def parameter_of(work_item: Any, index: int) -> str | None:
    """Return the name of the parameter that gets the argument `index` after the token; None if it has none."""
    call = _Call(1)
    call.follow(work_item)
    position = call.positional + index
    if call.function is None or not 0 <= position < call.function.__code__.co_argcount:
        return None
    return call.function.__code__.co_varnames[position]


class _Call:
    """What the function at the end of a call would be given: so many positional arguments, and these keywords."""

    __slots__ = ("builtin", "constructed", "function", "given", "keywords", "marked", "positional", "wrong")

    def __init__(self, positional: int) -> None:
        self.given = self.positional = positional
        self.keywords: dict[str, Any] = {}
        self.function: types.FunctionType | None = None
        """The Python function that is reached."""
        self.builtin: Any = None
        """Or the built-in one."""
        self.constructed: type | None = None
        """The class of which the call makes an instance, if it does."""
        self.marked = False
        """Whether something on the way says that it is a coroutine function."""
        self.wrong: str | None = None
        """What was found wrong on the way."""

    def __repr__(self) -> str:
        return f"<_Call {self.function or self.builtin} positional={self.positional} keywords={list(self.keywords)}>"

    @property
    def is_async(self) -> bool:
        """Whether the call makes an awaitable for sure."""
        if self.marked:
            return True
        return self.function is not None and bool(self.function.__code__.co_flags & inspect.CO_COROUTINE)

    def follow(self, work_item: Any) -> Any:
        """Find the function, as far as it can be known; return the last that is known."""
        for _ in range(_MAX_LAYERS):
            kind = type(work_item)
            if kind is types.FunctionType:
                self.function = work_item
                self.marked = self.marked or hasattr(work_item, COROUTINE_MARK) or hasattr(work_item, _OLDER_MARK)
                return work_item
            if kind is types.MethodType:
                self.positional += 1
                inside = work_item.__func__
            elif kind is functools.partial or is_partial(kind):
                inside = self._enter_partial(work_item)
            elif id(kind) in _BUILTIN_KINDS:
                self.builtin = inside = work_item
            else:
                inside = self._inside(work_item, kind)
            if inside is None or inside is work_item:
                break
            work_item = inside
        return work_item

    def problem(self) -> str | None:
        """Say why the function cannot be called so; None if it can, or if nobody knows."""
        if self.wrong or self.builtin is not None:
            return self.wrong or self._problem_of_builtin()
        function = self.function
        if function is None:
            return None
        code = function.__code__
        accepted = code.co_argcount
        if self.positional > accepted and not code.co_flags & inspect.CO_VARARGS:
            return f"it takes at most {accepted} positional argument(s), and would get {self.positional}"
        if self.keywords or code.co_kwonlyargcount:
            return _keyword_problem(function, self.positional, self.keywords)
        required = accepted - len(function.__defaults__ or ())
        if self.positional < required:
            missing = ", ".join(code.co_varnames[self.positional : required])
            return f"it would get no value for {missing}"
        return None

    def _inside(self, work_item: Any, kind: type) -> Any:
        """Return what a call of an object calls in turn; None if that cannot be known."""
        namespace = namespace_of(work_item)
        self.marked = self.marked or COROUTINE_MARK in namespace or namespace.get(_OLDER_MARK) is not None
        if issubclass(kind, FunctionWrapper):
            if self.positional == self.given:
                self.wrong = self.wrong or work_item.owner_missing
            return work_item.function
        if kind is staticmethod:
            return work_item.__func__
        if kind is _CACHED_FUNCTION:
            return namespace.get("__wrapped__")
        call = class_attribute(kind, "__call__")
        if call is _CALL_OF_CLASSES:
            return self._constructor(work_item)
        if type(call) is staticmethod:
            return call.__func__
        if type(call) is types.FunctionType:
            self.positional += 1
            return call
        return None

    def _enter_partial(self, partial: functools.partial[Any]) -> Any:
        function, args, keywords = parts_of_partial(partial)
        if not self.marked:
            exact = type(partial) is functools.partial
            self.marked = hasattr(partial, COROUTINE_MARK) if exact else COROUTINE_MARK in namespace_of(partial)
        # By identity: an argument may have an `__eq__` of its own.
        holes = 0 if _PLACEHOLDER is None else sum(value is _PLACEHOLDER for value in args)
        if self.positional < holes:
            self.wrong = f"the partial has {holes} placeholders, and would get {self.positional} positional argument(s)"
        self.positional += len(args) - holes
        self.keywords = {**keywords, **self.keywords} if self.keywords else keywords
        return function

    def _constructor(self, kind: type) -> Any:
        """Return the Python function that makes a new instance, or fills it; None if there is none."""
        self.constructed = kind
        init, new = class_attribute(kind, "__init__"), class_attribute(kind, "__new__")
        for method in (init, new):
            function = method.__func__ if type(method) is staticmethod else method
            if type(function) is types.FunctionType:
                self.positional += 1
                return function
        if init is object.__init__ and new is object.__new__ and self.positional:
            self.wrong = "it takes no arguments"
        return None

    def _problem_of_builtin(self) -> str | None:
        try:
            signature = inspect.signature(self.builtin, follow_wrapped=False)
        except Exception:
            # Some do not tell it; the call itself will.
            return None
        try:
            signature.bind(*[None] * self.positional, **self.keywords)
        except TypeError as error:
            return str(error)
        return None


def _keyword_problem(function: types.FunctionType, positional: int, keywords: dict[str, Any]) -> str | None:
    code = function.__code__
    defaults = function.__defaults__ or ()
    keyword_defaults = function.__kwdefaults__ or {}
    names = code.co_varnames
    first_default = code.co_argcount - len(defaults)
    first_by_keyword = min(max(positional, code.co_posonlyargcount), code.co_argcount)
    by_keyword = names[first_by_keyword : code.co_argcount + code.co_kwonlyargcount]
    for name in keywords:
        if name in names[code.co_posonlyargcount : min(positional, code.co_argcount)]:
            return f"it would get two values for {name!r}"
        if name not in by_keyword and not code.co_flags & inspect.CO_VARKEYWORDS:
            return f"it takes no keyword argument {name!r} here"
    for index in range(positional, code.co_argcount):
        if index < first_default and (names[index] not in keywords or index < code.co_posonlyargcount):
            return f"it would get no value for {names[index]!r}"
    for name in names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
        if name not in keywords and name not in keyword_defaults:
            return f"it would get no value for the keyword-only {name!r}"
    return None


def _refusal(work_item: Any, args: tuple[Any, ...], problem: str) -> str:
    cure = next((layer.cure for layer in layers_of(work_item) if issubclass(type(layer), FunctionWrapper)), "")
    cure = cure or FunctionWrapper.cure
    if issubclass(type(work_item), type):
        cure = (
            "It is a class, whose call makes an instance: queue a function, or a bound method of an instance, whose "
            "first parameter is the cancellation token"
        )
    return (
        f"{name_of(work_item)} cannot be called as work_item(token{', *args' if args else ''}) with "
        f"{len(args)} argument(s) after the token: {problem}. {cure}"
    )
