"""Carriers: what else of the caller's context is taken along, by QBWI["CONTEXT"].

Nothing flows into an item by itself. A carrier copies one thing on purpose: the tenant, the request's id, a link to
the trace.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import types
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string


class Carrier(Protocol):
    """Takes one thing along from the caller to the item; one object for all items, called from many threads."""

    def capture(self) -> Any:
        """Return what `restore` needs, plain and without the request; None for nothing.

        Called in the caller's thread, when an item is queued (for `queue_on_commit` before the commit). What it
        raises reaches the caller, and nothing is queued: an item must not run for the wrong tenant.
        """

    def restore(self, captured: Any, /) -> AbstractContextManager[Any]:
        """Return a context manager that is entered before the item's first line and left after its last.

        Called in the item's thread and context, on the event loop for an async item; not called for None. Twice for a
        plain function that returns an awaitable: around the call, and around the awaitable. What it raises fails the
        item.

        A carrier may have `arestore` beside it, which returns an asynchronous context manager: on the event loop it is
        used instead. There `await sync_to_async(...)` reaches the thread of the item's ORM calls.
        """


Carried = tuple[tuple[Carrier, Any], ...]


def load_carriers(paths: Iterable[str]) -> tuple[Carrier, ...]:
    """Import what QBWI["CONTEXT"] lists: an object, a class that is called without arguments, or a module's `Carrier`.

    Raises:
        ImproperlyConfigured: There is no such carrier.
    """
    return tuple(_load(path) for path in paths)


def capture(carriers: tuple[Carrier, ...]) -> Carried:
    """Ask all carriers, in the caller's thread."""
    captured = ((carrier, carrier.capture()) for carrier in carriers)
    return tuple((carrier, value) for carrier, value in captured if value is not None)


@contextlib.contextmanager
def restored(carried: Carried) -> Iterator[None]:
    """Have what was captured in force for the time of a block, in this thread and context."""
    with contextlib.ExitStack() as stack:
        for carrier, value in carried:
            stack.enter_context(carrier.restore(value))
        yield


@contextlib.asynccontextmanager
async def arestored(carried: Carried) -> AsyncIterator[None]:
    """The same on the event loop, by a carrier's `arestore` where it has one."""
    async with contextlib.AsyncExitStack() as stack:
        for carrier, value in carried:
            arestore = getattr(carrier, "arestore", None)
            if arestore is None:
                stack.enter_context(carrier.restore(value))
            else:
                await stack.enter_async_context(arestore(value))
        yield


def _load(path: str) -> Carrier:
    try:
        try:
            found: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path and not path.startswith(f"{error.name}."):
                raise
            found = import_string(path)
        if isinstance(found, types.ModuleType):
            found = found.Carrier
        carrier: Any = found() if inspect.isclass(found) else found
    except Exception as error:
        raise ImproperlyConfigured(f'QBWI["CONTEXT"]: {path!r} cannot be loaded: {error}') from error
    if not callable(getattr(carrier, "capture", None)) or not callable(getattr(carrier, "restore", None)):
        raise ImproperlyConfigured(f'QBWI["CONTEXT"]: {path!r} has no capture() and restore(captured)')
    loaded: Carrier = carrier
    return loaded
