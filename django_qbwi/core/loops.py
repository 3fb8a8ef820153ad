"""Event loops as seen from outside: how one is woken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


def loop_waker() -> tuple[asyncio.Future[None], Callable[[], None]]:
    """Return a future of the running loop, and what makes it done, once or more, from any thread."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake_from_thread() -> None:
        # A loop that is closed meanwhile has nobody left to wake.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    return woken, wake_from_thread
