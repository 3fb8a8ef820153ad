"""The repair of an event loop that fails: it goes on, with a new selector where its own was closed.

An item can close the selector of its loop: a daemonizing library that closes all file descriptors, or a test that
cleans up too much. The loop fails in each turn then, 50,000 times a second. Another loop could not go on with the tasks
of this one; so it is this one that is given another selector.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import new_selector
from django_qbwi.machine.supervised import Backoff, sleep

logger = SafeLogger("django_qbwi.scheduler")

# The public way to take that mark away is to end the loop.
_set_running_loop = asyncio._set_running_loop

_LOST = "the selector of the background event loop was closed, and with it what this work item may have waited for"


# Selectors whose descriptor was closed behind their back. When they are dropped they close that number once more, and
# by then it is another file's: so they are not. Few, and for the life of the process: a loop's own end is too early.
_never_dropped: list[selectors.BaseSelector] = []


class LoopMender:
    """Looks after one loop, in its thread, whenever an exception has left it; one record for each kind of failure."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: Callable[[float], None] = sleep) -> None:
        # asyncio's own attributes, which no stub knows.
        self._loop: Any = loop
        self._pause = pause
        self._backoff = Backoff()

    def __repr__(self) -> str:
        return f"<LoopMender of {self._loop!r}>"

    def mend(self, error: BaseException, tasks: Iterable[asyncio.Task[Any] | None]) -> None:
        """Have the loop ready for its next turn; blocks for up to five seconds where it fails again and again.

        Args:
            error: What has left it.
            tasks: Those to be cancelled if what they wait for may be lost.
        """
        if self._loop.is_running():
            # Struck within the last lines of `run_forever`, or killed with its thread: it would not start again.
            self._loop._thread_id = None
            _set_running_loop(None)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            # A task's own, of which asyncio lets go in this way.
            logger.error("A task on the background event loop raised %r; the loop goes on", error, exc_info=error)
            return
        pause, tells = self._backoff.failed()
        if tells:
            logger.error("The background event loop failed with %r; it goes on", error, exc_info=error)
        if self._is_selector_broken():
            self._renew([task for task in tasks if task is not None], tells)
        if pause:
            self._pause(pause)

    def _is_selector_broken(self) -> bool:
        selector: selectors.BaseSelector = self._loop._selector
        try:
            if selector.get_map() is None:
                return True
            # It tells of the same events again in the next turn.
            selector.select(0)
        except Exception:
            return True
        return False

    def _renew(self, tasks: list[asyncio.Task[Any]], tells: bool) -> None:
        try:
            selector = new_selector() or selectors.DefaultSelector()
        except OSError as error:
            # No file descriptor is free: the next turn fails as well, and comes here again.
            logger.debug("The background event loop gets no new selector: %r", error)
            return
        old, self._loop._selector = self._loop._selector, selector
        if old.get_map():
            _never_dropped.append(old)
        complete = self._move(old, selector)
        self._renew_waker()
        if not complete:
            for task in tasks:
                task.cancel(_LOST)
        if tells:
            logger.error(
                "The background event loop has a new selector, since its own was closed; %d work item(s) are cancelled",
                0 if complete else len(tasks),
            )

    def _move(self, old: selectors.BaseSelector, new: selectors.BaseSelector) -> bool:
        """Register with `new` what `old` has; return False if something may be lost."""
        known: Mapping[Any, selectors.SelectorKey] | None = old.get_map()
        complete = known is not None
        for key in list(known.values()) if known is not None else ():
            try:
                new.register(key.fileobj, key.events, key.data)
            except (OSError, ValueError, KeyError):
                complete = False  # closed as well
        return complete

    def _renew_waker(self) -> None:
        # The pair of sockets through which other threads wake the loop.
        loop = self._loop
        try:
            for end in (loop._ssock, loop._csock):
                end.getsockname()
        except OSError:
            # Not to be closed: their numbers are other files' by now.
            loop._ssock.detach()
            loop._csock.detach()
            loop._make_self_pipe()
        else:
            loop.add_reader(loop._ssock, loop._read_from_self)
