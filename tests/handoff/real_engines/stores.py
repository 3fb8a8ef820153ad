"""Where engines keep what they get: a SQLite file, a PostgreSQL, a Redis; each of them private to a test run."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0
_REDIS = "redis-server"


class Sqlite:
    """A file, with the settings that the documentation of Django and of the engines ask for."""

    def __init__(self, path: Path) -> None:
        self.settings: dict[str, Any] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        }
        self._path = path

    def query(self, sql: str) -> list[Any]:
        """Run one statement; return its rows."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=20)) as connection, connection:
            return connection.execute(sql).fetchall()


class Postgresql:
    """A server of its own; `settings` are those of Django."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def query(self, sql: str) -> list[Any]:
        """Run one statement; return its rows."""
        import psycopg  # optional

        given = self.settings
        with psycopg.connect(
            dbname=given["NAME"], user=given["USER"], host=given["HOST"], port=given["PORT"], autocommit=True
        ) as connection:
            cursor = connection.execute(sql)  # type: ignore[call-overload]
            return [] if cursor.description is None else cursor.fetchall()  # type: ignore[no-any-return]


class Redis:
    """A server on a private socket, that keeps nothing on a disk."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path = path
        self.process = process

    def backlog(self) -> int:
        """Return how much waits in the queues, and in the schedules, of huey and of Celery."""
        found = 0
        with self._connected() as client:
            for key in client.keys("*"):
                kind = client.type(key)
                if kind == b"list":
                    found += client.llen(key)
                elif kind == b"zset" and b"schedule" in key:
                    found += client.zcard(key)
                elif key == b"unacked":
                    found += client.hlen(key)
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._connected() as client:
            client.flushall()

    def answers(self) -> bool:
        """Return whether it serves."""
        with contextlib.suppress(Exception), self._connected() as client:
            return bool(client.ping())
        return False

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        import redis  # optional

        client = redis.Redis(unix_socket_path=str(self.path))
        try:
            yield client
        finally:
            client.close()


def has_redis() -> bool:
    """Return whether there are a server and a client."""
    with contextlib.suppress(ImportError):
        import redis  # noqa: F401 - optional

        return shutil.which(_REDIS) is not None
    return False


@contextlib.contextmanager
def running_redis() -> Iterator[Redis]:
    """Start one in a temporary folder."""
    # A path of a socket may have 107 characters only, which those of pytest's folders can pass.
    with tempfile.TemporaryDirectory(prefix="qbwi-redis-", ignore_cleanup_errors=True) as name:
        path = Path(name) / "socket"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", name]
        process = subprocess.Popen([_REDIS, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = Redis(path, process)
        try:
            limit = time.monotonic() + PATIENCE
            while not server.answers():
                assert process.poll() is None, "redis-server has ended at once"
                assert time.monotonic() < limit, "redis-server does not answer"
                time.sleep(0.02)
            yield server
        finally:
            # A test may have stopped it.
            process.kill()
            process.wait(PATIENCE)
