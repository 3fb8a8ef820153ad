"""How often killed threads of a pool are replaced: a limit that is a delay, not an end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.service_thread import ServiceThread

logger = SafeLogger("django_qbwi.scheduler")

_MAX_PER_MINUTE = 10
_MINUTE = 60.0
_TRY_AGAIN_SECONDS = 1.0


class Restarts:
    """Has a pool grow again behind a thread that was killed, at most ten times a minute at once.

    What is queued then may be the last item for hours: it is not left to the next one to start a thread.
    """

    def __init__(self, keeper: ServiceThread, clock: Callable[[], float], grow: Callable[[], object]) -> None:
        """Make it for one pool; `grow` starts one thread, if that is allowed and possible."""
        self._keeper = keeper
        self._clock = clock
        self._grow = grow
        self._last: deque[float] = deque(maxlen=_MAX_PER_MINUTE)
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<Restarts last={len(self._last)}>"

    def replace(self) -> None:
        """Start a thread now, or as soon as ten a minute allow it."""
        now = self._clock()
        due = self._last[0] + _MINUTE if len(self._last) == _MAX_PER_MINUTE else now
        if now >= due:
            self._last.append(now)
            self._grow()
        elif now >= self._due:
            self._due = due
            logger.critical(
                "More than %d workers were killed within a minute; the next one is started in %.0fs, or with an item",
                _MAX_PER_MINUTE,
                due - now,
            )
            self._keeper.call_at(due, self.replace)

    def try_again(self) -> None:
        """Start a thread in a second, since the system gave none, and there is no other that items could wait for."""
        self._keeper.call_at(self._clock() + _TRY_AGAIN_SECONDS, self._grow)
