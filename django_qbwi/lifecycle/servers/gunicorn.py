"""gunicorn: its master, and its workers of any class."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost


class GunicornMasterHost(ServerHost):
    """gunicorn's master with --preload: it loads the application, forks workers, and serves nothing itself."""

    name = "gunicorn master"
    is_server = True
    exits_by_exception = False
    answers_requests = False

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say that items run in a process that serves no requests."""
        return [
            (
                "a work item was queued in gunicorn's master process, while the application was preloaded; it runs "
                "there, and its threads do not exist in the workers. Queue from a request instead"
            )
        ]


class GunicornHost(ServerHost):
    """A worker process of gunicorn, of any worker class; some classes show the configuration only."""

    name = "gunicorn"
    is_server = True
    exits_by_exception = False
    has_exit_hook = True
    quits_workers = True

    def __init__(self, cfg: Any, worker: Any = None) -> None:
        self.cfg = cfg
        self.worker = worker
        self._graceful_timeout = float(cfg.graceful_timeout)
        self._timeout = float(cfg.timeout)
        self._heartbeat = _duplicate(worker)
        self.watched = self.is_final = worker is not None
        if type(worker).__module__ == "gunicorn.workers.gasgi":
            # Its own limit of 30 s is fixed; after it the rest is for the interpreter's exit.
            self.lifespan_seconds = 25.0
        self.resets_interrupt = "uvicorn" in type(worker).__module__

    def limit(self, signum: int | None) -> float | None:
        """graceful_timeout, which the master counts from its signal; when recycled, only the heartbeat counts."""
        if signum is not None or not self._is_recycled():
            return self._graceful_timeout
        return self._timeout or None if self._heartbeat is None else None

    def beat(self) -> None:
        """Touch the worker's file, as `WorkerTmp.notify` does, through a descriptor that outlives `worker.tmp`."""
        if self._heartbeat is not None:
            now = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._heartbeat, (now, now))

    def is_stopping(self) -> bool:
        """True after SIGTERM, after max-requests, and when the reloader has seen a change."""
        return self.worker is not None and not self.worker.alive

    def was_told_to_stop(self) -> bool:
        """True unless max-requests has ended it, in a worker whose handlers gunicorn has set after ours."""
        return self.is_stopping() and not self._is_recycled()

    def _is_recycled(self) -> bool:
        # Without a signal the worker's own count of requests tells why it stops.
        worker = self.worker
        return worker is not None and getattr(worker, "nr", 0) >= getattr(worker, "max_requests", float("inf"))

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Chain gunicorn's worker_exit hook: it runs after the requests, and before the interpreter's exit begins."""
        users_hook = self.cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            try:
                users_hook(server, worker)
            finally:
                hold()

        self.cfg.set("worker_exit", worker_exit)

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say when gunicorn gives less time than the settings ask for."""
        found = []
        if self._graceful_timeout < shutdown_timeout:
            found.append(
                f"gunicorn kills its workers {self._graceful_timeout:g} s after a stop signal, before "
                f'QBWI["SHUTDOWN_TIMEOUT"] ({shutdown_timeout:g} s) is over; start it with --graceful-timeout '
                f"{shutdown_timeout:g} or lower the setting"
            )
        if self._heartbeat is None:
            found.append(
                "gunicorn's heartbeat file was not found: a worker that is recycled while items run is killed after "
                "gunicorn's --timeout"
            )
        return found


def _duplicate(worker: Any) -> int | None:
    try:
        return os.dup(worker.tmp.fileno())
    except (AttributeError, OSError, ValueError):
        return None
