"""Schedules in real servers: who starts them, once for all, and how their processes end."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.intake import postgresql
from tests.processes.test_inspection import PATIENCE, Site

pytestmark = pytest.mark.processes

GUNICORN = "gunicorn --workers 2 --graceful-timeout 10 --bind 127.0.0.1:{port} tests.processes.inspected.wsgi"
UVICORN = "uvicorn --port {port} --log-level warning tests.processes.scheduled.asgi:application"
MIGRATE = (
    "import django; django.setup()\nfrom django.core.management import call_command as c\nc('migrate', verbosity=0)"
)
QUEUE = """
import django, time
django.setup()
from django_qbwi import queue_background_work_item
assert queue_background_work_item(lambda token: time.sleep({seconds})).wait(60)
"""


class ScheduledSite(Site):
    """Servers with schedules, and the file into which these write."""

    def __init__(self, folder: Path, database: dict[str, Any], **environ: str) -> None:
        self.file = folder / "runs"
        self.file.touch()
        super().__init__(
            DJANGO_SETTINGS_MODULE="tests.processes.scheduled.settings",
            QBWI_TEST_DATABASE=json.dumps(database),
            QBWI_TEST_FILE=str(self.file),
            **environ,
        )
        assert self.start(["-c", MIGRATE]).wait(PATIENCE) == 0

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start a server, and ask it for nothing."""
        if importlib.util.find_spec(command.split()[0]) is None:
            pytest.skip(f"{command.split()[0]} is not installed here")
        with closing(socket.socket()) as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        return self.start(["-m", *command.format(port=self.port).split()], {**self.environ, "PYTHONWARNINGS": ""})

    def runs(self, name: str = "short") -> list[tuple[int, int]]:
        """Return tick and process of each run."""
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return [(int(tick), int(pid)) for found, tick, pid in lines if found == name]

    def wait_for(self, count: int, name: str = "short") -> list[tuple[int, int]]:
        """Wait until there are so many runs; return them."""
        self.wait_until(lambda: len(self.runs(name)) >= count)
        return self.runs(name)

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Return what the command says."""
        found = json.loads(self.command("schedules", "--format=json"))["schedules"]
        return {one["name"]: one for one in found}


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, Any]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a database."""
    if request.param == "postgresql":
        return dict(request.getfixturevalue("postgres"))
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, database: dict[str, Any]) -> Iterator[ScheduledSite]:
    """Return a site that nothing else belongs to; `long` among the parameters gives it a second schedule."""
    environ = {"QBWI_TEST_LONG": "1"} if getattr(request, "param", "") == "long" else {}
    site = ScheduledSite(tmp_path, database, **environ)
    yield site
    site.end()
    if database["ENGINE"].endswith("postgresql"):
        drop = MIGRATE.replace("'migrate'", "'migrate', 'django_qbwi_schedules', 'zero'")
        after = ScheduledSite(tmp_path, database)
        assert after.start(["-c", drop]).wait(PATIENCE) == 0
        after.end()


def once_each(runs: list[tuple[int, int]]) -> bool:
    """Return whether each run had a tick of its own, a whole number of seconds from the first one."""
    ticks = [tick for tick, _ in runs]
    return len(set(ticks)) == len(ticks) and {(tick - ticks[0]) % 1000 for tick in ticks} == {0}


def stop(server: subprocess.Popen[str]) -> tuple[int, str]:
    """Tell a server to end; return its exit status and what it has written."""
    server.send_signal(signal.SIGTERM)
    errors = server.communicate(timeout=PATIENCE)[1]
    return server.returncode, errors


def test_two_servers_that_nobody_asks_for_anything(site: ScheduledSite) -> None:
    """gunicorn's two workers and uvicorn start each tick once between them, without a request."""
    servers = [site.begin(GUNICORN), site.begin(UVICORN)]
    site.wait_for(12)
    ended = [stop(server)[0] for server in servers]
    assert ended[0] == 0
    runs = site.runs()
    assert once_each(runs)
    assert {server.pid for server in servers[:1]}.isdisjoint(pid for _, pid in runs)
    assert site.schedules()["short"]["outcome"] == "succeeded"


def test_deploys_run_no_tick_twice(site: ScheduledSite) -> None:
    """HUP starts new workers while the old ones end."""
    server = site.begin(GUNICORN)
    for number in range(1, 4):
        site.wait_for(number * 3)
        server.send_signal(signal.SIGHUP)
    site.wait_for(15)
    status, errors = stop(server)
    assert (status, "Traceback" in errors) == (0, False)
    assert once_each(site.runs())
    assert len({pid for _, pid in site.runs()}) > 1


def test_preloaded_workers_begin_with_a_request(site: ScheduledSite) -> None:
    """The master, which loads the site, runs nothing."""
    server = site.begin(f"{GUNICORN} --preload")
    site.wait_until(lambda: site.get("pid"))
    runs = site.wait_for(4)
    assert stop(server)[0] == 0
    assert once_each(runs)
    assert server.pid not in {pid for _, pid in runs}


def test_command_starts_nothing(site: ScheduledSite) -> None:
    """Though it runs items for longer than a tick, and with the table made."""
    for seconds in (0, 3):
        program = site.start(["-c", QUEUE.format(seconds=seconds)])
        assert program.wait(PATIENCE) == 0
    assert site.runs() == []
    assert site.schedules()["short"]["state"] == "new"


@pytest.mark.parametrize("site", ["long"], indirect=True)
def test_run_that_the_end_of_its_process_cancels(site: ScheduledSite) -> None:
    """Its outcome is in the table when the server is gone, and other ticks of it were left out meanwhile."""
    server = site.begin(GUNICORN)
    site.wait_for(1, "long")
    site.wait_for(4)
    status, errors = stop(server)
    assert (status, "Traceback" in errors) == (0, False)
    found = site.schedules()["long"]
    assert (found["state"], found["outcome"]) == ("waiting", "cancelled")
    assert found["skipped"] >= 1
    assert len(site.runs("long")) == 1


@pytest.mark.parametrize("command", [GUNICORN, UVICORN], ids=["gunicorn", "uvicorn"])
def test_idle_process_is_not_kept_alive(site: ScheduledSite, command: str) -> None:
    """The server ends as it does without schedules: nothing is waited for, and nothing is written of a drain."""
    server = site.begin(command)
    site.wait_for(2)
    status, errors = stop(server)
    assert status in (0, -signal.SIGTERM)
    assert "drain" not in errors.lower()
