"""The processes of real servers, looked at and steered from outside by the command."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
NOBODY = 65_534

GUNICORN = "gunicorn --workers {workers} --bind 127.0.0.1:{port} tests.processes.inspected.wsgi"
UVICORN = "uvicorn --port {port} --log-level warning tests.processes.inspected.asgi:application"
SERVERS = [pytest.param(GUNICORN, id="gunicorn"), pytest.param(UVICORN, id="uvicorn")]

# The interpreter may be out of reach for another user: everything is imported before.
AS_ANOTHER_USER = """
import io, os, sys
sys.argv = ["manage.py", "qbwi"]
import django
from django.core.management import CommandError, call_command
django.setup()
try:
    call_command("qbwi", stdout=io.StringIO())
except CommandError:
    pass
os.setgroups([])
os.setgid({uid})
os.setuid({uid})
try:
    call_command("qbwi", format="json")
except CommandError as error:
    sys.exit(error.returncode)
"""

QUEUE_AND_WAIT = """
import signal, sys, time
import django
django.setup()
from django_qbwi import queue_background_work_item
from tests.processes.inspected.urls import wait
{before}
queue_background_work_item(wait)
{after}
print("ready", flush=True)
while True:
    time.sleep(0.05)  # a signal that comes in the moment before a long sleep is noticed only after it
"""


class Site:
    """A server, or a program, and the command that looks at it."""

    def __init__(self, **environ: str) -> None:
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST", "QBWI"))},
            "DJANGO_SETTINGS_MODULE": "tests.processes.inspected.settings",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "QBWI_TEST_KEY": secrets.token_hex(),
            **environ,
        }
        self.port = 0
        self._processes: list[subprocess.Popen[str]] = []

    def serve(self, command: str, workers: int = 3) -> None:
        """Start a server and wait until it answers."""
        program = command.split()[0]
        if importlib.util.find_spec(program) is None:
            pytest.skip(f"{program} is not installed here")
        with contextlib.closing(socket.socket()) as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        environ = {**self.environ, "PYTHONWARNINGS": ""}
        self.start(["-m", *command.format(port=self.port, workers=workers).split()], environ)
        self.wait_until(lambda: self.get("missing"))

    def start(self, arguments: list[str], environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a Python program in a session of its own."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environ or self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def run(self, before: str = "", after: str = "", environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program with an item, and wait until it is queued."""
        process = self.start(["-c", QUEUE_AND_WAIT.format(before=before, after=after)], environ)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    def end(self) -> None:
        """Kill everything."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE)

    def get(self, path: str) -> str:
        """Ask the server for a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", f"/{path}", headers={"Connection": "close"})
            return connection.getresponse().read().decode()

    def get_from_all(self, path: str, count: int) -> set[int]:
        """Ask until `count` processes have answered; return their pids."""
        pids: set[int] = set()

        def asked() -> bool:
            pids.add(int(self.get(path if len(pids) < count else "pid")))
            return len(pids) >= count

        self.wait_until(asked)
        return pids

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """Poll until `condition()` is true; it may fail to connect."""
        limit = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                found = condition()
                if found:
                    return found
            assert time.monotonic() < limit, "waited in vain"
            time.sleep(0.02)

    def command(self, *arguments: str, status: int | None = 0) -> str:
        """Run `manage.py qbwi` and return what it prints."""
        result = subprocess.run(
            [sys.executable, "-m", "django", "qbwi", *arguments],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if status is not None:
            assert result.returncode == status, result.stdout + result.stderr
        return result.stdout

    def overview(self, status: int | None = 0) -> dict[str, Any]:
        """Return what the command tells as JSON."""
        found: dict[str, Any] = json.loads(self.command("--format=json", status=status))
        return found

    def pids(self) -> set[int]:
        """Return the pids of the processes that answer."""
        return {record["pid"] for record in self.overview(None)["processes"]}

    def as_user(self, uid: int, status: int | None = None) -> dict[str, Any]:
        """Return what the command tells another user."""
        result = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER.format(uid=uid)],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert result.stderr == ""
        assert status is None or result.returncode == status
        found: dict[str, Any] = json.loads(result.stdout)
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a site that nothing else belongs to."""
    site = Site()
    yield site
    site.end()


@pytest.fixture
def workers(site: Site) -> list[int]:
    """Return the pids of three workers of gunicorn that have items."""
    site.serve(GUNICORN)
    pids = site.get_from_all("queue", 3)
    site.wait_until(lambda: site.pids() >= pids)
    return sorted(pids)


def test_every_item_of_every_worker_is_listed(site: Site, workers: list[int]) -> None:
    """Three workers, each with running and queued, sync and async items."""
    found = site.overview()
    assert [record["pid"] for record in found["processes"]] == workers
    assert {record["server"] for record in found["processes"]} == {"gunicorn"}
    for record in found["processes"]:
        kinds = {(item["kind"], item["status"]) for item in record["items"]}
        assert kinds == {("sync", "running"), ("sync", "queued"), ("async", "running")}
        assert len(record["items"]) == record["running"] + record["queued"]


@pytest.mark.parametrize(("server", "name"), [(GUNICORN, "gunicorn"), (UVICORN, "uvicorn")])
def test_idle_process_is_listed_after_its_first_request(site: Site, server: str, name: str) -> None:
    """It need not have queued anything."""
    site.serve(server, workers=1)
    site.get("pid")
    (record,) = site.wait_until(lambda: site.overview(None)["processes"])
    assert (record["server"], record["running"], record["finished"], record["state"]) == (name, 0, 0, "open")


@pytest.mark.parametrize("server", SERVERS)
def test_items_are_cancelled_from_outside(site: Site, server: str) -> None:
    """A queued, a running and an async one; the server's log says who it was."""
    site.serve(server, workers=1)
    site.get("queue")
    items = site.wait_until(lambda: [item for record in site.overview(None)["processes"] for item in record["items"]])
    output = site.command("cancel", *(item["id"] for item in items))
    assert output.count("  cancel requested") == 4
    site.wait_until(lambda: [record["finished"] for record in site.overview(None)["processes"]] == [4])
    (record,) = site.overview()["processes"]
    assert {item["status"] for item in record["recent"]} == {"cancelled"}


@pytest.mark.parametrize("server", SERVERS)
def test_stacks_are_shown_from_outside(site: Site, server: str) -> None:
    """Of the thread of a sync item, and of the task of an async one."""
    site.serve(server, workers=1)
    site.get("queue")
    site.wait_until(lambda: "token.wait(600)" in site.command("stacks"))
    assert "await token.cancelled()" in site.command("stacks")


def test_stopped_worker_is_unresponsive_and_recovers(site: Site, workers: list[int]) -> None:
    """F37: known within a second, the others are shown all the same."""
    os.kill(workers[0], signal.SIGSTOP)
    started = time.monotonic()
    found = site.overview(status=3)
    # Half a second of it is for the processes, the rest is the start of the command.
    assert time.monotonic() - started < 5
    assert (found["unresponsive"], found["answered"]) == ([workers[0]], 2)
    os.kill(workers[0], signal.SIGCONT)
    assert site.wait_until(lambda: site.pids() == set(workers))


def test_killed_worker_is_gone(site: Site, workers: list[int]) -> None:
    """F36: at once, and the others are unaffected."""
    os.kill(workers[0], signal.SIGKILL)
    site.wait_until(lambda: workers[0] not in site.pids())
    found = site.overview()
    assert {record["pid"] for record in found["processes"]} >= set(workers[1:])
    assert found["unresponsive"] == []


def test_process_whose_interpreter_is_held_is_unresponsive(site: Site) -> None:
    """F15: C code that never lets go of the GIL; nothing inside can help, from outside it is told."""
    site.serve(GUNICORN, workers=1)
    pid = int(site.get("hold"))
    site.wait_until(lambda: site.overview(None)["unresponsive"] == [pid])


def test_worker_is_drained_and_open_again(site: Site, workers: list[int]) -> None:
    """The command waits for the items and says so; the process still serves."""
    output = site.command("drain", "--pid", str(workers[0]))
    assert f"Process {workers[0]}: the drain is over. Its scheduler is OPEN again" in output
    records = {record["pid"]: record for record in site.overview()["processes"]}
    assert records[workers[0]]["finished"] >= 4
    assert (records[workers[0]]["items"], records[workers[1]]["finished"]) == ([], 0)


def test_ending_process_is_draining(site: Site) -> None:
    """Until its items have ended it can be looked at, and cancelled from."""
    process = site.run("from django_qbwi import queue_background_work_item as q; q(lambda token: time.sleep(600))")
    site.wait_until(lambda: site.pids() == {process.pid})
    process.send_signal(signal.SIGINT)
    site.wait_until(lambda: [record["state"] for record in site.overview(None)["processes"]] == ["draining"])


@pytest.mark.parametrize("server", SERVERS)
def test_result_of_a_task_is_found_from_another_process(site: Site, server: str) -> None:
    """Any worker of the machine finds it, until its process has ended; then the error says so."""
    site.serve(GUNICORN, workers=3) if server is GUNICORN else site.serve(UVICORN + " --workers 3")
    result_id, owner = site.get("enqueue").split()

    def asked() -> str:
        pid, _, text = site.get(f"result?id={result_id}").partition(" ")
        return "" if pid == owner or text.startswith(("READY", "RUNNING")) else text

    text = site.wait_until(asked)
    assert re.fullmatch(rf"SUCCESSFUL 3 \[1, 2\] \['.*:{owner}:qbwi-worker-1'\] True", text), text
    os.kill(int(owner), signal.SIGKILL)
    site.wait_until(lambda: "has ended" in asked())


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else")
class TestUsers:
    """S11: who may look."""

    def test_another_user_is_refused(self, site: Site) -> None:
        """Nobody, with the right key, learns the pid that everybody may see, and no more."""
        process = site.run()
        site.wait_until(lambda: site.pids() == {process.pid})
        found = site.as_user(NOBODY, status=3)
        assert (found["processes"], found["refused"]) == ([], [process.pid])

    def test_root_may_look_at_another_user(self, site: Site) -> None:
        """An operator in a container, or under sudo."""
        process = site.run(before=f"import os; os.setgid({NOBODY}); os.setuid({NOBODY})")
        assert site.wait_until(lambda: site.pids() == {process.pid})

    def test_user_may_look_at_own_processes(self, site: Site) -> None:
        """The same user on both sides."""
        process = site.run(before=f"import os; os.setgid({NOBODY}); os.setuid({NOBODY})")
        found = site.wait_until(lambda: site.as_user(NOBODY)["processes"])
        assert [record["pid"] for record in found] == [process.pid]


def test_other_site_is_not_seen(site: Site) -> None:
    """Another SECRET_KEY is another site."""
    process = site.run()
    site.wait_until(lambda: site.pids() == {process.pid})
    site.environ["QBWI_TEST_KEY"] = "another"
    found = site.overview(status=4)
    assert (found["processes"], process.pid in found["other_sites"]["pids"]) == ([], True)


def test_processes_are_seen_across_a_key_rotation(site: Site) -> None:
    """SECRET_KEY_FALLBACKS: the command of the new release sees the processes of the old one."""
    process = site.run()
    site.wait_until(lambda: site.pids() == {process.pid})
    site.environ |= {"QBWI_TEST_OLD_KEYS": site.environ["QBWI_TEST_KEY"], "QBWI_TEST_KEY": "new"}
    assert site.pids() == {process.pid}


def test_forked_child_keeps_nothing(site: Site) -> None:
    """F38: with the parent its channel is gone, though a child of it lives on."""
    fork = "import os\nwarnings = __import__('warnings'); warnings.simplefilter('ignore')\nchild = os.fork()"
    process = site.run(after=f"time.sleep(0.3)\n{fork}\nif not child: time.sleep(600)")
    site.wait_until(lambda: site.pids() == {process.pid})
    os.kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    assert site.overview(status=4)["processes"] == []


def test_full_disk_is_no_hindrance(site: Site) -> None:
    """F43: no file can be written, there is no HOME and no temporary directory; the channel needs none of them."""
    environ = {**site.environ, "HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    limit = "import resource; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    process = site.run(f"{limit}; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", environ=environ)
    assert site.wait_until(lambda: site.pids() == {process.pid})


def test_no_free_file_is_one_debug_line(site: Site) -> None:
    """F43: where the channel cannot be opened, items run, and one DEBUG line tells why."""
    environ = {**site.environ, "QBWI_TEST_LEVEL": "DEBUG"}
    refuse = (
        "from django_qbwi.inspection.places import AbstractPlace\n"
        "def listen(*args): raise OSError('no sockets here')\n"
        "AbstractPlace.listen = listen"
    )
    process = site.run(refuse, "time.sleep(0.3)", environ)
    assert site.pids() == set()
    process.send_signal(signal.SIGKILL)
    lines = [line for line in process.communicate(timeout=PATIENCE)[1].splitlines() if "look into" in line]
    assert lines == ["Other processes cannot look into this one: OSError('no sockets here')"]
