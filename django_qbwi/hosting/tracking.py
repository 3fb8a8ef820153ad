"""What is told of that others have started: it runs already, and is followed to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_qbwi.core.items import WorkItemHandle, handle_of
from django_qbwi.hosting.process import Process
from django_qbwi.hosting.unusual import runs_nothing


class Tracking:
    """Brings what was started elsewhere before the scheduler of this process."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Process]) -> None:
        """Make it; `find` returns the state of this process."""
        self._find = find

    def __repr__(self) -> str:
        return "<Tracking>"

    def track(self, started: Any, name: str | None) -> WorkItemHandle:
        """Take in what runs already, by a `name` that was validated; see the public function.

        It is so too where items are run at the call, or captured: this one runs, whoever looks.
        """
        here = self._find()
        assembly = here.admitting or here.admit()
        item = assembly.tracker.make_item(started, name)
        if runs_nothing(here, assembly, item):
            return handle_of(item)
        here.notice_handlers()
        if here.host.watched:
            here.watch()
        return handle_of(assembly.tracker.take_in(item))
