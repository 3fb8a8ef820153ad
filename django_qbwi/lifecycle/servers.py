"""Which server hosts this process: its own stop limit, its heartbeat, its stop flag, and how its process dies.

All of it was observed on the real servers. A server is recognised by the handler that it set for SIGTERM, since that
is bound to the object which knows the limits; a search through the garbage collector would take up to a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any


class ServerHost:
    """A process that we know nothing special of: a server that was not recognised, or none at all."""

    name = "unknown"
    is_server = False
    watched = False
    """Whether `is_stopping` has to be asked now and then, since no signal tells."""
    exits_by_exception = True
    """Whether SystemExit in the main thread ends the process in good order, as it does where nobody serves."""
    takes_handlers = True
    """Whether signal handlers set by Python code work, and do not break the server's own."""
    exit_hook_is_last = False
    """Whether nothing runs after the server's exit hook."""
    resets_interrupt = False
    """Whether SIGINT has its default action behind the server's handler, instead of Python's own."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def limit(self, signum: int | None) -> float | None:
        """Seconds from the sign until the server kills this process, None if it does not; a plain read."""
        return None

    def beat(self) -> None:
        """Tell the server that the process is alive."""

    def is_stopping(self) -> bool:
        """True once the server's own flag says that this process ends."""
        return False

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Have the server call `hold` when it has finished its requests, where it has a hook for that."""

    def refusal(self) -> str | None:
        """Why no item can run here, with the cure; None where items can."""
        return None

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """What an operator should know at the first item, in words that say what to change."""
        return []


class CommandHost(ServerHost):
    """A management command, a script or a shell: nobody's server."""

    name = "command"


class RunserverHost(ServerHost):
    """Django's development server."""

    name = "runserver"
    is_server = True
    exits_by_exception = False


class RunserverParentHost(ServerHost):
    """The process of runserver that only watches over the one that serves; it runs no items."""

    name = "runserver parent"
    is_server = True
    exits_by_exception = False


class GunicornMasterHost(ServerHost):
    """gunicorn's master with --preload: it loads the application, forks workers, and serves nothing itself."""

    name = "gunicorn master"
    is_server = True
    exits_by_exception = False

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say that items run in a process that serves no requests."""
        return [
            (
                "a work item was queued in gunicorn's master process, while the application was preloaded; it runs "
                "there, and its threads do not exist in the workers. Queue from a request instead"
            )
        ]


class WaitressHost(ServerHost):
    """waitress sets no handler; SystemExit in the main thread lets it finish its requests."""

    name = "waitress"
    is_server = True
    exits_by_exception = True


class UvicornHost(ServerHost):
    """uvicorn restores the handlers that it found and raises the signal again, when it has finished."""

    name = "uvicorn"
    is_server = True
    exits_by_exception = False


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


class GunicornHost(ServerHost):
    """A worker process of gunicorn, of any worker class; some classes show the configuration only."""

    name = "gunicorn"
    is_server = True
    exits_by_exception = False

    def __init__(self, cfg: Any, worker: Any = None) -> None:
        self._cfg = cfg
        self.worker = worker
        self._graceful_timeout = float(cfg.graceful_timeout)
        self._timeout = float(cfg.timeout)
        self._heartbeat = _duplicate(worker)
        self.watched = worker is not None
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

    def _is_recycled(self) -> bool:
        # Without a signal the worker's own count of requests tells why it stops.
        worker = self.worker
        return worker is not None and getattr(worker, "nr", 0) >= getattr(worker, "max_requests", float("inf"))

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Chain gunicorn's worker_exit hook: it runs after the requests, and before the interpreter's exit begins."""
        users_hook = self._cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            try:
                users_hook(server, worker)
            finally:
                hold()

        self._cfg.set("worker_exit", worker_exit)

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


class UwsgiHost(ServerHost):
    """A worker process of uWSGI, which has hooks of its own, and whose signals Python must not touch."""

    name = "uWSGI"
    is_server = True
    exits_by_exception = False
    takes_handlers = False

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


def identify(argv: list[str], environ: dict[str, str]) -> ServerHost:
    """Tell what hosts this process, from what is visible now; cheap, may be asked again later."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and hasattr(uwsgi, "opt"):
        return UwsgiHost(uwsgi)
    owner = _handler_owner(signal.SIGTERM)
    host = recognise()
    if host is not None:
        return host
    if owner is not None:
        return ServerHost()
    if "runserver" in argv[1:2]:
        reloads = "--noreload" not in argv
        is_parent = reloads and environ.get("RUN_MAIN") != "true"
        return RunserverParentHost() if is_parent else RunserverHost()
    if "gunicorn.arbiter" in sys.modules:
        return GunicornMasterHost()
    if is_management_command(argv):
        return CommandHost()
    return ServerHost()


def recognise() -> ServerHost | None:
    """Tell the server by the objects whose methods handle signals, None if none is known.

    SIGTERM belongs to whoever serves. Where that is an event loop or nobody yet, gunicorn's workers still have SIGUSR1,
    or inherit SIGTTIN from their master.
    """
    for name in ("SIGTERM", "SIGUSR1", "SIGTTIN"):
        signum = getattr(signal, name, None)
        owner = None if signum is None else _handler_owner(signum)
        host = None if owner is None else from_handler_owner(owner)
        if host is not None:
            return host
    return None


def recognise_on_loop() -> ServerHost | None:
    """Tell the server by the signal handlers of the event loop that runs in this thread."""
    try:
        handlers = getattr(asyncio.get_running_loop(), "_signal_handlers", {})
    except RuntimeError:
        return None
    callback = getattr(handlers.get(signal.SIGTERM), "_callback", None)
    owner = getattr(callback, "__self__", None)
    return None if owner is None else from_handler_owner(owner)


def from_handler_owner(owner: Any) -> ServerHost | None:
    """Tell the server by the object whose method handles a signal."""
    if _is_a(owner, "gunicorn.workers.base", "Worker"):
        return GunicornHost(owner.cfg, owner)
    if _is_a(owner, "gunicorn.arbiter", "Arbiter"):
        return GunicornMasterHost() if owner.pid == os.getpid() else GunicornHost(owner.cfg)
    if _is_a(owner, "uvicorn.server", "Server"):
        worker = getattr(getattr(owner.config, "callback_notify", None), "__self__", None)
        if worker is not None and _is_a(worker, "gunicorn.workers.base", "Worker"):
            return GunicornHost(worker.cfg, worker)
        return UvicornHost()
    if type(owner).__module__.startswith("granian."):
        limit = getattr(owner, "workers_kill_timeout", None)
        return GranianHost(None if limit is None else float(limit))
    return None


def knows_more(host: ServerHost, than: ServerHost) -> bool:
    """True if `host`, which was found later, is to take the place of `than`."""
    if isinstance(than, UwsgiHost):
        return False
    if isinstance(than, GunicornHost):
        return isinstance(host, GunicornHost) and than.worker is None and host.worker is not None
    return type(host) is not type(than)


def after_first_request() -> ServerHost:
    """Tell the server of a process that serves requests and was not recognised by a handler."""
    return WaitressHost() if "waitress.server" in sys.modules else _Served()


def is_management_command(argv: list[str]) -> bool:
    """True if the process was started by manage.py, django-admin or `python -m django`."""
    program = argv[0] if argv else ""
    name = os.path.basename(program)
    return name in {"manage.py", "django-admin", "django-admin.exe"} or (
        name == "__main__.py" and os.path.basename(os.path.dirname(program)) == "django"
    )


class _Served(ServerHost):
    name = "server"
    is_server = True
    exits_by_exception = False


def _handler_owner(signum: int) -> Any:
    return getattr(signal.getsignal(signum), "__self__", None)


def _is_a(value: Any, module: str, name: str) -> bool:
    return any(base.__module__ == module and base.__name__ == name for base in type(value).__mro__)


def _duplicate(worker: Any) -> int | None:
    try:
        return os.dup(worker.tmp.fileno())
    except (AttributeError, OSError, ValueError):
        return None
