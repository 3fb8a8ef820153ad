"""A process that is killed while it hands off: what it has said to have handed off is in the engine, once."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.handoff.real_engines.conftest import ROUNDS, Deploy
from tests.handoff.real_engines.deployment import GTHREAD, TASKS_DB, Balance, accepted, handed_off

pytestmark = pytest.mark.processes

COUNT = 300
_SEED = 7


@pytest.mark.parametrize(
    "store",
    [
        pytest.param("sqlite", id="sqlite", marks=pytest.mark.process_smoke),
        pytest.param("postgresql", id="postgresql"),
    ],
)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_in_the_middle(store: str, number: int, deploy: Deploy) -> None:
    """Nothing runs twice; what is lost was in that process alone."""
    deployment, chance = deploy(TASKS_DB, store), random.Random(f"{_SEED} {store} {number}")
    with deployment.site("web", GTHREAD, MAX_QUEUED=COUNT) as web:
        web.serving()
        ids = accepted(web.get(f"queue?first=0&last={COUNT}"))
        pid = int(web.get("pid"))
        web.kill("server", signal.SIGTERM, web.process.pid)
        web.wait_until(lambda: deployment.backlog() > 0, "the first that moves")
        # The moment itself is what is tried here.
        time.sleep(chance.uniform(0.0, 0.3))
        web.kill("worker", signal.SIGKILL, pid)
        web.wait_for_end(pid)
        web.wait_for_end(web.process.pid)
        declared = handed_off(web)
    stored = [
        str(row[0]).replace("-", "") for row in deployment.store.query(f"SELECT id FROM {deployment.engine.table}")
    ]
    with deployment.worker() as worker:
        worker.wait_until(lambda: deployment.backlog() == 0, "the engine to have nothing left")
    balance = Balance.of(deployment.ledger(), set(ids))
    print(
        f"killed: {balance.here} here, {balance.there} there, {len(declared)} declared, {len(stored)} stored, "
        f"twice {balance.twice}, lost {len(balance.lost)}: {balance.lost}"
    )
    assert balance.twice == []
    assert len(set(stored)) == len(stored)
    assert declared <= set(stored) <= set(ids.values())
    there = {entry.number for entry in deployment.ledger() if entry.role == "engine"}
    assert {ids[number] for number in there} == set(stored)
