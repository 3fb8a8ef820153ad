"""mod_wsgi, by the module that it gives to Python code; in daemon mode, and inside Apache's own processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost

_APACHE_SECONDS = 3.0
"""Apache's own limit when it stops or restarts, from the moment at which its processes are told."""
_DAEMON_SECONDS = 5.0
"""The default of shutdown-timeout, which nothing shows to Python code."""


class ModWsgiHost(ServerHost):
    """A process of mod_wsgi, which drops all signal handlers of Python code, and has a hook for the end instead."""

    name = "mod_wsgi"
    is_server = True
    is_final = True
    exits_by_exception = False
    takes_handlers = False
    has_exit_hook = True
    shares_its_process = True

    def __init__(self, mod_wsgi: Any) -> None:
        self._mod_wsgi = mod_wsgi
        self._is_daemon = bool(getattr(mod_wsgi, "process_group", ""))
        self._reason = ""

    def limit(self, signum: int | None) -> float | None:
        """3 s after a signal, which may be Apache's own end; shutdown-timeout after the daemon's own reasons."""
        return _DAEMON_SECONDS if self._is_daemon and self._reason not in ("", "shutdown_signal") else _APACHE_SECONDS

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Subscribe to the end of the process: the call comes in the main thread, while requests may still run."""
        subscribe = getattr(self._mod_wsgi, "subscribe_shutdown", None)
        if subscribe is None:
            # An older mod_wsgi: the interpreter's exit is the first to tell.
            return

        def process_stopping(event: str, **details: Any) -> None:
            self._reason = str(details.get("shutdown_reason", ""))
            hold()

        subscribe(process_stopping)

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say how little time there is, and how to have more of it."""
        if shutdown_timeout <= _APACHE_SECONDS:
            return []
        return [
            (
                f"mod_wsgi gives work items {_APACHE_SECONDS:g} s when Apache stops or restarts, and "
                f"{_DAEMON_SECONDS:g} s when it recycles a daemon process, before "
                f'QBWI["SHUTDOWN_TIMEOUT"] ({shutdown_timeout:g} s) is over; keep items short, or take another server; '
                f"lower the setting to {_APACHE_SECONDS:g} if that is enough"
            )
        ]
