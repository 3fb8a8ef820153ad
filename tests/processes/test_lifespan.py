"""What the end of a lifespan is held for, beyond what the table has: heartbeats, and the servers' own limits."""

from __future__ import annotations

import dataclasses

import pytest

from tests.processes.matrix import GUNICORN_ASGI_LIFESPAN, GUNICORN_UVICORN_LIFESPAN, MAX_REQUESTS, REQUESTS, TERM, Row
from tests.processes.scenario import BUSY, Theatre
from tests.processes.test_signals import rows

pytestmark = pytest.mark.processes

HEARTBEAT = 2
"""Seconds without a heartbeat after which gunicorn kills."""
LONG = dataclasses.replace(BUSY, slow="", seconds=HEARTBEAT + 3.0)
BEYOND = dataclasses.replace(BUSY, slow="", seconds=33.0)
RECYCLED = f"--max-requests {REQUESTS} --timeout {HEARTBEAT}"


@rows(
    (LONG,),
    *(
        Row(server=server, event=MAX_REQUESTS, extra_options=RECYCLED)
        for server in (GUNICORN_UVICORN_LIFESPAN, GUNICORN_ASGI_LIFESPAN)
    ),
)
def test_heartbeat_goes_on(row: Row, theatre: Theatre) -> None:
    """gunicorn's worker tells that it is alive from its event loop, which the wait does not stop."""
    outcome = theatre.outcome(row, LONG)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert "WORKER TIMEOUT" not in outcome.stderr, outcome


@pytest.mark.slow
@rows((BEYOND,), Row(server=GUNICORN_ASGI_LIFESPAN, event=TERM, extra_options="--graceful-timeout 60"))
def test_items_go_on_beyond_the_servers_limit(row: Row, theatre: Theatre) -> None:
    """gunicorn's asgi worker takes 30 s of a lifespan's end for an error: it is told before, and the exit waits on."""
    outcome = theatre.outcome(row, BEYOND)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert "lifespan" not in outcome.stderr.lower(), outcome
