"""What ends badly under gunicorn is in the table of the history, over reloads and to the last moment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake import postgresql
from tests.processes.harness import PATIENCE, ROOT, Site

HUPS = int(os.environ.get("QBWI_HISTORY_HUPS", "2"))
GUNICORN = "gunicorn --bind 127.0.0.1:{port} --workers 2 --threads 4 --graceful-timeout 30 tests.processes.site.wsgi"
LIMIT = 10.0

pytestmark = pytest.mark.processes


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The database of the history."""
    if request.param == "sqlite":
        yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "history.sqlite3")}
        return
    with postgresql.offered() as settings:
        yield dict(settings)


@contextlib.contextmanager
def serving(directory: Path, database: dict[str, Any], limit: float = LIMIT) -> Iterator[Site]:
    """Serve the site, with its table."""
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.processes.keeping.settings",
        "QBWI_HISTORY_DATABASE": json.dumps(database),
    }
    with Site(directory, GUNICORN, settings={"SHUTDOWN_TIMEOUT": limit}, environ=environ) as site:
        manage(site, "migrate", "--database", "history", "-v0")
        site.serving()
        yield site


def manage(site: Site, *arguments: str) -> str:
    """Run a management command of the site; return what it prints."""
    command = [sys.executable, "-m", "django", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=site._environ, capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


def kept(site: Site) -> list[dict[str, Any]]:
    """Return what the command lists."""
    items: list[dict[str, Any]] = json.loads(manage(site, "qbwi", "history", "--limit", "1000", "--format", "json"))[
        "items"
    ]
    return items


def test_history_over_reloads(database: dict[str, Any], tmp_path: Path) -> None:
    """What has failed before, and at the end of each process, is there once; what was abandoned has its stack."""
    queued: dict[str, str] = {}
    with serving(tmp_path / "site", database) as site:
        for number in range(HUPS):
            for how in ("fail", "late"):
                queued[site.get(f"queue/{how}/{number}")] = f"{how} {number}"
            # The row of the first one is not written yet.
            site.process.send_signal(signal.SIGHUP)
            site.wait_until(lambda: site.records().count("Drained in") > number, "the end of a worker")  # noqa: B023
            site.serving()
        for how in ("fail", "late", "stay"):
            queued[site.get(f"queue/{how}/{HUPS}")] = f"{how} {HUPS}"
        site.process.terminate()
        site.wait_for_end(site.process.pid)
        assert site.process.poll() == 0
        found, records = kept(site), site.records()
    assert {item["id"]: item["name"] for item in found} == queued, records
    assert len(found) == len(queued)
    assert Counter(item["status"] for item in found) == {"failed": 2 * (HUPS + 1), "abandoned": 1}
    for item in found:
        number = item["name"].split()[1]
        if item["error"] is None:
            assert "threading.Event().wait(600)" in item["stack"]
        else:
            assert item["error"]["message"] == f"number {number}"
            assert 'raise ValueError(f"number {number}")' in item["error"]["traceback"]
    assert "in the history" not in records


def test_locked_database_does_not_hold_the_exit(tmp_path: Path) -> None:
    """The process ends as it would, its items have their records, and one record more says what is missing."""
    path = tmp_path / "history.sqlite3"
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 60}}
    with serving(tmp_path / "site", database, limit=20.0) as site:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            site.get("queue/fail/1")
            signed_at = time.monotonic()
            site.process.terminate()
            ended_at = site.wait_for_end(site.process.pid)
        assert site.process.poll() == 0
        records = site.records()
        assert kept(site) == []
    assert ended_at - signed_at < 15.0
    assert "1 work item(s) that ended badly or moved are missing in the history" in records
    assert records.count("status=failed") == 1


def test_missing_table_hurts_nobody(tmp_path: Path) -> None:
    """One WARNING says what to do; requests and items go on."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "history.sqlite3")}
    with serving(tmp_path / "site", database) as site:
        manage(site, "migrate", "django_qbwi_history", "zero", "--database", "history", "-v0")
        site.get("queue/fail/1")
        site.wait_until(lambda: "The table is missing" in site.records(), "the warning")
        site.get("queue/fail/2")
        manage(site, "migrate", "--database", "history", "-v0")
        site.process.terminate()
        site.wait_for_end(site.process.pid)
        assert site.process.poll() == 0
        found, records = kept(site), site.records()
    assert records.count("run `manage.py migrate django_qbwi_history --database history`") <= 2
    assert {item["name"] for item in found} == {"fail 1", "fail 2"}


SCRIPT = """
import os, signal, sys
import django
django.setup()
from django.core.management import call_command
from django_qbwi import hosting, queue_background_work_item
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.lifecycle.servers import ServerHost

call_command("migrate", "--database", "history", verbosity=0)
# A server that leaves the signal to its default action.
hosting.this_process()._set_host(ServerHost())
hosting.this_process().first_request()

def fail(token):
    raise ValueError("number 1")

assert queue_background_work_item(fail).wait(30)
assert HistoryEntry.objects.count() == 0
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


def test_signal_waits_for_what_is_not_written(tmp_path: Path) -> None:
    """Nothing is queued or running, the default action of the signal would end the process, and so it does then."""
    path = tmp_path / "history.sqlite3"
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.processes.keeping.settings",
        "PYTHONPATH": str(ROOT),
        "QBWI_SITE_DIR": str(tmp_path),
        "QBWI_HISTORY_DATABASE": json.dumps({"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}),
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == -signal.SIGTERM, result.stderr
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT status, message FROM django_qbwi_history_historyentry").fetchall()
    assert rows == [("failed", "number 1")]
