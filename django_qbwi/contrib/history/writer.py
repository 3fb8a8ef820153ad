"""The writer: one thread of a process that brings what is kept of its items to the table, a batch at a time.

States: not started, idle, a turn planned, taking a turn. The thread starts with the first item; from then on it sleeps
until an item ends badly, and wakes once an hour to remove old rows.

Order of events: `add` remembers a row and plans a turn; the turn comes half a second later, or at once if `write` asks
for it at the end of the process. It writes all that is remembered, 200 rows in a statement, forgets each of them when
it is written, cleans where that is due, and closes the connection.

Locks: `_guard` guards what is remembered. `_writing` is held during a turn and during a fork, so that neither happens
within the other: a child that is forked in the middle of one finds the locks of the database's library taken for ever.

How it can fail, and what happens then:

1. The database is down or locked, or the table is missing: one WARNING, then a further try after 5 to 60 seconds, and a
   record when it works again. At most 1,000 rows are remembered; the oldest ones go, and are counted.
2. A row is refused for what is in it: the batch is written row by row, and that one is dropped with an ERROR.
3. The answer to a batch is lost: it is written again, and rows that are there already stay as they are.
4. The process ends: `write` waits for the thread, until a given moment at the most, and returns how many rows are left.

The connection is this thread's own, and open only during a turn.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connections

from django_qbwi.contrib.history.checks import cure, is_missing
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.store import Store
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_lock, new_rlock
from django_qbwi.machine.service_thread import ServiceThread

logger = SafeLogger("django_qbwi.scheduler")

MOST_REMEMBERED = 1_000
"""Rows that wait for the database."""
BATCH_SECONDS = 0.5
"""From the first row of a batch to its turn."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds until the next try, after a failure."""
CLEAN_SECONDS = 3_600.0
FIRST_CLEAN_SECONDS = 60.0

_BATCH = 200
_CLEAN_AFTER_ROWS = 1_000
_FORK_SECONDS = 0.5

Limits = Callable[[], tuple[datetime.datetime | None, int | None]]
"""Returns the moment before which rows are too old, and how many there may be; None for no limit."""


class Writer:
    """Writes the rows of one process; `turn` is what its thread does, and may be called without one."""

    def __init__(self, store: Store, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._pid = os.getpid()
        self._thread = ServiceThread("qbwi-history")
        self._started = False
        self._guard = new_rlock()
        self._waiting: deque[HistoryEntry] = deque()
        self._dropped: deque[HistoryEntry] = deque()
        self._planned = False
        self._said = 0
        self._writing = new_lock()
        self._forking: int | None = None
        # Of the thread only.
        self._pause = 0.0
        self._written = 0

    def __repr__(self) -> str:
        return f"<Writer waiting={len(self._waiting)} failing={self.is_failing}>"

    @property
    def waiting(self) -> int:
        """How many rows are not written yet."""
        return len(self._waiting)

    @property
    def is_failing(self) -> bool:
        """Whether the last try has failed."""
        return self._pause > 0

    def start(self) -> None:
        """Start the thread, once; never blocks.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        if holding(self._guard, self._start):
            self._thread.post(self._get_ready)

    def stop(self) -> None:
        """End the thread after what is posted to it; does not wait."""
        self._thread.stop()

    def add(self, entry: HistoryEntry) -> None:
        """Remember a row, and have it written soon; any thread, blocks never."""
        if holding(self._guard, self._remember, entry):
            self._thread.post(lambda: self._turn_in(BATCH_SECONDS))

    def write(self, until: float) -> int:
        """See `History.write`."""
        if os.getpid() != self._pid or len(self._waiting) <= self._said:
            return 0
        self._thread.post(self.turn)
        self._thread.flush(max(0.01, until - self._clock()))
        said, self._said = self._said, len(self._waiting)
        return max(0, self._said - said)

    def before_fork(self) -> None:
        """Let the turn come to its end; no other one begins. Blocks for half a second at the most."""
        if self._writing.acquire(True, _FORK_SECONDS):
            self._forking = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        # Not what another thread holds, which forks as well.
        if self._forking == threading.get_ident():
            self._forking = None
            self._writing.release()

    def turn(self) -> None:
        """Write what is remembered, and clean where that is due; blocks as long as the database, raises nothing."""
        self._planned = False
        with self._writing:
            try:
                if self._write_all() and self._written >= _CLEAN_AFTER_ROWS:
                    self._clean()
            finally:
                _disconnect()

    # Under the guard: one step each.

    def _start(self) -> bool:
        starts = not self._started
        if starts:
            self._thread.start()
            self._started = True
        return starts

    def _remember(self, entry: HistoryEntry) -> bool:
        self._waiting.append(entry)
        if len(self._waiting) > MOST_REMEMBERED:
            self._dropped.append(self._waiting.popleft())
        plans, self._planned = not self._planned, True
        return plans

    def _next_batch(self) -> list[HistoryEntry]:
        return list(itertools.islice(self._waiting, _BATCH))

    def _forget(self, batch: Sequence[HistoryEntry]) -> None:
        for entry in batch:
            # Or it was dropped meanwhile, to make room.
            if self._waiting and self._waiting[0] is entry:
                self._waiting.popleft()

    # In the thread.

    def _get_ready(self) -> None:
        # The driver of the database is imported: that may take longer than the end of a process can wait.
        with contextlib.suppress(Exception):
            _ = connections[self._store.database]
        self._clean_in(FIRST_CLEAN_SECONDS)

    def _turn_in(self, seconds: float) -> None:
        self._thread.call_at(self._clock() + seconds, self.turn)

    def _write_all(self) -> bool:
        while batch := holding(self._guard, self._next_batch):
            try:
                self._write(batch)
            except Exception as error:
                # Whatever a driver of a database raises: the items go on, and so does this thread.
                self._failed(error)
                return False
            holding(self._guard, self._forget, batch)
            self._written += len(batch)
            self._succeeded()
        return True

    def _write(self, batch: Sequence[HistoryEntry]) -> None:
        try:
            self._store.write(batch)
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            for entry in batch:
                self._write_alone(entry)

    def _write_alone(self, entry: HistoryEntry) -> None:
        try:
            self._store.write([entry])
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            if not self._store.has(entry.item_id):
                logger.error("The end of %s id=%s cannot be in the history: %r", entry.name, entry.item_id, error)

    def _failed(self, error: Exception) -> None:
        is_first = not self.is_failing
        self._pause = min(max(FIRST_PAUSE, self._pause * 2), LONGEST_PAUSE)
        if is_first:
            logger.warning(
                "The history could not be written: what ends badly is remembered, %d items at the most, and tried "
                "again every %g to %g s: %r%s",
                MOST_REMEMBERED,
                FIRST_PAUSE,
                LONGEST_PAUSE,
                error,
                _cure(self._store),
            )
        # Also if it is not the thread that takes this turn.
        self._planned = True
        pause = self._pause
        self._thread.post(lambda: self._turn_in(pause))

    def _succeeded(self) -> None:
        self._said = 0
        if not self.is_failing:
            return
        self._pause = 0.0
        dropped = len(self._dropped)
        self._dropped.clear()
        if dropped:
            logger.warning("The history is written again; %d items were too many, and are missing", dropped)
        else:
            logger.info("The history is written again")

    def _clean_in(self, seconds: float) -> None:
        self._thread.call_at(self._clock() + seconds, self._clean_regularly)

    def _clean_regularly(self) -> None:
        with self._writing:
            try:
                self._clean()
            finally:
                _disconnect()
        self._clean_in(CLEAN_SECONDS)

    def _clean(self) -> None:
        self._written = 0
        try:
            self._store.clean(*self._limits())
        except Exception as error:
            logger.warning("Old rows of the history could not be removed: %r%s", error, _cure(self._store))


def _is_about_a_row(error: Exception) -> bool:
    about_the_database = isinstance(error, (DatabaseError, InterfaceError, ImproperlyConfigured, OSError))
    return isinstance(error, (DataError, IntegrityError)) or not about_the_database


def _cure(store: Store) -> str:
    with contextlib.suppress(Exception):
        if is_missing(store.database):
            return f". The table is missing: {cure(store.database)}"
    return ""


def _disconnect() -> None:
    for connection in connections.all(initialized_only=True):
        try:
            connection.close()
        except Exception:
            # One that broke may fail to close as well; the next turn gets a new one.
            logger.debug("Closing the connection to the history failed", exc_info=True)
            connection.connection = None
