"""What a host tells of its server: recognition, limits, hooks, and what is warned of at the first item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from django.dispatch import Signal

from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.lifecycle.servers import recognition
from tests.support.scripts import run_script


class FakeModWsgi:
    """What mod_wsgi gives to Python code, as far as it is used."""

    def __init__(self, process_group: str = "site") -> None:
        self.process_group = process_group
        self.subscribers: list[Callable[..., None]] = []
        self.subscribe_shutdown = self.subscribers.append

    def stop(self, reason: str) -> None:
        """Tell the subscribers, as mod_wsgi does."""
        for subscriber in self.subscribers:
            subscriber("process_stopping", shutdown_reason=reason)


def test_mod_wsgi_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module that it makes before it loads the site."""
    monkeypatch.setitem(sys.modules, "mod_wsgi", FakeModWsgi())
    assert isinstance(servers.identify(["mod_wsgi"], {}), servers.ModWsgiHost)


def test_package_of_mod_wsgi_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of that name can be imported anywhere."""
    monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace())
    assert not isinstance(servers.identify(["script.py"], {}), servers.ModWsgiHost)


@pytest.mark.parametrize(
    ("group", "reason", "seconds"),
    [
        ("site", "shutdown_signal", 3.0),
        ("site", "maximum_requests", 5.0),
        ("site", "graceful_signal", 5.0),
        ("", "graceful_signal", 3.0),
    ],
)
def test_limit_of_mod_wsgi(group: str, reason: str, seconds: float) -> None:
    """Apache kills 3 s after its signal, a daemon process ends by its own limit, unless it is none."""
    module = FakeModWsgi(group)
    host = servers.ModWsgiHost(module)
    limits: list[float | None] = []
    host.on_exit(lambda: limits.append(host.limit(None)))
    module.stop(reason)
    assert limits == [seconds]


def test_mod_wsgi_without_subscription() -> None:
    """An older one has no hook: the limit is the smaller one, since nothing tells the reason."""
    host = servers.ModWsgiHost(SimpleNamespace(process_group="site"))
    host.on_exit(lambda: pytest.fail("nobody calls this"))
    assert host.limit(None) == 3.0


def test_nothing_takes_the_place_of_mod_wsgi() -> None:
    """What is found later is one of our own handlers, or an event loop of the site's."""
    assert not servers.knows_more(servers.UvicornHost(), servers.ModWsgiHost(FakeModWsgi()))


def _warnings(host: servers.ServerHost, shutdown_timeout: float) -> str:
    return "\n".join(host.warnings(shutdown_timeout))


def test_mod_wsgi_warns_of_its_limits() -> None:
    """Both of them, and what to do."""
    text = _warnings(servers.ModWsgiHost(FakeModWsgi()), 90.0)
    assert all(
        part in text
        for part in ("3 s when Apache stops", "5 s when it recycles", "SHUTDOWN_TIMEOUT", "keep items short")
    )


def test_mod_wsgi_does_not_warn_of_what_is_known() -> None:
    """A setting that fits says that somebody has thought of it."""
    assert _warnings(servers.ModWsgiHost(FakeModWsgi()), 3.0) == ""


# What is warned of.


def _gunicorn(graceful_timeout: float = 90.0, worker: Any = None) -> servers.GunicornHost:
    return servers.GunicornHost(SimpleNamespace(graceful_timeout=graceful_timeout, timeout=30), worker)


class FakeUwsgi:
    """What uWSGI gives to Python code, as far as it is used: values are bytes, or True where an option has none."""

    def __init__(self, has_threads: int = 1, *, master: bool = True, graceful: bool = True, **options: Any) -> None:
        self.has_threads = has_threads
        if graceful:
            options.setdefault("hook_master_start", GRACEFUL)
        self.opt = {name.replace("_", "-"): _as_uwsgi_shows(value) for name, value in options.items()}
        self.masterpid = lambda: 7 if master else 0


GRACEFUL = "unix_signal:15 gracefully_kill_them_all"


def _as_uwsgi_shows(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_uwsgi_shows(entry) for entry in value]
    return value.encode() if isinstance(value, str) else value


def test_gunicorn_warns_of_a_shorter_limit() -> None:
    """With the option and the value to give it."""
    assert "--graceful-timeout 90 or lower the setting" in _warnings(_gunicorn(30.0), 90.0)


def test_gunicorn_does_not_warn_of_a_longer_limit() -> None:
    """The drain has room in it."""
    assert "graceful" not in _warnings(_gunicorn(95.0), 90.0)


def test_gunicorn_warns_without_a_heartbeat() -> None:
    """Where its file was not found, --timeout kills a worker that is recycled while items run."""
    assert "heartbeat file was not found" in _warnings(_gunicorn(), 90.0)


def test_gunicorn_with_all_it_needs_is_silent() -> None:
    """A limit that fits, and a heartbeat."""
    with tempfile.TemporaryFile() as file:
        host = _gunicorn(worker=SimpleNamespace(tmp=file))
        try:
            assert _warnings(host, 90.0) == ""
        finally:
            os.close(host._heartbeat or -1)


def test_lifespan_of_gunicorns_asgi_worker_is_short() -> None:
    """Its own limit is 30 s, that of no other class."""
    asgi = type("ASGIWorker", (), {"__module__": "gunicorn.workers.gasgi"})
    other = type("UvicornWorker", (), {"__module__": "uvicorn_worker._workers"})
    assert [_gunicorn(worker=kind()).lifespan_seconds for kind in (asgi, other)] == [25.0, None]


@pytest.mark.parametrize(
    ("alive", "requests", "told"), [(True, 0, False), (False, 0, True), (False, 10, False)], ids=str
)
def test_gunicorns_worker_is_told_to_stop(alive: bool, requests: int, told: bool) -> None:
    """The worker's flag tells of a stop signal, unless the worker's count of requests tells of max-requests."""
    worker = SimpleNamespace(alive=alive, nr=requests, max_requests=10)
    assert _gunicorn(worker=worker).was_told_to_stop() is told


def test_gunicorns_master_warns_of_itself() -> None:
    """Items that are queued while the application is preloaded run there."""
    assert "Queue from a request instead" in _warnings(servers.GunicornMasterHost(), 90.0)


def test_granian_warns_of_a_shorter_limit() -> None:
    """With the option and the value to give it."""
    assert "--workers-kill-timeout 90 or lower the setting" in _warnings(servers.GranianHost(30.0), 90.0)


@pytest.mark.parametrize("limit", [None, 90.0, 100.0])
def test_granian_does_not_warn_of_a_longer_limit(limit: float | None) -> None:
    """Nor without one, which is its default."""
    assert _warnings(servers.GranianHost(limit), 90.0) == ""


@pytest.mark.parametrize(
    ("arguments", "variable", "limit"),
    [
        ("", None, None),
        ("--workers 2", None, None),
        ("--workers-kill-timeout 30", None, 30.0),
        ("--workers-kill-timeout=30s --workers 2", None, 30.0),
        ("--workers-kill-timeout 1m30s", None, 90.0),
        ("--workers-kill-timeout 5 --workers-kill-timeout 7", None, 7.0),
        ("--workers-kill-timeout 30", "60", 30.0),
        ("", "2m", 120.0),
        ("", "", None),
        ("--workers-kill-timeout", None, None),
        ("--workers-kill-timeout soon", None, None),
    ],
)
def test_spawned_worker_of_granian_knows_its_limit(
    monkeypatch: pytest.MonkeyPatch, arguments: str, variable: str | None, limit: float | None
) -> None:
    """From the command line and the environment, since no handler shows it from Python 3.14 on."""
    monkeypatch.setattr(multiprocessing.current_process(), "name", "granian-worker")
    environ = {} if variable is None else {"GRANIAN_WORKERS_KILL_TIMEOUT": variable}
    host = servers.identify(["granian", *arguments.split(), "site.wsgi"], environ)
    assert (type(host), host.limit(15)) == (servers.GranianHost, limit)


def test_option_of_granian_alone_is_no_granian() -> None:
    """Its name makes a process a worker of granian; the master's arguments do not."""
    assert not isinstance(servers.identify(["granian", "--workers-kill-timeout", "5"], {}), servers.GranianHost)


@pytest.mark.parametrize(("options", "limit"), [({}, 60.0), ({"worker_reload_mercy": "30"}, 30.0)])
def test_uwsgi_warns_of_a_shorter_limit(options: dict[str, str], limit: float) -> None:
    """The default of worker-reload-mercy is 60 s; one value more than the setting asks for is enough."""
    host = servers.UwsgiHost(FakeUwsgi(**options))
    assert host.limit(None) == limit
    assert "worker-reload-mercy = 90 or lower the setting" in _warnings(host, 90.0)
    assert _warnings(host, limit) == ""


def test_uwsgi_warns_of_skip_atexit() -> None:
    """No hook runs then at all."""
    assert "remove the option" in _warnings(servers.UwsgiHost(FakeUwsgi(skip_atexit=True)), 60.0)


@pytest.mark.parametrize(
    "hooks",
    [
        None,
        "unix_signal:15 grace_them_all",
        "unix_signal:2 gracefully_kill_them_all",
        "print:unix_signal:15 gracefully_kill_them_all",
        ["print:one", "unix_signal:2 gracefully_kill_them_all"],
    ],
    ids=str,
)
def test_g46_uwsgi_names_the_line_that_is_missing(hooks: str | list[str] | None) -> None:
    """Without it a busy worker is gone within 20 ms of SIGTERM: its text is told, to be copied."""
    options = {} if hooks is None else {"hook_master_start": hooks}
    text = _warnings(servers.UwsgiHost(FakeUwsgi(graceful=False, **options)), 60.0)
    assert "add the line hook-master-start = unix_signal:15 gracefully_kill_them_all" in text
    # uWSGI 2.0.31 shows the last one only, though it runs them all.
    assert ("below the other" in text) is (hooks is not None)


@pytest.mark.parametrize(
    "hooks", [GRACEFUL, "unix_signal: 15 gracefully_kill_them_all", ["print:one", GRACEFUL], [GRACEFUL, "print:one"]]
)
def test_g46_uwsgi_with_the_line_is_silent(hooks: str | list[str]) -> None:
    """Also where it is one of several."""
    assert _warnings(servers.UwsgiHost(FakeUwsgi(hook_master_start=hooks)), 60.0) == ""


def test_g46_uwsgi_without_a_master_says_so() -> None:
    """Nobody gives its processes time, and nobody kills them: no limit of a master's is spoken of, nor its hook."""
    host = servers.UwsgiHost(FakeUwsgi(master=False, graceful=False, worker_reload_mercy="10"))
    [text] = host.warnings(90.0)
    assert "runs without a master" in text
    assert "master = true" in text
    assert (host.limit(None), host.limit(15)) == (None, None)


@pytest.mark.parametrize(("value", "is_told"), [(b"false", True), (b"0", True), (True, False), (b"1", False)])
def test_g46_uwsgis_master_is_seen_where_its_pid_is_not_told(value: bytes | bool, is_told: bool) -> None:
    """By the option, whose value may say no."""
    module = FakeUwsgi()
    module.opt["master"] = value
    del module.masterpid
    assert ("without a master" in _warnings(servers.UwsgiHost(module), 60.0)) is is_told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"harakiri": "20"}, "harakiri (20 s)"),
        ({"harakiri": ["30", "20"]}, "harakiri (20 s)"),
        ({"evil_reload_on_rss": "512"}, "evil-reload-on-rss"),
        ({"evil_reload_on_as": "2048"}, "evil-reload-on-as"),
    ],
    ids=str,
)
@pytest.mark.parametrize("master", [True, False])
def test_g46_uwsgi_tells_what_kills_workers_that_serve(options: dict[str, Any], told: str, master: bool) -> None:
    """SIGKILL comes without a word, and takes the items of the worker along."""
    assert told in _warnings(servers.UwsgiHost(FakeUwsgi(master=master, **options)), 60.0)


@pytest.mark.parametrize(
    "options",
    [
        {"harakiri": "0"},
        {"evil_reload_on_rss": "0"},
        {"skip_atexit": "false"},
        {"skip_atexit": "off"},
        {"skip_atexit": "No"},
        {"skip_atexit": ["true", "0"]},
        {"skip_atexit_teardown": "0"},
        {"worker_reload_mercy": ["10", "90"]},
    ],
    ids=str,
)
def test_g46_uwsgis_options_that_say_no_are_off(options: dict[str, Any]) -> None:
    """As uWSGI reads them: a number of 0, a word that means no, the last of several."""
    host = servers.UwsgiHost(FakeUwsgi(**options))
    assert (_warnings(host, 60.0), host.exit_hook_is_last) == ("", False)


@pytest.mark.parametrize(("has_threads", "cure"), [(1, None), (0, "enable-threads")])
def test_uwsgi_without_threads_refuses(has_threads: int, cure: str | None) -> None:
    """Items would stand still between two requests: queueing says what to change."""
    refusal = servers.UwsgiHost(FakeUwsgi(has_threads)).refusal()
    assert refusal is None if cure is None else cure in str(refusal)


@pytest.mark.parametrize(
    "host",
    [
        servers.ServerHost(),
        servers.CommandHost(),
        servers.RunserverHost(),
        servers.UvicornHost(),
        servers.HypercornHost(),
        servers.WaitressHost(),
        servers.ServedHost(),
    ],
    ids=repr,
)
def test_others_have_nothing_to_warn_of(host: servers.ServerHost) -> None:
    """None of these kills its workers."""
    assert (_warnings(host, 90.0), host.limit(None), host.refusal()) == ("", None, None)


# What runs decides.


def inside(module: str, call: Callable[[], Any], function: str = "serve") -> Any:
    """Return what `call()` returns while the main thread is inside a function of `module`."""
    scope: dict[str, Any] = {"__name__": module}
    exec(f"def {function}(call):\n    return call()\n", scope)
    return scope[function](call)


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Return what `call()` returns in another thread, as that of a request."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result(30)


@pytest.mark.parametrize(
    ("module", "name", "lifespan_seconds"),
    [
        ("hypercorn.asyncio.run", "hypercorn", 55.0),
        ("waitress.server", "waitress", None),
        ("cheroot.server", "server", None),
    ],
)
def test_server_without_handlers_is_known_by_the_main_thread(
    module: str, name: str, lifespan_seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handler is bound to an object of theirs. Asked at the first request, in whatever thread that is."""
    monkeypatch.setitem(sys.modules, module.partition(".")[0], SimpleNamespace())
    host = inside(module, lambda: in_a_thread(servers.after_first_request))
    assert (host.name, host.lifespan_seconds) == (name, lifespan_seconds)


def test_gunicorns_worker_is_known_by_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvloop has the signals, its handlers name nobody; those that it has inherited name the master alone."""
    cfg = SimpleNamespace(graceful_timeout=90.0, timeout=30)
    worker = type("Worker", (), {"__module__": "gunicorn.workers.base", "cfg": cfg})()
    arbiter = type("Arbiter", (), {"__module__": "gunicorn.arbiter", "cfg": cfg, "pid": 1})()
    monkeypatch.setattr(recognition, "_handler_owner", {int(signal.SIGTTIN): arbiter}.get)
    scope: dict[str, Any] = {"__name__": "gunicorn.workers.gasgi"}
    exec("def run(self, call):\n    return call()\n", scope)
    hosts = [servers.recognise(), scope["run"](worker, servers.recognise), scope["run"](object(), servers.recognise)]
    assert [getattr(host, "worker", "?") for host in hosts] == [None, worker, None]


IMPORTED = ["gunicorn.arbiter", "gunicorn.app.base", "hypercorn.asyncio.lifespan", "waitress.server", "billiard.pool"]


@pytest.mark.parametrize("module", [*IMPORTED, "rq.worker", "celery.concurrency.prefork", "werkzeug._reloader"])
def test_g26_what_was_imported_hosts_nobody(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a project that imports a server's module stays a command, and a request makes it a server only."""
    monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    monkeypatch.setitem(sys.modules, module.partition(".")[0], SimpleNamespace())
    assert isinstance(servers.identify(["manage.py", "ship"], {}), servers.CommandHost)
    assert type(servers.after_first_request()) is servers.ServedHost


@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(opt={}, masterpid=lambda: 7, has_threads=1)])
def test_g26_module_called_uwsgi_is_no_server(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own is made of functions in C."""
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    assert isinstance(servers.identify(["manage.py", "ship"], {}), servers.CommandHost)


def test_gunicorns_master_is_known_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --preload it loads the site before it has set any handler."""
    monkeypatch.setitem(sys.modules, "gunicorn", SimpleNamespace())
    host = inside("gunicorn.arbiter", lambda: servers.identify(["gunicorn"], {}), "setup")
    assert isinstance(host, servers.GunicornMasterHost)


# Reloaders.


def _handler_of(module: str) -> Callable[..., None]:
    def handler(*args: Any) -> None:
        """Leave."""

    handler.__module__ = module
    return handler


@pytest.mark.parametrize(
    ("module", "mark", "kind"),
    [
        ("django.utils.autoreload", "RUN_MAIN", servers.RunserverHost),
        ("werkzeug._reloader", "WERKZEUG_RUN_MAIN", servers.WerkzeugHost),
    ],
)
@pytest.mark.parametrize("below_ours", [False, True])
def test_g25_reloader_is_known_by_what_it_sets(
    module: str, mark: str, kind: type, below_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the command is called: its handler says that one runs, the mark says which process of the two it is."""
    handler = _handler_of(module)
    if below_ours:
        layer = _handler_of("django_qbwi.lifecycle.os_signals")
        vars(layer).update(is_qbwi_layer=True, previous=handler)
        handler = layer
    before = signal.signal(signal.SIGTERM, handler)
    try:
        monkeypatch.setenv(mark, "true")
        assert type(servers.recognise()) is kind
        monkeypatch.delenv(mark)
        assert type(servers.recognise()) is servers.RunserverParentHost
        assert type(servers.identify(["manage.py", "develop"], {})) is servers.RunserverParentHost
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("mark", ["RUN_MAIN", "WERKZEUG_RUN_MAIN"])
def test_g25_mark_alone_makes_no_reloader(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that a view of a development server starts inherit it."""
    monkeypatch.setenv(mark, "true")
    assert isinstance(servers.identify(["manage.py", "ship"], {mark: "true"}), servers.CommandHost)


@pytest.mark.parametrize(
    ("arguments", "environ", "kind"),
    [
        (["runserver"], {}, servers.RunserverParentHost),
        (["runserver"], {"RUN_MAIN": "true"}, servers.RunserverHost),
        (["runserver", "--noreload"], {}, servers.RunserverHost),
        (["runserver_plus"], {}, servers.RunserverParentHost),
        (["runserver_plus"], {"RUN_MAIN": "true"}, servers.RunserverParentHost),
        (["runserver_plus"], {"WERKZEUG_RUN_MAIN": "true"}, servers.RunserverHost),
        (["runserver_plus", "--noreload"], {}, servers.RunserverHost),
        (["ship", "runserver"], {}, servers.CommandHost),
    ],
)
def test_g25_known_commands_are_known_while_the_site_is_loaded(
    arguments: list[str], environ: dict[str, str], kind: type
) -> None:
    """Items that are queued in ready() run in one of the two processes."""
    assert type(servers.identify(["manage.py", *arguments], environ)) is kind


def test_g25_werkzeugs_reload_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its line about the file, which goes out as ever."""
    lines: list[object] = []

    class ReloaderLoop:
        def log_reload(self, filename: str) -> None:
            lines.append(filename)

    monkeypatch.setitem(sys.modules, "werkzeug._reloader", SimpleNamespace(ReloaderLoop=ReloaderLoop))
    servers.WerkzeugHost().on_reload(lambda: lines.append("told"))
    ReloaderLoop().log_reload("a_file.py")
    assert lines == ["told", "a_file.py"]


def test_g25_watching_process_is_told_before_it_starts_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an own command nothing else tells that it ends in runserver."""
    steps: list[str] = []
    autoreload = SimpleNamespace(restart_with_reloader=lambda: steps.append("started") or 3)
    monkeypatch.setitem(sys.modules, "django.utils.autoreload", autoreload)
    servers.tell_the_parent(lambda: steps.append("told"))
    assert (autoreload.restart_with_reloader(), steps) == (3, ["told", "started"])


# Queues of others.


@pytest.mark.parametrize(
    ("module", "function", "imported", "name", "cure"),
    [
        ("rq.worker.base", "main_work_horse", "rq", "RQ work horse", "SimpleWorker"),
        ("billiard.pool", "workloop", "billiard", "billiard", "without queueing"),
        ("billiard.pool", "workloop", "celery.concurrency.prefork", "celery", None),
    ],
)
def test_g47_process_that_ends_by_os_exit_is_known(
    module: str, function: str, imported: str, name: str, cure: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its loop in the main thread. Where nothing tells of its end, items are refused, with the cure."""
    for key in (imported, module.partition(".")[0]):
        monkeypatch.setitem(sys.modules, key, SimpleNamespace())
    host = inside(module, lambda: servers.identify(["manage.py", "rqworker"], {}), function)
    assert host.name == name
    assert host.refusal() is None if cure is None else cure in str(host.refusal())


def test_g47_celerys_child_is_held_at_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """worker_process_shutdown is sent right before os._exit, and waits for its receivers."""
    shutdown = Signal()
    monkeypatch.setitem(sys.modules, "celery.signals", SimpleNamespace(worker_process_shutdown=shutdown))
    held: list[str] = []
    servers.CeleryChildHost().on_exit(lambda: held.append("held"))
    shutdown.send(sender="worker", pid=7, exitcode=155)
    assert held == ["held"]


def test_python_that_starts_no_threads_late_is_warned_of() -> None:
    """3.12.0 to 3.12.2: with the version to take."""
    [text] = interpreter.warnings(starts_no_threads_late=True)
    assert "upgrade to Python 3.12.3" in text


def test_other_pythons_are_not_warned_of() -> None:
    """They start threads until the end."""
    assert interpreter.warnings(starts_no_threads_late=False) == []


# Test runs.


@pytest.mark.parametrize(
    ("argv", "is_test"),
    [
        (["manage.py", "test"], True),
        (["/usr/bin/django-admin", "test", "shop"], True),
        (["/lib/django/__main__.py", "test"], True),
        (["manage.py", "testserver"], False),
        (["manage.py", "migrate", "test"], False),
        (["ship", "test"], False),
        (["manage.py"], False),
        ([], False),
    ],
)
def test_test_run_is_known_by_its_command(monkeypatch: pytest.MonkeyPatch, argv: list[str], is_test: bool) -> None:
    """Before it sets anything up: items of ready() meet a test run, too."""
    monkeypatch.setattr(recognition, "is_set_up", lambda: False)
    assert isinstance(servers.test_run(argv), servers.TestHost) is is_test


RECOGNISED = """
import sys, threading
from types import SimpleNamespace
from django_qbwi.lifecycle.servers import test_run

def told():
    return type(test_run(["ship"])).__name__

print(told())
import django.test.utils
print(told())
django.test.utils._TestState.saved_data = None
print(told())
del django.test.utils._TestState.saved_data
print(told())
import _pytest
print(told())
frame = {"__name__": "_pytest.main", "told": told}
exec("def main():\\n  print(told())", frame)
frame["main"]()
thread = threading.Thread(target=frame["main"])
thread.start()
thread.join()
"""


def test_test_run_is_known_by_what_runs() -> None:
    """By Django's mark for as long as it is there, and by pytest in the main thread; imports alone tell nothing."""
    none, test = "NoneType", "TestHost"
    assert run_script(RECOGNISED) == [none, none, test, none, none, test, none]


def test_test_run_stays_one() -> None:
    """Whatever the tests start: a live server, a lifespan, a command."""
    others = (servers.ServedHost(), servers.UvicornHost(), servers.CommandHost(), servers.RunserverHost())
    assert [host for host in others if servers.knows_more(host, servers.TestHost())] == []
    assert all(servers.knows_more(servers.TestHost(), host) for host in others)
