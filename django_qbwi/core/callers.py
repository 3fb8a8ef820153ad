"""Those who wait for room in a queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Pool

Bound = tuple[Pool[WorkItem] | None, bool]
"""Which room somebody waits for: that of a pool; or the one of all items that wait for their time, by True."""


class Caller:
    """One who waits for room for an item.

    Lock: that of the item's owner guards `wake`, which is called under it, quick, and raises nothing.
    """

    __slots__ = ("bound", "delay", "found", "item", "parent", "wake")

    def __init__(self, item: WorkItem, delay: float, parent: WorkItem | None) -> None:
        """Make it; `parent` is the item that queues `item`, None for any other caller."""
        self.item = item
        self.delay = delay
        """Seconds for which the item is to wait for its time."""
        self.bound: Bound = (None, True) if delay > 0 else (item.lane.pool, False)
        """The same for those who wait for the same room."""
        self.parent = parent
        self.found: WorkItem | None = None
        """The item that waits already, and stands for `item`; then nothing is queued."""
        self.wake: Callable[[], object] = _nobody

    def __repr__(self) -> str:
        return f"<Caller item={self.item!r} parent={self.parent!r}>"

    def listening(self) -> AbstractContextManager[Any]:
        """Return what has it woken, for the time of a block, when the token of its parent is cancelled."""
        if self.parent is None:
            return contextlib.nullcontext()
        return self.parent.token._register(lambda: self.wake(), wakes=True)


def _nobody() -> None:
    """Wake nobody: it has not begun to wait."""
