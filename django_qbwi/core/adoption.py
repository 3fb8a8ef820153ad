"""Work that is started elsewhere, before it is taken in or by its caller: it has no turn, no worker and no bound.

Lock: that of the registry.
"""

from __future__ import annotations

from typing import NoReturn

from django_qbwi.core.admission import Admission
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import Observer
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.primitives import holding


class Adoption(Admission):
    """A registry that takes in what is run elsewhere; who brings it concludes, reports and settles it."""

    observer: Observer[WorkItem]

    def adopt(self, item: WorkItem, ident: int | None, thread: str | None) -> WorkItemRejected | None:
        """Count `item` as running, in the step that sees that it may still come.

        Args:
            item: One of `make_item`, in a lane that nobody takes from.
            ident: Of the thread that runs it, if that is known.
            thread: The name of that thread.

        Returns:
            Why it is refused, None if it was taken in.
        """
        return holding(self.lock, self._adopt, item, ident, thread)

    def _adopt(self, item: WorkItem, ident: int | None, thread: str | None) -> WorkItemRejected | None:
        refusal = self._refusal_at_the_end(item)
        if refusal is None:
            run = item.run
            run.ident, run.thread = ident, thread
            # Before it is in there, nobody asks for its token.
            run.token.begin()
            # The store that makes it RUNNING, and in the next step it is counted.
            run.started = self.clock()
            self._running[item] = None
        return refusal

    def run_at_once(self, item: WorkItem) -> None:
        """Count `item` as running without an executor: its caller runs, concludes and settles it.

        Raises:
            SchedulerDraining, SchedulerClosed: Refused.
        """
        refusal = holding(self.lock, self._refusal, item)
        if refusal is not None:
            self._reject(item, refusal)
        self.observer.queued(item)
        holding(self.lock, self._run_here, item)

    def _run_here(self, item: WorkItem) -> None:
        item.status.then(WorkItemStatus.RUNNING)
        item.run.started = self.clock()
        self._running[item] = None

    def _reject(self, item: WorkItem, refusal: WorkItemRejected) -> NoReturn:
        self.observer.rejected(item, refusal)
        raise refusal
