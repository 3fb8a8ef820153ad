"""The history as hosting and the command know it: the writer of this process, and the rows of all."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from django_qbwi import conf, hosting
from django_qbwi.contrib.history.checks import cure, is_missing
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.rows import row_of, row_of_lost
from django_qbwi.contrib.history.store import Store
from django_qbwi.contrib.history.writer import Writer
from django_qbwi.core.exceptions import InspectionError
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.crash_report.slots import LostItem
from django_qbwi.hosting.history import Wanted

_MOST_DAYS = 36_500


class Archive:
    """One table for all processes of a site; implements `django_qbwi.hosting.history.History`.

    A process that runs tests writes nothing by itself: its items would write beside the transactions of the tests, and
    hold their database. What a test asks for by `collecting` is collected.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = Store() if store is None else store
        # By pid, so that a forked child finds none, and without a lock, which it could find taken.
        self._writers: dict[int, Writer] = {}
        self._collectors: dict[int, list[HistoryEntry]] = {}

    def __repr__(self) -> str:
        return f"<Archive {self._store!r}>"

    def open(self) -> None:
        """See `History.open`."""
        if not _runs_tests():
            self._writer().start()

    def keep(self, info: WorkItemInfo, stack: str | None, why: str | None) -> None:
        """See `History.keep`."""
        self._put(lambda: row_of(info, stack, why, socket.gethostname()))

    def keep_lost(self, items: Iterable[LostItem], **named: Any) -> None:
        """Remember items of killed processes; a receiver of `work_items_lost`."""
        for item in items:
            self._put(functools.partial(row_of_lost, item, socket.gethostname()))

    def _put(self, make: Callable[[], HistoryEntry]) -> None:
        collectors = list(self._collectors.values())
        if not collectors and _runs_tests():
            return
        entry = make()
        for collected in collectors:
            collected.append(entry)
        if collectors:
            return
        writer = self._writer()
        writer.add(entry)
        with contextlib.suppress(RuntimeError):
            # It runs already, but where items run at the call.
            writer.start()

    @property
    def unwritten(self) -> int:
        """See `History.unwritten`."""
        writer = self._writers.get(os.getpid())
        return 0 if writer is None else writer.waiting

    def write(self, until: float) -> int:
        """See `History.write`."""
        writer = self._writers.get(os.getpid())
        return 0 if writer is None else writer.write(until)

    def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """See `History.read`."""
        try:
            return [entry.to_dict() for entry in self._store.read(wanted)]
        except (DatabaseError, ImproperlyConfigured) as error:
            alias = self._store.database
            what_helps = f"; {cure(alias)}" if is_missing(alias) else ""
            raise InspectionError(f"the history could not be read: {error}{what_helps}") from error

    @contextlib.contextmanager
    def collecting(self) -> Iterator[list[HistoryEntry]]:
        """Collect the rows of items that end within a block, in place of writing them."""
        collected: list[HistoryEntry] = []
        self._collectors[id(collected)] = collected
        try:
            yield collected
        finally:
            del self._collectors[id(collected)]

    def stop(self) -> None:
        """Let the thread of this process end, after what was given to it."""
        writer = self._writers.pop(os.getpid(), None)
        if writer is not None:
            writer.stop()

    def before_fork(self) -> None:
        """Keep the fork out of a turn of the writer."""
        writer = self._writers.get(os.getpid())
        if writer is not None:
            writer.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let it go on."""
        writer = self._writers.get(os.getpid())
        if writer is not None:
            writer.after_fork_in_parent()

    def _writer(self) -> Writer:
        pid = os.getpid()
        found = self._writers.get(pid)
        return self._writers.setdefault(pid, Writer(self._store, limits)) if found is None else found


def limits() -> tuple[datetime.datetime | None, int | None]:
    """Return the moment before which rows are too old, and how many there may be, by the settings of now."""
    settings = conf.load()
    days = settings.history_days
    now = datetime.datetime.now(tz=datetime.UTC)
    before = None if days is None else now - datetime.timedelta(days=min(days, _MOST_DAYS))
    return before, settings.history_rows


def _runs_tests() -> bool:
    return hosting.this_process().host.hints_at_tests
