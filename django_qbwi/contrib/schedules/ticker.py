"""The ticker of one process: looks at the table when something is due, claims it, and queues the run.

One thread, which sleeps until the next tick, and for a minute at the most: so it sees what other processes gave back,
and a wall clock that was set. It is a daemon and no work item: neither holds the exit, nor counts for anything.

Order of a look: write what could not be written before; say of our own runs that they go on; then, unless this process
ends, read the rows, and for each that is due claim the tick, look again whether this process ends, queue the run. What
a run leaves is posted here from the thread that ends it, and written at once.

Locks: `_looking` is held during a look and during a fork, so that neither happens within the other. All else is of the
thread; the others post to it.

How it can fail, and what happens then:

1. The database is down, or the table is missing: one WARNING, then a look after 1, 2, 4 ... 60 seconds. What was to be
   written is kept. A tick is due until a row says otherwise, so none is lost. Where only the answer to a claim was
   lost, the key in the row tells that we have it.
2. The run cannot be queued: the queue is full, or this process begins to end. The tick is given back, and is due again.
3. The process is killed: the row says until when its run is believed, `store.LEASE`; from then on ticks run again.
4. Two processes have different code, as in a deploy: each claims only what was reckoned by its own `when`. The row
   follows the process that was started last.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from django.db import connections

from django_qbwi.contrib.schedules.declared import Schedule
from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.store import LEASE, Claim, Store
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import new_lock
from django_qbwi.machine.service_thread import ServiceThread, Timer

logger = SafeLogger("django_qbwi.schedules")

LOOK_SECONDS = 60.0
PAUSED_SECONDS = 5.0
RENEW_SECONDS = LEASE / 4000
SKEW = 300_000
"""Milliseconds by which the clocks of two hosts may differ, or one may be set back, without a tick being moved."""

_BUSY_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_FORK_SECONDS = 0.5


class Ticker:
    """Starts what is due, in one process, from `start` on."""

    def __init__(
        self,
        schedules: Callable[[], Sequence[Schedule]],
        store: Store,
        run: Callable[[Schedule], WorkItemHandle],
        may_tick: Callable[[], bool],
        service: ServiceThread,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it.

        Args:
            schedules: Returns those that can run; called at each look, since modules may be imported late.
            store: The table.
            run: Queues a run; called in the thread of `service`.
            may_tick: Returns whether this process takes on something new; called there, and must not block.
            service: The thread, which is not started yet.
            wall: The time of day, in seconds since the epoch.
            clock: The monotonic clock of `service`.
        """
        self._schedules = schedules
        self._store = store
        self._run = run
        self._may_tick = may_tick
        self._service = service
        self._wall = wall
        self._clock = clock
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._timer: Timer | None = None
        self._enrolled: set[str] = set()
        """The schedules whose rows were looked at, whether they are still what the code says."""
        self._looking = new_lock()
        self._forking: int | None = None
        self._claimed: dict[str, Claim] = {}
        """What was asked for by each schedule, until the answer is known."""
        self._running: dict[str, Claim] = {}
        self._renewed_at = 0.0
        self._unwritten: deque[Callable[[], object]] = deque()
        self._told: set[str] = set()
        """What was warned of, and has not changed since."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Ticker schedules={len(self._enrolled)} running={len(self._running)} failures={self._failures}>"

    @property
    def is_failing(self) -> bool:
        """Whether the database did not do the last time what it was asked for."""
        return self._failures > 0

    def start(self, after: float) -> None:
        """Start the thread, and look in `after` seconds for the first time.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        self._service.start()
        self._arm(after)

    def flush(self, seconds: float) -> None:
        """Wait until the ends of runs that are known were written, unless the database does not answer anyway."""
        if not self._failures:
            self._service.flush(seconds)

    def before_fork(self) -> None:
        """Let the look come to its end; no other one begins. Blocks for half a second at the most.

        A child that is forked in the middle finds the locks of the database's library taken for ever.
        """
        if self._looking.acquire(True, _FORK_SECONDS):
            self._forking = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        # Not what another thread holds, which forks as well.
        if self._forking == threading.get_ident():
            self._forking = None
            self._looking.release()

    def look(self) -> None:
        """Do what is due, and come again when the next is; in the thread."""
        with self._looking:
            wait = self._try()
        self._arm(wait)

    # The steps of a look.

    def _try(self) -> float:
        try:
            wait = self._look()
            if self._failures:
                self._failures = 0
                logger.info("The table of schedules answers again")
        except Exception as error:
            # Whatever a driver of a database raises: the items go on, and so does this thread.
            wait = self._failed(error)
        finally:
            self._disconnect()
        return wait

    def _look(self) -> float:
        now = self._now()
        self._write()
        if self._running and self._clock() - self._renewed_at >= RENEW_SECONDS:
            self._store.renew(list(self._running), now)
            self._renewed_at = self._clock()
        if not self._may_tick():
            return PAUSED_SECONDS
        schedules = self._schedules()
        rows = self._rows(schedules, now)
        due = [self._tick(schedule, rows[schedule.name], now) for schedule in schedules if schedule.name in rows]
        self._write()
        longest = min(LOOK_SECONDS, RENEW_SECONDS) if self._running else LOOK_SECONDS
        return min([longest, *(max(0.0, (moment - self._now()) / 1000) for moment in due)])

    def _rows(self, schedules: Sequence[Schedule], now: int) -> dict[str, ScheduleState]:
        """Return the rows, after those of `schedules` were made, and brought to what the code says."""
        rows = self._store.rows() if schedules else {}
        changed = False
        for schedule in schedules:
            row, when = rows.get(schedule.name), schedule.timing.text
            if row is None:
                self._store.add(schedule.name, when, schedule.timing.next_after(now, now))
                changed = True
            elif row.when != when and schedule.name not in self._enrolled:
                changed |= self._store.reckon(row, when, schedule.timing.next_after(now, now))
        if not self._enrolled:
            for name in self._store.purge([schedule.name for schedule in schedules], now):
                logger.info("The schedule %s is in no code any more, and was removed from the table", name)
        self._enrolled.update(schedule.name for schedule in schedules)
        return self._store.rows() if changed else rows

    def _tick(self, schedule: Schedule, row: ScheduleState, now: int) -> int:
        """Start a schedule if it is due, and return when to look at it again."""
        asked = self._claimed.get(schedule.name)
        # The claim was heard, and it was the answer that got lost; that may be long ago.
        if asked is not None and row.claim == asked.key and self._store.renew([asked.key], now):
            return self._begin(schedule, asked, row.next_ms, now)
        self._claimed.pop(schedule.name, None)
        if row.when != schedule.timing.text:
            return now + int(LOOK_SECONDS * 1000)
        if row.next_ms > now:
            return self._not_too_far(schedule, row, now)
        following = schedule.timing.next_after(now, row.next_ms)
        if row.busy_until_ms > now and not schedule.overlap:
            if self._store.skip(row, following, now):
                self._tell(
                    f"{schedule.name} {row.claim}",
                    "The schedule %s was due, and its run in process %s is not over: the tick is left out",
                    schedule.name,
                    row.place,
                )
            return following
        claim = self._claimed[schedule.name] = Claim(name=schedule.name, key=secrets.token_hex(16), tick=row.next_ms)
        if self._store.claim(row, claim, following, now, self._place, overlap=schedule.overlap):
            return self._begin(schedule, claim, following, now)
        del self._claimed[schedule.name]
        return following

    def _not_too_far(self, schedule: Schedule, row: ScheduleState, now: int) -> int:
        # No process reckons so far ahead: a clock was wrong, and it would wait for that moment.
        if row.next_ms > schedule.timing.next_after(now + SKEW, row.next_ms):
            following = schedule.timing.next_after(now, row.next_ms)
            logger.warning("The schedule %s waited for a moment that a wrong clock had reckoned", schedule.name)
            self._store.reckon(row, row.when, following)
            return following
        return row.next_ms

    def _begin(self, schedule: Schedule, claim: Claim, following: int, now: int) -> int:
        """Queue the run of a tick that is ours."""
        try:
            handle = self._run(schedule) if self._may_tick() else None
        except WorkItemRejected as error:
            handle = None
            self._tell(schedule.name, "The schedule %s is due and cannot be queued yet: %s", schedule.name, error)
        except Exception:
            logger.exception("The schedule %s is due and cannot be run", schedule.name)
            self._later(lambda: self._store.ended(claim, str(WorkItemStatus.FAILED), now))
            del self._claimed[schedule.name]
            return following
        if handle is None:
            self._later(lambda: self._store.give_back(claim))
            return now + int(_BUSY_SECONDS * 1000)
        self._told.discard(schedule.name)
        del self._claimed[schedule.name]
        self._running[claim.key] = claim
        if len(self._running) == 1:
            self._renewed_at = self._clock()
        item = handle.id
        self._later(lambda: self._store.begun(claim, item))
        handle.add_done_callback(lambda ended: self._service.post(lambda: self._over(claim, ended.status)))
        return following

    def _over(self, claim: Claim, status: WorkItemStatus) -> None:
        """Write down the end of a run; in the thread."""
        del self._running[claim.key]
        now = self._now()
        if status is WorkItemStatus.DISCARDED and not self._may_tick():
            # It never began, and another process can still do it.
            self._later(lambda: self._store.give_back(claim))
        else:
            self._later(lambda: self._store.ended(claim, str(status), now))
        self.look()

    # Helpers of these.

    def _write(self) -> None:
        """Write what is still to be written; what fails is kept."""
        while self._unwritten:
            self._unwritten[0]()
            self._unwritten.popleft()

    def _later(self, write: Callable[[], object]) -> None:
        """Have the rest of this look write something, or the next one that reaches the database."""
        self._unwritten.append(write)

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._service.call_at(self._clock() + seconds, self.look)

    def _tell(self, key: str, message: str, *args: object) -> None:
        """Warn of something once."""
        if key not in self._told:
            if len(self._told) > 1_000:
                self._told.clear()
            self._told.add(key)
            logger.warning(message, *args)

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        if self._failures == 1:
            logger.warning(
                "The table of schedules cannot be used, nothing is started by the clock; it is tried again after 1 s, "
                "and then less often: %s",
                self._reason(error),
            )
        return pause

    def _reason(self, error: Exception) -> str:
        try:
            if self._store.is_missing():
                return f"it is not there. Run `manage.py migrate` (database {self._store.database!r})"
        except Exception:
            # It is the database itself, of which the first error tells more.
            logger.debug("The database of the schedules cannot be asked for its tables", exc_info=True)
        return repr(error)

    @staticmethod
    def _disconnect() -> None:
        for connection in connections.all(initialized_only=True):
            try:
                connection.close()
            except Exception:
                # One that broke may fail to close as well; the next look gets a new one.
                logger.debug("Closing the connection to the schedules failed", exc_info=True)
                connection.connection = None
