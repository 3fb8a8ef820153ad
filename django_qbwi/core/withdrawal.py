"""One call of `WorkItemHandle.cancel`: its steps, and who takes those that an exception has cut off.

In the main thread an exception out of a signal handler (Ctrl-C, a server's SystemExit) may come between any two steps.
Between leaving the queue and being settled an item is known to nobody but the one who cancels it: forgotten there, it
would be waited for without an end, by its waiters and by the exit of the process.
"""

from __future__ import annotations

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")


class Withdrawal:
    """Cancels one item, once.

    - An item that it has taken out of the queue is its own: nobody else tells of its end, or settles it.
    - Each step can be taken again; only the telling is begun once at the most.
    - Steps that an exception has cut off are taken by the keeper, whom no signal handler's exception reaches.
    """

    __slots__ = ("_item", "_message", "_telling", "_told")

    def __init__(self, item: WorkItem, message: str | None) -> None:
        self._item = item
        # Here, where nothing has happened yet: it may be user code.
        self._message = None if message is None else str(message)
        self._telling = self._told = False

    def __repr__(self) -> str:
        return f"<Withdrawal item={self._item!r} told={self._told}>"

    def run(self) -> bool:
        """Take all steps in this thread; return whether this was the first cancellation of an item not ended."""
        item = self._item
        try:
            if not self._leave_queue():
                return False
            first = item.token._cancel(CancelReason.REQUESTED, self._message)
            self._end()
            return first
        except BaseException:
            # Nothing is swallowed: a Ctrl-C reaches the caller at once, and the rest is not left undone.
            item.owner.keeper.post(self._complete)
            raise

    def _leave_queue(self) -> bool:
        """Take the item out of the queue, if it is there; False if it has ended already, not by this."""
        item, scheduler = self._item, self._item.owner
        with scheduler.lock:
            if item.status is WorkItemStatus.QUEUED or scheduler.is_ended_by(item, self):
                scheduler.leave_queue(item, WorkItemStatus.CANCELLED, self)
                return True
            return not item.status.is_terminal

    def _end(self) -> None:
        """Tell of the end of an item of its own, and settle it."""
        item, scheduler = self._item, self._item.owner
        if not scheduler.is_ended_by(item, self):
            return
        item.cancel_reason = item.token.reason
        try:
            if not self._telling:
                self._telling = True
                scheduler.observer.finished(item)
                self._told = True
        finally:
            scheduler.settle(item)

    def _complete(self) -> None:
        """Take the steps that were cut off, in the keeper's thread."""
        item, scheduler = self._item, self._item.owner
        with scheduler.lock:
            # All the others may be done.
            scheduler.wake_if_empty()
        if self._telling and not self._told:
            logger.info("Telling the end of %s id=%s, %s, was interrupted", item.name, item.id, item.status)
        goes_on = self._leave_queue()
        try:
            if goes_on:
                item.token._cancel(CancelReason.REQUESTED, self._message)
            if item.token.is_cancellation_requested:
                # Cut off in the middle of its callbacks, it has been the first one.
                item.token._deliver()
        finally:
            self._end()
