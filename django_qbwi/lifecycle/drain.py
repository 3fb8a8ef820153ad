"""The drain: one clock for all hooks, started by the first sign; hold the exit, let go at the limit.

States: no sign -> signed (DRAINING; the tokens of items that run are cancelled at once, or after `cancel_after`, those
of items that begin later after half of the time that is left then) -> held -> closed, or let go.
Order of events: any number of `sign` calls (signal handler, watcher, server hook), any number of `hold(last=False)`
(a server's own exit hook), one `hold(last=True)` (interpreter exit) or one background drain (a signal that would have
killed the process at once).
Locks: none of its own. Handlers only store plain attributes and post to the keeper's mailbox.

Four ways in which this could fail, and what stands against each:
- Separate limits of several hooks add up and outlive the server's: there is one deadline, and it only ever shrinks.
- A logging handler, or a receiver, is stuck together with an item: all records of the end are written by the
  reporter, and waited for at most half the margin.
- A callback of an item's token is stuck, and with it the keeper: a hold has its own thread, and for the drain in the
  background the reporter stands in.
- A request that is still served queues in the gap before the exit: only the last hook closes, under the lock, in the
  step that sees nothing left.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Protocol

from django_qbwi.core.items import WorkItem, WorkItemStatus
from django_qbwi.core.records import DrainOutcome
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.machine.service_thread import ServiceThread

DUPLICATE_SECONDS = 1.0
"""A server may raise, or be sent, the same stop signal twice within this span."""

_TURN = 1.0
_REPORT_EVERY = 5.0
_STEP = 0.1
_FORCING = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGBREAK") if hasattr(signal, name))


class Host(Protocol):
    """What the drain has to know of the server around it."""

    def limit(self, signum: int | None) -> float | None:
        """Seconds from the sign until the server kills, None if it does not; a plain read."""

    def beat(self) -> None:
        """Tell the server that the process is alive."""


class DrainReports(Protocol):
    """Is told of the drain, in the reporter's thread."""

    def drain_started(self, scheduler: WorkItemScheduler, sign: str, limit: float) -> None:
        """The first sign came; `limit` seconds are left."""

    def drain_waiting(self, waited_for: list[WorkItem], remaining: float) -> None:
        """The exit is held for these items."""

    def drain_finished(self, outcome: DrainOutcome) -> None:
        """The drain is over."""


def margin(limit: float) -> float:
    """Return the seconds kept of a limit for the last records and the server's own end."""
    return min(2.0, limit / 10)


class DrainCoordinator:
    """Drains one scheduler at the end of its process; idempotent, the first sign starts the clock."""

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        reporter: ServiceThread,
        reports: DrainReports,
        host: Host,
        *,
        shutdown_timeout: float = 90.0,
        cancel_after: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = scheduler
        self.host = host
        self.gave_up = False
        self._stop = scheduler.stop
        self._reporter = reporter
        self._reports = reports
        self._shutdown_timeout = shutdown_timeout
        self._cancel_after = cancel_after
        self._clock = clock
        self._stop_signal_at: float | None = None
        self._restarts = False
        self._announced = False
        self._forced = False
        self._holding = False
        self._held = False
        self._finishing = False
        self._then: Callable[[], None] | None = None
        self._told_end = False
        self._next_report: float | None = None
        self._ended_before: dict[WorkItemStatus, int] = {}
        self._limit = shutdown_timeout

    def __repr__(self) -> str:
        return f"<DrainCoordinator {self.scheduler.state} stop={self._stop!r} forced={self._forced}>"

    @property
    def signed(self) -> bool:
        """True from the first sign on."""
        return self._stop.first_sign is not None

    @property
    def holds_last(self) -> bool:
        """True while the last hook of the process is at work: it ends without anybody's help."""
        return self._holding and not self._held

    def sign(self, name: str, signum: int | None = None, *, at_most: float | None = None, cancel: bool = True) -> None:
        """Take notice of a sign of the end; allowed in a signal handler.

        Args:
            name: What it was, for the record.
            signum: The signal, if it was one.
            at_most: A limit in seconds for this way of ending.
            cancel: False leaves the tokens alone: the process has come to its normal end.
        """
        now = self._clock()
        limits = [self._shutdown_timeout, self.host.limit(signum), at_most]
        limit = min(value for value in limits if value is not None)
        deadline = now + limit - margin(limit)
        stop = self._stop
        if stop.deadline is None or deadline < stop.deadline:
            self._limit = limit
            stop.deadline = deadline
        if stop.first_sign is None:
            self._ended_before = self.scheduler.totals
            stop.first_sign = now
        if cancel and stop.cancels_since is None:
            # Before the flag: an item that begins in between is one that begins later.
            stop.cancels_since = now
        if cancel and self._cancel_after <= 0:
            stop.requested = True
        self.scheduler.keeper.post(lambda: self._notice(name, limit, cancel))

    def restart(self, at_most: float) -> None:
        """Take notice that the process ends to be started anew, by a file change; it has `at_most` seconds."""
        self._restarts = True
        self.sign("a reload", at_most=at_most)

    def stop_signal(self, name: str, signum: int, *, repeated: bool) -> None:
        """Take notice of a stop signal; `repeated` if the same handler has seen one a second before, or longer.

        A repeated SIGTERM never forces: gunicorn repeats it every second after HUP, uvicorn raises it again.
        """
        if self._stop_signal_at is None:
            self._stop_signal_at = self._clock()
        self.sign(name, signum)
        if repeated and signum in _FORCING:
            self.force()

    def force(self) -> None:
        """Let go now: the second Ctrl-C. Allowed in a signal handler."""
        self._forced = True
        # Those that were spared, too: their time is cut short by the deadline.
        self._stop.deadline = now = self._clock()
        if self._stop.cancels_since is None:
            self._stop.cancels_since = now
        self._stop.requested = True
        self.scheduler.keeper.post(self._wake)
        self._reporter.post(self._stand_in)

    def hold(self, *, last: bool) -> None:
        """Block until nothing is queued or running, or until the limit; beats the server's heart meanwhile.

        No exception gets out: it would skip the exit hooks of other libraries.

        Args:
            last: True in the last hook of the process, which closes the scheduler and lets go of what is left.
        """
        if not self.scheduler.started and (not last or self.scheduler.close_if_empty()):
            return
        if not self.signed:
            # The first item of the process came this late.
            self.sign("the exit of the process")
        if last:
            self._holding = True
        self.scheduler.final_hold = True
        self._wait(last)
        if last:
            self._finish()
            self._held = True

    def look(self) -> bool:
        """Return whether the wait is over, for a hook that must not block; beats the server's heart if it is not."""
        if not self.scheduler.started:
            return True
        self.scheduler.final_hold = True
        over = self._is_over(last=False)
        if not over:
            self._look_around()
        return over

    def drain_in_background(self, then: Callable[[], None]) -> None:
        """Drain in a service thread while the process goes on, then call `then` there; allowed in a signal handler."""
        self._then = then
        self.scheduler.keeper.post(lambda: self._step(then))
        self._reporter.post(self._stand_in)

    def _wait(self, last: bool) -> None:
        over = False
        while not over:
            try:
                over = self._is_over(last)
                if not over:
                    self._look_around()
                    self.scheduler.wait_until_empty(min(_TURN, self._remaining()))
            except BaseException as error:
                # Signal handlers of the server raise SystemExit or KeyboardInterrupt into this wait.
                self._interrupted(error)

    def _look_around(self) -> None:
        self.host.beat()
        now = self._clock()
        if self._next_report is None:
            self._next_report = now + _REPORT_EVERY
        elif now >= self._next_report:
            self._next_report = now + _REPORT_EVERY
            waited_for = self.scheduler.live_items(limit=20)
            remaining = max(0.0, self._remaining())
            self._reporter.post(lambda: self._reports.drain_waiting(waited_for, remaining))

    def _is_over(self, last: bool) -> bool:
        empty = self.scheduler.close_if_empty() if last else self.scheduler.is_empty
        return empty or self._remaining() <= 0

    def _remaining(self) -> float:
        deadline = self._stop.deadline
        return self._shutdown_timeout if deadline is None else deadline - self._clock()

    def _interrupted(self, error: BaseException) -> None:
        if not isinstance(error, KeyboardInterrupt):
            return
        now = self._clock()
        first = self._stop_signal_at
        if first is None and not self._restarts:
            first = self._stop.first_sign
        if not self._stop.requested:
            # A process at its normal end, waiting undisturbed: this is the first stop signal.
            self._stop_signal_at = now
            self._cancel_all()
        elif first is None:
            # A reload is no stop signal: this is the first one, and forces nothing.
            self._stop_signal_at = now
        elif now - first > DUPLICATE_SECONDS:
            self.force()

    def _finish(self, *, in_reporter: bool = False) -> None:
        self._finishing = True
        abandoned = discarded = 0
        if not self.scheduler.close_if_empty():
            abandoned, discarded = self._let_go()
        elapsed = self._clock() - (self._stop.first_sign or self._clock())
        records_until = self._clock() + max(0.25, margin(self._limit) / 2)
        # Also for the items that have ended in the last moment, and write their records themselves.
        self._quietly(lambda: self.scheduler.wait_until_empty(records_until - self._clock()))
        if not self._told_end:
            self._told_end = True
            outcome = self._outcome(abandoned, discarded, elapsed)
            self._reporter.post(lambda: self._reports.drain_finished(outcome))
        if not in_reporter:
            self._quietly(lambda: self._reporter.flush(max(0.05, records_until - self._clock())))
        self.scheduler.retire()

    def _outcome(self, abandoned: int, discarded: int, elapsed: float) -> DrainOutcome:
        totals, before = self.scheduler.totals, self._ended_before
        ended = {status: total - before.get(status, 0) for status, total in totals.items()}
        return DrainOutcome(
            finished=ended[WorkItemStatus.SUCCEEDED] + ended[WorkItemStatus.FAILED],
            cancelled=ended[WorkItemStatus.CANCELLED],
            # Those that are given up may not be reported, and counted, yet.
            abandoned=abandoned,
            discarded=discarded,
            elapsed=elapsed,
        )

    def _let_go(self) -> tuple[int, int]:
        # Async items get a last moment: they can be interrupted where they stand. With CANCEL_AFTER, or at the normal
        # end of a command, nobody has cancelled their tokens yet.
        scheduler = self.scheduler
        self._cancel_all()
        scheduler.interrupt_async_items()
        self._quietly(lambda: scheduler.wait_until_empty(min(0.5, max(0.1, margin(self._limit) / 4))))
        left = scheduler.give_up()
        abandoned = sum(item.started is not None for item in left)
        for item in left:
            self._reporter.post(lambda item=item: scheduler.report_unstarted(item))  # type: ignore[misc]
        self.gave_up = self.gave_up or bool(left)
        return abandoned, len(left) - abandoned

    def _cancel_all(self) -> None:
        # The callbacks are the items' own code: not in the thread that holds the exit.
        stop = self._stop
        if stop.cancels_since is None:
            stop.cancels_since = self._clock()
        stop.requested = True
        # Also for those that were spared until the limit.
        self.scheduler.keeper.post(stop.deliver)

    def _quietly(self, wait: Callable[[], object]) -> None:
        try:
            wait()
        except BaseException:
            # A further signal while letting go; there is nothing left to shorten.
            return

    def _step(self, then: Callable[[], None]) -> None:
        if self._holding:
            # The interpreter has come to its exit by itself: the last hook goes on, and calls what is owed.
            return
        if not self._is_over(last=True):
            self._look_around()
            self.scheduler.keeper.call_at(self._clock() + _STEP, lambda: self._step(then))
            return
        self._finish()
        then()

    # In the reporter's thread.

    def _stand_in(self) -> None:
        then, deadline = self._then, self._stop.deadline
        if then is None or deadline is None or self._finishing or self._holding:
            return
        # The keeper has begun with it by then, unless a callback of somebody's token keeps it.
        due = deadline + max(0.25, margin(self._limit) / 4)
        if self._clock() < due:
            self._reporter.call_at(due, self._stand_in)
            return
        self._finish(in_reporter=True)
        self._reporter.post(then)

    # In the keeper's thread.

    def _notice(self, name: str, limit: float, cancel: bool) -> None:
        if not self._announced:
            self._announced = True
            self._reporter.post(lambda: self._reports.drain_started(self.scheduler, name, limit))
        if cancel and not self._stop.requested and self._stop.first_sign is not None:
            due = self._stop.first_sign + self._cancel_after
            self.scheduler.keeper.call_at(due, self._stop.request)
        self._stop.deliver()

    def _wake(self) -> None:
        self._stop.deliver()
        self.scheduler.nudge()
