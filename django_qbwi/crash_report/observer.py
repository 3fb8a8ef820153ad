"""Tells the world of items as usual, and notes in the journal which of them are there."""

from __future__ import annotations

import atexit
import types
from collections.abc import Callable, Coroutine
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.crash_report import reader
from django_qbwi.crash_report.journal import Journal
from django_qbwi.crash_report.slots import LostItem
from django_qbwi.delivery import deliver
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_rlock
from django_qbwi.signals import Keep, SignalsAndRecords, work_items_lost

logger = SafeLogger("django_qbwi.crash_report")


_MOST_NAMES = 1000


class NotesItems(SignalsAndRecords):
    """Notes each item from its acceptance to its end; in the way of neither, whatever becomes of the file.

    Lock: `_opening`, held while the file is made.
    """

    announces = True

    def __init__(
        self,
        directory: str,
        size: int,
        schedule: Callable[[Coroutine[Any, Any, Any]], None] | None = None,
        keep: Keep | None = None,
    ) -> None:
        """Make it, and no file yet; `size` is for how many items."""
        super().__init__(schedule, keep)
        self._directory, self._size = directory, size
        self._opening = new_rlock()
        self._opened = self._told = False
        self._journal: Journal | None = None
        self._places: dict[WorkItem, int] = {}
        self._names: dict[tuple[str, str], str] = {}

    def tell_of_the_lost(self) -> None:
        """Write the records of items that killed processes had, and send `work_items_lost`; once."""
        if self._told:
            return
        self._told = True
        lost = reader.read(self._directory)
        if lost and work_items_lost.receivers:
            deliver(work_items_lost, LostItem, self.schedule, items=tuple(lost))

    def queued(self, item: WorkItem) -> None:
        """Note it, then as usual."""
        try:
            journal = self._journal if self._opened else holding(self._opening, self._open)
            if journal is not None:
                origin, request_id = item.origin[:2]
                at = journal.enter(item.owner.wall_clock(item.queued), item.id, self._name(item), origin, request_id)
                if at is not None:
                    self._places[item] = at
        except Exception as error:
            # Closed, at the end of the process; or a function whose attributes are anything. The item is accepted.
            logger.debug("Work item name=%s is not in the crash report: %r", item.name, error)
        super().queued(item)

    def started(self, item: WorkItem) -> None:
        """Note that it runs, then as usual."""
        self._begin(item)
        super().started(item)

    async def astarted(self, item: WorkItem) -> None:
        """Note that it runs, then as usual."""
        self._begin(item)
        await super().astarted(item)

    def retried(self, item: WorkItem) -> None:
        """Note that it waits again, then as usual."""
        at = self._places.get(item)
        if at is not None and self._journal is not None:
            self._journal.wait_again(at)
        super().retried(item)

    def finished(self, item: WorkItem) -> None:
        """As usual, then note that it is over: a receiver that ends the process is a crash, too."""
        try:
            super().finished(item)
        finally:
            self._leave(item)

    async def afinished(self, item: WorkItem) -> None:
        """As usual, then note that it is over."""
        try:
            await super().afinished(item)
        finally:
            self._leave(item)

    def _name(self, item: WorkItem) -> str:
        function = item.work[0]
        if item.options.name is not None or type(function) is not types.FunctionType:
            return item.name
        # What its name is made of: to make it costs more than all the rest.
        made_of = (function.__module__, function.__qualname__)
        name = self._names.get(made_of)
        if name is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            name = self._names[made_of] = item.name
        return name

    def _begin(self, item: WorkItem) -> None:
        at = self._places.get(item)
        if at is not None and self._journal is not None:
            self._journal.begin(at, item.owner.wall_clock(item.run.started or 0.0))

    def _leave(self, item: WorkItem) -> None:
        at = self._places.pop(item, None)
        if at is not None and self._journal is not None:
            self._journal.leave(at)

    def close(self) -> None:
        """Remove the file, if no item is left."""
        if self._journal is not None:
            self._journal.close()

    def _open(self) -> Journal | None:
        if not self._opened:
            try:
                self._journal = Journal(self._directory, self._size)
                atexit.register(self._journal.close)
            except (OSError, ValueError) as error:
                logger.debug("There is no crash report of this process: %s", error)
            self._opened = True
        return self._journal
