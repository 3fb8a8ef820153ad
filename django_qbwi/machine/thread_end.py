"""The end of a thread that somebody else has started: noticed where it happens, with what has left the thread.

Python tells nobody: `join` blocks a thread for each one, and `is_alive` has to be asked again and again. But in its
last moments a `threading.Thread` calls two methods of its own, `_invoke_excepthook` with what has left `run`, and
`_delete`. They are looked up on the object, where ours are put before them.

A look at `is_alive` is the net below: for a thread that was at its very end already, or does not let itself be
changed. The first look is after 0.1 s, each further one after twice the time, up to 5 s; a thread that could not be
changed is looked at every 0.1 s.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from django_qbwi.machine.service_thread import ServiceThread, Timer

LOOK_AFTER = 0.1
LOOK_AT_LEAST_EVERY = 5.0

_is_alive = threading.Thread.is_alive


class ThreadEnd:
    """Calls once, when a thread has ended: in its own last moments, or in the thread of a timer.

    - Whatever the thread does at its end by itself, it still does.
    - Nothing of the thread, and of what it has raised, is kept afterwards, and nothing is left at it.
    """

    __slots__ = ("_call", "_error", "_hooks", "_keeper", "_pid", "_quiet", "_thread", "_timer", "_wait")

    def __init__(
        self,
        thread: threading.Thread,
        call: Callable[[BaseException | None], object],
        *,
        keeper: ServiceThread,
        clock: Callable[[], float],
        quiet: Callable[[BaseException], bool] = lambda error: False,
    ) -> None:
        """Wait for it, without blocking.

        Args:
            thread: One that was started; any.
            call: Called with what has left the thread, None if nothing has; quick, and raises nothing.
            keeper: Has the timers.
            clock: That of the keeper.
            quiet: Whether an exception is none that `threading.excepthook` should be told of.
        """
        self._thread: threading.Thread | None = thread
        self._call = [call]
        self._keeper = keeper
        self._quiet = quiet
        self._pid = os.getpid()
        self._error: BaseException | None = None
        # Ours, and what was set at the object before.
        self._hooks: dict[str, tuple[object, object]] = {}
        self._wait = LOOK_AFTER
        self._timer: Timer | None = None
        # Last: from here on it can end.
        self._hook(thread)
        if _is_alive(thread):
            self._look_later(clock)
        else:
            self._end()

    def __repr__(self) -> str:
        return f"<ThreadEnd of {self._thread!r}>"

    def _hook(self, thread: Any) -> None:
        try:
            told, leaves = thread._invoke_excepthook, thread._delete
            hooks = {"_invoke_excepthook": partial(self._left, told), "_delete": partial(self._ends, leaves)}
            for name, ours in hooks.items():
                before = thread.__dict__.get(name)
                setattr(thread, name, ours)
                self._hooks[name] = ours, before
        except Exception:
            # A class of somebody's that takes no attributes; or a Python that has none of these.
            self._unhook(thread)

    def _unhook(self, thread: Any) -> None:
        for name, (ours, before) in self._hooks.items():
            if thread.__dict__.get(name) is ours:
                if before is None:
                    # That of its class.
                    del thread.__dict__[name]
                else:
                    thread.__dict__[name] = before
        self._hooks = {}

    def _left(self, told: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
        """Keep what has left `run`; in the thread."""
        error = sys.exc_info()[1]
        # SystemExit is how a thread ends itself, also for Python.
        if error is not None and not isinstance(error, SystemExit):
            self._error = error
        if error is None or not self._quiet(error):
            told(thread)

    def _ends(self, leaves: Callable[[], None]) -> None:
        """End; in the thread, as long as it is known as one."""
        try:
            self._end()
        finally:
            leaves()

    def _look(self, clock: Callable[[], float]) -> None:
        thread = self._thread
        if thread is not None:
            self._look_later(clock) if _is_alive(thread) else self._end()

    def _look_later(self, clock: Callable[[], float]) -> None:
        self._timer = self._keeper.call_at(clock() + self._wait, lambda: self._look(clock))
        if self._hooks:
            self._wait = min(self._wait * 2, LOOK_AT_LEAST_EVERY)
        if self._thread is None:
            # It has ended meanwhile.
            self._timer.cancel()

    def _end(self) -> None:
        call = self._call.pop() if self._call else None
        if call is None or os.getpid() != self._pid:
            # In a child that the thread has forked, and let come to its end.
            return
        thread, timer, error = self._thread, self._timer, self._error
        self._thread = self._timer = self._error = None
        try:
            if thread is not None:
                self._unhook(thread)
            if timer is not None:
                timer.cancel()
            call(error)
        finally:
            # Break the cycle of the exception with this frame.
            error = thread = None
