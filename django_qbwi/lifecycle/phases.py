"""What a drain goes through, and what it asks of the server around it."""

from __future__ import annotations

import enum
from typing import Protocol


class Host(Protocol):
    """What the drain has to know of the server around it."""

    def limit(self, signum: int | None) -> float | None:
        """Seconds from the sign until the server kills, None if it does not; a plain read."""

    def beat(self) -> None:
        """Tell the server that the process is alive."""


class Phase(enum.IntEnum):
    """How far the end of the process has come; it only ever goes up."""

    RUNNING = 0
    """No sign yet."""
    SIGNED = 1
    """The clock runs."""
    HOLDING = 2
    """The last hook of the process holds the exit: it ends without anybody's help."""
    LETTING_GO = 3
    """Nothing is left, or the limit has come: the last moments and records."""
    OVER = 4
    """The records are written. From now on a stop signal does what it does without us."""
