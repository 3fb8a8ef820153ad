"""Thread locals in which libraries keep the user or the request: empty for an item that runs in its caller's thread.

An item in a thread of its own sees nothing of them. One that runs at the call would find the request's user there, and
a test would pass for code that fails in production. Context variables need nothing of this: an item has a new context.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

KNOWN = (
    ("crum", "_thread_locals"),
    ("cid.locals", "_thread_locals"),
    ("django_currentuser.middleware", "_thread_locals"),
    ("django_middleware_global_request.middleware", "GLOBAL_REQUEST_STORAGE"),
    ("easyaudit.middleware.easyaudit", "_thread_locals"),
    ("log_request_id", "local"),
    ("threadlocals.threadlocals", "_threadlocals"),
)
"""Modules, looked at only where they are imported, and where in them a thread local is."""


class Emptied:
    """Has the known thread locals empty for this thread, and puts back what was there at the end of the block.

    No generator: `contextlib` sets attributes of an exception that passes through, which its class may refuse.
    """

    __slots__ = ("_kept",)

    def __enter__(self) -> None:
        found = [vars(local) for local in _known()]
        self._kept = [(values, dict(values)) for values in found]
        for values in found:
            values.clear()

    def __exit__(self, *exc_info: object) -> None:
        for values, before in self._kept:
            values.clear()
            values.update(before)


def _known() -> Iterator[threading.local]:
    for name, attribute in KNOWN:
        found = getattr(sys.modules.get(name), attribute, None)
        # A library may have moved on to context variables.
        if isinstance(found, threading.local):
            yield found
