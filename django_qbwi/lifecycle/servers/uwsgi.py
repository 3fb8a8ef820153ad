"""uWSGI, by the module that it gives to Python code."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost

_GRACEFUL = "unix_signal:15 gracefully_kill_them_all"
_IS_GRACEFUL = re.compile(r"unix_signal:\s*0*15 gracefully_kill_them_all")
_MERCY_SECONDS = 60
"""uWSGI's own value of worker-reload-mercy."""
_NO = frozenset({"false", "off", "no", "0"})
"""What uWSGI takes for a no, in any case."""
_EVIL = ("evil-reload-on-rss", "evil-reload-on-as")


class UwsgiHost(ServerHost):
    """A worker process of uWSGI, which has hooks of its own, and whose signals Python must not touch."""

    name = "uWSGI"
    is_server = True
    is_final = True
    exits_by_exception = False
    takes_handlers = False
    has_exit_hook = True
    has_fork_hooks = False

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._mercy = float(self._number("worker-reload-mercy", _MERCY_SECONDS))
        self.exit_hook_is_last = self._is_on("skip-atexit-teardown")

    @property
    def answers_requests(self) -> bool:
        """True in a worker; where the site is loaded once and forked, the process that loads it has no number."""
        worker_id = getattr(self._uwsgi, "worker_id", None)
        return worker_id is None or worker_id() > 0

    def limit(self, signum: int | None) -> float | None:
        """worker-reload-mercy, after which the master kills; None where there is no master."""
        return self._mercy if self._has_master() else None

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
        """Say which options cut items off, and which lines are missing; most projects have none of them."""
        found = [*self._about_the_master(shutdown_timeout), *self._about_kills()]
        if self._is_on("skip-atexit"):
            found.append("uWSGI runs with skip-atexit: items are lost whenever a worker ends; remove the option")
        return found

    def _about_the_master(self, shutdown_timeout: float) -> list[str]:
        if not self._has_master():
            return [
                (
                    "uWSGI runs without a master: a process that serves a request at SIGTERM is gone within 20 ms, and "
                    "its items are lost without a record; add the lines master = true and hook-master-start = "
                    f"{_GRACEFUL}"
                )
            ]
        found = []
        hooks = self._values("hook-master-start")
        if not any(_IS_GRACEFUL.fullmatch(hook) for hook in hooks):
            found.append(
                "uWSGI ends a worker that serves a request within 20 ms of SIGTERM, and its items are lost without a "
                f"record; add the line hook-master-start = {_GRACEFUL}"
                # As of 2.0.31, though all of them run.
                + (" below the other lines of that name: uWSGI shows us only the last one" if hooks else "")
            )
        if self._mercy < shutdown_timeout:
            found.append(
                f"uWSGI kills its workers {self._mercy:g} s after it has told them to end, before "
                f'QBWI["SHUTDOWN_TIMEOUT"] ({shutdown_timeout:g} s) is over; start it with worker-reload-mercy = '
                f"{shutdown_timeout:g} or lower the setting"
            )
        return found

    def _about_kills(self) -> list[str]:
        found = []
        harakiri = self._number("harakiri")
        if harakiri > 0:
            found.append(
                f"uWSGI kills a worker by SIGKILL when a request takes longer than harakiri ({harakiri} s), and all "
                "items of that worker are lost without a record; set it above what your longest request takes, or "
                "remove it"
            )
        found += [
            f"uWSGI kills a worker by SIGKILL when it is larger than {name}, and all its items are lost without a "
            f"record; use {name.removeprefix('evil-')}, which lets a worker end in good order"
            for name in _EVIL
            if self._number(name) > 0
        ]
        return found

    def _has_master(self) -> bool:
        # Asked late: where the site is loaded once and forked, the pid is known from the fork on.
        masterpid = getattr(self._uwsgi, "masterpid", None)
        return self._is_on("master") if masterpid is None else bool(masterpid())

    def _is_on(self, name: str) -> bool:
        values = self._values(name)
        return bool(values) and values[-1].lower() not in _NO

    def _number(self, name: str, default: int = 0) -> int:
        values = self._values(name)
        if not values:
            return default
        # As atoi() reads it.
        digits = re.match(r"\s*[+-]?\d+", values[-1])
        return int(digits[0]) if digits else 0

    def _values(self, name: str) -> list[str]:
        """Return all values of an option that uWSGI shows, in their order: bytes, True where it has none, or a list."""
        options = self._uwsgi.opt
        value = options.get(name, options.get(name.encode(), []))
        return [
            entry.decode(errors="replace") if isinstance(entry, bytes) else str(entry)
            for entry in (value if isinstance(value, list) else [value])
        ]


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
