"""An item that takes longer than any process lives: its rest moves at each deploy."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.handoff.real_engines.conftest import ROUNDS, Deploy
from tests.handoff.real_engines.deployment import GTHREAD, HUEY, PATIENCE, TASKS_DB, Deployment, end
from tests.processes.harness import Site

pytestmark = pytest.mark.processes

_DEPLOYS = 10
_FEW = 10_000
_MANY = 100_000
_SECONDS_EACH = {_FEW: 0.001, _MANY: 0.0001}
"""What a row takes at the least: however fast the machine is, no process comes to the last row before it ends."""


@pytest.mark.parametrize(
    ("sort", "count"),
    [
        pytest.param("rows", _FEW, id="few", marks=pytest.mark.process_smoke),
        pytest.param("rows", _MANY, id="many"),
        pytest.param("rows_async", _MANY, id="many-async"),
    ],
)
def test_rows_go_on_over_deploys(sort: str, count: int, deploy: Deploy) -> None:
    """Ten processes end in the middle of it: no row is left out, and one at the most is done twice for each."""
    deployment = deploy(TASKS_DB)
    deploys = _DEPLOYS if count == _MANY or ROUNDS > 1 else 2
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        web.get(f"rows?sort={sort}&last={count}&each={_SECONDS_EACH[count]}")
        _wait_for_rows(deployment, web, count // (deploys + 2))
        end(web)
        assert "status=handed_off" in web.records(), web.failed("nothing was handed off")
    for number in range(2, deploys + 1):
        with deployment.site("engine", deployment.engine.worker) as worker:
            _wait_for_rows(deployment, worker, number * count // (deploys + 2))
            worker.kill("server", signal.SIGTERM, worker.process.pid)
            worker.wait_for_end(worker.process.pid)
    assert deployment.row_count() < count
    with deployment.worker() as worker:
        _wait_for_rows(deployment, worker, count)
        deployment.wait_until_done(worker, {count})
    done = Counter(deployment.rows())
    again = sum(done.values()) - len(done)
    ids = [row[0] for row in deployment.store.query(f"SELECT status FROM {deployment.engine.table}")]
    print(f"{count} rows, {deploys} deploys: {again} rows done again; in the engine: {Counter(ids)}")
    assert set(done) == set(range(count))
    assert again <= deploys
    assert len(ids) == deploys


def test_rest_moves_at_the_exit_of_a_worker(deploy: Deploy) -> None:
    """A worker that does not wait for what its threads run comes to its exit: there the rest moves again."""
    deployment, count = deploy(HUEY), _FEW
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        web.get(f"rows?sort=rows&last={count}&each={_SECONDS_EACH[count]}")
        _wait_for_rows(deployment, web, count // 10)
        end(web)
    left = deployment.row_count()
    with deployment.site("engine", deployment.engine.worker) as worker:
        _wait_for_rows(deployment, worker, left + count // 10)
        # huey's way of ending at once; SIGINT lets its tasks finish.
        worker.kill("server", signal.SIGTERM, worker.process.pid)
        worker.wait_for_end(worker.process.pid)
        assert "status=handed_off" in worker.records(), worker.failed("nothing was handed off")
    assert deployment.row_count() < count
    with deployment.worker() as worker:
        _wait_for_rows(deployment, worker, count)
        deployment.wait_until_done(worker, {count})
    done = Counter(deployment.rows())
    assert set(done) == set(range(count))
    assert sum(done.values()) - len(done) <= 2


def _wait_for_rows(deployment: Deployment, site: Site, count: int) -> None:
    site.wait_until(lambda: deployment.row_count() >= count, f"row {count}", PATIENCE)
