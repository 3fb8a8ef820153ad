"""Notices that an async item blocks the event loop, and names it with its stack.

Order of events: while async items are in flight, the keeper asks the loop for a sign of life once a second; one that
is not given within a second is a loop that stands still. Without async items nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.service_thread import ServiceThread

logger = SafeLogger("django_qbwi.scheduler")

LOOK_EVERY = 1.0
LAG_SECONDS = 1.0


class LoopMonitor:
    """Watches one event loop, from the keeper's thread; one warning for each time that it stands still."""

    def __init__(
        self,
        keeper: ServiceThread,
        clock: Callable[[], float],
        *,
        ask: Callable[[Callable[[], None]], None],
        is_busy: Callable[[], bool],
        describe: Callable[[], str],
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._ask = ask
        self._is_busy = is_busy
        self._describe = describe
        self._watching = False
        self._asked_at: float | None = None
        self._told = False

    def __repr__(self) -> str:
        return f"<LoopMonitor watching={self._watching} asked_at={self._asked_at}>"

    @property
    def stands_still(self) -> bool:
        """Whether the loop has not given a sign of life for a second; any thread, never blocks."""
        asked_at = self._asked_at
        return asked_at is not None and self._clock() - asked_at >= LAG_SECONDS

    def watch(self) -> None:
        """Watch until no async item is in flight; called whenever one starts, and cheap."""
        if not self._watching:
            self._watching = True
            self._arm()

    def look(self) -> None:
        """Ask the loop for a sign of life, or note that it has not given one."""
        if not self._is_busy():
            self._watching = False
            self._asked_at = None
            # Looked at again: an item may have started in between, which saw us watching.
            if self._is_busy():
                self.watch()
            return
        now = self._clock()
        if self._asked_at is None:
            self._asked_at, self._told = now, False
            self._ask(self._answer)
        elif not self._told and self.stands_still:
            self._told = True
            logger.warning(
                "The background event loop has stood still for %.1fs, and every async work item with it: %s",
                now - self._asked_at,
                self._describe(),
            )
        self._arm()

    def _answer(self) -> None:
        self._asked_at = None

    def _arm(self) -> None:
        self._keeper.call_at(self._clock() + LOOK_EVERY, self.look)
