"""Database connections around items: closed or renewed as around a request, clean for the next item (F42)."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from django_qbwi import hosting, queue_background_work_item
from django_qbwi.database.connections import ConnectionEnvironment
from django_qbwi.lifecycle.servers import TestHost
from django_qbwi.signals import work_item_finished

PATIENCE = 30


@pytest.fixture(autouse=True)
def database(
    tmp_path: Path, django_db_blocker, monkeypatch: pytest.MonkeyPatch, outside_of_tests: None
) -> Iterator[Path]:
    """A database in a file, under the alias "site", with one table; and a scheduler with one worker."""
    path = tmp_path / "site.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE album (id INTEGER PRIMARY KEY)")
    connection.close()
    entry = {**connections.settings["default"], "NAME": str(path), "CONN_MAX_AGE": None}
    monkeypatch.setitem(connections.settings, "site", entry)
    with (
        django_db_blocker.unblock(),
        override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1, "WARN_IN_TRANSACTION": False}),
    ):
        yield path
    if hasattr(connections._connections, "site"):
        connections["site"].close()
        del connections["site"]


def configure(**options: object) -> None:
    """Change the settings of the database before its first connection."""
    connections.settings["site"].update(options)


def count() -> int:
    """Ask the database, and leave the connection as it is."""
    with connections["site"].cursor() as cursor:
        return cursor.execute("SELECT count(*) FROM album").fetchone()[0]


def add() -> None:
    with connections["site"].cursor() as cursor:
        cursor.execute("INSERT INTO album DEFAULT VALUES")


def sync_item(call: Callable[[], object]) -> Callable[[object], None]:
    return lambda token: call() and None


def async_item(call: Callable[[], object]) -> Callable[[object], object]:
    async def work_item(token) -> None:
        await sync_to_async(call)()

    return work_item


BOTH = pytest.mark.parametrize("make", [sync_item, async_item])


def run(work_item: Callable, *, status: str = "succeeded") -> None:
    """Queue an item and wait for its end."""
    handle = queue_background_work_item(work_item)
    assert handle.wait(PATIENCE)
    assert handle.status == status


def raw() -> sqlite3.Connection | None:
    """The driver's connection of this thread, None if it is closed."""
    return connections["site"].connection


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.in_transaction  # noqa: B018
        connection.total_changes  # noqa: B018
    except sqlite3.ProgrammingError:
        return False
    return True


class Collector:
    """Calls for items, whose results are kept."""

    def __init__(self) -> None:
        self.results: list = []

    def of(self, call: Callable[[], object]) -> Callable[[], None]:
        return lambda: self.results.append(call())


@pytest.fixture
def collected() -> Collector:
    """Results of calls."""
    return Collector()


def connect() -> sqlite3.Connection:
    count()
    return raw()


# As around a request.


@BOTH
def test_connection_lives_as_long_as_it_may(collected: Collector, make) -> None:
    """With CONN_MAX_AGE = None the next item of the thread has the same connection."""
    run(make(collected.of(connect)))
    run(make(collected.of(connect)))
    first, second = collected.results
    assert first is second


@BOTH
def test_connection_is_closed_after_the_item(collected: Collector, make) -> None:
    """With CONN_MAX_AGE = 0 the connection is closed when the item has ended."""
    configure(CONN_MAX_AGE=0)
    run(make(collected.of(connect)))
    assert not is_open(collected.results[0])


@BOTH
def test_connection_that_is_too_old_is_renewed_before_the_item(collected: Collector, make) -> None:
    """A connection that grew too old while its thread had nothing to do is not used by the next item."""
    configure(CONN_MAX_AGE=3600)
    wrappers = Collector()
    run(make(lambda: (collected.of(connect)(), wrappers.of(lambda: connections["site"])())))
    wrappers.results[0].close_at = 0.0
    run(make(collected.of(connect)))
    first, second = collected.results
    assert first is not second
    assert not is_open(first)


def in_default_executor(call: Callable[[], object]) -> Callable[[object], object]:
    async def work_item(token) -> None:
        await asyncio.to_thread(call)

    return work_item


def queries() -> tuple[int, int]:
    """Ask twice; return what the log of queries has before and after that."""
    before = len(connections["site"].queries)
    count()
    count()
    return before, len(connections["site"].queries)


@pytest.mark.parametrize("make", [sync_item, async_item, in_default_executor])
@pytest.mark.parametrize("max_age", [None, 0])
def test_g10_queries_are_forgotten(collected: Collector, make, max_age: int | None, settings) -> None:
    """With DEBUG, each item's log of queries begins empty and holds its own, as that of a request does."""
    settings.DEBUG = True
    configure(CONN_MAX_AGE=max_age)
    run(make(connect))
    for _ in range(4):
        run(make(collected.of(queries)))
    assert collected.results == [(0, 2)] * 4


@pytest.mark.parametrize("make", [sync_item, async_item, in_default_executor])
def test_g10_nothing_is_kept_while_a_thread_is_parked(collected: Collector, make, settings) -> None:
    """The log is emptied behind an item as well: a parked thread keeps no texts of queries."""
    settings.DEBUG = True
    run(make(collected.of(lambda: (count(), connections["site"])[1])))
    assert len(collected.results[0].queries_log) == 0


def test_g10_queries_in_a_test(collected: Collector, monkeypatch, settings) -> None:
    """Under test too, where connections are closed around each item."""
    hosting.this_process()._set_host(TestHost())
    settings.DEBUG = True
    for _ in range(2):
        run(sync_item(collected.of(queries)))
    assert collected.results == [(0, 2)] * 2


def test_g10_queries_of_a_connection_that_the_item_has_closed(
    collected: Collector, tmp_path, monkeypatch, settings
) -> None:
    """They are forgotten as well, also if the item has opened another one behind it."""
    settings.DEBUG = True
    other = {**connections.settings["site"], "NAME": str(tmp_path / "other.sqlite3")}
    monkeypatch.setitem(connections.settings, "other", other)

    def use() -> None:
        count()
        connections["site"].close()
        connections["other"].ensure_connection()
        connections["other"].close()

    run(sync_item(use))
    run(sync_item(collected.of(lambda: len(connections["site"].queries_log))))
    assert collected.results == [0]


def test_g10_queries_of_one_async_item(collected: Collector, settings) -> None:
    """The calls of one async item share one log."""
    settings.DEBUG = True

    async def work_item(token) -> None:
        await sync_to_async(collected.of(queries))()
        await sync_to_async(collected.of(queries))()

    run(work_item)
    assert collected.results == [(0, 2), (2, 4)]


@BOTH
def test_connection_with_errors_is_renewed(collected: Collector, make) -> None:
    """A connection that failed and is not usable any more is replaced for the next item."""

    def broken_by_the_database() -> None:
        collected.of(connect)()
        connections["site"].errors_occurred = True
        connections["site"].is_usable = lambda: False

    run(make(broken_by_the_database))
    run(make(collected.of(connect)))
    assert is_open(collected.results[1])


@BOTH
def test_health_check_is_made_for_each_item(collected: Collector, make) -> None:
    """With CONN_HEALTH_CHECKS each item finds a connection that is checked anew."""
    configure(CONN_HEALTH_CHECKS=True)
    for _ in range(2):
        run(make(collected.of(lambda: (connections["site"].health_check_done, count()))))
    # The one of before has checked, and the next starts afresh.
    assert [done for done, _ in collected.results] == [False, False]


@BOTH
def test_failing_item_closes_too(collected: Collector, make) -> None:
    """After an item that failed the connection is closed as well."""
    configure(CONN_MAX_AGE=0)

    def fail() -> None:
        collected.of(connect)()
        raise ValueError

    run(make(fail), status="failed")
    assert not is_open(collected.results[0])


@BOTH
def test_closed_before_the_waiters_wake(collected: Collector, make) -> None:
    """When `wait()` returns, the connection is closed: a database may be dropped then."""
    configure(CONN_MAX_AGE=0)
    for _ in range(10):
        run(make(collected.of(connect)))
        assert not is_open(collected.results[-1])


def test_awaitable_returned_by_a_sync_item(collected: Collector) -> None:
    """Both halves of an item that returns an awaitable close what they opened."""
    configure(CONN_MAX_AGE=0)

    def work_item(token):
        collected.of(connect)()
        return sync_to_async(collected.of(connect))()

    run(work_item)
    first, second = collected.results
    assert first is not second
    assert (is_open(first), is_open(second)) == (False, False)


def test_call_in_a_thread_of_the_loop_closes(collected: Collector) -> None:
    """What `asyncio.to_thread` runs for an async item is surrounded like an item, in threads that all items share."""
    configure(CONN_MAX_AGE=0)

    async def work_item(token) -> None:
        await asyncio.to_thread(collected.of(connect))
        assert not is_open(collected.results[0])

    run(work_item)


@BOTH
def test_receiver_closes_too(collected: Collector, make) -> None:
    """A connection that a receiver of work_item_finished opened is closed too, before the waiters wake."""
    configure(CONN_MAX_AGE=0)

    def receiver(**kwargs) -> None:
        collected.of(connect)()

    work_item_finished.connect(receiver)
    try:
        run(make(collected.of(connect)))
    finally:
        work_item_finished.disconnect(receiver)
    assert [is_open(connection) for connection in collected.results] == [False, False]


class DatabaseHandler(logging.Handler):
    """Writes each record into the table, as the handlers of several packages do."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[sqlite3.Connection] = []
        self.threads: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        add()
        self.connections.append(connect())
        self.threads.append(threading.current_thread().name)


@pytest.fixture
def handler() -> Iterator[DatabaseHandler]:
    """A handler of the ends of items, that writes to the database."""
    handler = DatabaseHandler()
    logger = logging.getLogger("django_qbwi.scheduler")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def fail() -> None:
    raise ValueError("no such album")


def fail_in_a_transaction() -> None:
    transaction.atomic(using="site").__enter__()
    fail()


@BOTH
@pytest.mark.parametrize("failing", [fail, fail_in_a_transaction])
def test_g49_handler_of_the_record_uses_the_database(handler: DatabaseHandler, make, failing) -> None:
    """It may, on a connection that an item has not left as it was; what it opened is closed before the waiters wake."""
    configure(CONN_MAX_AGE=0)
    run(make(failing), status="failed")
    assert count() == len(handler.connections)
    assert not any(map(is_open, handler.connections))


def test_g49_event_loop_does_not_wait_for_the_handler(handler: DatabaseHandler) -> None:
    """The record of an async item is written in a thread for records, one after the other."""

    async def work_item(token) -> None:
        fail()

    handles = [queue_background_work_item(work_item) for _ in range(3)]
    for handle in handles:
        assert handle.wait(PATIENCE)
    assert handler.threads == ["qbwi-records"] * 3


@BOTH
def test_g49_handler_of_a_record_at_level_info(handler: DatabaseHandler, make, caplog) -> None:
    """The same for items that succeed, where their ends are recorded."""
    configure(CONN_MAX_AGE=0)
    with caplog.at_level("INFO", "django_qbwi.scheduler"):
        run(make(connect))
    assert (count(), [is_open(connection) for connection in handler.connections]) == (1, [False])


# What an item leaves behind.


@BOTH
def test_open_transaction_is_rolled_back(make, caplog) -> None:
    """A transaction that an item left open is rolled back, with a WARNING, and the next item starts clean."""

    def leave_open() -> None:
        transaction.atomic(using="site").__enter__()
        add()

    run(make(leave_open))
    collected = Collector()
    run(make(collected.of(lambda: (count(), connections["site"].in_atomic_block))))
    assert collected.results == [(0, False)]
    [record] = [record for record in caplog.records if "left a transaction open" in record.getMessage()]
    assert (record.levelno, record.args) == (logging.WARNING, ("site",))


@BOTH
def test_autocommit_that_was_switched_off_is_restored(make) -> None:
    """An item that switched autocommit off has changed nothing for the next one."""

    def switch_off() -> None:
        transaction.set_autocommit(False, using="site")
        add()

    collected = Collector()
    run(make(switch_off))
    run(make(collected.of(lambda: (transaction.get_autocommit(using="site"), count()))))
    assert collected.results == [(True, 0)]


@BOTH
def test_next_item_can_use_a_transaction(make) -> None:
    """After a transaction that was left open, the next item commits its own."""
    run(make(lambda: transaction.atomic(using="site").__enter__() and None))

    def commit() -> None:
        with transaction.atomic(using="site"):
            add()

    run(make(commit))
    assert count() == 1


# At no cost.


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which somebody looked at a connection, or for one."""
    threads: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def spy(*args, **kwargs):
            threads.append(threading.current_thread().name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, spy)

    watch(connections, "all")
    watch(BaseDatabaseWrapper, "close_if_unusable_or_obsolete")
    return threads


def look_at_nothing() -> None:
    """Use no database."""


@pytest.mark.parametrize("make", [lambda call: lambda token: None, async_item, sync_item])
def test_item_without_database_costs_nothing(looks: list[str], make) -> None:
    """On a thread without a connection nobody looks at connections, neither before nor after an item."""
    for _ in range(5):
        run(make(look_at_nothing))
    assert [thread for thread in looks if thread.startswith("qbwi")] == []


def test_item_with_a_database_is_looked_after(looks: list[str]) -> None:
    """The item that opens the first connection is looked after."""
    run(sync_item(count))
    assert looks == ["qbwi-worker-1"]


@BOTH
def test_item_behind_one_with_a_database_costs_nothing(looks: list[str], make) -> None:
    """Where its connection was closed, nobody looks for the next items that use none."""
    configure(CONN_MAX_AGE=0)
    run(make(count))
    looks.clear()
    for _ in range(5):
        run(make(look_at_nothing))
    assert looks == []


@BOTH
def test_each_connection_of_a_thread_is_closed(collected: Collector, make, tmp_path, monkeypatch) -> None:
    """Those of several databases, and one that the item has taken out of Django's list without closing it."""
    other = {**connections.settings["site"], "NAME": str(tmp_path / "other.sqlite3"), "CONN_MAX_AGE": 0}
    monkeypatch.setitem(connections.settings, "other", other)
    configure(CONN_MAX_AGE=0)

    def use() -> None:
        collected.of(connect)()
        del connections["site"]
        collected.of(connect)()
        connections["other"].ensure_connection()
        collected.of(lambda: connections["other"].connection)()

    run(make(use))
    assert [is_open(connection) for connection in collected.results] == [False] * 3


# How many.


class Counter:
    """Counts the connections that are open at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[sqlite3.Connection] = []
        original = type(connections["site"]).get_new_connection

        def get_new_connection(wrapper, *args, **kwargs):
            connection = original(wrapper, *args, **kwargs)
            self.opened.append(connection)
            return connection

        monkeypatch.setattr(type(connections["site"]), "get_new_connection", get_new_connection)

    @property
    def open(self) -> int:
        return sum(is_open(connection) for connection in self.opened)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A counter of this test's connections."""
    configure(OPTIONS={**connections.settings["site"]["OPTIONS"], "check_same_thread": False})
    return Counter(monkeypatch)


@pytest.fixture
def four_workers(database: Path) -> Iterator[None]:
    """A scheduler with four workers."""
    with override_settings(QBWI={"MAX_WORKERS": 4, "MAX_ASYNC_IN_FLIGHT": 4}):
        yield


def test_thousand_items_keep_a_connection_per_worker(counter: Counter, four_workers: None) -> None:
    """1,000 items on four workers open four connections and no more, if they may live."""
    handles = [queue_background_work_item(sync_item(count)) for _ in range(1000)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert counter.open == len(counter.opened) <= 4


def test_async_items_keep_a_connection_per_slot(counter: Counter, four_workers: None) -> None:
    """200 async items, four at a time, keep no more connections than that."""
    handles = [queue_background_work_item(async_item(count)) for _ in range(200)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert {handle.status for handle in handles} == {"succeeded"}
    assert counter.open <= 4


def test_end_of_the_scheduler_closes_all(counter: Counter, database: Path) -> None:
    """When the threads end, they close their connections: the file can be deleted, a test database be dropped."""
    with override_settings(QBWI={"MAX_WORKERS": 2}):
        for make in (sync_item, async_item):
            run(make(count))
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("qbwi")]
    for thread in threads:
        if thread.name.startswith(("qbwi-worker", "qbwi-item")):
            thread.join(PATIENCE)
    assert (len(counter.opened), counter.open) == (2, 0)


def test_async_items_use_the_database_in_parallel(four_workers: None) -> None:
    """Four async items are in their ORM calls at the same time: each has a thread of its own."""
    barrier = threading.Barrier(4)

    def together() -> None:
        count()
        barrier.wait(PATIENCE)

    handles = [queue_background_work_item(async_item(together)) for _ in range(4)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert {handle.status for handle in handles} == {"succeeded"}


def test_calls_of_one_async_item_share_a_connection(collected: Collector) -> None:
    """All thread-sensitive calls of one async item run in one thread, with one connection."""

    async def work_item(token) -> None:
        await asyncio.gather(*(sync_to_async(collected.of(connect))() for _ in range(3)))
        await sync_to_async(collected.of(connect))()

    run(work_item)
    assert len(set(map(id, collected.results))) == 1


# Beside everybody else.


@BOTH
def test_connection_of_the_caller_is_left_alone(make) -> None:
    """The caller's open transaction is neither used nor closed by an item."""
    with transaction.atomic(using="site"):
        count()
        mine = raw()
        run(make(count))
        assert raw() is mine
        assert connections["site"].in_atomic_block


def lose(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the connection of this thread be a lost one; return what the driver knows of it."""
    count()
    connection = connections["site"]
    monkeypatch.setattr(connection, "errors_occurred", True)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    return connection.connection


def test_lost_connection_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread of a request, the next query opens another."""
    lost = lose(monkeypatch)
    ConnectionEnvironment().repair()
    assert count() == 0
    assert connections["site"].connection is not lost


def test_lost_transaction_is_not_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has begun it has to learn that what was done in it is lost."""
    with transaction.atomic(using="site"):
        lost = lose(monkeypatch)
        ConnectionEnvironment().repair()
        assert connections["site"].connection is lost


def test_connection_behind_an_error_is_not_repaired() -> None:
    """It is only lost if it does not answer; what it holds, such as a temporary table, may be needed still."""
    with pytest.raises(DatabaseError), connections["site"].cursor() as cursor:
        cursor.execute("SELECT nothing")
    kept = connections["site"].connection
    ConnectionEnvironment().repair()
    assert connections["site"].connection is kept


@BOTH
def test_database_that_is_down(make, database: Path) -> None:
    """An item that finds no database fails; the next one, when it is back, succeeds (F42)."""
    configure(NAME=str(database.parent / "missing" / "site.sqlite3"))
    run(make(count), status="failed")
    configure(NAME=str(database))
    with override_settings(QBWI={}):
        run(make(count))


@BOTH
def test_close_that_fails(make, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """A connection whose check raises is replaced, with an ERROR record, and the item's outcome stands."""
    kind = type(connections["site"])

    def fail(self) -> None:
        raise OSError("the network is gone")

    monkeypatch.setattr(kind, "close_if_unusable_or_obsolete", fail)
    run(make(count))
    run(make(count))
    assert "Closing the database connection 'site' failed" in caplog.text


# In tests.


@BOTH
def test_tests_keep_no_connection(collected: Collector, make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a test run no connection outlives its item, whatever its age: the test database must be droppable."""
    hosting.this_process()._set_host(TestHost())
    run(make(collected.of(connect)))
    assert not is_open(collected.results[0])
