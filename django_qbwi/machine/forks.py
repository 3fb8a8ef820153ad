"""Whether this is still the process in which something was made, or a forked child of it."""

from __future__ import annotations

import os


class OwnProcess:
    """Knows the process in which it was made from its forked children.

    To ask the system for the pid takes a microsecond where system calls are watched (containers, virtual machines), and
    is asked for behind each item. Where a hook runs in every forked child, that says it instead: `left` is set there.
    """

    __slots__ = ("asks", "left", "pid")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.asks = True
        """Whether the system is asked: no hook is certain to run in a child."""
        self.left = False
        """True in a forked child; set by its hook."""

    def __repr__(self) -> str:
        return f"<OwnProcess pid={self.pid} is_here={self.is_here()}>"

    def is_here(self) -> bool:
        """Return whether this is that process; any thread, never blocks."""
        return not self.left and (not self.asks or os.getpid() == self.pid)
