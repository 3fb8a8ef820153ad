"""Queries that are cancelled on PostgreSQL and on MariaDB: 200 of a minute each, and a storm of short ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake import postgresql
from tests.queries import mariadb

ROOT = Path(__file__).resolve().parents[2]
POOL = {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 1, "max_size": 12, "timeout": 60}}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgresql_settings() -> Iterator[dict[str, object]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(scope="module")
def mariadb_settings() -> Iterator[dict[str, object]]:
    """Run a MariaDB for these tests."""
    pytest.importorskip("MySQLdb", reason="mysqlclient is not installed")
    if mariadb.binaries() is None:
        pytest.skip("there are no MariaDB binaries (mariadbd, mariadb-install-db) on this machine")
    with mariadb.running() as settings:
        yield settings


@pytest.fixture(params=["postgresql", "pool", "mariadb"])
def play(request: pytest.FixtureRequest) -> Any:
    """Return a function that plays a scenario in a process of its own, and returns what that counted."""
    kind = request.param
    if kind == "pool":
        pytest.importorskip("psycopg_pool", reason="psycopg's pool is not installed")
    database = request.getfixturevalue("mariadb_settings" if kind == "mariadb" else "postgresql_settings")
    options = json.dumps({**database, **(POOL if kind == "pool" else {})})

    def run(scenario: str) -> Any:
        command = [sys.executable, "-W", "error", "-m", "tests.queries.program", options, scenario]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def test_two_hundred(play: Any) -> None:
    """200 queries of a minute are ended, in transactions and outside; each connection answers afterwards."""
    counted = play("ended")
    assert counted["statuses"] == ["cancelled"]
    assert len(counted["took"]) == counted["usable"] == 200


def test_storm(play: Any) -> None:
    """Items that are cancelled between, before, in and behind short queries: what comes behind the block is not hit."""
    counted = play("storm")
    assert counted == {"hurt": [], "statuses": ["cancelled"], "count": 1000}


def test_what_is_done_about_it(play: Any) -> None:
    """An item that catches the cancellation has its queries in the same block."""
    assert play("cleans_up") == {"statuses": ["cancelled"], "usable": 1}
