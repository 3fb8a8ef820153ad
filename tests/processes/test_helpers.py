"""Helper processes of real servers: each item has one ending, and no helper is left, however the server ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.processes.harness import PATIENCE, ROOT, Site, _lives
from tests.processes.matrix import (
    GUNICORN_GEVENT,
    GUNICORN_GTHREAD,
    GUNICORN_GTHREAD_PRELOAD,
    HUP,
    INT,
    MAX_REQUESTS,
    REQUESTS,
    RUNSERVER_NORELOAD,
    TERM,
    UVICORN,
    UWSGI_GRACEFUL,
    Event,
    Row,
    Server,
)
from tests.processes.scenario import is_installed

pytestmark = pytest.mark.processes

KILL_WORKER = Event(name="SIGKILL to a worker", signum=signal.SIGKILL, target="worker", ends="worker")
LIMIT = 3.0
ENDINGS = [
    Row(server=GUNICORN_GTHREAD, event=TERM),
    Row(server=GUNICORN_GTHREAD, event=INT),
    Row(server=GUNICORN_GTHREAD, event=HUP),
    Row(server=GUNICORN_GTHREAD, event=MAX_REQUESTS, extra_options=f"--max-requests {REQUESTS}"),
    Row(server=GUNICORN_GTHREAD_PRELOAD, event=TERM),
    Row(server=GUNICORN_GEVENT, event=TERM),
    Row(server=UVICORN, event=TERM),
    Row(server=UVICORN, event=INT),
    Row(server=UWSGI_GRACEFUL, event=TERM),
    Row(server=UWSGI_GRACEFUL, event=HUP),
    Row(server=RUNSERVER_NORELOAD, event=TERM),
]


class Stage:
    """A site with one item in a helper process."""

    def __init__(self, site: Site, name: str, inner: str) -> None:
        self.site = site
        site.serving()
        self.worker = int(site.get(f"queue?item={name}"))
        site.wait_for("started", inner)
        (self.helper,) = {line["pid"] for line in self.lines("started", inner)}

    def lines(self, event: str, name: str) -> list[dict[str, Any]]:
        """Return what was reported."""
        return [line for line in self.site.lines() if (line["event"], line["name"]) == (event, name)]

    def end(self, row: Row) -> None:
        """Have the event happen, and wait until the process that was served by is gone."""
        event = row.event
        if event.action == "requests":
            for _ in range(REQUESTS - self.site.requests):
                self.site.get("pid")
        else:
            assert event.signum is not None
            self.site.kill(event.target, event.signum, self.worker)
        self.site.wait_for_end(self.site.process.pid if event.ends == "server" else self.worker)

    def await_no_helper(self) -> None:
        """Wait until the helper is gone."""
        deadline = time.monotonic() + PATIENCE
        while _lives(self.helper):
            assert time.monotonic() < deadline, self.site.failed("the helper lives on")
            time.sleep(0.01)

    def endings(self) -> list[str]:
        """Return the terminal statuses in the records of items."""
        words = (word for line in self.site.records().splitlines() for word in line.split())
        terminal = ("succeeded", "failed", "cancelled", "abandoned", "discarded")
        return [word.removeprefix("status=") for word in words if word in {f"status={status}" for status in terminal}]


def open_site(row: Row, directory: Path, **options: Any) -> Site:
    """Return the site under the server of a row."""
    if not is_installed(row):
        pytest.skip(f"{row.server.name} is not installed here")
    prefix = "async/" if row.server.is_async else ""
    return Site(directory, row.command, prefix=prefix, **options)


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda row: row.id)
def test_item_that_heeds_its_token_leaves(ending: Row, tmp_path: Path) -> None:
    """It is in a process that is not the server's, hears of the end of that, and leaves; so does its helper."""
    with open_site(ending, tmp_path) as site:
        stage = Stage(site, "helped_honouring_item", "honouring_item")
        assert stage.helper != stage.worker
        stage.end(ending)
        stage.await_no_helper()
        (line,) = stage.lines("cancelled", "honouring_item")
        assert (line["pid"], line["reason"]) == (stage.helper, "shutdown")
        assert line["remaining"] is not None
        assert stage.endings() == ["succeeded"]


@pytest.mark.parametrize("ending", ENDINGS[:1] + ENDINGS[2:4] + ENDINGS[6:7], ids=lambda row: row.id)
def test_item_that_needs_its_time_has_it(ending: Row, tmp_path: Path) -> None:
    """The end of the server waits for it."""
    with open_site(ending, tmp_path) as site:
        stage = Stage(site, "helped_item", "sync_item")
        stage.end(ending)
        stage.await_no_helper()
        assert len(stage.lines("finished", "sync_item")) == 1
        assert stage.endings() == ["succeeded"]


@pytest.mark.parametrize("ending", [ENDINGS[0], ENDINGS[6]], ids=lambda row: row.id)
def test_sigterm_for_all_processes_of_a_service(ending: Row, tmp_path: Path) -> None:
    """systemd's way: the helper gets it too, and its item has its time all the same."""
    with open_site(ending, tmp_path) as site:
        stage = Stage(site, "helped_item", "sync_item")
        os.kill(stage.helper, signal.SIGTERM)
        stage.end(ending)
        stage.await_no_helper()
        assert stage.endings() == ["succeeded"]


@pytest.mark.parametrize("ending", [ENDINGS[0], ENDINGS[6]], ids=lambda row: row.id)
def test_item_that_never_ends_is_ended_at_the_limit(ending: Row, tmp_path: Path) -> None:
    """Its helper is ended with the server, and it has one ending."""
    with open_site(ending, tmp_path, settings={"SHUTDOWN_TIMEOUT": LIMIT}) as site:
        stage = Stage(site, "helped_endless_item", "endless_item")
        stage.end(ending)
        stage.await_no_helper()
        assert stage.endings() == ["cancelled"]


@pytest.mark.parametrize("server", [GUNICORN_GTHREAD, GUNICORN_GEVENT, UVICORN], ids=lambda server: server.name)
def test_command_shows_where_the_helper_is(server: Server, tmp_path: Path) -> None:
    """`manage.py qbwi stacks` has the stack of the item, asked of its helper."""
    row = Row(server=server, event=TERM)
    with open_site(row, tmp_path) as site:
        Stage(site, "helped_endless_item", "endless_item")
        command = [sys.executable, "-m", "django", "qbwi", "stacks"]
        result = subprocess.run(
            command, cwd=ROOT, env=site._environ, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        assert "time.sleep(600)" in result.stdout


@pytest.mark.parametrize("server", [GUNICORN_GTHREAD, GUNICORN_GEVENT], ids=lambda server: server.name)
def test_killed_worker_takes_its_helper_along(server: Server, tmp_path: Path) -> None:
    """SIGKILL of the worker is the end of its helper; another worker comes, and has another one."""
    row = Row(server=server, event=KILL_WORKER)
    with open_site(row, tmp_path) as site:
        stage = Stage(site, "helped_endless_item", "endless_item")
        stage.end(row)
        stage.await_no_helper()
        site.wait_until(lambda: site.serving() != stage.worker, "another worker")
        site.get("queue?item=helped_honouring_item")
        site.wait_for("started", "honouring_item")


@pytest.mark.parametrize("server", [GUNICORN_GTHREAD, UVICORN], ids=lambda server: server.name)
def test_killed_helper_fails_its_item_only(server: Server, tmp_path: Path) -> None:
    """SIGKILL of a helper is told of, and the server goes on."""
    row = Row(server=server, event=TERM)
    with open_site(row, tmp_path) as site:
        stage = Stage(site, "helped_endless_item", "endless_item")
        os.kill(stage.helper, signal.SIGKILL)
        site.wait_until(lambda: stage.endings() == ["failed"], "the record of the failure")
        assert "killed by signal 9 (SIGKILL" in site.records()
        assert site.serving() == stage.worker
        site.get("queue?item=helped_honouring_item")
        site.wait_for("started", "honouring_item")


BURNING = """
import os, re, time

def burn(token):
    re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter for longer than anybody waits

def quick(token):
    pass

if __name__ == "__main__":
    import django
    django.setup()
    import burning
    from django_qbwi import queue_background_work_item

    handle = queue_background_work_item(burning.burn, executor="process")
    while handle.status != "running":
        time.sleep(0.01)
    for _ in range(20):
        queue_background_work_item(burning.quick, executor="process")
"""
BURNING_SETTINGS = """
SECRET_KEY = "for the tests only"
INSTALLED_APPS = ["django_qbwi"]
USE_TZ = True
QBWI = {"PROCESS_WORKERS": 1, "SHUTDOWN_TIMEOUT": 3.0}
"""


def test_helper_that_does_not_answer_silences_nobody(tmp_path: Path) -> None:
    """At the limit, what waits behind an item that holds its helper's interpreter is told of, each of them."""
    (tmp_path / "burning.py").write_text(BURNING)
    (tmp_path / "burning_settings.py").write_text(BURNING_SETTINGS)
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "burning_settings"}
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [sys.executable, str(tmp_path / "burning.py")], env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    told = Counter(re.findall(r"name=burning\.(\w+) status=(\w+)", result.stderr))
    assert told == {("burn", "abandoned"): 1, ("quick", "discarded"): 20}, result.stderr
