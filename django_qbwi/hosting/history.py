"""What keeps the items that ended badly, or moved, over the end of their process: the protocol, and how it is told."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.machine.service_thread import ServiceThread
from django_qbwi.signals import lifecycle_logger, scheduler_logger


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of the items that are kept somebody wants to see; what is empty chooses none."""

    item_id: str = ""
    """The beginning of an id."""
    statuses: Sequence[str] = ()
    pids: Sequence[int] = ()
    name: str = ""
    """A part of the name."""
    text: str = ""
    """A part of anything else: the error, its traceback, the origin, the request's id."""
    since: datetime.datetime | None = None
    limit: int = 100


class History(Protocol):
    """Keeps items that ended badly, or moved. One for all forks of a process, each of which has a writer of its own."""

    def open(self) -> None:
        """Get ready, with the first item of a process; never blocks.

        Raises:
            RuntimeError: The operating system gave no thread.
        """

    def keep(self, info: WorkItemInfo, stack: str | None, why: str | None) -> None:
        """Remember an item, and write it soon. Any thread; blocks never."""

    @property
    def unwritten(self) -> int:
        """How many are remembered, and not written yet; any thread, a signal handler too."""

    def write(self, until: float) -> int:
        """Write what is not written yet; block until the monotonic second `until` at the most.

        Returns:
            How many could not be written by then, 0 if that was said before.
        """

    def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """Return what is kept, newest first, as `WorkItemInfo.to_dict()` with `host`, `stack` and `why`.

        Raises:
            InspectionError: The database cannot be read.
        """


Find = Callable[[], History | None]
"""Returns what keeps the items that ended badly, None if nothing does."""


def no_history() -> History | None:
    """Return None: nothing is kept."""
    return None


class Kept:
    """Tells the history, if there is one, of the items of one scheduler, and waits for it at the end.

    It is looked for at each of them: apps are loaded after the scheduler was made.
    """

    __slots__ = ("_find", "_reporter")

    def __init__(self, find: Find, reporter: ServiceThread) -> None:
        self._find = find
        self._reporter = reporter

    def __repr__(self) -> str:
        return f"<Kept in {self._find()!r}>"

    def open(self) -> None:
        """Have it get ready; raises nothing."""
        history = self._find()
        if history is not None:
            try:
                history.open()
            except RuntimeError as error:
                # The first item that ends badly tries again.
                scheduler_logger.debug("The history has no thread yet: %r", error)

    def keep(self, item: WorkItem, stack: str | None, why: str | None) -> None:
        """Remember an item that has ended; raises nothing, in whatever thread it is."""
        history = self._find()
        if history is not None:
            try:
                history.keep(item.info(), stack, why)
            except Exception:
                scheduler_logger.exception("%s could not be kept for the history", item)

    @property
    def pending(self) -> bool:
        """See `LastWrites.pending`."""
        history = self._find()
        return history is not None and history.unwritten > 0

    def write(self, until: float) -> None:
        """See `LastWrites.write`."""
        history = self._find()
        lost = 0 if history is None else history.write(until)
        if lost:
            # By the reporter, as all last records: a handler of the log may be stuck.
            self._reporter.post(lambda: _tell(lost))
            self._reporter.flush(_TELLING_SECONDS)


_TELLING_SECONDS = 0.1


def _tell(lost: int) -> None:
    lifecycle_logger.warning(
        "%d work item(s) that ended badly or moved are missing in the history: the database did not take them in time",
        lost,
    )
