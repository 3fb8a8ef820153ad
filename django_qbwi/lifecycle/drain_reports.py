"""What is told of a drain: in the reporter's thread alone, so that there is one writer and one order.

A logging handler or a receiver may be stuck together with an item: nobody who holds the exit writes himself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import DrainOutcome, DrainStart, WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.machine.service_thread import ServiceThread

_REPORT_EVERY = 5.0
_MOST_NAMES = 20


class NextInterrupt(enum.StrEnum):
    """What the next Ctrl-C does, for the person in front of the terminal."""

    CANCELS = "Press Ctrl-C to cancel them."
    COUNTS = "Press Ctrl-C twice to end it now."
    ENDS = "Press Ctrl-C again to end it now."


class DrainReports(Protocol):
    """Is told of the drain, in the reporter's thread."""

    def drain_started(self, start: DrainStart) -> None:
        """The first sign came."""

    def wait_begins(self, start: DrainStart, waited_for: list[WorkItem], remaining: float, hint: str | None) -> None:
        """There is something to wait for, for `remaining` seconds at the most; `hint` is for a person, if any."""

    def drain_waiting(self, waited_for: list[WorkItem], remaining: float) -> None:
        """The exit is held for these items still."""

    def drain_finished(self, outcome: DrainOutcome) -> None:
        """The drain is over."""


class _Told(enum.IntEnum):
    NOTHING = 0
    START = 1
    WAIT = 2
    END = 3


class DrainTeller:
    """Posts to the reporter what is to be told of one drain; each of its parts is told once.

    Nothing of it blocks, but for `flush`. `sign` may be called in a signal handler.
    """

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        reporter: ServiceThread,
        reports: DrainReports,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._reporter = reporter
        self._reports = reports
        self._clock = clock
        self._start = DrainStart(sign="", limit=0.0, running=0, queued=0)
        self._ended_before: dict[WorkItemStatus, int] = {}
        self._signed_at = 0.0
        self._next_report: float | None = None
        self._late = 0
        # Of the reporter's thread only.
        self._told = _Told.NOTHING

    def __repr__(self) -> str:
        return f"<DrainTeller sign={self._start.sign!r} told={self._told.name}>"

    def sign(self, name: str, limit: float, now: float) -> None:
        """Remember the first sign, and what was there at that moment."""
        self._signed_at = now
        self._start = self._count(name, limit)
        self._ended_before = self._scheduler.totals

    def start(self, remaining: float, hint: NextInterrupt | None) -> None:
        """Tell of the first sign, and of what is waited for, if there is anything."""
        start = self._start
        self._reporter.post(lambda: self._tell_start(start))
        if start.running or start.queued:
            self._begin_wait(start, remaining, hint)

    def wait(self, remaining: float, hint: NextInterrupt | None) -> None:
        """Tell, every few seconds, what is waited for."""
        now = self._clock()
        if self._next_report is None:
            self._next_report = now + _REPORT_EVERY
            self._begin_wait(self._count(self._start.sign, self._start.limit), remaining, hint)
        elif now >= self._next_report:
            self._next_report = now + _REPORT_EVERY
            waited_for = self._scheduler.live_items(limit=_MOST_NAMES)
            self._reporter.post(lambda: self._reports.drain_waiting(waited_for, max(0.0, remaining)))

    def drop_late(self) -> None:
        """Give up what cannot begin before the limit, which may shrink, and report it: no exit is held for it."""
        late = self._scheduler.drop_late()
        self._late += sum(item.status is WorkItemStatus.DISCARDED for item in late)
        self.report(late)

    def report(self, items: list[WorkItem]) -> None:
        """Report items that were given up, and settle them."""
        scheduler = self._scheduler
        for item in items:
            self._reporter.post(lambda item=item: scheduler.report_unstarted(item))  # type: ignore[misc]

    def end(self, abandoned: int, discarded: int) -> None:
        """Tell how it ended, once."""
        totals, before = self._scheduler.totals, self._ended_before
        ended = {status: total - before.get(status, 0) for status, total in totals.items()}
        outcome = DrainOutcome(
            finished=ended[WorkItemStatus.SUCCEEDED] + ended[WorkItemStatus.FAILED],
            cancelled=ended[WorkItemStatus.CANCELLED],
            # Those that are given up may not be reported, and counted, yet.
            abandoned=abandoned,
            discarded=discarded + self._late,
            handed_off=ended[WorkItemStatus.HANDED_OFF],
            elapsed=self._clock() - self._signed_at,
        )
        self._reporter.post(lambda: self._tell_end(outcome))

    def _count(self, sign: str, limit: float) -> DrainStart:
        scheduler = self._scheduler
        return DrainStart(sign=sign, limit=limit, running=scheduler.running_count, queued=scheduler.queued_count)

    def _begin_wait(self, start: DrainStart, remaining: float, hint: NextInterrupt | None) -> None:
        waited_for = self._scheduler.live_items(limit=_MOST_NAMES)
        self._reporter.post(lambda: self._tell_wait(start, waited_for, max(0.0, remaining), hint))

    # In the reporter's thread.

    def _tell_start(self, start: DrainStart) -> None:
        if self._told is _Told.NOTHING:
            self._told = _Told.START
            self._reports.drain_started(start)

    def _tell_wait(
        self, start: DrainStart, waited_for: list[WorkItem], remaining: float, hint: NextInterrupt | None
    ) -> None:
        self._tell_start(start)
        if self._told is _Told.START:
            self._told = _Told.WAIT
            self._reports.wait_begins(start, waited_for, remaining, hint)

    def _tell_end(self, outcome: DrainOutcome) -> None:
        # Whoever is told of the end has been told of the start, though the keeper may not have come to it.
        self._tell_start(self._start)
        if self._start.running or self._start.queued:
            self._tell_wait(self._start, [], 0.0, None)
        if self._told is not _Told.END:
            self._told = _Told.END
            self._reports.drain_finished(outcome)
