"""The handles of this process's items, by id, so that the page can cancel them.

Another server process has other items and other handles. A handle stays here until its item has ended.
"""

from django_qbwi import WorkItemHandle

_HANDLES: dict[str, WorkItemHandle] = {}


def remember(handle: WorkItemHandle | None) -> None:
    """Keep a handle, and let go of those whose items have ended."""
    for item_id, known in list(_HANDLES.items()):
        if known.info.finished_at:
            _HANDLES.pop(item_id, None)
    if handle is not None:  # None: the function was called directly, as a unit test does
        _HANDLES[handle.id] = handle


def find(item_id: str) -> WorkItemHandle | None:
    """Look up the handle of an item that this process has not forgotten."""
    return _HANDLES.get(item_id)
