"""The schedules of the site in this process: started where it serves, and read for the command and the page."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from django_qbwi import hosting
from django_qbwi.contrib.schedules.declared import Declarations, Schedule, declarations
from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.store import Store
from django_qbwi.contrib.schedules.ticker import Ticker
from django_qbwi.core.exceptions import InspectionError
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.decorator import BackgroundWorkItem
from django_qbwi.inspection.schedules import ScheduleInfo
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.service_thread import ServiceThread
from django_qbwi.work_items import queue_background_work_item

logger = SafeLogger("django_qbwi.schedules")

_FIRST_LOOK = 1.0
"""Seconds: the apps of the site may still be loading when a server is recognised."""
_LEAVE_SECONDS = 0.5


class SiteSchedules:
    """What is declared, and the table; implements `django_qbwi.inspection.schedules.Schedules`."""

    def __init__(self, declared: Declarations = declarations, store: Store | None = None) -> None:
        self._declared = declared
        self._store = Store() if store is None else store
        # By pid, so that a forked child finds none, and without a lock, which it could find taken.
        self._tickers: dict[int, Ticker] = {}
        self._sound: tuple[int, list[Schedule]] = (-1, [])
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<SiteSchedules {self._declared!r} {self._store!r}>"

    def begin(self) -> None:
        """See `Schedules.begin`."""
        pid = os.getpid()
        if pid in self._tickers:
            return
        made = Ticker(self.sound, self._store, start, may_tick, ServiceThread("qbwi-schedules"))
        if self._tickers.setdefault(pid, made) is made:
            try:
                made.start(_FIRST_LOOK)
            except RuntimeError:
                del self._tickers[pid]
                raise

    def end(self) -> None:
        """See `Schedules.end`."""
        self._tell(lambda ticker: ticker.flush(_LEAVE_SECONDS))

    def before_fork(self) -> None:
        """Keep the fork out of a look."""
        self._tell(Ticker.before_fork)

    def after_fork_in_parent(self) -> None:
        """Let the looks go on."""
        self._tell(Ticker.after_fork_in_parent)

    def sound(self) -> list[Schedule]:
        """Return those that can run; of each of the others there is one ERROR record."""
        version = self._declared.version
        if self._sound[0] != version:
            sound, problems = self._declared.sound()
            for problem in problems:
                if problem not in self._told:
                    self._told.add(problem)
                    logger.error("%s", problem)
            self._sound = (version, sound)
        return self._sound[1]

    def read(self) -> list[ScheduleInfo]:
        """See `Schedules.read`."""
        try:
            rows = self._store.rows()
        except (DatabaseError, ImproperlyConfigured) as error:
            raise InspectionError(
                f"the table of schedules cannot be read; has `manage.py migrate` made it? {error}"
            ) from error
        known = {schedule.name: schedule for schedule in self.sound()}
        now = int(time.time() * 1000)
        found = [info_of(row, now, is_known=name in known) for name, row in rows.items()]
        found += [
            ScheduleInfo(name=name, when=schedule.timing.text, state="new")
            for name, schedule in known.items()
            if name not in rows
        ]
        return sorted(found, key=lambda info: info.name)

    def _tell(self, call: Callable[[Ticker], object]) -> None:
        ticker = self._tickers.get(os.getpid())
        if ticker is not None:
            call(ticker)


def start(schedule: Schedule) -> WorkItemHandle:
    """Queue a run.

    Raises:
        WorkItemRejected: It cannot be queued now.
        InvalidWorkItem: It cannot be queued at all.
    """
    function = schedule.find()
    if isinstance(function, BackgroundWorkItem):
        return function.queue()
    return queue_background_work_item(function)


def may_tick() -> bool:
    """Tell whether this process takes on something new; never blocks."""
    return apps.ready and hosting.is_open()


def info_of(row: ScheduleState, now: int, *, is_known: bool) -> ScheduleInfo:
    """Return what a row says.

    Args:
        row: One of the table.
        now: Milliseconds since the epoch.
        is_known: Whether the code of this process has such a schedule.
    """
    runs = row.status == "running"
    state = ("lost" if row.busy_until_ms <= now else "running") if runs else "waiting"
    return ScheduleInfo(
        name=row.name,
        when=row.when,
        state=state if is_known else "removed",
        next_at=moment(row.next_ms),
        tick_at=moment(row.tick_ms),
        started_at=moment(row.started_ms),
        ended_at=moment(row.ended_ms),
        outcome="" if runs else row.status,
        item=row.item,
        place=row.place,
        skipped=row.skipped,
    )


def moment(milliseconds: int | None) -> datetime.datetime | None:
    """Return the datetime of a moment of the table."""
    if milliseconds is None:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return epoch + datetime.timedelta(milliseconds=milliseconds)
