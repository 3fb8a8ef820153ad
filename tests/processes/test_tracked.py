"""Threads that a site has started itself, and tracks: the servers wait for them, and name them."""

from __future__ import annotations

import pytest

from tests.processes.matrix import GUNICORN_GTHREAD, GUNICORN_UVICORN, TERM, Row
from tests.processes.scenario import Play, Theatre
from tests.processes.test_signals import rows

pytestmark = pytest.mark.processes

# The record of who is waited for comes every five seconds.
WAITED_FOR = Play(items=("legacy_thread", "honouring_thread"), seconds=7.0)
STUCK = Play(items=("stuck_thread",), settings=(("SHUTDOWN_TIMEOUT", 3.0),))
SERVERS = ((GUNICORN_GTHREAD, TERM), (GUNICORN_UVICORN, TERM))


@rows((WAITED_FOR,), *SERVERS)
def test_thread_is_waited_for_and_named(row: Row, theatre: Theatre) -> None:
    """One rings the bell of its own at once, one goes on: the record names the one that is left, and it finishes."""
    outcome = theatre.outcome(row, WAITED_FOR)
    for name in WAITED_FOR.items:
        (finished,) = outcome.at("finished", name)
        assert outcome.signed_at < finished < outcome.ended_at, outcome
    assert outcome.at("finished", "honouring_thread") < outcome.at("finished", "legacy_thread"), outcome
    waiting = [record for record in outcome.records if "Waiting up to" in record]
    assert waiting, outcome
    assert all("legacy_thread" in record and "honouring_thread" not in record for record in waiting), outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert outcome.status == 0, outcome


@rows((STUCK,), *SERVERS)
def test_thread_that_never_ends_is_given_up(row: Row, theatre: Theatre) -> None:
    """At the limit it is abandoned, with its stack, and the server ends as ever."""
    outcome = theatre.outcome(row, STUCK)
    (record,) = outcome.own_records("abandoned")
    assert "stuck_thread" in record, outcome
    assert "time.sleep(600)" in record, outcome
    assert outcome.status == 0, outcome
