"""What happens to a call when it is queued, in the caller's thread.

The request is copied, one that is carried along is refused, and what the carriers name is taken along.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django_qbwi.core.names import FunctionWrapper, name_of
from django_qbwi.core.results import waited_for
from django_qbwi.intake.activation import SurroundedAwaitable, active, remember_context
from django_qbwi.intake.carriers import Carried, Carrier, arestored, capture, restored
from django_qbwi.intake.copier import find_copier, snapshot_of, with_snapshot
from django_qbwi.intake.guard import guard
from django_qbwi.intake.snapshot import RequestSnapshot

Origin = tuple[str | None, str | None]


class Intake:
    """Prepares calls for the queue, by the settings REQUEST_CAPTURE and CONTEXT."""

    __slots__ = ("_carriers", "_guards", "_warns")

    def __init__(self, request_capture: str, carriers: tuple[Carrier, ...]) -> None:
        self._guards = request_capture != "allow"
        self._warns = request_capture == "warn"
        self._carriers = carriers

    def __repr__(self) -> str:
        return f"<Intake carriers={len(self._carriers)}>"

    def take(
        self, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Origin | None]:
        """Return the call as it will be run, and its origin; once for each, in the caller's thread.

        Raises:
            InvalidWorkItem: A request cannot be copied.
            CapturedRequest: A request would be carried along.
        """
        copies = find_copier(work_item)[0] is not None
        if copies:
            work_item, args = with_snapshot(work_item, args)
        if self._guards:
            guard(work_item, args, self._warns)
        origin = origin_of(work_item, args)
        # A copier makes the snapshot active itself, also when it is called in a unit test.
        snapshot = args[0] if args and type(args[0]) is RequestSnapshot and not copies else None
        carried = capture(self._carriers)
        if snapshot is not None or carried:
            work_item = Surrounded(work_item, snapshot, carried, is_async=is_async)
        return work_item, args, origin

    def surround(self, work_item: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
        """Return a call of our own, which carries no request, inside of what the carriers take along."""
        carried = capture(self._carriers)
        return Surrounded(work_item, None, carried, is_async=is_async) if carried else work_item


class Surrounded(FunctionWrapper):
    """A call with what its caller took along: a snapshot that is active, and what the carriers restore."""

    __slots__ = ("_carried", "_function", "_is_async", "_snapshot")

    def __init__(
        self, function: Callable[..., Any], snapshot: RequestSnapshot | None, carried: Carried, *, is_async: bool
    ) -> None:
        self._function = function
        self._snapshot = snapshot
        self._carried = carried
        self._is_async = is_async

    def __repr__(self) -> str:
        return f"<Surrounded {name_of(self._function)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in its surroundings, and await there what it returns."""
        if self._is_async:
            return self._run_async(args, kwargs)
        with self._surroundings():
            try:
                result = self._function(*args, **kwargs)
            finally:
                remember_context()
        return SurroundedAwaitable(result, self._asurroundings) if inspect.isawaitable(result) else result

    @property
    def function(self) -> Callable[..., Any]:
        """The function that was queued."""
        return self._function

    @property
    def carried(self) -> Carried:
        """What it restores around the function."""
        return self._carried

    def around(self, function: Callable[..., Any]) -> Surrounded:
        """Return the same around another function, which is not async."""
        return Surrounded(function, self._snapshot, self._carried, is_async=False)

    async def _run_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        async with self._asurroundings():
            try:
                # An item is not left with something that runs outside of its surroundings.
                await waited_for(await self._function(*args, **kwargs))
            finally:
                remember_context()

    @contextlib.contextmanager
    def _surroundings(self) -> Iterator[None]:
        with restored(self._carried), contextlib.nullcontext() if self._snapshot is None else active(self._snapshot):
            yield

    @contextlib.asynccontextmanager
    async def _asurroundings(self) -> AsyncIterator[None]:
        async with arestored(self._carried):
            with contextlib.nullcontext() if self._snapshot is None else active(self._snapshot):
                yield


def origin_of(work_item: Any, args: tuple[Any, ...]) -> Origin | None:
    """Return origin and request id of a call that carries a snapshot, for `WorkItemInfo`; None without one."""
    snapshot = snapshot_of(work_item, args)
    return None if snapshot is None else (snapshot.origin, snapshot.request_id)
