"""What an item's function has returned: nothing to look at, something to wait for, or the sign of a mistake.

A result is dropped. But one that only says what would be done has to be done first, or nothing has run, and the item
would succeed all the same: a coroutine out of a lambda, a generator function behind a decorator that hides it.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import types
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem

_ITERATORS: tuple[type[Any], ...] = (
    map,
    filter,
    itertools.starmap,
    itertools.filterfalse,
    itertools.takewhile,
    itertools.dropwhile,
    itertools.accumulate,
)
"""Those that call a function, with each step. One of plain values (`iter`, `zip`) has nothing left to do."""

_LOOP_OVER_IT = "loop over it in the work item"


def to_wait_for(result: Any) -> Any:
    """Return `result` if it has to be waited for, as an awaitable and a future of `concurrent.futures` have; else None.

    Asked by `type()`: a lazy proxy is not evaluated, and a mock is what it is.

    Raises:
        InvalidWorkItem: Nothing has run, and nothing would.
    """
    kind = type(result)
    if issubclass(kind, types.CoroutineType):
        if inspect.getcoroutinestate(result) == inspect.CORO_CLOSED:
            raise InvalidWorkItem(
                "the work item returned a coroutine that has been awaited before, and runs only once: call the async "
                "function for each item (a cache like functools.lru_cache keeps its first coroutine)"
            )
        return result
    if issubclass(kind, (Awaitable, Future)):
        return result
    if issubclass(kind, types.GeneratorType):
        if inspect.isawaitable(result):
            return result  # made by `types.coroutine`
        if inspect.getgeneratorstate(result) == inspect.GEN_CREATED:
            raise InvalidWorkItem(f"the work item returned a generator, of which nothing has run: {_LOOP_OVER_IT}")
    if issubclass(kind, types.AsyncGeneratorType) and _is_unused(result):
        raise InvalidWorkItem(
            "the work item returned an asynchronous generator, of which nothing has run: loop over it with `async for` "
            "in an async work item"
        )
    if issubclass(kind, _ITERATORS):
        raise InvalidWorkItem(
            f"the work item returned a {kind.__name__} object, whose function is called for nothing before somebody "
            f"asks for its values: {_LOOP_OVER_IT}"
        )
    return None


async def waited_for(result: Any) -> None:
    """Wait, on the running loop, for what an item has returned, and for what that gives.

    Raises:
        InvalidWorkItem: Nothing has run, and nothing would.
        RuntimeError: It belongs to another event loop.
    """
    while result is not None:
        awaitable = to_wait_for(result)
        if awaitable is None:
            return
        result = await _on_this_loop(awaitable)


def _on_this_loop(awaitable: Any) -> Awaitable[Any]:
    if issubclass(type(awaitable), Future):
        return asyncio.wrap_future(awaitable)
    if asyncio.isfuture(awaitable) and awaitable.get_loop() is not asyncio.get_running_loop():
        raise RuntimeError(
            "the work item returned a future of another event loop: make it an async function, or return a "
            "coroutine, which then runs on the background loop"
        )
    result: Awaitable[Any] = awaitable
    return result


def _is_unused(generator: types.AsyncGeneratorType[Any, Any]) -> bool:
    # Python 3.11 does not say whether it waits between two values; there it counts as unused.
    suspended = getattr(generator, "ag_suspended", False)
    return generator.ag_frame is not None and not suspended and not generator.ag_running
