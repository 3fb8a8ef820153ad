"""A database that loses its replies, is down, or hangs, while items move to the engine that stands in it."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.handoff.real_engines.conftest import ROUNDS, Deploy
from tests.handoff.real_engines.deployment import (
    FENNEL,
    GTHREAD,
    HUEY,
    LIMIT,
    TASKS_DB,
    Deployment,
    Engine,
    accepted,
    end,
    handed_off,
)
from tests.handoff.real_engines.proxy import Mood, Proxy
from tests.handoff.real_engines.stores import running_redis
from tests.processes.harness import Site

pytestmark = pytest.mark.processes

_COUNT = 200
_SEED = 11
_LONG_LIMIT = 25.0
_LATE_SECONDS = 3.0
_LATER = "sorts=plain,decorated&delayed=1&delay=3600"
"""What cannot come before the limit moves at the first sign, so that all of the limit is for moving."""

Through = Callable[..., tuple[Deployment, Proxy]]


@pytest.fixture
def through(deploy: Deploy) -> Iterator[Through]:
    """Return a function that makes a deployment whose processes reach PostgreSQL by a proxy."""
    proxies: list[Proxy] = []

    def make(**options: object) -> tuple[Deployment, Proxy]:
        deployment = deploy(TASKS_DB, "postgresql")
        settings = deployment.store.settings
        proxy = Proxy(f"{settings['HOST']}/.s.PGSQL.{settings['PORT']}", **options)  # type: ignore[arg-type]
        proxies.append(proxy.__enter__())
        deployment.given["database"] = {**settings, "HOST": "127.0.0.1", "PORT": str(proxy.port)}
        return deployment, proxy

    yield make
    for proxy in proxies:
        proxy.__exit__()


def _stored(deployment: Deployment) -> list[tuple[str, int]]:
    """Return id and number of each item in the engine."""
    found = []
    for known, given in deployment.store.query(f"SELECT id, args_kwargs FROM {deployment.engine.table}"):
        args = (given if isinstance(given, dict) else json.loads(given))["args"]
        number = args[0] if isinstance(args[0], int) else args[1][0]
        found.append((str(known).replace("-", ""), number))
    return found


@pytest.mark.parametrize("number", range(min(ROUNDS, 3)))
def test_no_lost_reply_stores_an_item_twice(number: int, through: Through) -> None:
    """Half of the replies to what stores an item are lost, at the end of the process: each is stored once."""
    deployment, proxy = through(drops=0.5, chance=random.Random(f"{_SEED} {number}"))
    with deployment.site("web", GTHREAD, SHUTDOWN_TIMEOUT=_LONG_LIMIT) as web:
        web.serving()
        ids = accepted(web.get(f"queue?first=0&last={_COUNT}&{_LATER}"))
        seconds = end(web)
        declared = handed_off(web)
    stored = _stored(deployment)
    print(f"{len(ids)} moved with {proxy.dropped} of {proxy.writes} replies lost, in {seconds:.1f} s")
    assert sorted(stored) == sorted((known, number) for number, known in ids.items())
    assert declared == set(ids.values())
    assert proxy.dropped > _COUNT / 4


def test_no_lost_reply_refuses_what_is_stored(through: Through) -> None:
    """The queue is full, and the reply is lost in the thread of the caller: accepted is what the engine has."""
    deployment, proxy = through(drops=0.5, chance=random.Random(_SEED))
    with deployment.site("web", GTHREAD, MAX_QUEUED=1, MAX_DELAYED=1) as web:
        web.serving()
        ids = accepted(web.get(f"queue?first=0&last={_COUNT}&{_LATER}"))
        stored = _stored(deployment)
        end(web)
    print(f"{len(ids)} accepted, {len(stored)} stored, {proxy.dropped} of {proxy.writes} replies lost")
    assert len(ids) == _COUNT
    assert len(stored) in (_COUNT - 1, _COUNT)
    assert set(stored) <= {(known, number) for number, known in ids.items()}


def test_database_that_comes_back_gets_all(through: Through) -> None:
    """It is down at the sign of the end, and comes back within the limit: everything moves."""
    deployment, proxy = through()
    with deployment.site("web", GTHREAD, SHUTDOWN_TIMEOUT=_LONG_LIMIT) as web:
        ids, _ = _queue_and_end(web, proxy, Mood.REFUSES)
        web.wait_until(lambda: "could not be handed off yet" in web.records(), "the first that cannot move")
        proxy.become(Mood.FORWARDS)
        web.wait_for_end(web.process.pid)
        assert handed_off(web) == set(ids.values())
    assert {known for known, _ in _stored(deployment)} == set(ids.values())


@pytest.mark.parametrize("mood", [Mood.REFUSES, Mood.HANGS])
def test_database_that_stays_away_holds_nobody(mood: Mood, through: Through) -> None:
    """It is down, or hangs, until the limit: the process ends in time, and names what it has lost."""
    deployment, proxy = through()
    with deployment.site("web", GTHREAD) as web:
        ids, began = _queue_and_end(web, proxy, mood)
        seconds = web.wait_for_end(web.process.pid) - began
        moved, records = handed_off(web), web.records()
    named = set(re.findall(r"^ERROR .*\bid=(\w+)", records, re.MULTILINE))
    print(f"the database {mood.value}: the process took {seconds:.1f} s; {len(named)} of {len(ids)} are named")
    assert moved == set()
    assert named == set(ids.values()), records
    assert "discarded" in records
    assert seconds < LIMIT + _LATE_SECONDS
    assert _stored(deployment) == []


def test_what_may_be_stored_is_not_denied(through: Through) -> None:
    """The reply is lost, and the database stays away: the record does not say that the engine does not have it."""
    deployment, proxy = through(drops=1.0)
    proxy.then = Mood.REFUSES
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        (known,) = accepted(web.get(f"queue?first=0&last=1&{_LATER}")).values()
        end(web)
        (record,) = re.findall(r"^ERROR .*", web.records(), re.MULTILINE)
    assert [one for one, _ in _stored(deployment)] == [known]
    assert f"id={known} " in record
    assert "'durable' may have accepted it, and cannot be asked: django.db.utils.OperationalError" in record


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes-back", "stays-away"])
def test_rest_waits_for_the_database(comes_back: bool, through: Through) -> None:
    """What has left its code at a checkpoint moves once the database is there again, or is named at the limit."""
    deployment, proxy = through()
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        known = web.get(f"rows?last={10**7}")
        web.wait_until(lambda: deployment.row_count() > 0, "the first row")
        proxy.become(Mood.REFUSES)
        web.kill("server", signal.SIGTERM, web.process.pid)
        web.wait_until(lambda: "could not be handed off yet" in web.records(), "the first that cannot move")
        count = deployment.row_count()
        if comes_back:
            proxy.become(Mood.FORWARDS)
        web.wait_for_end(web.process.pid)
        named = re.findall(r"^ERROR .*\bid=(\w+)", web.records(), re.MULTILINE)
    assert deployment.row_count() == count
    assert named == ([] if comes_back else [known])
    assert [one for one, _ in deployment.store.query(f"SELECT id, status FROM {deployment.engine.table}")] == (
        [uuid.UUID(known)] if comes_back else []
    )


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP], ids=["is-down", "hangs"])
@pytest.mark.parametrize("engine", [pytest.param(HUEY, id="huey"), pytest.param(FENNEL, id="fennel")])
def test_broker_that_stays_away_holds_nobody(engine: Engine, signum: signal.Signals, deploy: Deploy) -> None:
    """Redis is down, or hangs, until the limit: the process ends in time, and names what it has lost."""
    deployment = deploy(engine)
    with running_redis() as redis:
        deployment.given["redis"] = str(redis.path)
        with deployment.site("web", GTHREAD) as web:
            web.serving()
            ids = accepted(web.get(f"queue?first=0&last=20&{_LATER}"))
            redis.process.send_signal(signum)
            began = time.monotonic()
            web.kill("server", signal.SIGTERM, web.process.pid)
            seconds = web.wait_for_end(web.process.pid) - began
            named = set(re.findall(r"^ERROR .*\bid=(\w+)", web.records(), re.MULTILINE))
    print(f"{engine.name}, {signum.name}: the process took {seconds:.1f} s")
    assert named == set(ids.values())
    assert seconds < LIMIT + _LATE_SECONDS


@pytest.mark.parametrize("released", [True, False], ids=["released", "kept"])
def test_locked_file(released: bool, deploy: Deploy) -> None:
    """Somebody else holds the lock of the SQLite file: everything moves behind that, or is named at the limit."""
    deployment = deploy(TASKS_DB)
    path = deployment.store.settings["NAME"]
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        ids = accepted(web.get(f"queue?first=0&last=20&{_LATER}"))
        with contextlib.closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            web.kill("server", signal.SIGTERM, web.process.pid)
            web.wait_until(lambda: "Draining" in web.records(), "the begin of the drain")
            if released:
                connection.execute("ROLLBACK")
            seconds = web.wait_for_end(web.process.pid) - began
        named = set(re.findall(r"^ERROR .*\bid=(\w+)", web.records(), re.MULTILINE))
    print(f"locked, {released=}: the process took {seconds:.1f} s")
    assert seconds < LIMIT + _LATE_SECONDS
    assert named == (set() if released else set(ids.values()))
    assert {known for known, _ in _stored(deployment)} == (set(ids.values()) if released else set())


def _queue_and_end(web: Site, proxy: Proxy, mood: Mood) -> tuple[dict[int, str], float]:
    """Queue, change the database, and end the server; return what was accepted, and when the signal was sent."""
    web.serving()
    ids = accepted(web.get(f"queue?first=0&last=20&{_LATER}"))
    proxy.become(mood)
    signed_at = time.monotonic()
    web.kill("server", signal.SIGTERM, web.process.pid)
    return ids, signed_at
