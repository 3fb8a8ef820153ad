"""The schedules in a process: where they begin, how they run as work items, what shows them, what checks them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from django_qbwi import InspectionError, WorkItemStatus, hosting, queue_background_work_item
from django_qbwi.contrib.schedules import checks
from django_qbwi.contrib.schedules import site as site_module
from django_qbwi.contrib.schedules.declared import Declarations, Schedule
from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.site import SiteSchedules, may_tick, start
from django_qbwi.contrib.schedules.store import Store
from django_qbwi.contrib.schedules.ticker import Ticker
from django_qbwi.contrib.schedules.timing import Every
from django_qbwi.lifecycle import servers
from django_qbwi.lifecycle.servers import GunicornHost, GunicornMasterHost, ServerHost
from django_qbwi.lifecycle.servers.host import CommandHost, ServedHost
from django_qbwi.lifecycle.servers.runserver import RunserverHost, RunserverParentHost
from django_qbwi.lifecycle.servers.test_run import TestHost
from django_qbwi.lifecycle.servers.uwsgi import UwsgiHost
from tests.contrib.schedules import scheduled
from tests.contrib.schedules.conftest import ALIAS

MINUTE = timedelta(minutes=1)
PATIENCE = 30
ROOT = Path(__file__).resolve().parents[3]


def minutely(function: Any = scheduled.plain, name: str | None = None) -> Schedule:
    """Return a schedule."""
    return Schedule(function, Every(MINUTE), False, name)


# The run.


@pytest.mark.parametrize(
    ("function", "name", "timeout"),
    [
        (scheduled.plain, f"{__package__}.scheduled.plain", None),
        (scheduled.decorated, "with options", 7),
        (scheduled.asynchronous, f"{__package__}.scheduled.asynchronous", None),
    ],
)
def test_run_is_an_ordinary_work_item(function: Any, name: str, timeout: float | None) -> None:
    """Named after its function, with the options of its decorator."""
    with override_settings(QBWI={}):
        handle = start(minutely(function, "the schedule"))
        assert handle.wait(PATIENCE)
    assert (handle.status, handle.name, handle.info.timeout) == (WorkItemStatus.SUCCEEDED, name, timeout)


def test_real_thread_runs_what_is_due(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its begin to the outcome in the table; a second begin begins nothing."""
    monkeypatch.setattr(site_module, "_FIRST_LOOK", 0.0)
    declared, ran, written = Declarations(), threading.Event(), threading.Event()
    monkeypatch.setattr(scheduled, "plain", _named_plain(lambda token: ran.set()))
    declared.add(minutely(scheduled.plain, "it"))
    store = Store()
    store.add("it", "every 60 s", 1)
    ended = store.ended
    monkeypatch.setattr(store, "ended", lambda *args: (ended(*args), written.set()))
    schedules = SiteSchedules(declared, store)
    with override_settings(QBWI={}):
        for _ in range(2):
            schedules.begin()
        assert ran.wait(PATIENCE)
        assert written.wait(PATIENCE)
        schedules.end()
    (ticker,) = schedules._tickers.values()
    ticker._service.stop()
    (info,) = schedules.read()
    assert (info.state, info.outcome) == ("waiting", "succeeded")
    assert info.next_at is not None
    assert info.to_dict()["next_at"] == info.next_at.isoformat()


def _named_plain(function: Any) -> Any:
    function.__module__, function.__qualname__ = scheduled.__name__, "plain"
    return function


def test_thread_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, offered: list[Any]
) -> None:
    """With the next request, say; the site goes on, and a WARNING tells why nothing is started."""

    def refuse(self: Ticker, after: float) -> None:
        raise RuntimeError("can't start new thread")

    schedules = SiteSchedules(Declarations())
    monkeypatch.setattr(Ticker, "start", refuse)
    monkeypatch.setattr(hosting.this_process(), "host", ServedHost())
    for _ in range(2):
        hosting.offer_schedules(schedules)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "can't start new thread" in caplog.records[0].getMessage()
    monkeypatch.setattr(Ticker, "start", lambda self, after: None)
    hosting.begin_schedules()
    assert len(schedules._tickers) == 1


# Where they begin.


@pytest.fixture
def offered() -> Iterator[list[Any]]:
    """Let a test offer schedules, and forget them."""
    yield hosting._schedules
    hosting._schedules.clear()


@pytest.fixture
def begun(offered: list[Any]) -> list[str]:
    """Return what schedules are told that were offered."""
    told: list[str] = []
    offered.append(SimpleNamespace(begin=lambda: told.append("begin"), end=lambda: told.append("end")))
    return told


def uwsgi(**names: Any) -> UwsgiHost:
    """Return that server with a module of its own."""
    return UwsgiHost(SimpleNamespace(opt={}, **names))


@pytest.mark.parametrize(
    ("host", "serves"),
    [
        (CommandHost(), False),
        (ServerHost(), False),
        (TestHost(), False),
        (RunserverParentHost(), False),
        (GunicornMasterHost(), False),
        (uwsgi(worker_id=lambda: 0), False),
        (uwsgi(worker_id=lambda: 2), True),
        (RunserverHost(), True),
        (ServedHost(), True),
        (GunicornHost(SimpleNamespace(graceful_timeout=30, timeout=30)), True),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_only_what_answers_requests_starts_by_the_clock(
    host: ServerHost, serves: bool, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command, no test, no process that only watches over others, or is about to be forked."""
    monkeypatch.setattr(hosting.this_process(), "host", host)
    hosting.begin_schedules()
    assert begun == ["begin"] * serves


def test_first_request_has_them_begin(
    begun: list[str], monkeypatch: pytest.MonkeyPatch, outside_of_tests: None
) -> None:
    """In a process whose server nobody knew before."""
    monkeypatch.setattr(hosting.this_process(), "first_request", lambda: hosting.this_process()._set_host(ServedHost()))
    # Not by the signal: Django's own receiver would look at connections, which this test has no permission to use.
    hosting._on_request_started(sender=WSGIHandler)
    assert begun == ["begin"]


def test_offer_in_a_process_that_serves_already_begins(offered: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is known for one when the apps are loaded needs no request."""
    told: list[str] = []
    monkeypatch.setattr(hosting.this_process(), "host", ServedHost())
    hosting.offer_schedules(SimpleNamespace(begin=lambda: told.append("begin")))  # type: ignore[arg-type]
    assert (told, hosting.schedules()) == (["begin"], offered[0])


def test_process_that_drains_takes_on_nothing() -> None:
    """From the first sign of the end on."""
    with override_settings(QBWI={}):
        queue_background_work_item(scheduled.plain).wait(PATIENCE)
        assert may_tick()
        coordinator = hosting.this_process().current.coordinator
        coordinator.sign("a test", cancel=False)
        assert not may_tick()


def test_server_that_stops_takes_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own flag, which may be up before any signal was seen."""
    host = ServedHost()
    monkeypatch.setattr(hosting.this_process(), "host", host)
    assert may_tick()
    monkeypatch.setattr(host, "is_stopping", lambda: True, raising=False)
    assert not may_tick()


@override_settings(QBWI={"MAX_WORKERS": "many"})
def test_wrong_settings_take_on_nothing() -> None:
    """They are told by the checks."""
    assert not may_tick()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork_waits_for_a_look(database: None) -> None:
    """And no look begins within one."""
    schedules = SiteSchedules(Declarations())
    schedules.before_fork()  # nothing has begun
    ticker = Ticker(list, Store(), start, may_tick, None)  # type: ignore[arg-type]
    schedules._tickers[os.getpid()] = ticker
    schedules.before_fork()
    assert not ticker._looking.acquire(False)
    schedules.after_fork_in_parent()
    assert ticker._looking.acquire(False)
    ticker._looking.release()
    schedules.after_fork_in_parent()  # not what somebody else holds
    assert repr(schedules).startswith("<SiteSchedules <Declarations 0>")


# The command and the page.


def test_command_without_the_app() -> None:
    """Says what to add."""
    with pytest.raises(CommandError, match=r"add \"django_qbwi.contrib.schedules\" to INSTALLED_APPS"):
        call_command("qbwi", "schedules")


@pytest.mark.parametrize("use_tz", [True, False])
def test_command_and_admin(tmp_path: Path, use_tz: bool) -> None:
    """Both show all schedules, with next and last run and its outcome; the admin changes nothing."""
    command = [sys.executable, "-W", "error", "-m", "tests.contrib.schedules.admin_program"]
    command += [str(tmp_path / "db.sqlite3"), str(use_tz)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    written = json.loads(result.stdout)
    _look_at_the_command(written)
    assert written["forbidden"] == "403"
    assert [name in written["list"] for name in ("nightly", "lost one", "gone", "failed", "10.0 s")] == [True] * 5
    assert ("nightly" in written["search"], "lost one" in written["search"]) == (True, False)
    assert [word in written["detail"] for word in ("web1:7", "abc", "cron 0 3 * * * (UTC)")] == [True] * 3
    assert '<input type="submit"' not in written["detail"]
    assert [written[what] for what in ("add/", "nightly/delete/", "change")] == ["403"] * 3


def _look_at_the_command(written: dict[str, str]) -> None:
    assert written["without table"].startswith("error 1: the table of schedules cannot be read")
    assert written["nothing"] == "Nothing is scheduled.\n"
    shown = {line.split("  ")[-1]: line for line in written["table"].splitlines()[1:]}
    assert list(shown) == ["gone", "lost one", "new one", "nightly"]
    assert ("removed" in shown["gone"], "lost" in shown["lost one"], "new" in shown["new one"]) == (True, True, True)
    assert "in 1 m" in shown["nightly"]
    assert "failed" in shown["nightly"]
    found = json.loads(written["json"])
    assert (found["schema"], [one["name"] for one in found["schedules"]]) == (1, list(shown))
    assert [json.loads(line) for line in written["jsonl"].splitlines()] == found["schedules"]
    assert found["schedules"][3]["outcome"] == "failed"
    assert (found["schedules"][0]["skipped"], found["schedules"][1]["outcome"]) == (3, "")


def test_table_that_cannot_be_read(empty: None) -> None:
    """The error says what may be missing."""
    with pytest.raises(InspectionError, match=r"has `manage.py migrate` made it\?"):
        SiteSchedules(Declarations()).read()


# The checks of the database.


@pytest.fixture
def no_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process taken for one that runs no tests."""
    monkeypatch.setattr(servers, "test_run", lambda argv: None)


def test_test_database_may_be_in_memory() -> None:
    """`manage.py test` runs the checks when it is, and starts nothing by the clock."""
    assert checks.check_database(None) == []


@pytest.mark.usefixtures("no_test_run")
def test_database_in_memory_is_an_error() -> None:
    """Each process would have a table of its own."""
    (found,) = checks.check_database(None)
    assert (found.id, "is in memory" in str(found.msg)) == ("qbwi.E021", True)


@pytest.mark.usefixtures("no_test_run")
def test_database_that_is_not_configured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setattr(checks, "connections", {"default": SimpleNamespace(vendor="unknown")})
    (found,) = checks.check_database(None)
    assert "'default' is not configured" in str(found.msg)


@pytest.mark.usefixtures("no_test_run", "empty")
def test_database_that_all_reach_is_none() -> None:
    """A file, or a server."""
    assert checks.check_database(None) == []


def test_table_is_looked_for_where_that_is_allowed(empty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` alone asks no database; one that is down is told by whoever needs it."""
    assert checks.check_table(None) == checks.check_table(None, databases=["default"]) == []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["manage.py", "migrate"])
        assert checks.check_table(None, databases=[ALIAS]) == []
    (found,) = checks.check_table(None, databases=[ALIAS])
    assert (found.id, str(found.hint)) == ("qbwi.W020", "Run manage.py migrate, which makes it.")
    with connections[ALIAS].schema_editor() as editor:
        editor.create_model(ScheduleState)
    assert checks.check_table(None, databases=[ALIAS]) == []
    with connections[ALIAS].schema_editor() as editor:
        editor.delete_model(ScheduleState)
    monkeypatch.setattr(Store, "is_missing", _fail)
    assert checks.check_table(None, databases=[ALIAS]) == []


def _fail(self: Store) -> bool:
    from django.db import OperationalError

    raise OperationalError
