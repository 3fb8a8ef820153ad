"""What a host tells of its server: recognition, limits, hooks, and what is warned of at the first item."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from django_qbwi.lifecycle import interpreter, servers


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


def test_hypercorn_is_recognised_by_its_lifespan(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of its handlers is bound to an object; the lifespan that it ends with an error after 60 s is its own."""
    monkeypatch.setitem(sys.modules, "hypercorn.asyncio.lifespan", SimpleNamespace())
    host = servers.after_first_request()
    assert (host.name, host.lifespan_seconds) == ("hypercorn", 55.0)


def test_python_that_starts_no_threads_late_is_warned_of() -> None:
    """3.12.0 to 3.12.2: with the version to take."""
    [text] = interpreter.warnings(starts_no_threads_late=True)
    assert "upgrade to Python 3.12.3" in text


def test_other_pythons_are_not_warned_of() -> None:
    """They start threads until the end."""
    assert interpreter.warnings(starts_no_threads_late=False) == []
