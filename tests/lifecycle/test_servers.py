"""What a host tells of its server: recognition, limits, hooks, and what is warned of at the first item."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from django_qbwi.lifecycle import servers


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
