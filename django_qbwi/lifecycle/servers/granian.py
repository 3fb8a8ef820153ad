"""granian, whose workers end by a limit of its command line."""

from __future__ import annotations

from django_qbwi.lifecycle.servers.host import ServerHost


class GranianHost(ServerHost):
    """A worker process of granian, which waits for its workers without a limit unless it is given one."""

    name = "granian"
    is_server = True
    exits_by_exception = False

    def __init__(self, kill_timeout: float | None) -> None:
        self._kill_timeout = kill_timeout

    def limit(self, signum: int | None) -> float | None:
        """--workers-kill-timeout, None without it."""
        return self._kill_timeout
