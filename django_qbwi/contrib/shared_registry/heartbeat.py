"""The heartbeat: one thread of a process that writes it down every ten seconds, and does what is wanted of it.

States: not started, beating, ended. The thread starts with the first request or item; a process that has neither, such
as a management command, costs nothing. From then on it is one wakeup in ten seconds.

Order of a beat: read the requests; cancel; write the state and take the requests away in one statement; purge; close
the connection. A request is taken away after it was done: if the beat breaks off in between it is done again, which
does nothing a second time.

Locks: `_guard` guards the start. `_beating` is held during a beat and during a fork, so that neither happens within the
other. Nothing else is shared: what the thread is told comes through its mailbox.

How it can fail, and what happens then:

1. The database is down, or the table is missing: one WARNING, then a try at each beat, and an INFO when it works again.
   The exit of the process does not wait for such a database.
2. A callback of a token blocks: it does so in a thread of its own (`Subject.cancel`).
3. The process forks: the child has no such thread, and begins with one of its own under another key. The fork waits
   for the beat, half a second at the most: a child that is forked in the middle of one finds the locks of the
   database's library taken for ever (a child of a process that uses SQLite hung in one of ten forks).

The connection is this thread's own, and open only during a beat: a process costs the database no connection in
between, and a child that is forked meanwhile inherits none.
"""

from __future__ import annotations

import os
import queue
import secrets
import socket
import threading
from collections.abc import Callable

from django.db import connections

from django_qbwi.contrib.shared_registry.store import Row, Store, requests_of
from django_qbwi.inspection.channel import encode
from django_qbwi.inspection.subject import Subject
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_lock, new_mailbox, new_rlock, start_thread

logger = SafeLogger("django_qbwi.inspection")

BEAT_SECONDS = 10.0
SOON_SECONDS = 1.0
"""Until the next beat after a cancellation: an item that is just ending is in no list for that moment."""
MAX_ITEMS = 100
"""Items of each list of a row."""
MAX_STATE = 256 * 1024
"""Characters of the state of a row."""

_LEAVE_SECONDS = 0.5
_FORK_SECONDS = 0.5
_TRIES = 3


class Heartbeat:
    """Writes one process down, from `start` to `stop`, once."""

    def __init__(self, subject: Subject, store: Store, site: Callable[[], str], place: Callable[[], str]) -> None:
        """Make one that does not beat yet.

        Args:
            subject: The process.
            store: The table.
            site: Returns the name of the site; called in the thread.
            place: Returns where the process can be asked, "" if it cannot; called in the thread.
        """
        self._subject = subject
        self._store = store
        self._site = site
        self._place = place
        self._pid = os.getpid()
        self._key = secrets.token_hex(16)
        self._mailbox = new_mailbox()
        self._ended = new_lock()
        self._guard = new_rlock()
        self._beating = new_lock()
        self._forking: int | None = None
        self._started = False
        self._written: Row | None = None
        self._failing = False
        self._soon = False

    def __repr__(self) -> str:
        return f"<Heartbeat key={self._key} started={self._started} failing={self._failing}>"

    def start(self) -> None:
        """Begin to beat, once; never blocks.

        Raises:
            RuntimeError: The operating system gave no thread.
        """
        holding(self._guard, self._start)

    def _start(self) -> None:
        if not self._started:
            self._ended.acquire(False)
            start_thread(self._run, "qbwi-registry")
            self._started = True

    def wake(self) -> None:
        """Have it beat soon; safe everywhere, also in signal handlers."""
        self._mailbox.put(False)

    def stop(self, seconds: float = _LEAVE_SECONDS) -> None:
        """Have it remove the row and end; wait for that, unless the database does not answer anyway."""
        if self._started and os.getpid() == self._pid:
            self._mailbox.put(True)
            if not self._failing:
                self._ended.acquire(True, seconds)

    def before_fork(self) -> None:
        """Let the beat come to its end; no other one begins. Blocks for half a second at the most."""
        if self._beating.acquire(True, _FORK_SECONDS):
            self._forking = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        # Not what another thread holds, which forks as well.
        if self._forking == threading.get_ident():
            self._forking = None
            self._beating.release()

    def beat(self) -> None:
        """Do what one beat does; blocks as long as the database."""
        self._soon = False
        for _ in range(_TRIES):
            wanted = self._store.requests(self._key)
            if wanted:
                self._cancel(wanted)
                self._soon = True
            row = self._row()
            if row == self._written and not wanted and self._store.touch(self._key):
                break
            if self._store.write(row, wanted):
                self._written = row
                break
        self._store.purge()

    @property
    def pause(self) -> float:
        """Seconds until the next beat."""
        return SOON_SECONDS if self._soon else BEAT_SECONDS

    def _row(self) -> Row:
        limit = MAX_ITEMS
        while True:
            state = encode(self._subject.overview(limit)).decode("ascii")
            if len(state) <= MAX_STATE or not limit:
                break
            limit //= 2
        return Row(
            key=self._key,
            site=self._site(),
            host=socket.gethostname(),
            pid=self._pid,
            place=self._place(),
            state=state,
        )

    def _cancel(self, wanted: str) -> None:
        ids_of: dict[str, list[str]] = {}
        for item_id, by in requests_of(wanted):
            ids_of.setdefault(by[:200], []).append(item_id)
        for by, item_ids in ids_of.items():
            try:
                self._subject.cancel(item_ids, by)
            except Exception:
                logger.exception("Cancelling what the shared registry asks for failed")

    # In the thread.

    def _run(self) -> None:
        try:
            while os.getpid() == self._pid:
                self._try(self.beat, "written")
                try:
                    ends = self._mailbox.get(timeout=self.pause)
                except queue.Empty:
                    continue
                if ends:
                    self._try(lambda: self._store.remove(self._key), "cleared of this process")
                    return
        finally:
            self._ended.release()

    def _try(self, call: Callable[[], None], what: str) -> None:
        with self._beating:
            self._try_alone(call, what)

    def _try_alone(self, call: Callable[[], None], what: str) -> None:
        try:
            call()
        except Exception as error:
            # Whatever a driver of a database raises: the items go on, and so does this thread.
            self._written = None
            if not self._failing:
                self._failing = True
                logger.warning(
                    "The shared registry could not be %s, other hosts do not see this process; it is tried again "
                    "every %g s: %r",
                    what,
                    BEAT_SECONDS,
                    error,
                )
        else:
            if self._failing:
                self._failing = False
                logger.info("The shared registry is written again")
        finally:
            self._disconnect()

    @staticmethod
    def _disconnect() -> None:
        for connection in connections.all(initialized_only=True):
            try:
                connection.close()
            except Exception:
                # One that broke may fail to close as well; the next beat gets a new one.
                logger.debug("Closing the connection to the shared registry failed", exc_info=True)
                connection.connection = None
