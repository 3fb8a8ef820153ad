"""uWSGI, by the module that it gives to Python code."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost


class UwsgiHost(ServerHost):
    """A worker process of uWSGI, which has hooks of its own, and whose signals Python must not touch."""

    name = "uWSGI"
    is_server = True
    is_final = True
    exits_by_exception = False
    takes_handlers = False
    has_exit_hook = True

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._mercy = float(self._option("worker-reload-mercy") or 60)
        self.exit_hook_is_last = bool(self._option("skip-atexit-teardown"))

    def limit(self, signum: int | None) -> float | None:
        """worker-reload-mercy, after which the master kills."""
        return self._mercy

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Chain uwsgi.atexit: it runs after the requests, and before the interpreter's exit begins."""
        users_hook = getattr(self._uwsgi, "atexit", None)

        def atexit() -> None:
            _ignore_further_signals()
            try:
                if users_hook is not None:
                    users_hook()
            finally:
                hold()

        self._uwsgi.atexit = atexit

    def refusal(self) -> str | None:
        """Without threads items would stand still between two requests."""
        if getattr(self._uwsgi, "has_threads", 1):
            return None
        return "uWSGI runs without threads, and items would stand still between requests: start it with enable-threads"

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say which options cut items off."""
        found = []
        if self._mercy < shutdown_timeout:
            found.append(
                f"uWSGI kills its workers {self._mercy:g} s after it has told them to end, before "
                f'QBWI["SHUTDOWN_TIMEOUT"] ({shutdown_timeout:g} s) is over; start it with worker-reload-mercy = '
                f"{shutdown_timeout:g} or lower the setting"
            )
        if self._option("skip-atexit"):
            found.append("uWSGI runs with skip-atexit: items are lost whenever a worker ends; remove the option")
        return found

    def _option(self, name: str) -> Any:
        options = self._uwsgi.opt
        value = options.get(name, options.get(name.encode()))
        return value.decode() if isinstance(value, bytes) else value


def _ignore_further_signals() -> None:
    # The worker ends already. At the next signal uWSGI's own handler would leave the exit hooks where they are: the
    # terminal's Ctrl-C is followed by one of the master's. Its SIGKILL at worker-reload-mercy stays.
    # Not SIG_IGN, which the programs that items start would inherit.
    pid = os.getpid()

    def ignore(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != pid:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(signum, ignore)
