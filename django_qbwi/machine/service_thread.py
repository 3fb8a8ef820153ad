"""Our own two service threads: the keeper (cancellations, timers, signals sent again) and the reporter (last records).

Order of events: `post` puts a call into a mailbox, the one thread runs the calls one after the other, and between
them what is due by the clock. Without a timer it sleeps without a wakeup.
Lock: `_lock` guards the heap of timers and the start.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import time
from collections.abc import Callable

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import new_lock, new_mailbox, new_rlock, start_thread

logger = SafeLogger("django_qbwi.scheduler")

# A longer wait is cut into such: the operating system's clock takes no timeout of, say, sys.maxsize seconds.
_LONGEST_WAIT = 86_400.0


class Timer:
    """A call that is due at `when`, on the monotonic clock; `cancel` lets go of it."""

    __slots__ = ("_owner", "call", "when")

    def __init__(self, owner: ServiceThread, when: float, call: Callable[[], object]) -> None:
        self._owner = owner
        self.when = when
        self.call: Callable[[], object] | None = call

    def __repr__(self) -> str:
        return f"<Timer when={self.when} pending={self.call is not None}>"

    def cancel(self) -> None:
        """Forget the call; any thread, never blocks for long."""
        self.call = None
        self._owner._compact()


class ServiceThread:
    """Runs small chores in order, now or at a given moment, in one daemon thread.

    Invariant: calls run one at a time and never in the thread that posts them. What they raise is logged.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._pid = os.getpid()
        self._mailbox = new_mailbox()
        self._lock = new_rlock()
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._started = False
        self._running = False

    def __repr__(self) -> str:
        return f"<ServiceThread {self._name} started={self._started} timers={len(self._heap)}>"

    def start(self) -> None:
        """Start the thread, once.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        with self._lock:
            if not self._started:
                start_thread(self._run, self._name)
                self._started = True

    def post(self, call: Callable[[], object]) -> None:
        """Have `call()` run soon; safe in signal handlers and everywhere else."""
        self._mailbox.put(call)

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Have `call()` run at the monotonic second `when`; any thread but a signal handler."""
        timer = Timer(self, when, call)
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._numbers), timer))
            earliest = self._heap[0][2] is timer
        if earliest:
            self._mailbox.put(None)
        return timer

    def flush(self, timeout: float) -> bool:
        """Wait until all that was posted before has run; False if it has not in `timeout` seconds."""
        if not self._started:
            return False
        done = new_lock()
        done.acquire()
        self.post(done.release)
        return done.acquire(True, timeout)

    def stop(self) -> None:
        """End the thread after what is posted already; does not wait."""
        self._mailbox.put(_STOP)

    def run_due(self) -> float | None:
        """Run the timers that are due; return the seconds until the next look at them, None if there are none."""
        while True:
            with self._lock:
                while self._heap and self._heap[0][2].call is None:
                    heapq.heappop(self._heap)
                if not self._heap:
                    return None
                wait = self._heap[0][0] - self._clock()
                if wait > 0:
                    return min(wait, _LONGEST_WAIT)
                timer = heapq.heappop(self._heap)[2]
                call, timer.call = timer.call, None
            if call is not None:
                self._call(call)

    def _run(self) -> None:
        with self._lock:
            # A start that a signal handler's exception interrupts is tried again, though its thread may have come.
            if self._running:
                return
            self._running = True
        wait: float | None = None
        while os.getpid() == self._pid:
            try:
                call = self._mailbox.get(timeout=wait)
            except queue.Empty:
                call = None
            if call is _STOP:
                return
            if call is not None:
                self._call(call)
            # A reference from this frame would keep the last call's objects alive until the next one.
            del call
            wait = self.run_due()

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException:
            # User code returns to us here (callbacks, receivers); the thread serves all the others too.
            logger.exception("A chore of the %s thread raised: %r", self._name, call)

    def _compact(self) -> None:
        # Items with long timeouts that end early would otherwise pile up until their timeouts pass.
        with self._lock:
            if len(self._heap) > 64:
                live = [entry for entry in self._heap if entry[2].call is not None]
                if len(live) * 2 < len(self._heap):
                    heapq.heapify(live)
                    self._heap[:] = live


def _STOP() -> None:  # noqa: N802 - a sentinel that is typed as the calls beside it
    """Mark the end of the mailbox."""
