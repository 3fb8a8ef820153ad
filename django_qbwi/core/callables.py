"""What can be queued: is it callable as `work_item(token, *args)`, is it async, what is it called.

This stands on the path of every item, so code flags are read where `inspect` would take 3 to 20 microseconds.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem

MAX_NAME_LENGTH = 200

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_UNCOMMON = _GENERATORS | inspect.CO_COROUTINE
# Set by inspect.markcoroutinefunction, and before Python 3.12 by the function of that name in asgiref.
COROUTINE_MARK = "_is_coroutine_marker" if hasattr(inspect, "markcoroutinefunction") else "_is_coroutine"


class FunctionWrapper:
    """Base class of our callables around a function, which take the same arguments as that function."""

    __slots__ = ()

    @property
    def function(self) -> Callable[..., Any]:
        """The function inside."""
        raise NotImplementedError


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
    function, positional, keywords = _unwrap(work_item, 1 + len(args))
    if function is None:
        return _examine_slowly(work_item, args)
    code = function.__code__
    flags = code.co_flags
    if flags & _GENERATORS:
        raise InvalidWorkItem(
            f"{name_of(work_item)} is a generator function: calling it runs none of its body. "
            "Queue a plain or an async function that consumes it"
        )
    problem = _arity_problem(function, code, positional, keywords)
    if problem:
        raise InvalidWorkItem(
            f"{name_of(work_item)} cannot be called as work_item(token{', *args' if args else ''}) with "
            f"{len(args)} argument(s) after the token: {problem}. Its first parameter must be the cancellation token"
        )
    if flags & inspect.CO_COROUTINE:
        return True
    # A mark may stand on the function itself, on the partial around it or on the object whose __call__ it is.
    return hasattr(function, COROUTINE_MARK) or (
        work_item is not function and getattr(work_item, COROUTINE_MARK, None) is not None
    )


def name_of(work_item: Any) -> str:
    """Return a name for display: module and qualified name of the function, bounded and without control characters.

    Never raises, whatever the object's own `__repr__` or attributes do.
    """
    try:
        while isinstance(work_item, (functools.partial, FunctionWrapper)):
            work_item = work_item.func if isinstance(work_item, functools.partial) else work_item.function
        qualified_name = getattr(work_item, "__qualname__", None)
        if not isinstance(qualified_name, str):
            work_item = type(work_item)
            qualified_name = work_item.__qualname__
        module = getattr(work_item, "__module__", None)
        return printable(f"{module}.{qualified_name}" if isinstance(module, str) else qualified_name)
    except Exception:
        # A name is for display; an object that cannot even say its class must not stop the item.
        return "<unnamed>"


def printable(text: str) -> str:
    """Return `text` without control and direction characters (log and terminal injection), bounded in length."""
    text = text[: MAX_NAME_LENGTH + 1]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 1] + "…"


def _unwrap(work_item: Any, positional: int) -> tuple[Any, int, dict[str, Any]]:
    """Return the plain function below partials and methods, None if there is none, and what it would be given."""
    keywords: dict[str, Any] = {}
    function = work_item
    while True:
        kind = type(function)
        if kind is types.FunctionType:
            return function, positional, keywords
        if kind is functools.partial:
            if _has_placeholders(function):
                return None, positional, keywords
            positional += len(function.args)
            keywords = {**function.keywords, **keywords} if keywords else function.keywords
            function = function.func
        elif kind is types.MethodType:
            positional += 1
            function = function.__func__
        elif issubclass(kind, FunctionWrapper):
            function = function.function
        else:
            return None, positional, keywords


def _has_placeholders(work_item: functools.partial[Any]) -> bool:
    # functools.Placeholder, Python 3.14: positional arguments of a partial may be holes.
    placeholder = getattr(functools, "Placeholder", None)
    return placeholder is not None and any(value is placeholder for value in work_item.args)


def _arity_problem(
    function: types.FunctionType, code: types.CodeType, positional: int, keywords: dict[str, Any]
) -> str | None:
    accepted = code.co_argcount
    if positional > accepted and not code.co_flags & inspect.CO_VARARGS:
        return f"it takes at most {accepted} positional argument(s), and would get {positional}"
    if keywords or code.co_kwonlyargcount:
        return _keyword_problem(function, positional, keywords)
    required = accepted - len(function.__defaults__ or ())
    if positional < required:
        missing = ", ".join(code.co_varnames[positional:required])
        return f"it would get no value for {missing}"
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


def _examine_slowly(work_item: Any, args: tuple[Any, ...]) -> bool:
    if not callable(work_item):
        raise InvalidWorkItem(_not_callable(work_item))
    call: Callable[..., Any] = work_item
    function: Any = work_item
    while isinstance(function, (functools.partial, FunctionWrapper)):
        function = function.func if isinstance(function, functools.partial) else function.function
    if not isinstance(function, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        function = type(function).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidWorkItem(
            f"{name_of(work_item)} is a generator function: calling it runs none of its body. "
            "Queue a plain or an async function that consumes it"
        )
    try:
        signature = inspect.signature(call)
    except (ValueError, TypeError):
        # Some built-ins have no signature; the call itself will tell.
        signature = None
    if signature is not None:
        try:
            signature.bind(None, *args)
        except TypeError as error:
            raise InvalidWorkItem(
                f"{name_of(work_item)} cannot be called as work_item(token, *args) with {len(args)} argument(s) after "
                f"the token: {error}. Its first parameter must be the cancellation token"
            ) from None
    return (
        inspect.iscoroutinefunction(call)
        or inspect.iscoroutinefunction(function)
        # In the object's own namespace: a Mock has any attribute that it is asked for.
        or COROUTINE_MARK in getattr(call, "__dict__", ())
    )


def _not_callable(work_item: Any) -> str:
    if inspect.iscoroutine(work_item):
        name = printable(work_item.__qualname__)
        # Otherwise Python warns that it "was never awaited", which hides the message below.
        work_item.close()
        return f"{name}(...) is a coroutine object: pass the function, do not call it: queue({name}, ...)"
    if inspect.isawaitable(work_item):
        return f"a {type(work_item).__qualname__} is awaited already somewhere: pass a function that makes it"
    return (
        f"a work item must be callable as work_item(token, *args), which a {name_of(type(work_item))} is not: "
        "pass the function itself, without calling it"
    )
