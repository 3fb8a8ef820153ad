"""Places in an item where a test holds it, and the waits of tests."""

import asyncio
import threading
import time
from collections.abc import Callable

from django_qbwi.core.cancellation import CancellationToken

PATIENCE = 30
"""Seconds until a wait of a test gives up and fails; nothing waits that long unless it is broken."""


def until(happened: Callable[[], object]) -> None:
    """Let other threads run until `happened()` is true."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0)


class Gate:
    """An item that reports its start, stays until it is let go, and never looks at its token."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, token: CancellationToken) -> None:
        self.entered.release()
        assert self.opened.wait(PATIENCE)

    async def hold(self, token: CancellationToken) -> None:
        """The same as an async item; the loop goes on meanwhile."""
        self.entered.release()
        while not self.opened.is_set():
            await asyncio.sleep(0.001)

    def await_entered(self, times: int = 1) -> None:
        """Wait until it was entered `times` more."""
        for _ in range(times):
            assert self.entered.acquire(timeout=PATIENCE)

    def open(self) -> None:
        """Let all items go on, these and later ones."""
        self.opened.set()
