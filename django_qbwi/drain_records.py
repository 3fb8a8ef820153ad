"""What is told of a drain: its records, its signals, and a line for the person in front of a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import sys

from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import DrainOutcome, DrainStart
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.signals import drain_finished, drain_started, lifecycle_logger


class DrainRecords:
    """Writes the records of a drain and sends its signals, in the reporter's thread.

    A drain that has nothing to wait for sends its signals, and writes no record.
    """

    def __init__(self) -> None:
        self._writes = False

    def __repr__(self) -> str:
        return "<DrainRecords>"

    def drain_started(self, start: DrainStart) -> None:
        """Send the signal of the first sign."""
        drain_started.send_robust(
            WorkItemScheduler, sign=start.sign, queued=start.queued, running=start.running, limit=start.limit
        )

    def wait_begins(self, start: DrainStart, waited_for: list[WorkItem], remaining: float, hint: str | None) -> None:
        """Record the first sign; and tell a person in front of a terminal, whatever is logged there."""
        self._writes = True
        lifecycle_logger.info(
            "Draining after %s: %d running, %d queued, limit %.0fs",
            start.sign,
            start.running,
            start.queued,
            start.limit,
        )
        terminal = sys.stderr
        # Closed, replaced or missing: then nobody looks.
        with contextlib.suppress(Exception):
            if hint is not None and waited_for and terminal.isatty():
                terminal.write(f"Waiting up to {remaining:.0f}s for: {_named(waited_for)}. {hint}\n")
                terminal.flush()

    def drain_waiting(self, waited_for: list[WorkItem], remaining: float) -> None:
        """Name those that the exit waits for."""
        lifecycle_logger.warning("Waiting up to %.0fs more for: %s", remaining, _named(waited_for))

    def drain_finished(self, outcome: DrainOutcome) -> None:
        """Record the end of the drain, with what became of its items."""
        if self._writes:
            lifecycle_logger.info(
                "Drained in %.1fs: %d finished, %d cancelled, %d abandoned, %d discarded%s",
                outcome.elapsed,
                outcome.finished,
                outcome.cancelled,
                outcome.abandoned,
                outcome.discarded,
                f", {outcome.handed_off} handed off" if outcome.handed_off else "",
            )
        drain_finished.send_robust(WorkItemScheduler, **dataclasses.asdict(outcome))


def _named(waited_for: list[WorkItem]) -> str:
    return ", ".join(f"{item.name} (id={item.id}, {item.status} {item.elapsed:.1f}s)" for item in waited_for)
