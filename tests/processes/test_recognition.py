"""Processes that are easily taken for others: own commands around runserver, what was only imported, other queues."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.harness import PATIENCE, Site

pytestmark = pytest.mark.processes

DEVELOPMENT = [
    pytest.param("manage.py develop 127.0.0.1:{port}", "", id="own command"),
    pytest.param("manage.py runserver_plus 127.0.0.1:{port}", "django_extensions", id="runserver_plus"),
]


def requires(*modules: str) -> None:
    """Skip the test where one of `modules` is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed here")


def _develop(tmp_path: Path, command: str, apps: str, **environ: str) -> Site:
    if apps:
        requires(apps, "werkzeug")
    return Site(tmp_path, command, environ={"QBWI_SITE_APPS": apps, **environ})


@pytest.mark.parametrize(("command", "apps"), DEVELOPMENT)
def test_g25_ctrl_c_waits_for_the_items(command: str, apps: str, tmp_path: Path) -> None:
    """The watching process does not kill the other one after a quarter of a second."""
    with _develop(tmp_path, command, apps) as site:
        worker = site.serving()
        site.get("queue?item=sync_item&item=async_item")
        site.wait_for("started", "async_item")
        site.kill("group", signal.SIGINT, worker)
        site.wait_for_end(worker)
        site.wait_for_end(site.process.pid)
        outcome = site.outcome(0.0, 0.0, "")
    assert [len(outcome.at("finished", name)) for name in ("sync_item", "async_item")] == [1, 1], outcome
    assert any("limit 90s" in record for record in outcome.records), outcome.records


@pytest.mark.parametrize(("command", "apps"), DEVELOPMENT)
def test_g25_reload_has_ten_seconds(command: str, apps: str, tmp_path: Path) -> None:
    """As with plain runserver, however long SHUTDOWN_TIMEOUT is; then the new process serves."""
    with _develop(tmp_path, command, apps) as site:
        worker = site.serving()
        site.get("queue?item=honouring_item")
        site.wait_for("started", "honouring_item")

        def changed() -> bool:
            # A change before the reloader's first look is none.
            site.touch()
            return "Draining" in site.records()

        site.wait_until(changed, "the reload")
        site.wait_for_end(worker)
        assert site.wait_until(lambda: site.serving() != worker, "the new process")
        outcome = site.outcome(0.0, 0.0, "")
    # The record of an end is written by the item's own thread, maybe before it.
    assert any("1 running, 0 queued, limit 10s" in record for record in outcome.records), outcome.records
    assert len(outcome.own_records("succeeded")) == 1, outcome.records


def test_g25_item_of_ready_runs_in_one_process(tmp_path: Path) -> None:
    """runserver_plus loads the site twice: what only watches runs no items."""
    command = "manage.py runserver_plus 127.0.0.1:{port}"
    with _develop(tmp_path, command, "django_extensions", QBWI_SITE_READY_ITEM="1") as site:
        worker = site.serving()
        site.wait_until(lambda: "status=succeeded" in site.records(), "the record")
        lines = site.lines()
    loaded = [line["pid"] for line in lines if line["event"] == "site loaded"]
    ran = [line["pid"] for line in lines if line["event"] == "finished"]
    assert (len(set(loaded)), ran) == (2, [worker])


IMPORTS = "gunicorn.app.base gunicorn.arbiter uwsgi billiard.pool celery.concurrency.prefork rq.worker waitress.server"


def test_g26_command_is_a_command_whatever_it_imports(tmp_path: Path) -> None:
    """Its items end undisturbed, and nothing is said of a server."""
    imports = [name for name in IMPORTS.split() if name == "uwsgi" or importlib.util.find_spec(name.split(".")[0])]
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "uwsgi.py").write_text("opt = {}\nhas_threads = 0\n")
    with Site(tmp_path, "manage.py work sync_item", environ={"QBWI_SITE_IMPORTS": " ".join(imports)}) as site:
        site.wait_for_end(site.process.pid)
        outcome = site.outcome(0.0, 0.0, "")
    assert (outcome.status, outcome.at("cancelled", "sync_item")) == (0, []), outcome
    assert len(outcome.at("finished", "sync_item")) == 1, outcome
    assert not [record for record in outcome.records if record.startswith("WARNING")], outcome.records


# Queues of others.


def test_g47_items_of_celerys_tasks_end(tmp_path: Path) -> None:
    """Each task has a child of its own, which is held until the task's item has ended."""
    requires("celery")
    command = "celery --app tests.processes.site.celery_app worker --pool prefork --loglevel WARNING"
    names = ["sync_item", "async_item", "sync_item", "quick_item"]
    with Site(tmp_path, command, seconds=0.5, environ={"QBWI_SITE_TASKS": " ".join(names)}) as site:
        for name in sorted(set(names)):
            site.wait_for("finished", name, names.count(name))
        site.kill("server", signal.SIGTERM, site.process.pid)
        site.wait_for_end(site.process.pid)
        outcome = site.outcome(0.0, 0.0, "")
    finished = [line["pid"] for line in outcome.lines if line["event"] == "finished"]
    assert len(set(finished)) == len(names), outcome
    assert len(outcome.own_records("succeeded")) == len(names), outcome.records
    assert (outcome.own_records("abandoned"), outcome.own_records("discarded")) == ([], []), outcome.records


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """Return the socket of a server of our own."""
    requires("rq", "redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed here")
    path = tmp_path / "redis"
    path.mkdir()
    options = ["--port", "0", "--unixsocket", str(path / "socket"), "--save", "", "--dir", str(path)]
    with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if "ready to accept connections" in line.lower():
                break
        yield str(path / "socket")
        server.terminate()
        server.stdout.read()
        server.wait(PATIENCE)


@pytest.mark.parametrize(("kind", "ended"), [("forking", "rejected"), ("simple", "finished")])
def test_g47_rqs_work_horse_refuses(kind: str, ended: str, redis: str, tmp_path: Path) -> None:
    """Its items would be gone with it; a SimpleWorker lives on, and runs them."""
    program = Path(__file__).parent / "site" / "rq_worker.py"
    with Site(tmp_path / "site", f"python {program} quick_item {kind}", environ={"QBWI_SITE_REDIS": redis}) as site:
        site.wait_for(ended, "quick_item")
        site.wait_for_end(site.process.pid)
        outcome = site.outcome(0.0, 0.0, "")
    assert outcome.status == 0, outcome
    refused = [record for record in outcome.records if "enqueue it as a job of its own" in record]
    assert len(refused) == (ended == "rejected"), outcome.records
