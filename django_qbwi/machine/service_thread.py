"""Our own two service threads: the keeper (cancellations, timers, signals sent again) and the reporter (last records).

Order of events: `post` puts a call into a mailbox, the one thread runs the calls one after the other, and between
them what is due by the clock. Without a timer it sleeps without a wakeup. What strikes it is caught each turn; a
thread that was killed all the same has a successor, which goes on with the same mailbox and timers.
Lock: `_lock` guards the heap of timers and the start.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import queue
import time
from collections import deque
from collections.abc import Callable

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_lock, new_mailbox, new_rlock, start_thread
from django_qbwi.machine.supervised import SupervisedThread

logger = SafeLogger("django_qbwi.scheduler")

# A longer wait is cut into such: the operating system's clock takes no timeout of, say, sys.maxsize seconds.
_LONGEST_WAIT = 86_400.0
_MOST_CANCELLED = 64


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
        """Forget the call; any thread, never blocks."""
        if self.call is not None:
            self.call = None
            self._owner.let_go()


class ServiceThread:
    """Runs small chores in order, now or at a given moment, in one daemon thread that goes on whatever strikes it.

    Invariant: calls run one at a time and never in the thread that posts them. What they raise is logged.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._pid = os.getpid()
        self._mailbox = new_mailbox()
        # What was taken from the mailbox and has not begun; of the thread only, and of its successor.
        self._taken: deque[Callable[[], object] | None] = deque()
        self._lock = new_rlock()
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._started = False
        self._thread = SupervisedThread(name, self._serve, spawn=start_thread)

    def __repr__(self) -> str:
        return f"<ServiceThread {self._name} started={self._started} timers={len(self._heap)}>"

    def start(self) -> None:
        """Start the thread, once.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        holding(self._lock, self._start)

    def post(self, call: Callable[[], object]) -> None:
        """Have `call()` run soon; safe in signal handlers and everywhere else."""
        self._mailbox.put(call)

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Have `call()` run at the monotonic second `when`; any thread but a signal handler."""
        timer = Timer(self, when, call)
        if holding(self._lock, self._push, timer):
            self._mailbox.put(None)
        if self._thread.is_lost:
            self._thread.revive()
        return timer

    def flush(self, timeout: float) -> bool:
        """Wait until all that was posted before has run; False if it has not in `timeout` seconds."""
        if not self._started or not self._thread.revive():
            return False
        done = new_lock()
        done.acquire()
        self.post(done.release)
        return done.acquire(True, timeout)

    def revive(self) -> bool:
        """Return whether chores run, or will from the start on; a thread that was found dead is started again."""
        return self._thread.revive()

    def stop(self) -> None:
        """End the thread after what is posted already; does not wait."""
        self._mailbox.put(_STOP)

    def run_due(self) -> float | None:
        """Run the timers that are due; return the seconds until the next look at them, None if there are none."""
        while True:
            wait, call = holding(self._lock, self._pop_due)
            if call is None:
                return wait
            self._call(call)

    def _start(self) -> None:
        if not self._started:
            self._thread.start()
            self._started = True

    def _push(self, timer: Timer) -> bool:
        heapq.heappush(self._heap, (timer.when, next(self._numbers), timer))
        return self._heap[0][2] is timer

    def _pop_due(self) -> tuple[float | None, Callable[[], object] | None]:
        while self._heap:
            timer = self._heap[0][2]
            if timer.call is not None:
                wait = timer.when - self._clock()
                if wait > 0:
                    return min(wait, _LONGEST_WAIT), None
            heapq.heappop(self._heap)
            # It may be cancelled in between.
            call, timer.call = timer.call, None
            if call is not None:
                return None, call
        return None, None

    def _serve(self) -> None:
        taken = self._taken
        while os.getpid() == self._pid:
            wait = self.run_due()
            if not taken:
                # One step of C from the wait to the deque: a thread that is struck while it waits wakes with a chore,
                # and an exception in place of the call's result would lose it.
                with contextlib.suppress(queue.Empty):
                    taken.extend(itertools.starmap(self._mailbox.get, ((True, wait),)))
                continue
            call = taken[0]
            if call is _STOP:
                return
            # No call between these.
            del taken[0]
            if call is not None:
                self._call(call)
            # A reference from this frame would keep the last call's objects alive until the next one.
            del call

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException:
            # User code returns to us here (callbacks, receivers); the thread serves all the others too.
            logger.exception("A chore of the %s thread raised: %r", self._name, call)

    def let_go(self) -> None:
        """Take notice of a timer that was cancelled; what a timer does."""
        # Items with long timeouts that end early would otherwise pile up until their timeouts pass. Counted, since it
        # would take long to look through 10,000 timers at each.
        self._cancelled += 1
        if self._cancelled > _MOST_CANCELLED and self._cancelled * 2 > len(self._heap):
            self._cancelled = 0
            self.post(self._compact)

    def _compact(self) -> None:
        # In this thread alone: a signal handler that sets a timer meanwhile, in the main thread, waits for the lock.
        holding(self._lock, self._drop_cancelled)

    def _drop_cancelled(self) -> None:
        live = [entry for entry in self._heap if entry[2].call is not None]
        heapq.heapify(live)
        self._heap[:] = live


def _STOP() -> None:  # noqa: N802 - a sentinel that is typed as the calls beside it
    """Mark the end of the mailbox."""
