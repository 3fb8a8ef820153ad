"""Starts a server on the site, asks it for work, ends it, and tells what its processes left behind.

Order is forced by lines that the site's processes write, never by sleeping for long enough. All times are seconds of
the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent / "site"
PATIENCE = 60.0
"""Seconds until a wait counts as failed; only a hung process comes near."""

_MODULES = {"manage.py": ["-m", "django"], "script.py": [str(SITE / "script.py")], "python": []}
PROGRAMS = frozenset({"uwsgi", "mod_wsgi-express"})
"""Servers that are no Python modules, beside the interpreter."""
_PRIVILEGES: dict[str, list[str]] = {}
if os.geteuid() == 0:
    # Apache refuses to serve as root, and any other user cannot read the Python and the folder of the test.
    # mod_wsgi's daemons ask access() first, which ignores capabilities but for this secure bit: tox keeps its Pythons
    # in a folder for their owner alone.
    _PRIVILEGES["mod_wsgi-express"] = shlex.split(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --securebits=+no_setuid_fixup"
        " --inh-caps=+dac_override --ambient-caps=+dac_override"
    )
_POLL_SECONDS = 0.01
# What a server tells of its own course varies from run to run, and in a traceback stand the frames of our handlers.
_USUAL = re.compile(
    r"During handling of the above exception|Exception ignored in: <function WeakSet"
    r"|\[.*\] \[INFO\]|INFO: |WARNING:waitress.queue"
    r"|  +(File |\S)"
    # Apache's process in front of the daemons, at its end: a connection comes to a set that another thread has closed.
    r"|\[.*\] \[mpm_event:error\] .* AH03092: "
    r"|\[\S+ \S+\] \"GET "
    # gunicorn's master forks beside the thread of its control socket, if that has begun by then.
    r"|\S+/gunicorn/arbiter\.py:\d+: DeprecationWarning: This process \(pid=\d+\) is multi-threaded, use of fork"
    # uWSGI's line for a request, which comes behind its answer: a signal may be quicker.
    r"|\[pid: \d+\|app: "
    # In development mode: servers leave sockets (and uvicorn's children the stdin that they open again) for whoever
    # drops the last reference, maybe in the middle of an item, or for a death by a signal; and any step of an event
    # loop takes its time on a busy machine.
    r"|(\S+|<frozen \S+): ResourceWarning: unclosed "
    r"(file <(waitress|_io\.TextIOWrapper name=0 )|<socket\.socket fd=\d+, family=2,)"
    r"|ResourceWarning: Enable tracemalloc"
    r"|(WARNING:asyncio:)?Executing <.* took [\d.]+ seconds"
)

_OURS = re.compile(r"(\[[^]]*\] )*QBWI ")
"""A record of ours, maybe behind what Apache puts before each line."""


class Failed(AssertionError):
    """A server did not do what every server does; the message has its output."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a server and its items left behind."""

    lines: list[dict[str, Any]]
    """What the site's processes reported, in order."""
    records: list[str]
    """The records of django_qbwi, INFO and above."""
    stderr: str
    status: int | None
    """Exit status of the server, negative for a signal, as `subprocess` has it."""
    signed_at: float
    """When the event happened."""
    ended_at: float
    """When the process that was to end had ended."""
    slow: str
    """What became of the request in flight."""

    def at(self, event: str, name: str = "") -> list[float]:
        """Return when `event` was reported."""
        return [line["at"] for line in self.lines if line["event"] == event and line["name"] == name]

    @property
    def seconds(self) -> float:
        """Seconds from the event to the end of the process."""
        return self.ended_at - self.signed_at

    def own_records(self, status: str) -> list[str]:
        """Return our records of items that ended with `status`."""
        return [record for record in self.records if f"status={status} " in record]


class Site:
    """The site under one server, or in one command; a context manager that leaves no process behind."""

    def __init__(
        self,
        directory: Path,
        command: str,
        *,
        hosted: bool = True,
        seconds: float = 2.0,
        settings: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        prefix: str = "",
    ) -> None:
        self.directory = directory
        self._reservation = reserve_port()
        self.port: int = self._reservation.getsockname()[1]
        self.requests = 0
        self._prefix = prefix
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("QBWI_", "COV", "PYTEST"))},
            "DJANGO_SETTINGS_MODULE": "tests.processes.site.settings",
            "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
            # gunicorn keeps a control socket there, one for all of a user's servers.
            "HOME": str(directory),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "QBWI_SITE_DIR": str(directory),
            "QBWI_SITE_HOSTED": "1" if hosted else "0",
            "QBWI_SITE_SECONDS": str(seconds),
            "QBWI_SITE_SETTINGS": json.dumps(settings or {}),
            **(environ or {}),
        }

    def __enter__(self) -> Site:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "qbwi_touched.py").write_text("")
        with contextlib.closing(sqlite3.connect(self.directory / "site.sqlite3")) as connection:
            connection.execute("CREATE TABLE note (id integer PRIMARY KEY AUTOINCREMENT, text varchar(100) NOT NULL)")
            # Several items write: with a rollback journal they would wait for one another's locks.
            connection.execute("PRAGMA journal_mode=WAL")
        with self._file("stdout").open("wb") as stdout, self._file("stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                self.arguments(), cwd=ROOT, env=self._environ, stdout=stdout, stderr=stderr, start_new_session=True
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        process = self.process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        self._reservation.close()

    def arguments(self) -> list[str]:
        """Return the command line for this interpreter and a free port."""
        program, *rest = shlex.split(
            self._command.format(port=self.port, site=SITE, directory=self.directory, environment=sys.prefix)
        )
        if program in PROGRAMS:
            return [*_PRIVILEGES.get(program, []), str(Path(sys.executable).parent / program), *rest]
        module = _MODULES.get(program, ["-m", program])
        arguments = [sys.executable, *module, *rest]
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell without job control starts its background commands like that; nobody runs a server so.
            return ["env", "--default-signal=INT", *arguments]
        return arguments

    # The processes.

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started: the server, or its master."""
        assert self._process is not None
        return self._process

    def serving(self) -> int:
        """Wait until the server answers; return the pid of the process that did."""
        return int(self.wait_until(lambda: self._get("pid"), "an answer"))

    def kill(self, target: str, signum: int, worker: int) -> None:
        """Send a signal to the `server`, to the `worker`, or to the whole `group`, as a terminal does."""
        if target == "group":
            os.killpg(self.process.pid, signum)
        else:
            os.kill(worker if target == "worker" else self.process.pid, signum)

    def wait_for_end(self, pid: int, patience: float = PATIENCE) -> float:
        """Wait until the process `pid` is gone; return when."""
        if pid == self.process.pid:
            self.wait_until(lambda: self.process.poll() is not None, "the end of the server", patience)
        else:
            self.wait_until(lambda: not _lives(pid), "the end of the worker", patience)
        return time.monotonic()

    def stack(self, worker: int) -> str:
        """Return where the main thread of one of gunicorn's workers is, which may hang there; "" if it is gone."""
        path = self._file("stack")
        with contextlib.suppress(ProcessLookupError, Failed):
            os.kill(worker, signal.SIGXCPU)
            self.wait_until(lambda: "most recent call first" in path.read_text(), "the stack", 5.0)
            return path.read_text()
        return ""

    # Its site.

    def get(self, path: str) -> str:
        """Send a request that has to be answered in good order."""
        try:
            return self._get(path)
        except OSError as error:
            raise self.failed(f"GET {path} ended with {error!r}") from error

    def get_in_background(self, path: str) -> Callable[[], str]:
        """Send a request from a thread; return a function that waits for it and tells what became of it."""
        result: list[str] = []

        def run() -> None:
            try:
                result.append(self._get(path))
            except OSError as error:
                result.append(type(error).__name__)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def wait() -> str:
            thread.join(PATIENCE)
            return result[0] if result else "nothing"

        return wait

    def touch(self) -> None:
        """Change a file that the reloaders watch."""
        later = time.time() + 1
        path = self.directory / "qbwi_touched.py"
        path.write_text(f"# {later}\n")
        os.utime(path, (later, later))

    def tells_of_change(self) -> bool:
        """Tell whether the server's own log speaks of a change."""
        return re.search("detected changes|modified", self.stderr()) is not None

    def stderr(self) -> str:
        """Return what is on stderr until now."""
        return self._file("stderr").read_text(errors="replace")

    # What it left.

    def records(self) -> str:
        """Return what django_qbwi has logged until now, INFO and above."""
        path = self._file("records")
        return path.read_text() if path.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Return what was reported until now."""
        path = self._file("lines")
        # Of a line that goes over the end of a page only the first part may be there yet.
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, event: str, name: str = "", count: int = 1, patience: float = PATIENCE) -> float:
        """Wait until `event` was reported `count` times; return when it was the last time."""

        def found() -> list[float] | None:
            times = [line["at"] for line in self.lines() if line["event"] == event and line["name"] == name]
            return times if len(times) >= count else None

        times: list[float] = self.wait_until(found, f"the line {event!r} {name!r}", patience)
        return times[count - 1]

    def wait_until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Poll until `condition()` returns something true; it may fail to connect."""
        limit = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError):
                found = condition()
                if found:
                    return found
            if time.monotonic() > limit:
                raise self.failed(f"waited {patience:.0f} s in vain for {what}")
            if what == "an answer" and self.process.poll() is not None:
                raise self.failed("the server ended at once")
            time.sleep(_POLL_SECONDS)

    def outcome(self, signed_at: float, ended_at: float, slow: str) -> Outcome:
        """Return what is left behind."""
        return Outcome(
            lines=self.lines(),
            records=[record for record in re.split(r"\n(?=[A-Z]+ )", self.records().strip()) if _tells(record)],
            stderr=self.stderr(),
            status=self.process.poll(),
            signed_at=signed_at,
            ended_at=ended_at,
            slow=slow,
        )

    def failed(self, message: str) -> Failed:
        """Return an exception that shows what the processes said."""
        parts = [message, f"command: {shlex.join(self.arguments())}", f"status: {self.process.poll()}"]
        for name in ("stdout", "stderr", "records", "lines"):
            if self._file(name).exists():
                parts.append(f"--- {name}\n{self._file(name).read_text(errors='replace')[-4000:]}")
        return Failed("\n".join(parts))

    def _get(self, path: str) -> str:
        # Read to the end of the connection: only then is the server done with the request, and a signal that comes now
        # finds it idle.
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(f"GET /{self._prefix}{path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, separator, body = answer.decode().partition("\r\n\r\n")
        if not separator:
            raise ConnectionResetError("the server closed the connection without an answer")
        if "transfer-encoding: chunked" in head.lower():
            # werkzeug's way, whatever the request speaks.
            body = "".join(body.split("\r\n")[1::2])
        self.requests += 1
        status = head.split()[1]
        return body if status == "200" else status

    def _file(self, name: str) -> Path:
        return self.directory / name


def reserve_port() -> socket.socket:
    """Return a socket that keeps its port for one server, which can bind it nevertheless.

    A port that is only free can be given to another server, or to a connection, until the server listens.
    """
    reservation = socket.socket()
    reservation.bind(("127.0.0.1", 0))
    # Two sockets may have one port while both allow it and neither listens, or only one does. Set behind bind(), so
    # that it gets none that another server has.
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reservation


def alien_lines(stderr: str, usual: str) -> list[str]:
    """Tell the lines of `stderr` that are neither ours nor among those that the server prints without us."""
    known = {_without_numbers(line) for line in usual.splitlines()}
    return [
        line
        for line in stderr.splitlines()
        if line.strip() and not _OURS.match(line) and not _USUAL.match(line) and _without_numbers(line) not in known
    ]


def _tells(record: str) -> bool:
    # What old patches of Python 3.12 are warned of comes before the first record of some hosts.
    return record != "" and not re.match(r"WARNING Python 3\.12\.[012] starts no thread", record)


def _without_numbers(line: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "0", re.sub(r"/\S*", "/", line)).strip()


def _lives(pid: int) -> bool:
    # A child that its parent has not asked after yet is gone, but still has its pid.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"
