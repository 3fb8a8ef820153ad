"""Tells which server hosts this process.

A server is recognised by the handler that it set for SIGTERM, since that is bound to the object which knows the limits.
A search through the garbage collector would take up to a second. What has no such handler is recognised by what runs
in its main thread, never by what was imported.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType
from typing import Any

from django_qbwi.lifecycle.servers import queues, runserver
from django_qbwi.lifecycle.servers.granian import GranianHost, spawned_worker
from django_qbwi.lifecycle.servers.gunicorn import GunicornHost, GunicornMasterHost
from django_qbwi.lifecycle.servers.host import (
    CommandHost,
    HypercornHost,
    ServedHost,
    ServerHost,
    UvicornHost,
    WaitressHost,
)
from django_qbwi.lifecycle.servers.mod_wsgi import ModWsgiHost
from django_qbwi.lifecycle.servers.running import owners, runs
from django_qbwi.lifecycle.servers.test_run import TestHost, is_set_up
from django_qbwi.lifecycle.servers.uwsgi import UwsgiHost


def identify(argv: list[str], environ: dict[str, str]) -> ServerHost:
    """Tell what hosts this process, from what is visible now; cheap, may be asked again later."""
    uwsgi = sys.modules.get("uwsgi")
    if isinstance(getattr(uwsgi, "masterpid", None), BuiltinFunctionType):
        # A project's own module of that name has no functions of the server's.
        return UwsgiHost(uwsgi)
    mod_wsgi = sys.modules.get("mod_wsgi")
    if mod_wsgi is not None and hasattr(mod_wsgi, "process_group"):
        # The package of that name, which starts the server, has no process group.
        return ModWsgiHost(mod_wsgi)
    host = queues.by_stack() or recognise() or spawned_worker(argv, environ)
    if host is not None:
        return host
    if _handler_owner(signal.SIGTERM) is not None:
        return ServerHost()
    host = runserver.by_command_line(argv, environ)
    if host is not None:
        return host
    if runs("gunicorn.arbiter"):
        return GunicornMasterHost()
    if is_management_command(argv):
        return CommandHost()
    return ServerHost()


def test_run(argv: list[str]) -> ServerHost | None:
    """Tell a test run by the command that is about to run, or by what runs; None if it is none."""
    return TestHost() if (is_management_command(argv) and argv[1:2] == ["test"]) or is_set_up() else None


def recognise() -> ServerHost | None:
    """Tell the server by the objects whose methods handle signals, None if none is known.

    SIGTERM belongs to whoever serves. Where that is an event loop or nobody yet, gunicorn's workers still have SIGUSR1,
    or inherit SIGTTIN from their master, which tells no worker. A reloader's handler is bound to nothing, and known by
    its module.
    """
    for name in ("SIGTERM", "SIGUSR1", "SIGTTIN"):
        signum = getattr(signal, name, None)
        owner = None if signum is None else _handler_owner(signum)
        host = None if owner is None else from_handler_owner(owner)
        if host is not None:
            return _with_worker(host)
    return runserver.by_handler(signal.getsignal(signal.SIGTERM))


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
    if than.is_final:
        return False
    if host.is_final:
        return True
    if isinstance(than, GunicornHost):
        return isinstance(host, GunicornHost) and host.worker is not None
    return type(host) is not type(than)


def after_first_request() -> ServerHost:
    """Tell the server of a process that serves requests and was not recognised by a handler."""
    if runs("hypercorn.asyncio"):
        return HypercornHost()
    return WaitressHost() if runs("waitress") else ServedHost()


def is_management_command(argv: list[str]) -> bool:
    """True if the process was started by manage.py, django-admin or `python -m django`."""
    program = argv[0] if argv else ""
    name = os.path.basename(program)
    return name in {"manage.py", "django-admin", "django-admin.exe"} or (
        name == "__main__.py" and os.path.basename(os.path.dirname(program)) == "django"
    )


def _with_worker(host: ServerHost) -> ServerHost:
    """Return `host`; in its place, where it is gunicorn's without a worker, that with the worker which runs here.

    Where uvloop has the signals (gunicorn's own ASGI worker takes it if it is installed), nobody can be asked for their
    handlers: the worker is found by its methods that are being called.
    """
    if isinstance(host, GunicornHost) and host.worker is None:
        for owner in owners("gunicorn.workers"):
            if _is_a(owner, "gunicorn.workers.base", "Worker"):
                return GunicornHost(host.cfg, owner)
    return host


def _handler_owner(signum: int) -> Any:
    return getattr(signal.getsignal(signum), "__self__", None)


def _is_a(value: Any, module: str, name: str) -> bool:
    return any(base.__module__ == module and base.__name__ == name for base in type(value).__mro__)


def resumes_calls(signum: int, handler: Any) -> bool:
    """Tell whether `handler` is one for whose signal its owner has system calls go on, as can only be set, not seen."""
    if _is_a(getattr(handler, "__self__", None), "gunicorn.workers.base", "Worker"):
        # To protect requests. Any other main thread has to notice the signal, though it waits for a lock.
        return signum == signal.SIGTERM
    # The event loops learn of it by a descriptor.
    return getattr(handler, "__name__", "").endswith("_sighandler_noop")


def is_raised_again(handler: Any) -> bool:
    """Tell whether `handler` only takes notice of a signal, which its owner raises again at the end: uvicorn's."""
    owner = getattr(handler, "__self__", None)
    return owner is not None and type(owner).__module__.startswith("uvicorn")


def is_hung_by_itself(handler: Any) -> bool:
    """Tell whether `handler`, called by a second signal while it runs, would wait for a lock that it holds itself.

    gunicorn's gthread worker shuts its pool of threads down in the handler of SIGINT, and in that of SIGQUIT, which its
    master sends right behind the terminal's SIGINT.
    """
    if not _is_a(getattr(handler, "__self__", None), "gunicorn.workers.gthread", "ThreadWorker"):
        return False
    return getattr(handler, "__name__", "") == "handle_quit"


def speaks_lifespan(installed_apps: Iterable[str]) -> bool:
    """Tell whether the ASGI server of a site may speak the lifespan protocol: daphne, an app itself, does not."""
    return "daphne" not in installed_apps
