"""Stores and deployments of these tests; what is missing on a machine is skipped by name."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.handoff.real_engines.deployment import Deployment, Engine, skip_unless
from tests.handoff.real_engines.stores import Postgresql, Redis, Sqlite, has_redis, running_redis
from tests.intake import postgresql

ROUNDS = int(os.environ.get("QBWI_HANDOFF_ROUNDS", "1"))
"""How often what is left to chance is played."""

Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """Start a Redis for all tests."""
    if not has_redis():
        pytest.skip("redis-server, or the package redis, is not installed here")
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """Start a PostgreSQL for all tests."""
    if postgresql.binaries() is None:
        pytest.skip("PostgreSQL is not installed here")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed here")
    with postgresql.running() as settings:
        yield Postgresql(dict(settings))


@pytest.fixture(scope="session")
def migrate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Engine, Sqlite | Postgresql | None], Path]:
    """Return a function that makes the tables of an engine, once for each store."""
    done: dict[tuple[str, str], Path] = {}

    def make(engine: Engine, store: Sqlite | Postgresql | None) -> Path:
        key = (engine.name, "file" if store is None else "server")
        if key not in done:
            directory = tmp_path_factory.mktemp("migrated")
            path = directory / "database.sqlite3"
            Deployment(directory, engine, store or Sqlite(path), None).run("manage.py migrate --verbosity 0")
            if store is None:
                # The command ends without closing its connection: all of it into the one file.
                Sqlite(path).query("PRAGMA wal_checkpoint(TRUNCATE)")
            done[key] = path
        return done[key]

    return make


@pytest.fixture
def deploy(
    request: pytest.FixtureRequest, tmp_path: Path, migrate: Callable[[Engine, Sqlite | Postgresql | None], Path]
) -> Deploy:
    """Return a function that makes a deployment with nothing in its engine."""
    numbers = itertools.count(1)

    def make(engine: Engine, store: str = "sqlite", seconds: float = 0.05) -> Deployment:
        skip_unless(engine)
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        redis: Redis | None = request.getfixturevalue("redis_server") if engine.uses_redis else None
        if redis is not None:
            redis.clear()
        database: Sqlite | Postgresql
        if store == "postgresql":
            database = request.getfixturevalue("postgresql_server")
            migrate(engine, database)
            database.query(f"TRUNCATE {engine.table} CASCADE")
        else:
            path = directory / "database.sqlite3"
            if engine.table:
                shutil.copy(migrate(engine, None), path)
            database = Sqlite(path)
        return Deployment(directory, engine, database, redis, seconds)

    return make
