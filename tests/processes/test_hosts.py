"""Two servers that pretend to be on different hosts, and share one database: the registry of all hosts.

They beat as often as in real life; only how old a row is, a test makes up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake import postgresql
from tests.processes.test_inspection import GUNICORN, PATIENCE, ROOT, UVICORN, Site

pytestmark = pytest.mark.processes

BEAT = 10.0

AGE = """
import datetime, sys
import django
django.setup()
from django.db.models import F
from django_qbwi.contrib.shared_registry.models import HostedProcess
silent = datetime.timedelta(seconds=float(sys.argv[2]))
assert HostedProcess.objects.filter(pid=int(sys.argv[1])).update(seen_at=F("seen_at") - silent)
"""
ROWS = """
import django
django.setup()
from django_qbwi.contrib.shared_registry.models import HostedProcess
print(*HostedProcess.objects.values_list("pid", flat=True))
"""


class Host(Site):
    """One host of a site."""

    def __init__(self, name: str, place: Path, database: dict[str, Any], key: str) -> None:
        place.mkdir()
        super().__init__(
            DJANGO_SETTINGS_MODULE="tests.processes.inspected.hosts",
            QBWI_TEST_KEY=key,
            QBWI_TEST_HOST=name,
            QBWI_TEST_PLACE=str(place),
            QBWI_TEST_DATABASE=json.dumps(database),
        )
        self.name = name

    @property
    def server(self) -> subprocess.Popen[str]:
        """Its server."""
        return self._processes[0]

    def program(self, code: str, *arguments: str) -> str:
        """Run Python on this host and return what it prints."""
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=PATIENCE)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    def rows(self) -> set[int]:
        """Return the pids in the table."""
        return {int(pid) for pid in self.program(ROWS).split()}

    def items(self, *, own: bool = False) -> dict[str, tuple[str, str]]:
        """Return host and status of each item that the command lists here, ended ones too; or those of this host."""
        return {
            item["id"]: (record["host"], item["status"])
            for record in self.overview(None)["processes"]
            for item in (*record["items"], *record["recent"])
            if record["host"] == self.name or not own
        }


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, Any]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(params=["sqlite", "postgresql"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Return two hosts with one server each, gunicorn with two workers and uvicorn, all of which have items."""
    if request.param == "sqlite":
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    else:
        database = request.getfixturevalue("postgres")
    key = os.urandom(16).hex()
    # A path of a socket may have 107 characters only, which those of pytest's folders can pass.
    places = Path(tempfile.mkdtemp(prefix="qbwi-"))
    web1, web2 = (Host(name, places / name, database, key) for name in ("web1", "web2"))
    web1.program(
        "import django; django.setup()\nfrom django.core.management import call_command as c\nc('migrate', verbosity=0)"
    )
    try:
        web1.serve(GUNICORN, workers=2)
        web2.serve(UVICORN)
        web1.get_from_all("queue", 2)
        web2.get_from_all("queue", 1)
        yield web1, web2
    finally:
        web1.end()
        web2.end()
        shutil.rmtree(places)


def test_items_of_all_hosts_are_seen_and_stopped(hosts: tuple[Host, Host]) -> None:
    """From each host: all are listed, one is cancelled from the other host within the next beat, a killed one ages."""
    web1, web2 = hosts
    everything = web1.items(own=True) | web2.items(own=True)
    assert {host for host, _ in everything.values()} == {"web1", "web2"}
    for host in (web1, web2):
        assert host.wait_until(lambda host=host: set(host.items()) == set(everything))
    assert "Registry: django_qbwi.contrib.shared_registry (database 'default')." in web1.command()

    item = next(item for item, where in everything.items() if where == ("web2", "running"))
    (pid,) = (record["pid"] for record in web1.overview()["processes"] if record["host"] == "web2")
    assert web1.command("cancel", item) == f"{item}  requested, web2:{pid} picks it up within 10 s\n"
    asked = time.monotonic()
    web2.wait_until(lambda: web2.items().get(item) == ("web2", "cancelled"))
    # A second and a half for the command that looks.
    assert time.monotonic() - asked < BEAT + PATIENCE / 10
    assert web1.wait_until(lambda: web1.items().get(item) == ("web2", "cancelled"))
    others = {found: where for found, where in web1.items().items() if found != item}
    assert "cancelled" not in {status for _, status in others.values()}

    os.kill(pid, signal.SIGKILL)
    web1.program(AGE, str(pid), "31")
    found = web1.overview(status=3)
    assert [(process["host"], process["pid"]) for process in found["stale"]] == [("web2", pid)]
    assert {record["host"] for record in found["processes"]} == {"web1"}
    web1.program(AGE, str(pid), "300")
    assert web1.overview()["stale"] == []
    web1.wait_until(lambda: pid not in web1.rows())


def test_ended_process_leaves_no_row(hosts: tuple[Host, Host]) -> None:
    """Each server ends by SIGTERM, after its items."""
    pids = {record["pid"] for host in hosts for record in host.overview()["processes"] if record["host"] == host.name}
    assert len(pids) == 3
    hosts[0].wait_until(lambda: hosts[0].rows() >= pids)
    for host in hosts:
        host.command("drain", "--all")
        host.server.terminate()
        assert host.server.wait(PATIENCE) in {0, -signal.SIGTERM}
    assert not hosts[0].rows() & pids
