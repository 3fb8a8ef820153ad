"""Faults that only real processes show, by their numbers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest

from tests.processes.harness import PATIENCE, Site
from tests.processes.matrix import (
    COMMAND,
    GUNICORN_GTHREAD,
    NORMAL_END,
    RUNSERVER,
    SCRIPT,
    TERM,
    UVICORN,
    UWSGI_GRACEFUL,
    Row,
)
from tests.processes.scenario import BUSY, IDLE_CONTROL, Play, Theatre, is_installed, play

GUNICORN_TERM = Row(server=GUNICORN_GTHREAD, event=TERM)
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not is_installed(GUNICORN_TERM), reason="gunicorn is not installed here"),
]

WHILE_IT_FORKS = "3"
"""Seconds that a script works on: Python 3.12.0 to 3.12.2 fork no more when the exit has begun."""
LIMIT = (("SHUTDOWN_TIMEOUT", 3.0),)
LOOK_SECONDS = 1.0
"""How often runserver's reloader looks at its files."""


def test_f36_killed_worker_leaves_the_others_alone(tmp_path: Path) -> None:
    """SIGKILL of one worker takes its items along and nobody else's."""
    with Site(tmp_path, f"{GUNICORN_GTHREAD.command} --workers 2", seconds=2.0) as site:
        first = site.serving()
        second = site.wait_until(lambda: (pid := site.serving()) != first and pid, "the other worker")
        queued: set[int] = set()
        site.wait_until(lambda: queued.add(int(site.get("queue?item=sync_item"))) or len(queued) == 2, "both to queue")
        os.kill(first, signal.SIGKILL)
        site.wait_for_end(first)
        expected = len([line for line in site.lines() if line["event"] == "queued" and line["pid"] == second])
        site.wait_until(lambda: _finished_by(site, second) == expected > 0, "the items of the other worker")
        assert int(site.get("pid")) != first


def test_f38_child_of_an_item_runs_nothing_twice(tmp_path: Path) -> None:
    """An item that forks and lets the child return: the child ends, the parent's items run once."""
    row = Row(server=SCRIPT, event=NORMAL_END, extra_options=WHILE_IT_FORKS)
    outcome = play(row, Play(items=("forking_item", "sync_item", "async_item")), tmp_path)
    for name in ("forking_item", "sync_item", "async_item"):
        assert len(outcome.at("finished", name)) == (2 if name == "forking_item" else 1), outcome
    assert len(outcome.own_records("succeeded")) == 3, outcome
    assert outcome.status == 0, outcome


def test_f38_children_of_multiprocessing_drain_nothing(tmp_path: Path) -> None:
    """A forked child of multiprocessing has a scheduler of its own and does not wait for the parent's items."""
    row = Row(server=SCRIPT, event=NORMAL_END, extra_options=WHILE_IT_FORKS)
    outcome = play(row, Play(items=("multiprocessing_item", "sync_item")), tmp_path)
    (line,) = (line for line in outcome.lines if line["event"] == "child")
    assert line["status"] == 0, outcome
    assert line["seconds"] < 1.5, outcome
    assert len(outcome.own_records("succeeded")) == 3, outcome


@pytest.mark.parametrize("is_stopped", [False, True])
def test_second_ctrl_c_ends_a_runserver_whose_child_does_not_answer(tmp_path: Path, is_stopped: bool) -> None:
    """After two of them, in quick succession, a child that is stopped, or whose items never end, is gone in seconds."""
    with Site(tmp_path, RUNSERVER.command, seconds=2.0) as site:
        worker = site.serving()
        site.get("queue?item=stuck_item")
        site.wait_for("started", "stuck_item")
        if is_stopped:
            os.kill(worker, signal.SIGSTOP)
        site.kill("server", signal.SIGINT, worker)
        # Of two signals at the same time Linux keeps one: the parent takes its first turn before the second.
        time.sleep(0.5)
        site.kill("server", signal.SIGINT, worker)
        site.wait_for_end(site.process.pid)
        site.wait_for_end(worker, 5.0)
        assert site.process.returncode == 0


def test_f40_f41_two_reloads_in_quick_succession(tmp_path: Path) -> None:
    """A second change during the drain of a reload brings up one new server, and the items finish."""
    with Site(tmp_path, RUNSERVER.command, seconds=2.0) as site:
        first = site.serving()
        site.get("queue?item=sync_item")
        site.wait_for("started", "sync_item")
        site.wait_until(lambda: _touch_until_seen(site), "the reloader")
        site.touch()
        site.wait_for_end(first)
        site.wait_for("finished", "sync_item")
        second = site.wait_until(lambda: (pid := site.serving()) != first and pid, "the new server")
        # The reloader looks once a second, and takes two looks to see a change: a second new server would be there.
        time.sleep(3 * LOOK_SECONDS)
        loaded = {line["pid"] for line in site.lines() if line["event"] == "site loaded"}
        assert loaded == {site.process.pid, first, second}
        assert site.serving() == second


def test_f40_ctrl_c_during_a_reload_stops_the_server(tmp_path: Path) -> None:
    """The first Ctrl-C during the drain of a reload forces nothing, and no new server comes up."""
    with Site(tmp_path, RUNSERVER.command, seconds=4.0) as site:
        first = site.serving()
        site.get("queue?item=sync_item")
        site.wait_for("started", "sync_item")
        site.wait_until(lambda: _touch_until_seen(site), "the reloader")
        # More than the second within which a Ctrl-C is a duplicate of the sign before.
        signed_at = site.wait_for("cancelled", "sync_item")
        site.wait_until(lambda: time.monotonic() > signed_at + 1.5, "a second and a half")
        os.killpg(site.process.pid, signal.SIGINT)
        site.wait_for_end(first)
        assert site.process.wait(PATIENCE) == 0
        site.wait_for("finished", "sync_item")


def test_f49_stuck_logging_handler_does_not_hold_the_exit(theatre: Theatre) -> None:
    """A handler that blocks for ever in the middle of the drain does not keep the process past its limit."""
    stuck = Play(
        items=("endless_item", "honouring_item"), settings=LIMIT, environ=(("QBWI_SITE_STUCK_LOG", "abandoned"),)
    )
    outcome = theatre.outcome(GUNICORN_TERM, stuck)
    assert outcome.at("handler blocks"), outcome
    assert outcome.seconds < 3.0 + 2.0, outcome
    assert outcome.status == theatre.outcome(GUNICORN_TERM, IDLE_CONTROL).status, outcome


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(GUNICORN_TERM, id="gunicorn"),
        pytest.param(Row(server=UVICORN, event=TERM), id="uvicorn"),
        pytest.param(Row(server=UWSGI_GRACEFUL, event=TERM), id="uWSGI"),
        pytest.param(Row(server=COMMAND, event=TERM, extra_options="--stay 60"), id="command"),
    ],
)
def test_f53_child_of_an_item_obeys_terminate(row: Row, theatre: Theatre) -> None:
    """A program that an item starts during the drain can be stopped: it inherits no blocked signal."""
    outcome = theatre.outcome(row, Play(items=("program_item",)))
    (line,) = (line for line in outcome.lines if line["event"] == "child")
    assert line["status"] == -signal.SIGTERM, outcome
    assert line["seconds"] < 5.0, outcome


def test_f35_users_atexit_hooks_run(theatre: Theatre) -> None:
    """Other exit hooks run after the wait, also when items were given up."""
    endless = Play(items=("endless_item", "stuck_executor_item"), settings=LIMIT)
    for row, how in [(Row(server=COMMAND, event=NORMAL_END), endless), (GUNICORN_TERM, endless)]:
        outcome = theatre.outcome(row, how)
        assert outcome.at("atexit"), outcome


def test_cancel_after_gives_undisturbed_time(theatre: Theatre) -> None:
    """CANCEL_AFTER leaves the tokens alone for a while."""
    how = dataclasses.replace(BUSY, slow="", settings=(("CANCEL_AFTER", 0.7),))
    outcome = theatre.outcome(GUNICORN_TERM, how)
    for name in how.items:
        assert 0.6 < outcome.at("called back", name)[0] - outcome.signed_at < 1.3, outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome


def test_names_of_those_waited_for_every_five_seconds(theatre: Theatre) -> None:
    """A longer wait is explained every 5 s, by name."""
    how = Play(items=("endless_item",), settings=(("SHUTDOWN_TIMEOUT", 7.0),))
    outcome = theatre.outcome(GUNICORN_TERM, how)
    waiting = [record for record in outcome.records if record.startswith("WARNING Waiting up to")]
    assert len(waiting) == 1, outcome
    assert "endless_item" in waiting[0], outcome


def _touch_until_seen(site: Site) -> bool:
    site.touch()
    return any(line["event"] == "file changed" for line in site.lines())


def _finished_by(site: Site, pid: int) -> int:
    return len([line for line in site.lines() if line["event"] == "finished" and line["pid"] == pid])


@pytest.mark.parametrize("name", ["checking_item", "checking_async_item"])
def test_g45_items_that_wait_at_a_deploy_are_done(name: str, tmp_path: Path) -> None:
    """G45: 40 items that begin with a look at their token wait for their turn when SIGTERM comes: all are done."""
    settings = {"MAX_WORKERS": 2, "MAX_ASYNC_IN_FLIGHT": 2}
    command = f"{GUNICORN_GTHREAD.command} --graceful-timeout 20"
    with Site(tmp_path, command, seconds=2.0, settings=settings) as site:
        worker = site.serving()
        site.get(f"queue?{'&'.join(f'item={name}' for _ in range(40))}")
        signed_at = time.monotonic()
        site.kill("server", signal.SIGTERM, worker)
        outcome = site.outcome(signed_at, site.wait_for_end(site.process.pid), "")
    assert len(outcome.at("finished", name)) == 40, outcome
    assert outcome.at("started", name)[-1] > signed_at, outcome
    assert outcome.seconds < 20, outcome
    assert any("cancelled, 0 abandoned, 0 discarded" in record for record in outcome.records), outcome
