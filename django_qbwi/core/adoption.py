"""Work that was started elsewhere, and runs already when it is taken in: it has no turn, no worker and no bound.

Lock: that of the registry.
"""

from __future__ import annotations

from django_qbwi.core.admission import Admission
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.machine.primitives import holding


class Adoption(Admission):
    """A registry that takes in what runs already; who brings it concludes, reports and settles it."""

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
