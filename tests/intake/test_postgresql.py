"""Connections and transactions on PostgreSQL, whose connections are scarce: F42."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake import postgresql

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 4
SPARE = 8  # threads that are kept for the ORM calls of async items

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, object]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture
def play(database: dict[str, object]) -> Any:
    """Return a function that plays a scenario in a process of its own, and returns what that counted."""

    def run(scenario: str, expected: int = 0, **options: object) -> Any:
        command = [sys.executable, "-W", "error", "-m", "tests.intake.connections_program"]
        command += [json.dumps({**database, **options}), scenario, str(expected)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("max_age", [0, 60, None])
def test_thousand_items(play: Any, max_age: int | None) -> None:
    """1,000 items on 4 workers leave at most 4 connections open, and none with CONN_MAX_AGE = 0."""
    expected = 0 if max_age == 0 else WORKERS
    counted = play("sync", expected, CONN_MAX_AGE=max_age)
    assert counted["failed"] == []
    assert counted["open"] <= expected
    assert counted["used"] <= WORKERS or max_age == 0


@pytest.mark.parametrize("max_age", [0, 60])
def test_thousand_async_items(play: Any, max_age: int) -> None:
    """1,000 async items, each with a thread of its own for the ORM, leave those of 8 spare threads at most."""
    expected = 0 if max_age == 0 else SPARE
    counted = play("async", expected, CONN_MAX_AGE=max_age)
    assert counted["failed"] == []
    assert counted["open"] <= expected


@pytest.mark.parametrize("scenario", ["sync", "async"])
def test_pool(play: Any, scenario: str) -> None:
    """With psycopg's pool items give their connections back: no more than the pool has are ever open."""
    pytest.importorskip("psycopg_pool", reason="psycopg's pool is not installed")
    counted = play(scenario, 5, OPTIONS={"pool": {"min_size": 1, "max_size": 5, "timeout": 60}})
    assert counted["failed"] == []
    assert counted["open"] <= 5
    assert counted["used"] <= 5


def test_stale_connection(play: Any) -> None:
    """A connection that the server ended is replaced once an item has met it: the others are unaffected."""
    played = play("stale", CONN_MAX_AGE=None)
    assert played["renewed"]
    assert "succeeded" in played["statuses"]


def test_stale_connection_with_health_checks(play: Any) -> None:
    """With CONN_HEALTH_CHECKS no item meets it at all."""
    assert play("stale", CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)["statuses"] == ["succeeded", "succeeded"]


def test_transaction_left_open(play: Any) -> None:
    """A transaction that an item leaves open is not the next one's."""
    assert play("left open", CONN_MAX_AGE=None) == {"inside": False}


def test_on_commit(play: Any) -> None:
    """What is queued on commit runs after the commit, and never after a rollback, of a savepoint either."""
    assert play("on commit") == {"before": [], "ran": ["inner", "outer"]}


def test_committed_rows(play: Any) -> None:
    """An item that was queued on commit sees the rows of its transaction, each of a hundred times."""
    assert play("committed rows", CONN_MAX_AGE=60) == {"missing": []}
