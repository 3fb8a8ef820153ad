"""What is kept of items that have ended."""

from __future__ import annotations

from django_qbwi.core.items import WorkItem
from django_qbwi.core.runs import Ending
from django_qbwi.core.waiting import Waited


def for_history(item: WorkItem) -> WorkItem:
    """Return what is kept of an item that has ended: itself, or a copy that does not keep what it has raised alive.

    An exception may hold anything, a document of megabytes or a response; only a handle that somebody keeps has it.
    """
    ending = item.ending
    if ending is None or ending.exception is None:
        return item
    kept = object.__new__(WorkItem)
    # Made now, so that both have the same.
    _ = item.id
    for name in (*Waited.__slots__, *WorkItem.__slots__):
        if name != "__weakref__":
            setattr(kept, name, getattr(item, name))
    kept.waiters, kept.ended = None, True
    kept.ending = Ending(ending.status, ending.finished, ending.reason, ending.failure)
    return kept
