"""A deployment: web processes that queue, an engine, its workers, and the ledger of what was done where."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.handoff.real_engines.stores import Postgresql, Redis, Sqlite
from tests.processes.harness import Site

PATIENCE = 90.0
LIMIT = 4.0
"""The limit of a drain; from two seconds before its end on, everything moves."""
_QUIET_SECONDS = 4.0
_PACKAGE = "tests.handoff.real_engines.site"
_GUNICORN = f"gunicorn --bind 127.0.0.1:{{port}} {_PACKAGE}."
GTHREAD = f"{_GUNICORN}wsgi --threads 4"
UVICORN = f"{_GUNICORN}asgi --worker-class uvicorn_worker.UvicornWorker"
SETTINGS = f"{_PACKAGE}.settings"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine and the command of its worker."""

    name: str
    requires: tuple[str, ...]
    worker: str
    stop: signal.Signals = signal.SIGTERM
    """What ends its worker once it has finished what it runs."""
    table: str = ""
    """Where its tasks stand, if that is a database."""
    uses_redis: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether this Python has all that it needs."""
        return all(importlib.util.find_spec(name) is not None for name in self.requires)


TASKS_DB = Engine(
    name="django-tasks-db",
    requires=("django_tasks_db",),
    worker="manage.py db_worker --backend durable --queue-name * --interval 0.1 --no-startup-delay",
    table="django_tasks_database_dbtaskresult",
)
HUEY = Engine(name="huey", requires=("huey", "redis"), worker="manage.py run_huey", stop=signal.SIGINT, uses_redis=True)
FENNEL = Engine(
    name="fennel",
    requires=("celery", "django_tasks_fennel", "redis"),
    worker=f"celery --app {_PACKAGE}.celery_app worker --concurrency 2 --loglevel WARNING",
    uses_redis=True,
)
OX = Engine(
    name="django-ox",
    requires=("django_ox",),
    worker="manage.py ox_worker --backend durable --interval 0.1",
    table="django_ox_oxtask",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    role: str
    pid: int
    what: str
    number: int


class Deployment:
    """What shares one engine and one ledger."""

    def __init__(
        self, directory: Path, engine: Engine, store: Sqlite | Postgresql, redis: Redis | None, seconds: float = 0.05
    ) -> None:
        self.directory = directory
        self.engine = engine
        self.store = store
        self.redis = redis
        self.given: dict[str, Any] = {
            "engine": engine.name,
            "database": store.settings,
            "redis": None if redis is None else str(redis.path),
            "ledger": str(directory / "ledger"),
            "seconds": seconds,
        }
        self._numbers = itertools.count(1)

    @property
    def name(self) -> str:
        """What it consists of."""
        where = "redis" if self.engine.uses_redis else type(self.store).__name__.lower()
        return f"{self.engine.name} {where}"

    # Its processes.

    def site(self, role: str, command: str, **settings: Any) -> Site:
        """Return a process of the site, to be entered; `settings` are those of QBWI."""
        directory = self.directory / f"{role}-{next(self._numbers)}"
        return Site(
            directory,
            command,
            settings={"SHUTDOWN_TIMEOUT": LIMIT, "MAX_WORKERS": 2, "MAX_ASYNC_IN_FLIGHT": 2, **settings},
            environ={
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "QBWI_SITE_ENGINE": json.dumps(self.given),
                "QBWI_SITE_ROLE": role,
            },
            prefix="async/" if ".asgi" in command else "",
        )

    def run(self, command: str, role: str = "command") -> str:
        """Run a command of the site to its end; return what it has printed."""
        with self.site(role, command) as site:
            site.wait_for_end(site.process.pid)
            if site.process.returncode != 0:
                raise site.failed("the command has failed")
            return (site.directory / "stdout").read_text()

    @contextlib.contextmanager
    def worker(self) -> Iterator[Site]:
        """Start a worker of the engine; it is ended by the signal that lets it finish what it runs."""
        with self.site("engine", self.engine.worker) as site:
            yield site
            if site.process.poll() is None:
                site.process.send_signal(self.engine.stop)
            site.wait_for_end(site.process.pid)

    # What became of it.

    def backlog(self) -> int:
        """Return how much the engine has not finished, as far as it tells."""
        if self.engine.table:
            sql = f"SELECT count(*) FROM {self.engine.table} WHERE status IN ('READY', 'RUNNING')"
            return int(self.store.query(sql)[0][0])
        assert self.redis is not None
        return self.redis.backlog()

    def wait_until_done(self, site: Site, numbers: set[int]) -> None:
        """Wait until the engine has nothing left, and its workers are at rest."""
        site.wait_until(lambda: self.backlog() == 0, "the engine to have nothing left", PATIENCE)
        # What was taken out of a queue is in no queue while it runs.
        last, since = 0, time.monotonic()
        while not numbers <= {entry.number for entry in self.ledger() if entry.what == "ended"}:
            found = len(self.ledger())
            if found != last:
                last, since = found, time.monotonic()
            if time.monotonic() > since + _QUIET_SECONDS:
                return
            time.sleep(0.05)

    def ledger(self) -> list[Entry]:
        """Return what was done until now."""
        path = Path(self.given["ledger"])
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        lines = [line.split() for line in whole.splitlines()]
        return [Entry(role, int(pid), what, int(number)) for role, pid, what, number in lines]

    def rows(self) -> list[int]:
        """Return the rows that were noted, in their order."""
        return [int(line) for line in Path(self.given["ledger"] + ".rows").read_bytes().split()]

    def row_count(self) -> int:
        """Return how many rows were noted until now."""
        path = Path(self.given["ledger"] + ".rows")
        return path.stat().st_size // 10 if path.exists() else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a ledger says of numbers that were accepted."""

    here: int
    there: int
    twice: list[int]
    lost: list[int]
    refused: list[int]
    """What was done though nobody was told that it was accepted."""

    @classmethod
    def of(cls, ledger: list[Entry], numbers: set[int]) -> Balance:
        """Balance it: begun twice is twice, not ended is lost."""
        begun = Counter(entry.number for entry in ledger if entry.what == "begun")
        ended = [entry for entry in ledger if entry.what == "ended"]
        return cls(
            here=len([entry for entry in ended if entry.role == "web"]),
            there=len([entry for entry in ended if entry.role == "engine"]),
            twice=sorted(number for number, count in begun.items() if count > 1),
            lost=sorted(numbers - {entry.number for entry in ended}),
            refused=sorted({entry.number for entry in ledger} - numbers),
        )


def accepted(answer: str) -> dict[int, str]:
    """Return the ids of the numbers that the view has queued."""
    pairs = [line.split() for line in answer.splitlines()]
    return {int(number): known for number, known in pairs if known != "refused"}


def handed_off(site: Site) -> set[str]:
    """Return the ids of the items that a web process has declared to be handed off."""
    records = re.findall(r"^.*status=handed_off.*$", site.records(), re.MULTILINE)
    return {match[1] for record in records if (match := re.search(r"\bid=(\w+)", record))}


def end(site: Site) -> float:
    """End a server by SIGTERM; return the seconds that it has taken."""
    began = time.monotonic()
    site.kill("server", signal.SIGTERM, site.process.pid)
    return site.wait_for_end(site.process.pid) - began


def skip_unless(engine: Engine) -> None:
    """Skip the test if this Python does not have the engine."""
    if not engine.is_installed:
        missing = [name for name in engine.requires if importlib.util.find_spec(name) is None]
        pytest.skip(f"{engine.name} needs {', '.join(missing)}, which is not installed here")


def name_of(server: str) -> str:
    """Return what the tests call a server."""
    return "uvicorn" if server is UVICORN else "gthread"


def skip_unless_served(server: str) -> None:
    """Skip the test if this Python does not have what serves."""
    for name in ("gunicorn", *(["uvicorn_worker"] if server is UVICORN else [])):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed here")
