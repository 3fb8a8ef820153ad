"""What else can happen while a process ends: limits of servers, hearts that beat, pools of others, hooks of users."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes.harness import ROOT, Site
from tests.processes.matrix import (
    COMMAND,
    CTRL_C,
    DAPHNE,
    FILE_CHANGE,
    GRANIAN_ASGI,
    GRANIAN_WSGI,
    GUNICORN_ASGI,
    GUNICORN_GEVENT,
    GUNICORN_GTHREAD,
    GUNICORN_GTHREAD_PRELOAD,
    GUNICORN_SYNC,
    GUNICORN_UVICORN,
    HUP,
    HYPERCORN_0,
    INT,
    MAX_REQUESTS,
    MOD_WSGI,
    NORMAL_END,
    REQUESTS,
    RUNSERVER,
    RUNSERVER_NORELOAD,
    SCRIPT,
    TERM,
    TERM_GROUP,
    TERM_WORKER,
    USR1,
    USR1_WORKER,
    UVICORN,
    UVICORN_WORKERS,
    UWSGI_GRACEFUL,
    Event,
    Row,
    Server,
)
from tests.processes.scenario import BUSY, ENDLESS_ITEMS, IDLE_CONTROL, Play, Theatre, is_installed
from tests.processes.scenario import SECONDS as BUSY_SECONDS
from tests.processes.test_signals import SLACK, rows

pytestmark = pytest.mark.processes

LIMIT = (("SHUTDOWN_TIMEOUT", 3.0),)


# The server's own limit (F35).

SHORT = 4
CUT_OFF = Play(items=ENDLESS_ITEMS)


def _limited(server: Server, option: str, event: Event = TERM) -> Row:
    return Row(server=server, event=event, extra_options=f"{option} {SHORT}")


@rows(
    (CUT_OFF,),
    _limited(GUNICORN_GEVENT, "--graceful-timeout"),
    _limited(GUNICORN_UVICORN, "--graceful-timeout"),
    _limited(GUNICORN_ASGI, "--graceful-timeout"),
    _limited(GUNICORN_GTHREAD_PRELOAD, "--graceful-timeout"),
    _limited(GRANIAN_ASGI, "--workers-kill-timeout"),
    _limited(UWSGI_GRACEFUL, "--worker-reload-mercy"),
)
def test_f35_servers_limit_counts(row: Row, theatre: Theatre) -> None:
    """The server's own limit is read at run time: what is given up is told before its SIGKILL."""
    outcome = theatre.outcome(row, CUT_OFF)
    assert SHORT - 1.0 < outcome.seconds < SHORT + SLACK, outcome
    assert any("endless_item status=abandoned" in record for record in outcome.own_records("abandoned")), outcome
    assert any("Drained" in record for record in outcome.records), outcome


LONG_LIMIT = Play(items=ENDLESS_ITEMS)


def _fixed(server: Server, event: Event, seconds: float, options: str = "") -> Row:
    return Row(server=server, event=event, limit=f"{seconds:g} s", extra_options=options)


@rows(
    (LONG_LIMIT,),
    _fixed(RUNSERVER, FILE_CHANGE, 10.0),
    *(_fixed(MOD_WSGI, event, 3.0) for event in (TERM, TERM_GROUP, HUP, USR1, TERM_WORKER)),
    _fixed(MOD_WSGI, USR1_WORKER, 5.0),
    _fixed(MOD_WSGI, MAX_REQUESTS, 5.0, f"--maximum-requests {REQUESTS}"),
)
def test_fixed_limit_counts(row: Row, theatre: Theatre) -> None:
    """Where the time is fixed and shorter than SHUTDOWN_TIMEOUT, items are given up and told of before it is over."""
    seconds = float(row.limit.split()[0])
    outcome = theatre.outcome(row, LONG_LIMIT)
    assert seconds * 0.8 - 0.5 < outcome.seconds < seconds + SLACK, outcome
    assert any("endless_item status=abandoned" in record for record in outcome.own_records("abandoned")), outcome


SERVED_ON = dataclasses.replace(BUSY, options=f"--graceful-timeout {SHORT + BUSY_SECONDS:g}")


@rows((SERVED_ON,), (GUNICORN_UVICORN, INT))
def test_sigint_to_gunicorns_master(row: Row, theatre: Theatre) -> None:
    """uvicorn's worker serves on until the master kills it, without us too; what finishes until then has finished."""
    outcome = theatre.outcome(row, SERVED_ON)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert outcome.slow == "done", outcome


OUTLASTED = Play(items=("endless_item", "stubborn_item"), slow="seconds=60")
_THREE_SECONDS = "--graceful-timeout 3"


@rows(
    (OUTLASTED,),
    *(
        Row(server=server, event=TERM, extra_options=options)
        for server, options in (
            (GUNICORN_GTHREAD, _THREE_SECONDS),
            (GUNICORN_GTHREAD_PRELOAD, _THREE_SECONDS),
            (GUNICORN_GEVENT, _THREE_SECONDS),
            (GUNICORN_UVICORN, _THREE_SECONDS),
            (GUNICORN_ASGI, _THREE_SECONDS),
            # uWSGI, and granian with WSGI, let no Python code know of the signal while a request is served.
            (GRANIAN_ASGI, "--workers-kill-timeout 3"),
        )
    ),
)
def test_request_that_outlasts_the_limit(row: Row, theatre: Theatre) -> None:
    """The server kills the process in the middle of a request, of a stream say: its items are told of before that."""
    outcome = theatre.outcome(row, OUTLASTED)
    assert outcome.slow != "done", outcome
    assert len(outcome.own_records("abandoned")) == 2, outcome
    assert outcome.seconds < 3.0 + SLACK, outcome


TIMEOUT = 2
LONGER_THAN_IT = dataclasses.replace(BUSY, slow="", options=f"--timeout {TIMEOUT}", seconds=TIMEOUT * 2.5)


@rows(
    (LONGER_THAN_IT,),
    *(
        Row(server=server, event=event, extra_options=f"--max-requests {REQUESTS}" if event is MAX_REQUESTS else "")
        for server in (GUNICORN_SYNC, GUNICORN_GTHREAD, GUNICORN_GEVENT, GUNICORN_UVICORN, GUNICORN_ASGI)
        for event in (TERM_WORKER, MAX_REQUESTS)
    ),
)
def test_gunicorns_heart_beats_on(row: Row, theatre: Theatre) -> None:
    """Items that take longer than gunicorn's --timeout finish: the master sees the worker alive until its end."""
    outcome = theatre.outcome(row, LONGER_THAN_IT)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert "WORKER TIMEOUT" not in outcome.stderr, outcome


# The letting go (F49, F52).

STUCK_POOL = Play(items=("stuck_pool_item",), settings=LIMIT)
FAILURE = dataclasses.replace(NORMAL_END, name="exception")


@rows(
    (STUCK_POOL, IDLE_CONTROL),
    (RUNSERVER, FILE_CHANGE),
    (RUNSERVER_NORELOAD, TERM),
    (GUNICORN_GTHREAD, TERM),
    (UVICORN, INT),
    Row(server=COMMAND, event=NORMAL_END, extra_options="--stay 1"),
    Row(server=COMMAND, event=TERM, status=128 + signal.SIGTERM, extra_options="--stay 60"),
    # As a shell tells it: only the main thread, which waits, could have it die of the signal.
    Row(server=COMMAND, event=CTRL_C, status=128 + signal.SIGINT, extra_options="--stay 60"),
    Row(server=SCRIPT, event=TERM, status=128 + signal.SIGTERM, extra_options="60"),
    Row(server=SCRIPT, event=FAILURE, extra_options="1 --fail"),
)
def test_f52_stuck_pool_of_somebody_else(row: Row, theatre: Theatre) -> None:
    """A thread that the interpreter would join for ever holds no exit; the status is right, a new server comes up."""
    outcome = theatre.outcome(row, STUCK_POOL)
    assert outcome.seconds < 3.0 + 1.0 + SLACK, outcome
    assert len(outcome.own_records("abandoned")) == 1, outcome
    status = theatre.outcome(row, IDLE_CONTROL).status if row.status is None else row.status
    assert outcome.status == status, outcome


STUCK = Play(items=ENDLESS_ITEMS, settings=LIMIT)


@rows((STUCK,), (RUNSERVER, FILE_CHANGE), (UVICORN, INT), (HYPERCORN_0, TERM), (DAPHNE, TERM))
def test_f52_atexit_hooks_of_others_run(row: Row, theatre: Theatre) -> None:
    """Exit hooks of other libraries run in the process that has given its items up, threads of executors too."""
    outcome = theatre.outcome(row, STUCK)
    (worker,) = {line["pid"] for line in outcome.lines if line["event"] == "started"}
    assert [line for line in outcome.lines if line["event"] == "atexit" and line["pid"] == worker], outcome


STUCK_RECEIVER = Play(
    items=("endless_item", "honouring_item"), settings=LIMIT, environ=(("QBWI_SITE_STUCK_RECEIVER", "1"),)
)


@rows((STUCK_RECEIVER, IDLE_CONTROL), (GUNICORN_GTHREAD, TERM), (UVICORN, TERM))
def test_f49_stuck_receiver_does_not_hold_the_exit(row: Row, theatre: Theatre) -> None:
    """A signal receiver that blocks for ever during the drain does not keep the process past its limit."""
    outcome = theatre.outcome(row, STUCK_RECEIVER)
    assert outcome.at("receiver blocks"), outcome
    assert outcome.seconds < 3.0 + SLACK, outcome
    assert outcome.status == theatre.outcome(row, IDLE_CONTROL).status, outcome


# Children (F38, F53).

FORKED = Play(items=("forked_child_item",))


@rows((FORKED,), Row(server=COMMAND, event=TERM, extra_options="--stay 60"), (RUNSERVER_NORELOAD, TERM))
def test_r13_forked_child_obeys_terminate(row: Row, theatre: Theatre) -> None:
    """A forked child inherits our handler, which there does what it found: the child dies of SIGTERM."""
    (line,) = (line for line in theatre.outcome(row, FORKED).lines if line["event"] == "child")
    assert line["status"] == -signal.SIGTERM, line
    assert line["seconds"] < 5.0, line


FORKING = Play(items=("multiprocessing_item", "sync_item"))


@rows((FORKING,), (GUNICORN_GTHREAD, TERM), (GUNICORN_GTHREAD_PRELOAD, TERM), (UVICORN, TERM))
def test_f38_children_of_a_worker_drain_nothing(row: Row, theatre: Theatre) -> None:
    """A forked child of a server's worker has a scheduler of its own, and ends without the worker's items."""
    outcome = theatre.outcome(row, FORKING)
    (line,) = (line for line in outcome.lines if line["event"] == "child")
    assert line["status"] == 0, outcome
    assert line["seconds"] < 1.5, outcome
    assert len(outcome.own_records("succeeded")) == 3, outcome


# Items that are queued before anybody serves (R24).


@pytest.mark.parametrize(
    "server", [RUNSERVER, GUNICORN_GTHREAD, GUNICORN_GTHREAD_PRELOAD, UVICORN], ids=lambda server: server.name
)
def test_r24_item_of_ready(server: Server, tmp_path: Path) -> None:
    """An item of `ready()` runs once: in the process that serves, or in a preloading master, with a WARNING."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    prefix = "async/" if server.is_async else ""
    with Site(tmp_path, server.command, prefix=prefix, environ={"QBWI_SITE_READY_ITEM": "1"}) as site:
        worker = site.serving()
        site.wait_for("finished", "quick_item")
        site.kill("group", signal.SIGINT, worker)
        site.wait_for_end(site.process.pid)
        ran = [line["pid"] for line in site.lines() if line["event"] == "finished"]
        preloads = server is GUNICORN_GTHREAD_PRELOAD
        assert ran == [site.process.pid if preloads else worker]
        assert not [line for line in site.lines() if line["event"] == "rejected"]
        assert site.stderr().count("was queued in gunicorn's master process") == (1 if preloads else 0)


# Handlers and hooks.


@pytest.mark.parametrize("hosted", [True, False])
@pytest.mark.parametrize("server", [GUNICORN_SYNC, UVICORN, RUNSERVER_NORELOAD], ids=lambda server: server.name)
def test_handle_signals_decides_on_handlers(server: Server, hosted: bool, tmp_path: Path) -> None:
    """With HANDLE_SIGNALS = False no stop signal has a handler of ours, also after items; else SIGTERM has."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    settings = {"HANDLE_SIGNALS": hosted}
    prefix = "async/" if server.is_async else ""
    with Site(tmp_path, server.command, settings=settings, prefix=prefix) as site:
        site.serving()
        site.get("queue?item=quick_item")
        site.wait_for("finished", "quick_item")
        found = site.get("handlers").split()
    assert ("SIGTERM" in found) if hosted else (found == ["none"]), found


@pytest.mark.parametrize("moment", ["before", "after"])
@rows((), (UWSGI_GRACEFUL, TERM))
def test_users_uwsgi_hook_runs(row: Row, moment: str, theatre: Theatre) -> None:
    """A user's uwsgi.atexit, set before or after ours, is called once, and the items finish."""
    outcome = theatre.outcome(row, dataclasses.replace(BUSY, environ=(("QBWI_SITE_UWSGI_HOOK", moment),)))
    assert len(outcome.at("hook", "uwsgi.atexit")) == 1, outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome


# Signals in any instant (F34), and none at all.


@pytest.mark.parametrize("after", [0.0, 0.013, 0.1])
def test_f34_signal_while_the_main_thread_queues(after: float, tmp_path: Path) -> None:
    """SIGTERM reaches a main thread that does nothing but queue, so often with the lock in hand: it ends, in time."""
    with Site(tmp_path, "script.py 60 --flood", settings={"MAX_QUEUED": 100_000}) as site:
        site.wait_for("flood")
        limit = time.monotonic() + after
        while time.monotonic() < limit:
            pass
        signed_at = time.monotonic()
        site.process.send_signal(signal.SIGTERM)
        ended_at = site.wait_for_end(site.process.pid)
        outcome = site.outcome(signed_at, ended_at, "")
    assert outcome.status == 143, outcome.stderr
    assert outcome.seconds < 20.0, outcome.seconds
    assert "Traceback" not in outcome.stderr, outcome.stderr


@pytest.mark.parametrize(
    ("server", "options"),
    [
        pytest.param(UVICORN_WORKERS, "", id="uvicorn"),
        pytest.param(GRANIAN_WSGI, "--workers 2 --respawn-failed-workers", id="granian"),
        pytest.param(UWSGI_GRACEFUL, "--processes 2", id="uWSGI"),
    ],
)
def test_f36_killed_worker_of_several(server: Server, options: str, tmp_path: Path) -> None:
    """SIGKILL of one of two workers: the items of the other one finish, and another worker comes."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    with Site(tmp_path, f"{server.command} {options}", prefix="async/" if server.is_async else "") as site:
        site.serving()
        site.wait_until(lambda: len(_queued_by(site, "sync_item")) == 2, "items in both workers")
        queued = _queued_by(site, "sync_item")
        killed, other = queued
        site.wait_until(lambda: _count(site, "started", killed) > 0, "an item of the worker that is killed")
        os.kill(killed, signal.SIGKILL)
        site.wait_for_end(killed)
        site.wait_until(lambda: _count(site, "finished", other) == _count(site, "queued", other), "the other's items")
        site.wait_until(lambda: site.serving() not in (killed, other), "a new worker")


def _queued_by(site: Site, name: str) -> list[int]:
    site.get(f"queue?item={name}")
    return sorted({line["pid"] for line in site.lines() if line["event"] == "queued"})


def _count(site: Site, event: str, pid: int) -> int:
    return len([line for line in site.lines() if line["event"] == event and line["pid"] == pid])


# eventlet.

EVENTLET = """
import eventlet
eventlet.monkey_patch()
import django
django.setup()
from django_qbwi import NotHosted, queue_background_work_item
try:
    queue_background_work_item(print)
except NotHosted as error:
    print(error)
"""


def test_eventlet_is_refused() -> None:
    """In a process whose threads eventlet has replaced, queueing raises NotHosted with the cure; the site starts."""
    pytest.importorskip("eventlet")
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVENTLET],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "eventlet has replaced the threads" in result.stdout
    assert "gthread or gevent" in result.stdout
