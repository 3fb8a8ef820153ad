"""ASGI lifespan: the server's own word that it serves, and that it has finished its requests.

The hold happens on the server's event loop, which must go on: gunicorn's heartbeat beats there. So it looks, and sleeps
in between; it never closes (the last hook of the process does), and leaves what goes on to that hook when the server's
limit for its lifespan comes near.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.lifecycle")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOK_EVERY = 0.05


class Hosting(Protocol):
    """Is told of the two moments, on the server's event loop."""

    def serving_begins(self) -> None:
        """The server is about to serve."""

    def serving_ends(self) -> tuple[DrainCoordinator | None, float | None]:
        """Take this for a sign if there was none; return what to hold for, and the most seconds, None for no limit."""


class LifespanApplication:
    """An ASGI application that answers the lifespan events itself, and passes everything else on.

    For applications that know no lifespan, as Django's. What goes wrong here is logged: the server starts and ends.
    """

    def __init__(
        self,
        application: Application,
        hosting: Hosting,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._application = application
        self._hosting = hosting
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<LifespanApplication {self._application!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the whole life of the server."""
        if scope["type"] != "lifespan":
            await self._application(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._begin()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._end()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _begin(self) -> None:
        try:
            self._hosting.serving_begins()
        except Exception:
            logger.exception("Looking at the server, at the start of its lifespan, failed")

    async def _end(self) -> None:
        try:
            coordinator, at_most = self._hosting.serving_ends()
            if coordinator is not None:
                await self._hold(coordinator, at_most)
        except Exception:
            logger.exception("Holding the end of the server's lifespan failed")

    async def _hold(self, coordinator: DrainCoordinator, at_most: float | None) -> None:
        until = None if at_most is None else self._clock() + at_most
        while not coordinator.look() and (until is None or self._clock() < until):
            await self._sleep(_LOOK_EVERY)
