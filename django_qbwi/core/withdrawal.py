"""One call of `WorkItemHandle.cancel`: its steps, and who takes those that an exception has cut off.

In the main thread an exception out of a signal handler (Ctrl-C, a server's SystemExit) may come between any two steps.
Between leaving the queue and being settled an item is known to nobody but the one who cancels it: forgotten there, it
would be waited for without an end, by its waiters and by the exit of the process.
"""

from __future__ import annotations

from typing import Protocol

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import Lock, holding
from django_qbwi.machine.service_thread import ServiceThread

logger = SafeLogger("django_qbwi.scheduler")


class Canceller(Protocol):
    """What a withdrawal asks of the scheduler."""

    keeper: ServiceThread
    lock: Lock

    def can_leave(self, item: WorkItem) -> bool:
        """Return whether an item waits in a queue."""

    def is_ended_by(self, item: WorkItem, by: object) -> bool:
        """Return whether `by` has taken the item out of its queue, and not settled it yet."""

    def leave_queue(self, item: WorkItem, status: WorkItemStatus, by: object = None) -> None:
        """Move a queued item to the ending ones."""

    def settle(self, item: WorkItem) -> None:
        """Take the last steps of an item."""

    def tell_end(self, item: WorkItem) -> None:
        """Have the end of an item recorded and announced."""

    def wake_if_empty(self) -> None:
        """Wake who waits for nothing to be left."""


class Withdrawal:
    """Cancels one item, once.

    - An item that it has taken out of the queue is its own: nobody else tells of its end, or settles it.
    - Each step can be taken again; only the telling is begun once at the most.
    - Steps that an exception has cut off are taken by the keeper, whom no signal handler's exception reaches.
    """

    __slots__ = ("_first", "_item", "_message", "_scheduler", "_telling", "_told")

    def __init__(self, scheduler: Canceller, item: WorkItem, message: str | None) -> None:
        self._scheduler = scheduler
        self._item = item
        # Here, where nothing has happened yet: it may be user code.
        self._message = None if message is None else str(message)
        self._first = self._telling = self._told = False

    def __repr__(self) -> str:
        return f"<Withdrawal item={self._item!r} told={self._told}>"

    def run(self) -> bool:
        """Take all steps in this thread; return whether this was the first cancellation of an item not ended."""
        try:
            if not holding(self._scheduler.lock, self._take):
                return False
            if self._first:
                self._item.token._deliver()
            self._end()
            return self._first
        except BaseException:
            # Nothing is swallowed: a Ctrl-C reaches the caller at once, and the rest is not left undone.
            self._scheduler.keeper.post(self._complete)
            raise

    def _take(self) -> bool:
        """Cancel the token, and take the item out of its queue, if it is there; False if it has ended, not by this.

        The caller holds the lock.
        """
        item, scheduler = self._item, self._scheduler
        if item.ending is not None and not scheduler.is_ended_by(item, self):
            return False
        if item.token._request(CancelReason.REQUESTED, self._message):
            self._first = True
        if scheduler.can_leave(item) or scheduler.is_ended_by(item, self):
            scheduler.leave_queue(item, WorkItemStatus.CANCELLED, self)
        return True

    def _end(self) -> None:
        """Tell of the end of an item of its own, and settle it."""
        item, scheduler = self._item, self._scheduler
        if not scheduler.is_ended_by(item, self):
            return
        try:
            if not self._telling:
                self._telling = True
                scheduler.tell_end(item)
                self._told = True
        finally:
            scheduler.settle(item)

    def _complete(self) -> None:
        """Take the steps that were cut off, in the keeper's thread."""
        item, scheduler = self._item, self._scheduler
        # All the others may be done.
        holding(scheduler.lock, scheduler.wake_if_empty)
        if self._telling and not self._told:
            logger.info("Telling the end of %s id=%s, %s, was interrupted", item.name, item.id, item.status)
        holding(scheduler.lock, self._take)
        try:
            if item.token.is_cancellation_requested:
                # Cut off in the middle of its callbacks, it has been the first one.
                item.token._deliver()
        finally:
            self._end()
