"""An observer that writes down what it is told."""

import threading

from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import NullObserver
from django_qbwi.core.records import WorkItemStatus


class RecordingObserver(NullObserver):
    """Keeps each event as `(event, item, status)`, in order; any thread.

    `announces` and `follows` are plain attributes, for the test to set.
    """

    def __init__(self, *, announces: bool = False, follows: bool = False) -> None:
        self.announces = announces
        self.follows = follows
        self.events: list[tuple[str, WorkItem, WorkItemStatus]] = []
        self.errors: list[Exception] = []
        self.overdue_items: list[tuple[WorkItem, str, bool]] = []
        self.threads: list[tuple[str, str]] = []

    def names(self, item: WorkItem | None = None) -> list[str]:
        """Return the names of the events, of one item or of all."""
        return [event for event, about, _ in self.events if item is None or about is item]

    def statuses(self, event: str = "finished") -> list[WorkItemStatus]:
        """Return the status that each item had at an event."""
        return [status for name, _, status in self.events if name == event]

    def _note(self, event: str, item: WorkItem) -> None:
        self.threads.append((event, threading.current_thread().name))
        self.events.append((event, item, item.status))

    def queued(self, item: WorkItem) -> None:
        self._note("queued", item)

    def rejected(self, item: WorkItem, error: Exception) -> None:
        self.errors.append(error)
        self._note("rejected", item)

    def started(self, item: WorkItem) -> None:
        self._note("started", item)

    def finished(self, item: WorkItem) -> None:
        self._note("finished", item)

    def retried(self, item: WorkItem) -> None:
        self._note("retried", item)

    async def astarted(self, item: WorkItem) -> None:
        self._note("astarted", item)

    async def afinished(self, item: WorkItem) -> None:
        self._note("afinished", item)

    def late(self, item: WorkItem) -> None:
        self._note("late", item)

    def overdue(self, item: WorkItem, stack: str, replaced: bool) -> None:
        self.overdue_items.append((item, stack, replaced))
        self._note("overdue", item)
