"""A query does not outlive its item: `token.cancels_queries()`, on SQLite."""

# ruff: noqa: PT012 (what happens inside of the block is what is tried)

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, IntegrityError, connections, transaction

from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    OperationCancelled,
    queue_background_work_item,
)
from django_qbwi.core import queries as core_queries
from django_qbwi.database import queries

PATIENCE = 30
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT running() UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
ROWS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"


class Site:
    """A database in a file, under the alias "site", with a function that tells when a query runs."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.fails = False

    def connect(self) -> Any:
        """Return the connection of this thread."""
        connection = connections["site"]
        connection.ensure_connection()
        connection.connection.create_function("running", 0, self._tell)
        return connection

    def _tell(self) -> int:
        self.running.set()
        return 1

    def ask(self, sql: str) -> Any:
        """Run a query in this thread and return its only value."""
        with self.connect().cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return None if row is None else row[0]

    def cancel_when_it_runs(self, source: CancellationTokenSource) -> threading.Thread:
        """Cancel from another thread, once a query runs."""

        def cancel() -> None:
            assert self.running.wait(PATIENCE)
            source.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        return thread

    def close(self) -> None:
        """Close the connection of this thread."""
        if hasattr(connections._connections, "site"):
            connections["site"].close()
            del connections["site"]


@pytest.fixture
def site(tmp_path: Path, django_db_blocker, monkeypatch: pytest.MonkeyPatch, outside_of_tests: None) -> Iterator[Site]:
    """A database of its own."""
    path = tmp_path / "site.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE album (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    connection.close()
    entry = {**connections.settings["default"], "NAME": str(path), "CONN_MAX_AGE": None}
    monkeypatch.setitem(connections.settings, "site", entry)
    with django_db_blocker.unblock():
        site = Site()
        yield site
        site.close()


@pytest.fixture
def source() -> CancellationTokenSource:
    """Whoever cancels."""
    return CancellationTokenSource()


def test_query_that_runs(site: Site, source: CancellationTokenSource) -> None:
    """It is ended by OperationCancelled of its token, and the connection stays usable."""
    before = site.connect().connection
    thread = site.cancel_when_it_runs(source)
    with pytest.raises(OperationCancelled) as caught, source.token.cancels_queries():
        site.ask(ENDLESS)
    thread.join(PATIENCE)
    assert caught.value.token is source.token
    assert isinstance(caught.value.__cause__, DatabaseError)
    assert site.ask("SELECT 42") == 42
    assert connections["site"].connection is before


def test_rows_that_are_fetched(site: Site, source: CancellationTokenSource) -> None:
    """A query that is over, and whose rows are read one by one, ends as well; the block says why."""
    connection = site.connect()
    with pytest.raises(OperationCancelled) as caught, source.token.cancels_queries(), connection.cursor() as cursor:
        cursor.execute(ROWS)
        for (number,) in cursor:
            if number == 100:
                source.cancel()
    assert isinstance(caught.value.__cause__, DatabaseError)
    assert site.ask("SELECT 42") == 42


def test_next_query(site: Site, source: CancellationTokenSource) -> None:
    """One that would begin after the cancellation does not; what is done about it has its queries."""
    with pytest.raises(OperationCancelled), source.token.cancels_queries():
        assert site.ask("SELECT 1") == 1
        source.cancel()
        try:
            site.ask("INSERT INTO album (name) VALUES ('refused')")
        finally:
            site.ask("INSERT INTO album (name) VALUES ('where it stands')")
    assert site.ask("SELECT group_concat(name) FROM album") == "where it stands"


def test_token_that_is_cancelled_already(site: Site, source: CancellationTokenSource) -> None:
    """The block is entered, its first query refused."""
    source.cancel()
    reached = []
    with pytest.raises(OperationCancelled), source.token.cancels_queries():
        reached.append("entered")
        site.ask("SELECT 1")
    assert reached == ["entered"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_transactions(site: Site, source: CancellationTokenSource, depth: int) -> None:
    """They are rolled back at whatever depth, also where the rollback is the first statement after the cancellation."""

    def inside(left: int) -> None:
        with transaction.atomic(using="site"):
            site.ask("INSERT INTO album DEFAULT VALUES")
            if left > 1:
                inside(left - 1)
            else:
                source.cancel()
                raise LookupError

    with pytest.raises(LookupError), source.token.cancels_queries():
        inside(depth)
    assert site.ask("SELECT count(*) FROM album") == 0
    assert not connections["site"].in_atomic_block


def test_savepoint_that_goes_on(site: Site, source: CancellationTokenSource) -> None:
    """The cancellation of an inner block of a transaction leaves the outer one to its owner."""
    with transaction.atomic(using="site"):
        site.ask("INSERT INTO album (name) VALUES ('kept')")
        with pytest.raises(OperationCancelled), source.token.cancels_queries(), transaction.atomic(using="site"):
            site.ask("INSERT INTO album (name) VALUES ('lost')")
            thread = site.cancel_when_it_runs(source)
            site.ask(ENDLESS)
        thread.join(PATIENCE)
    assert site.ask("SELECT group_concat(name) FROM album") == "kept"


def test_behind_the_block(site: Site, source: CancellationTokenSource) -> None:
    """Queries are none of the token's affairs any more."""
    with source.token.cancels_queries():
        assert site.ask("SELECT 1") == 1
    source.cancel()
    assert site.ask("SELECT 2") == 2
    assert connections["site"].execute_wrappers == []


def test_error_of_the_query_itself(site: Site, source: CancellationTokenSource) -> None:
    """It is what it is, with and without a cancellation behind it."""
    site.ask("INSERT INTO album (name) VALUES ('one')")
    with pytest.raises(IntegrityError), source.token.cancels_queries():
        site.ask("INSERT INTO album (name) VALUES ('one')")
    with pytest.raises(IntegrityError), source.token.cancels_queries():
        try:
            site.ask("INSERT INTO album (name) VALUES ('one')")
        finally:
            source.cancel()


def test_blocks_in_blocks(site: Site, source: CancellationTokenSource) -> None:
    """The code around both has its queries too, once either has told it."""
    token = source.token
    with pytest.raises(OperationCancelled), token.cancels_queries():
        try:
            with token.cancels_queries():
                thread = site.cancel_when_it_runs(source)
                site.ask(ENDLESS)
        finally:
            assert site.ask("SELECT 42") == 42
    thread.join(PATIENCE)


def test_block_of_another_token(site: Site, source: CancellationTokenSource) -> None:
    """Each token ends queries of its own block, and passes on what another one has raised."""
    other = CancellationTokenSource()
    thread = site.cancel_when_it_runs(other)
    with pytest.raises(OperationCancelled) as caught, source.token.cancels_queries(), other.token.cancels_queries():
        site.ask(ENDLESS)
    thread.join(PATIENCE)
    assert caught.value.token is other.token


def test_token_of_an_item(site: Site) -> None:
    """`handle.cancel()` ends the query of an item, which is CANCELLED."""

    def count(token: CancellationToken) -> None:
        try:
            with token.cancels_queries():
                site.ask(ENDLESS)
        finally:
            site.close()

    handle = queue_background_work_item(count)
    assert site.running.wait(PATIENCE)
    assert handle.cancel()
    assert handle.wait(PATIENCE)
    assert handle.status == "cancelled"


def test_async_item(site: Site) -> None:
    """It enters the block in the function whose thread has the connection."""

    def count(token: CancellationToken) -> None:
        try:
            with token.cancels_queries():
                site.ask(ENDLESS)
        finally:
            site.close()

    async def item(token: CancellationToken) -> None:
        await sync_to_async(count)(token)

    handle = queue_background_work_item(item)
    assert site.running.wait(PATIENCE)
    handle.cancel()
    assert handle.wait(PATIENCE)
    assert handle.status == "cancelled"


def test_on_a_running_loop() -> None:
    """It is refused, with what to do instead: connections belong to threads."""

    async def enter() -> None:
        with CancellationToken.none().cancels_queries():
            pass

    with pytest.raises(RuntimeError, match="sync_to_async"):
        asyncio.run(enter())


def test_without_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing."""
    monkeypatch.setattr(core_queries, "_makers", [])
    with pytest.raises(RuntimeError, match=r"django\.setup\(\)"):
        CancellationToken.none().cancels_queries()


def test_no_thread_is_to_be_had(site: Site, source: CancellationTokenSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels ends the query itself."""

    def refuse(target: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(queries, "start_thread", refuse)
    thread = site.cancel_when_it_runs(source)
    with pytest.raises(OperationCancelled), source.token.cancels_queries():
        site.ask(ENDLESS)
    thread.join(PATIENCE)
    assert site.ask("SELECT 42") == 42


class Deaf(Site):
    """Its query runs until somebody has tried to end it."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Event()

    def _tell(self) -> int:
        self.running.set()
        assert self.tried.wait(PATIENCE)
        return 1


@pytest.fixture
def deaf(site: Site, monkeypatch: pytest.MonkeyPatch) -> Deaf:
    """The same database, which no cancellation reaches."""
    monkeypatch.setattr(queries, "_interrupt", lambda connection: None)
    return Deaf()


def test_database_that_does_not_hear(
    deaf: Deaf, source: CancellationTokenSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The query goes on, a record says so, and the next one is refused."""

    def fail(query: object) -> None:
        deaf.tried.set()
        raise OSError("no route to host")

    monkeypatch.setitem(queries._ENDINGS, "sqlite", fail)
    thread = deaf.cancel_when_it_runs(source)
    with pytest.raises(OperationCancelled), source.token.cancels_queries():
        assert deaf.ask("SELECT running()") == 1
        deaf.ask("SELECT 1")
    thread.join(PATIENCE)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "'site' could not be cancelled; it goes on" in record.getMessage()
    assert "no route to host" in str(record.exc_info)


def test_database_that_hears_late(
    deaf: Deaf, source: CancellationTokenSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is still under way must not hit the next query: the connection is closed."""
    late = threading.Event()

    def hang(query: object) -> None:
        deaf.tried.set()
        assert late.wait(PATIENCE)

    monkeypatch.setattr(queries, "_LIMIT", -1.0)
    monkeypatch.setitem(queries._ENDINGS, "sqlite", hang)
    before = deaf.connect().connection
    thread = deaf.cancel_when_it_runs(source)
    with pytest.raises(OperationCancelled), source.token.cancels_queries():
        deaf.ask("SELECT running()")
    assert connections["site"].connection is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        before.execute("SELECT 1")
    late.set()
    thread.join(PATIENCE)
    assert any("to hear that a query is cancelled" in record.getMessage() for record in caplog.records)
