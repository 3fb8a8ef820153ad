"""Which item runs here: known in the item's own context, and in the sync code that it calls from there."""

from __future__ import annotations

from contextvars import ContextVar

from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of

_current: ContextVar[WorkItem] = ContextVar("django_qbwi_current_work_item")


def current_work_item() -> WorkItemHandle | None:
    """Return the handle of the item that is running here, None outside of an item; also in `sync_to_async` code."""
    item = _current.get(None)
    return None if item is None else handle_of(item)


def current_item() -> WorkItem | None:
    """Return the live item that is running here, for the scheduler."""
    return _current.get(None)


def enter_item(item: WorkItem) -> None:
    """Make `item` the current one of this context, which belongs to it alone."""
    _current.set(item)
