"""The drain: one clock for all hooks, started by the first sign; hold the exit, let go at the limit.

States: see `Phase`. From the first sign on the tokens of items that run are cancelled at once, or after `cancel_after`,
those of items that begin later after half of the time that is left then.
Order of events: any number of `sign` calls (signal handler, watcher, server hook), any number of `hold(last=False)`
(a server's own exit hook), one `hold(last=True)` (interpreter exit) or one background drain (a signal that would have
killed the process at once). Locks: none of its own; handlers only store plain attributes and post to the service
threads. Three threads may let go (that of the exit, the keeper, the reporter): the one that claims it first does.

Four ways in which this could fail, and what stands against each:
- Separate limits of several hooks, or of the last moments after it, add up and outlive the server's: there is one
  deadline, which only ever shrinks, and all that comes after it ends by one moment, `ends_by`.
- A logging handler, or a receiver, is stuck together with an item: all records of the end are the reporter's, and
  waited for until that moment at the most.
- A callback of a token is stuck, and with it the keeper; or a request, a stream say, outlasts the limit, and the
  process is killed before its exit begins: the reporter stands in, and lets go in time.
- A request that is still served queues in the gap before the exit: only the last hook closes, under the lock, in the
  step that sees nothing left.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.lifecycle.drain_reports import DrainReports, DrainTeller, NextInterrupt
from django_qbwi.lifecycle.last_moments import LastMoments, LastWrites, NoLastWrites, latest, margin, quietly, told
from django_qbwi.lifecycle.phases import Host, Phase
from django_qbwi.machine.service_thread import ServiceThread, Timer

DUPLICATE_SECONDS = 1.0
"""A server may raise, or be sent, the same stop signal twice within this span."""

_TURN = 1.0
_STEP = 0.1
_FORCING = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGBREAK") if hasattr(signal, name))


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
        move: Callable[[float], object] = lambda limit: None,
        last_writes: LastWrites = NoLastWrites(),  # noqa: B008 - it has no state
    ) -> None:
        self.scheduler = scheduler
        self.host = host
        self.last_writes = last_writes
        self.phase = Phase.RUNNING
        self.holds_last = False
        """True while the last hook of the process is at work: it ends without anybody's help."""
        self.gave_up = False
        """Whether something was left behind, by which the exit of the interpreter may be held."""
        self.ends_by: float | None = None
        """The moment by which all last moments are over, threads that are joined included; known when they begin."""
        self.has_audience = True
        """Whether a person in front of a terminal may want to hear of it: not if it only ends a block of settings."""
        self._stop = scheduler.stop
        self._reporter = reporter
        self._teller = DrainTeller(scheduler, reporter, reports, clock)
        self._shutdown_timeout = shutdown_timeout
        self._cancel_after = cancel_after
        self._clock = clock
        self._move = move  # told of each sign, with the limit in seconds: it brings items to other engines
        self._stop_signal_at: float | None = None
        self._restarts = False
        self._then: Callable[[], None] | None = None
        self._limit = self._latest = shutdown_timeout
        self._claimed_by: dict[str, object] = {}
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<DrainCoordinator {self.scheduler.state} phase={self.phase.name} stop={self._stop!r}>"

    @property
    def signed(self) -> bool:
        """True from the first sign on."""
        return self._stop.first_sign is not None

    def sign(self, name: str, signum: int | None = None, *, at_most: float | None = None, cancel: bool = True) -> None:
        """Take notice of a sign of the end; allowed in signal handlers, as those below.

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
            self._limit, self._latest = limit, latest(now, limit, limits[1:])
            stop.deadline = deadline
        if stop.first_sign is None:
            self._teller.sign(name, limit, now)
            stop.first_sign = now
            self._go_on_to(Phase.SIGNED)
        if cancel:
            self._cancels()
            stop.requested = stop.requested or self._cancel_after <= 0
        self.scheduler.keeper.post(lambda: self._notice(cancel))
        self._reporter.post(self._stand_in)

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
        """Let go now, also of those that were spared: the second Ctrl-C."""
        self._stop.deadline = self._clock()
        self._cancels()
        self._stop.requested = True
        self.scheduler.keeper.post(self._wake)
        self._reporter.post(self._stand_in)

    # Waiting.

    def hold(self, *, last: bool) -> None:
        """Block until nothing is queued or running, or until the limit; beats the server's heart meanwhile.

        No exception gets out: it would skip the exit hooks of other libraries. The `last` hook of the process closes
        the scheduler, and lets go of what is left.
        """
        if not self.scheduler.started and (not last or self.scheduler.close_if_empty()):
            return
        if not self.signed:
            # The first item of the process came this late.
            self.sign("the exit of the process")
        if last:
            self._go_on_to(Phase.HOLDING)
            self.holds_last = True
        self.scheduler.hold_begins()
        self._wait(last)
        if last:
            if self._claims():
                self._finish()
            else:
                self._wait_for_the_end()
            self._go_on_to(Phase.OVER)
            self.holds_last = False
        else:
            self.scheduler.hold_ends()

    def look(self) -> bool:
        """Return whether the wait is over, for a hook that must not block; beats the server's heart if it is not."""
        if not self.scheduler.started:
            return True
        self.scheduler.hold_begins()
        over = self._is_over(last=False)
        self.scheduler.hold_ends() if over else self._look_around()
        return over

    def drain_in_background(self, then: Callable[[], None]) -> None:
        """Drain in a service thread while the process goes on, then call `then` there; allowed in a signal handler."""
        self._then = then
        self.scheduler.keeper.post(lambda: self._step(then))
        self._reporter.post(self._stand_in)

    def _cancels(self) -> None:
        # Before the flag: an item that begins in between is one that begins later.
        if self._stop.cancels_since is None:
            self._stop.cancels_since = self._clock()

    def _go_on_to(self, phase: Phase) -> None:
        self.phase = max(self.phase, phase)

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
        self._teller.wait(self._remaining(), self._next_interrupt())

    def _is_over(self, last: bool) -> bool:
        if self.scheduler.delayed_count:
            # The limit may have shrunk. In the keeper's thread, which nothing strikes.
            self.scheduler.keeper.post(self._teller.drop_late)
        return (self.scheduler.close_if_empty() if last else self.scheduler.is_empty) or self._remaining() <= 0

    def _remaining(self) -> float:
        deadline = self._stop.deadline
        return self._shutdown_timeout if deadline is None else deadline - self._clock()

    def _next_interrupt(self) -> NextInterrupt | None:
        if not self.has_audience:
            return None
        if self._stop.cancels_since is None:
            return NextInterrupt.CANCELS
        return NextInterrupt.COUNTS if self._restarts and self._stop_signal_at is None else NextInterrupt.ENDS

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

    # Letting go.

    def _claims(self) -> bool:
        return self._claimed_by.setdefault("end", me := object()) is me

    def _forget_timer(self) -> None:
        # A thread of ours lives to the last moment of the interpreter, and what it knows of with it: items, arguments.
        if self._timer is not None:
            self._timer.cancel()

    def _wait_for_the_end(self) -> None:
        # The reporter, as a rule, is at it: all that it posts to itself comes before this.
        now = self._clock()
        seconds = max(0.05, (self.ends_by or now + margin(self._limit)) - now)
        self.gave_up = not quietly(lambda: self._reporter.flush(seconds)) or self.gave_up

    def _finish(self, *, in_reporter: bool = False) -> None:
        self._go_on_to(Phase.LETTING_GO)
        moments = LastMoments.of(self._clock(), self._stop.deadline, self._limit)
        self.ends_by = moments.ends_by
        empty = self.scheduler.close_if_empty()
        abandoned, discarded = (0, 0) if empty else self._let_go(moments.interrupted_by)
        # Also for the items that have ended in the last moment, and write their records themselves.
        waits = (self._wait_until_empty, lambda: self.scheduler.ending_count, self._clock)
        written = quietly(lambda: told(*waits, moments.records_by, self._latest))
        late = max(0.0, self._clock() - moments.records_by)
        self.ends_by = moments.ends_by + late
        self._teller.end(abandoned, discarded)
        if not in_reporter:
            flushed = quietly(lambda: self._reporter.flush(max(0.05 + late / 4, moments.records_by - self._clock())))
            # Who is stuck with a handler's lock holds the interpreter's exit, which closes all handlers.
            self.gave_up = self.gave_up or not (written and flushed)
        # In the reporter: behind the records that are posted to it.
        (self._reporter.post if in_reporter else quietly)(lambda: self.last_writes.write(moments.kept_by + late))
        self._forget_timer()
        self.scheduler.retire()

    def _let_go(self, until: float) -> tuple[int, int]:
        # Async items get a last moment: they can be interrupted where they stand.
        scheduler = self.scheduler
        # With CANCEL_AFTER, or at the normal end of a command, nobody has done that yet.
        self._cancel_all()
        scheduler.interrupt()
        quietly(lambda: self._wait_until_empty(until))
        left = scheduler.give_up()
        self._teller.report(left)
        self.gave_up = self.gave_up or bool(left)
        statuses = [item.status for item in left]  # also FAILED: what waited for another attempt
        return statuses.count(WorkItemStatus.ABANDONED), statuses.count(WorkItemStatus.DISCARDED)

    def _wait_until_empty(self, until: float) -> bool:
        return self.scheduler.wait_until_empty(max(0.01, until - self._clock()))

    def _cancel_all(self) -> None:
        # The callbacks are the items' own code: not in the thread that holds the exit.
        self._cancels()
        self._stop.requested = True
        # Also for those that were spared until the limit.
        self.scheduler.keeper.post(self._stop.deliver)

    # In the keeper's thread.

    def _step(self, then: Callable[[], None]) -> None:
        if self.phase >= Phase.HOLDING:
            # The interpreter has come to its exit by itself, where the last hook goes on, or the reporter has stood in.
            return
        if not self._is_over(last=True):
            self._look_around()
            self.scheduler.keeper.call_at(self._clock() + _STEP, lambda: self._step(then))
            return
        if self._claims():
            self._finish()
            then()

    def _notice(self, cancel: bool) -> None:
        self._move(self._limit)
        self._teller.drop_late()
        self._teller.start(self._remaining(), self._next_interrupt())
        if cancel and not self._stop.requested and self._stop.first_sign is not None:
            due = self._stop.first_sign + self._cancel_after
            self.scheduler.keeper.call_at(due, self._stop.request)
        self._wake()

    def _wake(self) -> None:
        self._stop.deliver()
        self.scheduler.nudge()

    # In the reporter's thread.

    def _stand_in(self) -> None:
        deadline = self._stop.deadline
        if deadline is None or self._claimed_by:
            return
        # By then who drains has begun to let go, unless requests keep the main thread, or a callback the keeper.
        due = deadline + margin(self._limit) / 4
        if self._clock() < due:
            self._forget_timer()
            self._timer = self._reporter.call_at(due, self._stand_in)
        elif self._claims():
            self._finish(in_reporter=True)
            if self._then is not None:
                self._reporter.post(self._then)
