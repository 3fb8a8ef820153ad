"""What the interpreter and the system keep for a thread, as it was before a call: renewed behind whoever changed it.

`threading.local` is not among it: nobody can list what all libraries keep there.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from django_qbwi.machine.loggers import SafeLogger

try:
    # The functions of `signal` make an enum of each number, which takes ten times as long.
    from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]
except ImportError:  # pragma: no cover - Windows has no masks

    def pthread_sigmask(how: int, signals: Any) -> set[int]:
        """Return that nothing is blocked."""
        return set()

    SIG_BLOCK = SIG_SETMASK = 0

logger = SafeLogger("django_qbwi.scheduler")

# What event loops are to use, by the documentation of `asyncio.events`; a name of this module is found faster.
_running_loop = asyncio._get_running_loop
_set_running_loop = asyncio._set_running_loop
_asyncgen_hooks = sys.get_asyncgen_hooks
_trace, _profile = sys.gettrace, sys.getprofile


class ThreadState:
    """The state of the thread that made it, for calls that follow one another there.

    - The mark of a running event loop, left by `sync_playwright().start()` without `stop()`: every later call would be
      refused as one on a running loop. With it go the hooks for asynchronous generators.
    - Blocked signals, which child processes inherit: `terminate()` would not end them.
    - The trace and the profile function, left by a profiler that was not stopped.
    - The name of the thread, by which records say who runs what.

    Only that thread may use it. A call costs less than a microsecond.
    """

    __slots__ = ("_hooks", "_mask", "_name", "_profile", "_thread", "_trace")

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._name = self._thread.name
        self._hooks = _asyncgen_hooks()
        self._mask = frozenset(pthread_sigmask(SIG_BLOCK, ()))
        self._trace: Any = None
        self._profile: Any = None

    def __repr__(self) -> str:
        return f"<ThreadState {self._name}>"

    def begin(self) -> None:
        """Remember who traces and profiles; ahead of each call, since debuggers come and go."""
        self._trace, self._profile = _trace(), _profile()

    def renew(self, who: object) -> None:
        """Have all as it was before the call; one WARNING says what `who` left behind."""
        if (
            _running_loop() is None
            and _trace() is self._trace
            and _profile() is self._profile
            and self._thread.name == self._name
            and _asyncgen_hooks() == self._hooks
            and pthread_sigmask(SIG_BLOCK, ()) == self._mask
        ):
            return
        left = self._renew()
        if left:
            logger.warning(
                "%s left %s in its thread %s; renewed, so that it does not meet the next one",
                who,
                " and ".join(left),
                self._name,
            )

    def _renew(self) -> list[str]:
        left = []
        if _running_loop() is not None:
            _set_running_loop(None)
            left.append("a running event loop (close what it started, such as sync_playwright(), before it ends)")
        if _asyncgen_hooks() != self._hooks:
            sys.set_asyncgen_hooks(*self._hooks)
            if not left:
                left.append("hooks for asynchronous generators")
        # One that is set for all threads of the process is not the call's: a debugger was attached meanwhile, or
        # left. It may be none.
        if _trace() is not self._trace and _trace() is not threading.gettrace():
            sys.settrace(self._trace)
            left.append("a trace function")
        if _profile() is not self._profile and _profile() is not threading.getprofile():
            sys.setprofile(self._profile)
            left.append("a profile function")
        if self._thread.name != self._name:
            left.append(f"the name {self._thread.name[:100]!r}")
            self._thread.name = self._name
        blocked = pthread_sigmask(SIG_BLOCK, ())
        if blocked != self._mask:
            pthread_sigmask(SIG_SETMASK, self._mask)
            left.append(f"other blocked signals ({sorted(blocked ^ self._mask)})")
        return left
