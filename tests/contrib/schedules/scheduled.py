"""Functions that are scheduled, under the names that their decorators expect; they are declared by the tests."""

from __future__ import annotations

import threading
from typing import Any

from django_qbwi import background_work_item

released = threading.Event()


def plain(token: Any) -> None:
    """Do nothing."""


@background_work_item(name="with options", timeout=7)
def decorated(token: Any) -> None:
    """Do nothing."""


async def asynchronous(token: Any) -> None:
    """Do nothing."""


def wants_more(token: Any, what: str) -> None:
    """Do nothing."""


def generates(token: Any) -> Any:
    """Do nothing."""
    yield


class Thing:
    """Something with a method."""

    @background_work_item
    def method(self, token: Any) -> None:
        """Do nothing."""


def _shadowed(token: Any) -> None:
    """Do nothing."""


shadowed = _shadowed


def _shadowed(token: Any) -> None:  # type: ignore[no-redef]
    """Take the name of the one above."""
