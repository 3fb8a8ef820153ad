"""The handles of this process's items, by id, so that the page can cancel them.

Another server process has other items and other handles. A handle stays here until its item has ended.
"""

from django_qbwi import WorkItemHandle

_HANDLES: dict[str, WorkItemHandle] = {}


def remember(handle: WorkItemHandle | None) -> None:
    """Keep a handle until its item has ended."""
    if handle is not None:  # None: the function was called directly, as a unit test does
        _HANDLES[handle.id] = handle
        handle.add_done_callback(forget)  # at once, if it has ended already


def forget(handle: WorkItemHandle) -> None:
    """Let go of a handle; called in the thread in which its item ends."""
    _HANDLES.pop(handle.id, None)


def find(item_id: str) -> WorkItemHandle | None:
    """Look up the handle of an item that this process has not forgotten."""
    return _HANDLES.get(item_id)
