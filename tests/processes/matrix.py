"""The one table of servers, events, and what django_qbwi guarantees there; tests and documentation come from it."""

from __future__ import annotations

import dataclasses
import signal
from typing import Literal

WSGI = "tests.processes.site.wsgi:application"
ASGI = "tests.processes.site.asgi:application"
LIFESPAN = "tests.processes.site.lifespan:application"
HOOKS = "--config {site}/gunicorn_hooks.py"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server as it is started; `{port}`, `{site}` and `{directory}` are filled in."""

    name: str
    command: str
    requires: tuple[str, ...] = ()
    """Modules that have to be there."""
    is_async: bool = False
    """Whether the views are async ones."""
    parallel: bool = True
    """Whether one process serves two requests at the same time."""
    is_command: bool = False
    """Whether nobody serves."""
    longest_item: float | None = None
    """Seconds of work that the server leaves time for, where that is little and cannot be changed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that ends a process."""

    name: str
    signum: int | None = None
    target: Literal["server", "worker", "group"] = "server"
    """Who gets the signal; a terminal sends Ctrl-C to the whole group."""
    action: Literal["signal", "touch", "requests", "none"] = "signal"
    ends: Literal["server", "worker"] = "server"
    """What is gone afterwards; a server whose worker ends goes on with another one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is guaranteed when `event` happens to `server`."""

    server: Server
    event: Event
    cancelled_within: float | None = 0.5
    """Seconds from the sign until the tokens are cancelled; None: they are not, the items end undisturbed."""
    cancelled_after_requests: bool = False
    """Whether the server gives no sign before its requests in flight are done."""
    sign_after: float = 0.0
    """Seconds, at most, until the server tells its processes of the event."""
    looks_every: float = 0.0
    """Seconds between two looks of the server's at its own stop flag: by so much its end comes sooner or later."""
    status: int | None = None
    """The exit status with items at work, where it is not the one without django_qbwi."""
    either_status: tuple[int, ...] = ()
    """Between which statuses a race of the server's own decides, with and without django_qbwi."""
    limit: str = "SHUTDOWN_TIMEOUT"
    """What bounds the wait."""
    in_flight: bool = True
    """Whether a request in flight can be tried."""
    requests: Literal["finish", "are cut off", "have 5 s", "not promised"] = "finish"
    """What becomes of requests in flight, with django_qbwi as without it; of those that have 5 s, only with items."""
    extra_options: str = ""
    fails: str | None = None
    """Why the items are lost, where nothing can be done about it."""
    smoke: bool = False
    """Whether it belongs to the few that are always run."""

    @property
    def id(self) -> str:
        """The name of the row in test reports."""
        return f"{self.server.name}: {self.event.name}"

    @property
    def command(self) -> str:
        """The command line with the options of this row."""
        return f"{self.server.command} {self.extra_options}".strip()


RUNSERVER = Server(name="runserver", command="manage.py runserver 127.0.0.1:{port}")
RUNSERVER_NORELOAD = Server(name="runserver --noreload", command="manage.py runserver --noreload 127.0.0.1:{port}")


def _gunicorn(name: str, options: str, **more: object) -> Server:
    requires = ("gunicorn", *more.pop("requires", ()))  # type: ignore[misc]
    application = ASGI if more.get("is_async") else WSGI
    return Server(
        name=f"gunicorn {name}",
        command=f"gunicorn --bind 127.0.0.1:{{port}} {HOOKS} {options} {application}",
        requires=requires,
        **more,  # type: ignore[arg-type]
    )


GUNICORN_SYNC = _gunicorn("sync", "", parallel=False)
GUNICORN_SYNC_PRELOAD = _gunicorn("sync --preload", "--preload", parallel=False)
GUNICORN_GTHREAD = _gunicorn("gthread", "--threads 4")
GUNICORN_GTHREAD_PRELOAD = _gunicorn("gthread --preload", "--threads 4 --preload")
GUNICORN_RELOAD = _gunicorn("gthread --reload", "--threads 4 --reload --reload-extra-file {directory}/qbwi_touched.py")
UVICORN = Server(name="uvicorn", command=f"uvicorn --port {{port}} {ASGI}", requires=("uvicorn",), is_async=True)
UVICORN_WORKERS = dataclasses.replace(
    UVICORN, name="uvicorn --workers 2", command=f"uvicorn --port {{port}} --workers 2 {ASGI}"
)
UVICORN_RELOAD = dataclasses.replace(
    UVICORN,
    name="uvicorn --reload",
    command=f"uvicorn --port {{port}} --reload --reload-dir {{directory}} {ASGI}",
)
GUNICORN_UVICORN = _gunicorn(
    "uvicorn worker", "--worker-class uvicorn_worker.UvicornWorker", requires=("uvicorn_worker",), is_async=True
)
GUNICORN_UVICORN_PRELOAD = _gunicorn(
    "uvicorn worker --preload",
    "--worker-class uvicorn_worker.UvicornWorker --preload",
    requires=("uvicorn_worker",),
    is_async=True,
)
GUNICORN_ASGI = _gunicorn("asgi", "--worker-class asgi", is_async=True)
GUNICORN_GEVENT = _gunicorn("gevent", "--worker-class gevent", requires=("gevent",))
GUNICORN_GEVENT_PRELOAD = _gunicorn("gevent --preload", "--worker-class gevent --preload", requires=("gevent",))
HYPERCORN_0, HYPERCORN_1, HYPERCORN_2 = (
    Server(
        name=f"hypercorn -w {workers}",
        command=f"hypercorn --bind 127.0.0.1:{{port}} -w {workers} {ASGI}",
        requires=("hypercorn",),
        is_async=True,
    )
    for workers in (0, 1, 2)
)
DAPHNE = Server(
    name="daphne",
    command=f"daphne --bind 127.0.0.1 --port {{port}} {ASGI}",
    requires=("daphne",),
    is_async=True,
)
GRANIAN_WSGI = Server(
    name="granian wsgi",
    command=f"granian --interface wsgi --port {{port}} --blocking-threads 4 {WSGI}",
    requires=("granian",),
)
GRANIAN_ASGI = Server(
    name="granian asgi",
    command=f"granian --interface asginl --port {{port}} {ASGI}",
    requires=("granian",),
    is_async=True,
)


def _with_lifespan(server: Server) -> Server:
    return dataclasses.replace(server, name=f"{server.name}, lifespan", command=server.command.replace(ASGI, LIFESPAN))


UVICORN_LIFESPAN, UVICORN_WORKERS_LIFESPAN, UVICORN_RELOAD_LIFESPAN = map(
    _with_lifespan, (UVICORN, UVICORN_WORKERS, UVICORN_RELOAD)
)
GUNICORN_UVICORN_LIFESPAN, GUNICORN_ASGI_LIFESPAN = map(_with_lifespan, (GUNICORN_UVICORN, GUNICORN_ASGI))
HYPERCORN_0_LIFESPAN, HYPERCORN_1_LIFESPAN, HYPERCORN_2_LIFESPAN = map(
    _with_lifespan, (HYPERCORN_0, HYPERCORN_1, HYPERCORN_2)
)
WAITRESS = Server(name="waitress", command=f"waitress --listen 127.0.0.1:{{port}} {WSGI}", requires=("waitress",))
CHEROOT = Server(name="cheroot", command=f"cheroot --bind 127.0.0.1:{{port}} {WSGI}", requires=("cheroot",))
UWSGI = Server(
    name="uWSGI",
    command=(
        f"uwsgi --http-socket 127.0.0.1:{{port}} --home {{environment}} --module {WSGI} "
        "--need-app --master --enable-threads --threads 4 --die-on-term"
    ),
    requires=("uwsgi",),
)
UWSGI_GRACEFUL = dataclasses.replace(
    UWSGI,
    name="uWSGI, graceful",
    command=f"{UWSGI.command} --hook-master-start 'unix_signal:15 gracefully_kill_them_all'",
)
UWSGI_LAZY = dataclasses.replace(UWSGI_GRACEFUL, name="uWSGI, lazy", command=f"{UWSGI_GRACEFUL.command} --lazy-apps")
MOD_WSGI = Server(
    name="mod_wsgi",
    command=(
        f"mod_wsgi-express start-server --application-type module {WSGI.partition(':')[0]} --host 127.0.0.1 "
        "--port {port} --server-root {directory}/apache --log-to-terminal"
    ),
    requires=("mod_wsgi-express",),
    longest_item=2.0,
)
COMMAND = Server(name="management command", command="manage.py work", is_command=True)
SCRIPT = Server(name="script", command="script.py", is_command=True)

TERM = Event(name="SIGTERM", signum=signal.SIGTERM)
INT = Event(name="SIGINT", signum=signal.SIGINT)
CTRL_C = Event(name="Ctrl-C", signum=signal.SIGINT, target="group")
TERM_WORKER = Event(name="SIGTERM to the worker", signum=signal.SIGTERM, target="worker", ends="worker")
USR1 = Event(name="SIGUSR1", signum=signal.SIGUSR1, ends="worker")
USR1_WORKER = Event(name="SIGUSR1 to the worker", signum=signal.SIGUSR1, target="worker", ends="worker")
TERM_WORKER_AND_SERVER = dataclasses.replace(TERM_WORKER, ends="server")
TERM_PARENT = Event(name="SIGTERM to the parent", signum=signal.SIGTERM)
TERM_GROUP = Event(name="SIGTERM to everyone", signum=signal.SIGTERM, target="group")
INT_WORKER = Event(name="SIGINT to the worker", signum=signal.SIGINT, target="worker", ends="worker")
HUP = Event(name="SIGHUP", signum=signal.SIGHUP, ends="worker")
QUIT = Event(name="SIGQUIT", signum=signal.SIGQUIT)
MAX_REQUESTS = Event(name="max-requests", action="requests", ends="worker")
END_BY_REQUESTS = Event(name="limit-max-requests", action="requests")
FILE_CHANGE = Event(name="file change", action="touch", ends="worker")
NORMAL_END = Event(name="normal end", action="none")

HYPERCORN_STATUSES = (0, 256 - signal.SIGTERM)
"""Of two workers, of which the first has died of SIGTERM: what the other one died of, or 0 if it still lives then."""
GRANIAN_STATUSES = (0, 1)
"""Of a master that has, or has not, noticed the signal itself when its worker is gone, which is an error then."""
REQUESTS = 12
"""Requests until a worker is recycled, in the rows of that kind."""


def _gunicorn_rows(server: Server, smoke: tuple[Event, ...] = ()) -> list[Row]:
    is_uvicorn = "uvicorn" in server.name
    interrupts_cut = not is_uvicorn and "gthread" not in server.name
    events = [TERM, TERM_GROUP, INT, CTRL_C, HUP, TERM_WORKER, INT_WORKER]
    if is_uvicorn:
        # Its worker serves on after the SIGQUIT that the master sends then, until the master kills it: see
        # test_sigint_to_gunicorns_master.
        events.remove(INT)
    rows = [
        Row(
            server=server,
            event=event,
            limit="--graceful-timeout",
            # The terminal's SIGINT and the master's SIGQUIT come together. Of two signals Linux gives one to another
            # thread, which takes both from the process's queue: the main thread's system call goes on, and with it a
            # request that runs there, before Python comes to the handlers.
            cancelled_after_requests=event is CTRL_C and not server.parallel,
            requests="are cut off" if interrupts_cut and event in (INT, CTRL_C, INT_WORKER) else "finish",
            smoke=event in smoke,
        )
        for event in events
    ]
    rows.append(
        Row(
            server=server,
            event=MAX_REQUESTS,
            extra_options=f"--max-requests {REQUESTS}",
            cancelled_after_requests=server.is_async,
            in_flight=server.parallel,
            smoke=MAX_REQUESTS in smoke,
        )
    )
    return rows


ROWS: list[Row] = [
    Row(server=RUNSERVER, event=FILE_CHANGE, limit="10 s", requests="not promised", smoke=True),
    Row(server=RUNSERVER, event=CTRL_C, requests="are cut off", smoke=True),
    Row(
        server=RUNSERVER,
        event=dataclasses.replace(TERM_WORKER, name="SIGTERM to the child", ends="server"),
        requests="are cut off",
    ),
    *(
        Row(
            server=RUNSERVER,
            event=event,
            requests="are cut off",
            fails="the parent of runserver kills its child at once with SIGKILL",
        )
        for event in (TERM_PARENT, TERM_GROUP)
    ),
    Row(server=RUNSERVER_NORELOAD, event=TERM, requests="are cut off"),
    Row(server=RUNSERVER_NORELOAD, event=CTRL_C, requests="are cut off"),
    *_gunicorn_rows(GUNICORN_SYNC, smoke=(TERM,)),
    *_gunicorn_rows(GUNICORN_SYNC_PRELOAD),
    *_gunicorn_rows(GUNICORN_GTHREAD, smoke=(TERM, MAX_REQUESTS)),
    *_gunicorn_rows(GUNICORN_GTHREAD_PRELOAD, smoke=(TERM,)),
    # Its reloader wakes nobody: the main thread waits for connections, a second at a time.
    Row(
        server=GUNICORN_RELOAD,
        event=FILE_CHANGE,
        looks_every=1.0,
        limit="--graceful-timeout",
        requests="not promised",
    ),
    Row(server=GUNICORN_RELOAD, event=TERM, limit="--graceful-timeout"),
    Row(server=UVICORN, event=TERM, smoke=True),
    Row(server=UVICORN, event=INT),
    Row(
        server=UVICORN,
        event=END_BY_REQUESTS,
        cancelled_after_requests=True,
        extra_options=f"--limit-max-requests {REQUESTS}",
    ),
    Row(server=UVICORN_WORKERS, event=TERM),
    Row(server=UVICORN_WORKERS, event=CTRL_C),
    Row(server=UVICORN_WORKERS, event=TERM_GROUP),
    Row(server=UVICORN_WORKERS, event=TERM_WORKER),
    Row(server=UVICORN_WORKERS, event=INT_WORKER),
    # One worker after the other, each when its successor serves.
    Row(server=UVICORN_WORKERS, event=HUP, sign_after=3.0),
    Row(server=UVICORN_RELOAD, event=FILE_CHANGE),
    Row(server=UVICORN_RELOAD, event=TERM),
    Row(server=UVICORN_RELOAD, event=TERM_GROUP),
    Row(server=UVICORN_RELOAD, event=CTRL_C),
    *_gunicorn_rows(GUNICORN_UVICORN),
    *_gunicorn_rows(GUNICORN_UVICORN_PRELOAD),
    *_gunicorn_rows(GUNICORN_GEVENT),
    *_gunicorn_rows(GUNICORN_GEVENT_PRELOAD),
    *(Row(server=HYPERCORN_0, event=event) for event in (TERM, INT)),
    Row(
        server=HYPERCORN_0,
        event=END_BY_REQUESTS,
        cancelled_after_requests=True,
        extra_options=f"--max-requests {REQUESTS - 1}",
    ),
    *(Row(server=HYPERCORN_1, event=event, cancelled_after_requests=True) for event in (TERM, CTRL_C, HUP)),
    Row(
        server=HYPERCORN_1,
        event=MAX_REQUESTS,
        cancelled_after_requests=True,
        extra_options=f"--max-requests {REQUESTS - 1}",
    ),
    Row(server=HYPERCORN_1, event=TERM_GROUP, requests="are cut off"),
    # The first worker that has ended makes the master terminate the other one.
    *(
        Row(server=HYPERCORN_2, event=event, cancelled_after_requests=True, requests="not promised")
        for event in (TERM, CTRL_C, HUP)
    ),
    Row(server=HYPERCORN_2, event=TERM_GROUP, requests="not promised", either_status=HYPERCORN_STATUSES),
    *(
        Row(
            server=server,
            event=TERM_WORKER_AND_SERVER,
            requests="are cut off",
            either_status=HYPERCORN_STATUSES if server is HYPERCORN_2 else (),
        )
        for server in (HYPERCORN_1, HYPERCORN_2)
    ),
    *(Row(server=DAPHNE, event=event, requests="are cut off") for event in (TERM, INT)),
    *(Row(server=UVICORN_LIFESPAN, event=event) for event in (TERM, INT)),
    Row(
        server=UVICORN_LIFESPAN,
        event=END_BY_REQUESTS,
        cancelled_after_requests=True,
        extra_options=f"--limit-max-requests {REQUESTS}",
    ),
    *(Row(server=UVICORN_WORKERS_LIFESPAN, event=event) for event in (TERM, CTRL_C, TERM_GROUP)),
    *(Row(server=UVICORN_RELOAD_LIFESPAN, event=event) for event in (FILE_CHANGE, TERM)),
    *_gunicorn_rows(GUNICORN_UVICORN_LIFESPAN),
    *_gunicorn_rows(GUNICORN_ASGI_LIFESPAN),
    *(Row(server=HYPERCORN_0_LIFESPAN, event=event) for event in (TERM, INT)),
    *(
        Row(
            server=server,
            event=event,
            cancelled_after_requests=True,
            requests="finish" if server is HYPERCORN_1_LIFESPAN else "not promised",
        )
        for server in (HYPERCORN_1_LIFESPAN, HYPERCORN_2_LIFESPAN)
        for event in (TERM, CTRL_C)
    ),
    Row(server=HYPERCORN_2_LIFESPAN, event=TERM_GROUP, requests="not promised", either_status=HYPERCORN_STATUSES),
    # Its main thread runs no Python while it serves. Ctrl-C to the whole group leaves it hanging, also without us.
    *(
        Row(
            server=GRANIAN_WSGI,
            event=event,
            cancelled_after_requests=True,
            either_status=GRANIAN_STATUSES if event is TERM_GROUP else (),
            limit="--workers-kill-timeout",
        )
        for event in (TERM, INT, TERM_GROUP)
    ),
    *(
        Row(
            server=GRANIAN_ASGI,
            event=event,
            either_status=GRANIAN_STATUSES if event.target == "group" else (),
            limit="--workers-kill-timeout",
        )
        for event in (TERM, INT, CTRL_C, TERM_GROUP)
    ),
    # The end of a worker that it did not ask for is an error, and the end of the server. It sets that worker no limit.
    *(
        Row(server=server, event=TERM_WORKER_AND_SERVER, cancelled_after_requests=server is GRANIAN_WSGI)
        for server in (GRANIAN_WSGI, GRANIAN_ASGI)
    ),
    # It starts the new workers, waits, and only then tells the old ones to end.
    *(
        Row(
            server=server,
            event=HUP,
            cancelled_after_requests=True,
            limit="--workers-kill-timeout",
            extra_options="--respawn-interval 0.1",
        )
        for server in (GRANIAN_WSGI, GRANIAN_ASGI)
    ),
    # It ends by SystemExit in place of the signal.
    Row(server=WAITRESS, event=TERM, status=0, requests="have 5 s"),
    Row(server=CHEROOT, event=TERM, requests="are cut off"),
    # Python's own handler of SIGINT is left alone, and the server finishes its requests first.
    *(
        Row(server=server, event=event, cancelled_after_requests=True)
        for server in (WAITRESS, CHEROOT)
        for event in (INT, CTRL_C)
    ),
    *_gunicorn_rows(GUNICORN_ASGI),
    *(Row(server=UWSGI, event=event, in_flight=False, limit="worker-reload-mercy") for event in (TERM, INT, CTRL_C)),
    Row(
        server=UWSGI,
        event=dataclasses.replace(TERM, name="SIGTERM, a request in flight"),
        requests="are cut off",
        fails="uWSGI ends a busy worker within 20 ms and tells nobody, but for the hook-master-start line",
    ),
    *(
        Row(server=server, event=event, cancelled_after_requests=True, limit="worker-reload-mercy")
        for server in (UWSGI_GRACEFUL, UWSGI_LAZY)
        for event in (TERM, HUP)
    ),
    *(
        Row(
            server=UWSGI_GRACEFUL,
            event=dataclasses.replace(event, name=f"{event.name}, a request in flight"),
            requests="are cut off",
            fails="uWSGI ends a busy worker within 20 ms and tells nobody, when the worker itself gets the signal",
        )
        for event in (TERM_WORKER, TERM_GROUP)
    ),
    *(Row(server=UWSGI_GRACEFUL, event=event, in_flight=False, limit="worker-reload-mercy") for event in (INT, CTRL_C)),
    *(
        Row(
            server=server,
            event=MAX_REQUESTS,
            extra_options=f"--max-requests {REQUESTS} --min-worker-lifetime 0",
            cancelled_after_requests=True,
            in_flight=False,
            limit="worker-reload-mercy",
        )
        for server in (UWSGI_GRACEFUL, UWSGI_LAZY)
    ),
    *(
        # Apache first waits for its own processes, which cut the requests, and kills ours 3 s after it has told them.
        Row(server=MOD_WSGI, event=event, sign_after=1.6, limit="3 s", requests="are cut off")
        for event in (TERM, HUP)
    ),
    Row(server=MOD_WSGI, event=TERM_GROUP, limit="3 s", requests="are cut off"),
    *(Row(server=MOD_WSGI, event=event, limit="3 s") for event in (USR1, TERM_WORKER)),
    Row(server=MOD_WSGI, event=USR1_WORKER, cancelled_after_requests=True, limit="5 s"),
    Row(
        server=MOD_WSGI,
        event=MAX_REQUESTS,
        extra_options=f"--maximum-requests {REQUESTS}",
        cancelled_after_requests=True,
        limit="5 s",
    ),
    Row(server=COMMAND, event=NORMAL_END, cancelled_within=None, smoke=True),
    Row(server=COMMAND, event=TERM, status=143, extra_options="--stay 60"),
    Row(server=COMMAND, event=CTRL_C, extra_options="--stay 60"),
    Row(server=SCRIPT, event=NORMAL_END, cancelled_within=None, extra_options="0"),
    Row(server=SCRIPT, event=TERM, status=143, extra_options="60"),
]
