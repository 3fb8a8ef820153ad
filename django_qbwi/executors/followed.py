"""What is tracked, by its kind: a thread, a concurrent future, an asyncio future or task; how each end is seen.

None of them is changed in what it does, and nobody is blocked: a thread tells in its last moments, a future calls back.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, Literal, Protocol

from django_qbwi.core.cancellation import CancellationToken, OperationCancelled
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of, printable
from django_qbwi.machine.running_loop import on_running_loop
from django_qbwi.machine.service_thread import ServiceThread
from django_qbwi.machine.stacks import stack_of_thread, stack_on_loop
from django_qbwi.machine.thread_end import ThreadEnd

Ended = Callable[[BaseException | None], None]
"""Called with the failure of what has ended, None if it has none; once, in any thread."""

_CURE = (
    "track() takes a threading.Thread that was started, a concurrent.futures.Future, an asyncio.Task or an "
    "asyncio.Future"
)


class Followed(Protocol):
    """Something that runs, and that somebody else has started."""

    kind: Literal["sync", "async"]
    started: Any
    """What it is."""
    name: str
    """What it is called where nobody says."""
    ident: int | None
    """Its thread, if that is known."""
    thread: str | None
    """The name of that thread."""

    def follow(self, ended: Ended, token: CancellationToken) -> None:
        """Have `ended` called at the end, or now if that was before. Does not block."""

    def cancel(self) -> None:
        """Cancel it by its own means, if it has any; any thread, returns at once."""

    def stack(self) -> str:
        """Return where it is now."""


def followed(started: Any, keeper: ServiceThread, clock: Callable[[], float]) -> Followed:
    """Return how to follow what was started.

    Raises:
        InvalidWorkItem: It is nothing of that kind, or was not started; the message says what to do.
    """
    kind = type(started)
    if issubclass(kind, threading.Thread):
        return FollowedThread(_checked_thread(started), keeper, clock)
    if issubclass(kind, concurrent.futures.Future):
        return FollowedFuture(started)
    if asyncio.isfuture(started):
        return FollowedOnLoop(started)
    raise InvalidWorkItem(_mistake(started, kind))


class FollowedThread:
    """A thread: it cannot be interrupted, and its end is seen in its last moments."""

    kind: Literal["sync", "async"] = "sync"

    def __init__(self, thread: threading.Thread, keeper: ServiceThread, clock: Callable[[], float]) -> None:
        self.name = printable(thread.name)
        self.ident = thread.ident
        self.thread: str | None = self.name
        self.started = thread
        self._keeper = keeper
        self._clock = clock

    def __repr__(self) -> str:
        return f"<FollowedThread {self.name}>"

    def follow(self, ended: Ended, token: CancellationToken) -> None:
        """See `Followed`; an OperationCancelled of its own token is no failure that Python shall print."""

        def is_its_own(error: BaseException) -> bool:
            return type(error) is OperationCancelled and error.token is token

        ThreadEnd(self.started, ended, keeper=self._keeper, clock=self._clock, quiet=is_its_own)

    def cancel(self) -> None:
        """Do nothing: a thread has to look at the token."""

    def stack(self) -> str:
        """Return its frames."""
        return stack_of_thread(self.ident)


class FollowedFuture:
    """A future of an executor, or of anything else that makes such: nobody can see who works at it."""

    kind: Literal["sync", "async"] = "sync"
    ident: int | None = None
    thread: str | None = None

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self.name = name_of(type(future))
        self.started = future

    def __repr__(self) -> str:
        return f"<FollowedFuture {self.name}>"

    def follow(self, ended: Ended, token: CancellationToken) -> None:
        """See `Followed`."""
        # It keeps its callbacks for ever.
        calls = [ended]

        def done(future: concurrent.futures.Future[Any]) -> None:
            if calls:
                calls.pop()(_failure_of(future))

        self.started.add_done_callback(done)

    def cancel(self) -> None:
        """Cancel it, if it has not begun; `ended` is called in this thread."""
        self.started.cancel()

    def stack(self) -> str:
        """Say that nobody knows."""
        return "  <a future: who works at it cannot be seen>\n"


class FollowedOnLoop:
    """A task or a future of an event loop, which is asked for anything on that loop only."""

    kind: Literal["sync", "async"] = "async"

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.started = future
        self._loop = future.get_loop()
        self.ident = threading.get_ident() if self._is_here() else None
        self.thread = printable(threading.current_thread().name) if self._is_here() else None
        self.name = _name_on_loop(future)
        if self._loop.is_closed() and not future.done():
            raise InvalidWorkItem(f"{self.name} never ends, since its event loop is closed: track it while that runs")

    def __repr__(self) -> str:
        return f"<FollowedOnLoop {self.name}>"

    def follow(self, ended: Ended, token: CancellationToken) -> None:
        """See `Followed`."""
        calls = [ended]

        def done(future: asyncio.Future[Any]) -> None:
            if calls:
                calls.pop()(_failure_of(future))

        if self.started.done():
            done(self.started)
        elif self._is_here():
            self.started.add_done_callback(done, context=Context())
        else:
            try:
                self._loop.call_soon_threadsafe(self._follow, done, context=Context())
            except RuntimeError as error:
                # Closed in this moment.
                calls.pop()(error)

    def _is_here(self) -> bool:
        return on_running_loop() and asyncio.get_running_loop() is self._loop

    def _follow(self, done: Callable[[asyncio.Future[Any]], None]) -> None:
        self.ident = threading.get_ident()
        self.started.add_done_callback(done, context=Context())

    def cancel(self) -> None:
        """Cancel it on its loop, where it may run on for as long as it likes."""
        with contextlib.suppress(RuntimeError):
            # Its loop is closed: nobody takes a further step there.
            self._loop.call_soon_threadsafe(self.started.cancel, context=Context())

    def stack(self) -> str:
        """Return the await chain of a task."""
        if isinstance(self.started, asyncio.Task):
            return stack_on_loop(self.started, self._loop, self.ident, None)
        return "  <a future: who works at it cannot be seen>\n"


def _failure_of(future: Any) -> BaseException | None:
    """Return what a future that is done has failed with, None if it has a result."""
    if future.cancelled():
        return asyncio.CancelledError("it was cancelled by its own means")
    failure: BaseException | None = future.exception()
    return failure


def _name_on_loop(future: Any) -> str:
    coroutine = future.get_coro() if isinstance(future, asyncio.Task) else None
    name = getattr(coroutine, "__qualname__", None)
    return printable(name) if isinstance(name, str) and name else name_of(type(future))


def _checked_thread(thread: threading.Thread) -> threading.Thread:
    if isinstance(thread, threading._DummyThread):
        raise InvalidWorkItem(f"{thread!r} was not started by threading.Thread: nobody can see its end")
    if thread is threading.main_thread():
        raise InvalidWorkItem(f"{thread!r} is the main thread, which ends with the process: it cannot be waited for")
    if thread is threading.current_thread():
        raise InvalidWorkItem(
            f"{thread!r} is the thread that calls track(), which a server or a pool may keep for ever: track a thread "
            "where it is started. For work that this thread does itself, queue a work item"
        )
    if thread.ident is None:
        raise InvalidWorkItem(f"{thread!r} was not started: call its start() first, then track() it")
    return thread


def _mistake(started: Any, kind: type) -> str:
    if inspect.iscoroutine(started):
        name = printable(getattr(started, "__qualname__", "it"))
        # Otherwise Python warns that it "was never awaited", which hides the message below.
        started.close()
        return f"{name}(...) is a coroutine object, which nobody has started: track(asyncio.create_task({name}(...)))"
    if callable(started):
        return (
            f"{name_of(started)} is a callable, which nobody has started: queue it as a work item, "
            f"queue_background_work_item({name_of(started).rpartition('.')[2]}, ...). {_CURE}"
        )
    return (
        f"a {name_of(kind)} cannot be followed to its end: {_CURE}. For anything else, track a thread that waits for it"
    )
