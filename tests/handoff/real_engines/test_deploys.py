"""Deploys at random moments: everything that was accepted is done once, here or by the worker of the engine."""

from __future__ import annotations

import random
import time

import pytest

from tests.handoff.real_engines.conftest import ROUNDS, Deploy
from tests.handoff.real_engines.deployment import (
    FENNEL,
    GTHREAD,
    HUEY,
    LIMIT,
    OX,
    TASKS_DB,
    UVICORN,
    Balance,
    Deployment,
    Engine,
    accepted,
    end,
    handed_off,
    name_of,
    skip_unless_served,
)
from tests.processes.harness import Site

pytestmark = pytest.mark.processes

COUNT = 200
SEED = 20_261_128
_LATE_SECONDS = 3.0
"""How late a process may be on a busy machine, past its limit."""

SERVERS = [pytest.param(GTHREAD, id="gthread"), pytest.param(UVICORN, id="uvicorn")]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("engine", "store"),
    [
        pytest.param(TASKS_DB, "sqlite", id="django-tasks-db-sqlite", marks=pytest.mark.process_smoke),
        pytest.param(TASKS_DB, "postgresql", id="django-tasks-db-postgresql"),
        pytest.param(HUEY, "sqlite", id="huey-redis"),
    ],
)
@pytest.mark.parametrize("number", range((ROUNDS + 1) // 2))
def test_everything_is_done_once(engine: Engine, store: str, server: str, number: int, deploy: Deploy) -> None:
    """SIGTERM at a random moment: what is queued runs here or there, once, and nothing is lost."""
    skip_unless_served(server)
    balance = _round(deploy(engine, store), server, random.Random(f"{SEED} {engine.name} {store} {number}"))
    assert balance.here > 0
    assert balance.there > 0


def _round(deployment: Deployment, server: str, chance: random.Random) -> Balance:
    """Play one; in some, the queue is too short for all, and what does not fit moves at the call."""
    began = time.monotonic()
    moment = chance.uniform(0.0, 1.2)
    # A caller on a running loop is not made to wait for an engine.
    settings = {"MAX_QUEUED": 120} if server is GTHREAD and chance.random() < 0.3 else {}
    together = chance.random() < 0.5
    with deployment.site("web", server, **settings) as web:
        web.serving()
        ids = accepted(web.get(f"queue?first=0&last={COUNT}&delayed=40&delay={LIMIT + 1}"))
        if together:
            with deployment.worker() as worker:
                seconds = _end_at(web, moment)
                deployment.wait_until_done(worker, set(ids))
        else:
            seconds = _end_at(web, moment)
            with deployment.worker() as worker:
                deployment.wait_until_done(worker, set(ids))
        assert len(ids) == COUNT
        what = f"{deployment.name}, {name_of(server)}: SIGTERM after {moment:.2f} s, {settings}"
        balance = _judge(deployment, web, ids, f"{what}; the process took {seconds:.1f} s")
    print(f"all took {time.monotonic() - began:.1f} s")
    assert seconds < LIMIT + _LATE_SECONDS
    return balance


def _judge(deployment: Deployment, web: Site, ids: dict[int, str], what: str) -> Balance:
    moved, ledger = handed_off(web), deployment.ledger()
    balance = Balance.of(ledger, set(ids))
    print(f"{what}: {balance}")
    assert (balance.twice, balance.lost, balance.refused) == ([], [], [])
    assert {ids[entry.number] for entry in ledger if entry.role == "engine"} == moved
    assert [line for line in web.records().splitlines() if line.startswith(("ERROR", "CRITICAL"))] == []
    return balance


def _end_at(web: Site, moment: float) -> float:
    # The moment itself is what is tried here.
    time.sleep(moment)
    return end(web)


@pytest.mark.parametrize("server", SERVERS)
def test_request_that_queues_during_the_drain(server: str, deploy: Deploy) -> None:
    """A request queues until everything moves: what is accepted is done once, and what is refused never."""
    skip_unless_served(server)
    deployment = deploy(TASKS_DB, seconds=0.3)
    # It ends behind the begin of the moving, and a second before the limit: what begins later may be abandoned there.
    with deployment.site("web", server, MAX_QUEUED=15, SHUTDOWN_TIMEOUT=6.0) as web:
        web.serving()
        answer = web.get_in_background("queue?first=0&last=80&pause=0.055&within=5")
        web.wait_until(lambda: len(deployment.ledger()) > 4, "the first items")
        end(web)
        ids = accepted(answer())
        with deployment.worker() as worker:
            deployment.wait_until_done(worker, set(ids))
        balance = _judge(deployment, web, ids, f"{name_of(server)}: {len(ids)} accepted")
    assert balance.there > 0


@pytest.mark.parametrize("engine", [pytest.param(FENNEL, id="fennel"), pytest.param(OX, id="django-ox")])
def test_other_engines_take_and_run_it(engine: Engine, deploy: Deploy) -> None:
    """The worker of the engine knows the tasks, and the one that runs decorated functions."""
    deployment = deploy(engine, seconds=1.0)
    # Some move at the call: the first connection to a broker may take as long as the last part of a limit.
    with deployment.site("web", GTHREAD, MAX_QUEUED=10) as web:
        web.serving()
        ids = accepted(web.get("queue?first=0&last=20"))
        end(web)
        with deployment.worker() as worker:
            deployment.wait_until_done(worker, set(ids))
        moved = handed_off(web)
        _judge(deployment, web, ids, engine.name)
    # A task, a decorated function, a coroutine function: of each sort at least one has moved.
    assert {number % 3 for number, known in ids.items() if known in moved} == {0, 1, 2}
