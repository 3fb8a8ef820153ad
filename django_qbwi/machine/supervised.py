"""Threads that go on: whatever strikes a service, it is caught, told of, and the service serves again.

An asynchronous exception (`PyThreadState_SetAsyncExc`, of libraries that put a timeout on any code) can strike at each
step of any thread. Three nets stand below one another: what leaves `serve` is caught, and it is called again; a thread
that is struck there too starts its successor as its last act; one that could not is found dead by who needs it, and
`revive` starts another.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_lock, new_rlock, new_thread_locals, start_thread

logger = SafeLogger("django_qbwi.scheduler")

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 5.0
_TOLD_EVERY = 60.0
"""Seconds, as all of these. A service that goes well for so long is well again."""


class Life:
    """Held by the locals of one thread only: it is gone when the thread is, however it ended.

    Not by its frames, which the traceback of what killed it may keep.
    """

    __slots__ = ("__weakref__",)


def _nobody() -> None:
    return None


def sleep(seconds: float) -> None:
    """Block a real thread, also where gevent has replaced `time.sleep`."""
    never = new_lock()
    never.acquire()
    never.acquire(True, seconds)


class Backoff:
    """How long to wait before the next try, and whether to tell of the last failure; for one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._last = self._told = -_TOLD_EVERY

    def __repr__(self) -> str:
        return f"<Backoff failures={self._failures}>"

    def failed(self) -> tuple[float, bool]:
        """Note a failure; return the seconds to wait, 0 for the first one, and whether to tell, once a minute."""
        now = self._clock()
        if now - self._last >= _TOLD_EVERY:
            self._failures = 0
        self._last = now
        self._failures += 1
        tells = self._failures == 1 or now - self._told >= _TOLD_EVERY
        if tells:
            self._told = now
        # No more than 2**10 of the first pause, which is more than the longest.
        pause = _FIRST_PAUSE * 2 ** min(self._failures - 2, 10)
        return (min(pause, _LONGEST_PAUSE) if self._failures > 1 else 0.0), tells


class SupervisedThread:
    """One daemon thread that calls `serve` until it returns.

    Invariant: at most one thread serves at a time, and its successor goes on with the state that `serve` keeps.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[], None],
        *,
        spawn: Callable[[Callable[[], None], str], None] = start_thread,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        """Start nothing yet.

        Args:
            name: The name of the thread.
            serve: Called in it, again after each exception, until it returns.
            spawn: Starts a thread.
            clock: The monotonic clock, which no test and no item has replaced.
            pause: Blocks for seconds.
        """
        self._name = name
        self._serve = serve
        self._spawn = spawn
        self._clock = clock
        self._pause = pause
        self._pid = os.getpid()
        self._lock = new_rlock()  # guards `_serving`
        self._backoff = Backoff(clock)
        self._revivals = Backoff(clock)
        self._revive_at = 0.0
        self._sent: Callable[[], Life | None] = _nobody
        self._serving: Callable[[], Life | None] = _nobody
        self._mine = new_thread_locals()
        self._started = False
        self._over = False

    def __repr__(self) -> str:
        return f"<SupervisedThread {self._name} started={self._started} alive={self.is_alive} over={self._over}>"

    @property
    def is_alive(self) -> bool:
        """Whether a thread serves, or is about to; any thread, never blocks."""
        return self._sent() is not None or self._serving() is not None

    @property
    def is_lost(self) -> bool:
        """Whether there should be a thread and is none; any thread, never blocks."""
        return self._started and not self._over and not self.is_alive and os.getpid() == self._pid

    @property
    def has_started(self) -> bool:
        """Whether a start has succeeded; any thread, never blocks."""
        return self._started

    @property
    def is_new(self) -> bool:
        """Whether it was never started, but for a start that was struck; any thread, never blocks."""
        return not self._started and not self.is_alive

    def start(self) -> None:
        """Start the thread; a second one, which a start that was struck may leave, ends at once.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        self._send()
        self._started = True

    def revive(self) -> bool:
        """Start another thread if ours was found dead; return False if there is none now. Not in a signal handler."""
        if not self.is_lost:
            return True
        now = self._clock()
        if now < self._revive_at:
            return False
        self._revive_at = now + self._revivals.failed()[0]
        try:
            self._send()
        except RuntimeError:
            return False
        return True

    def _send(self) -> None:
        held = [Life()]
        self._sent = weakref.ref(held[0])
        self._spawn(lambda: self._run(held), self._name)

    # In the thread.

    def _run(self, held: list[Life]) -> None:
        self._mine.life = held.pop()
        if not holding(self._lock, self._enlist):
            return
        try:
            while not self._over and os.getpid() == self._pid:
                try:
                    self._serve()
                    # In a forked child, which this thread may have let return, it is over for nobody.
                    self._over = os.getpid() == self._pid
                except BaseException as error:
                    self._struck(error)
        finally:
            # Struck a second time, in the lines above.
            if not self._over and os.getpid() == self._pid:
                self._succeed()

    def _enlist(self) -> bool:
        if self._serving() is not None:
            return False
        self._serving = weakref.ref(self._mine.life)
        return True

    def _struck(self, error: BaseException) -> None:
        if os.getpid() != self._pid:
            return
        pause, tells = self._backoff.failed()
        if tells:
            logger.error("The %s thread was struck by %r; it goes on", self._name, error, exc_info=error)
        if pause:
            self._pause(pause)

    def _succeed(self) -> None:
        self._sent = self._serving = _nobody
        try:
            self._send()
        except RuntimeError:
            logger.error("The %s thread was killed, and no other one could be started yet", self._name)
