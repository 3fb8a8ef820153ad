"""The writer: batches, failures of the database, forks, the end of the process."""

from __future__ import annotations

import contextlib
import datetime
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import DataError, IntegrityError, OperationalError, connections

from django_qbwi.contrib.history import writer as writer_module
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.store import Store
from django_qbwi.contrib.history.writer import FIRST_PAUSE, LONGEST_PAUSE, Writer
from django_qbwi.hosting.history import Wanted
from tests.contrib.history.conftest import ALIAS
from tests.contrib.history.entries import ago, entry
from tests.support.clock import FakeClock

PATIENCE = 30
LOGGER = "django_qbwi.scheduler"


class FakeStore:
    """Stands for the table: raises what it is told to."""

    database = "default"

    def __init__(self, fails: Callable[[Sequence[HistoryEntry]], Exception | None] = lambda entries: None) -> None:
        self.fails = fails
        self.batches: list[int] = []
        self.rows: list[HistoryEntry] = []
        self.cleaned: list[Any] = []
        self.known: set[str] = set()

    def write(self, entries: Sequence[HistoryEntry]) -> None:
        """Take them, or raise."""
        error = self.fails(entries)
        if error is not None:
            raise error
        self.batches.append(len(entries))
        self.rows += entries

    def has(self, item_id: str) -> bool:
        """Tell whether it is told to know it."""
        return item_id in self.known

    def clean(self, before: Any, most: Any) -> int:
        """Note it."""
        self.cleaned.append((before, most))
        return 0


class Timers:
    """Stands for the thread: what is posted runs at once, and what is timed when a test says so."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timed: list[tuple[float, Callable[[], object]]] = []

    def post(self, call: Callable[[], object]) -> None:
        """Run it."""
        call()

    def call_at(self, when: float, call: Callable[[], object]) -> None:
        """Remember it."""
        self.timed.append((when, call))

    def flush(self, timeout: float) -> bool:
        """Nothing is behind."""
        return True

    def run_next(self) -> float:
        """Let the time of the next one come; return the seconds that it took."""
        when, call = self.timed.pop(0)
        before, self.clock.now = self.clock.now, when
        call()
        return when - before


def limits() -> tuple[datetime.datetime | None, int | None]:
    """Keep everything of the last day."""
    return ago(days=1), 10


@pytest.fixture
def timers() -> Timers:
    """What a writer has in the place of its thread."""
    return Timers(FakeClock())


def writing(store: Any, timers: Timers) -> Writer:
    """Return a writer whose turns come when a test says so."""
    made = Writer(store, limits, timers.clock)
    made._thread = timers  # type: ignore[assignment]
    return made


def down(entries: Sequence[HistoryEntry]) -> Exception:
    """Be a database that is down."""
    return OperationalError("could not connect")


def test_rows_of_a_moment_are_written_together(timers: Timers) -> None:
    """One turn for all that end within half a second, in statements of some hundreds."""
    store = FakeStore()
    writer = writing(store, timers)
    for _ in range(450):
        writer.add(entry())
    assert len(timers.timed) == 1
    assert timers.run_next() == writer_module.BATCH_SECONDS
    assert store.batches == [200, 200, 50]
    assert (writer.waiting, timers.timed) == (0, [])


def test_row_after_a_turn_gets_one_of_its_own(timers: Timers) -> None:
    """Nothing waits for the next failure."""
    store = FakeStore()
    writer = writing(store, timers)
    for _ in range(2):
        writer.add(entry())
        timers.run_next()
    assert store.batches == [1, 1]


def test_lost_database_is_one_warning(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again after a pause that doubles up to a minute, and one record says that it works again."""
    store = FakeStore(down)
    writer = writing(store, timers)
    with caplog.at_level(logging.INFO, LOGGER):
        writer.add(entry())
        timers.run_next()
        pauses = [timers.run_next() for _ in range(6)]
        writer.add(entry())
        assert len(timers.timed) == 1
        store.fails = lambda entries: None
        timers.run_next()
    assert pauses == [FIRST_PAUSE, 10.0, 20.0, 40.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert store.batches == [2]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "could not connect" in caplog.text


def test_no_more_is_remembered_than_allowed(
    timers: Timers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest rows stay, and how many are missing is said when the others are written."""
    monkeypatch.setattr(writer_module, "MOST_REMEMBERED", 3)
    store = FakeStore(down)
    writer = writing(store, timers)
    entries = [entry() for _ in range(5)]
    writer.add(entries[0])
    timers.run_next()
    for late in entries[1:]:
        writer.add(late)
    assert writer.waiting == 3
    store.fails = lambda entries: None
    timers.run_next()
    assert store.rows == entries[2:]
    assert "2 items were too many, and are missing" in caplog.text


def test_row_that_went_during_a_write_is_no_other(timers: Timers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten after a write is what was written, also where the oldest ones made room meanwhile."""
    monkeypatch.setattr(writer_module, "MOST_REMEMBERED", 2)
    newest = [entry(), entry()]

    def crowd(entries: Sequence[HistoryEntry]) -> Exception | None:
        while newest:
            writer.add(newest.pop(0))
        return None

    store = FakeStore(crowd)
    writer = writing(store, timers)
    first = entry()
    writer.add(first)
    late = list(newest)
    writer.turn()
    assert store.rows == [first, *late]
    assert writer.waiting == 0


@pytest.mark.parametrize("refusal", [DataError("too long"), ValueError("a zero"), IntegrityError("not null")])
def test_bad_row_is_dropped_alone(timers: Timers, caplog: pytest.LogCaptureFixture, refusal: Exception) -> None:
    """The others of its batch are written, and an ERROR names it."""
    bad, good = entry(name="shop.bad"), entry()
    store = FakeStore(lambda entries: refusal if bad in entries else None)
    writer = writing(store, timers)
    writer.add(bad)
    writer.add(good)
    timers.run_next()
    assert store.rows == [good]
    assert (writer.waiting, writer.is_failing) == (0, False)
    assert "The end of shop.bad" in caplog.text


def test_row_that_is_there_is_no_error(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    """Where the database cannot ignore a row that it has."""
    row = entry()
    store = FakeStore(lambda entries: IntegrityError("unique"))
    store.known.add(row.item_id)
    writer = writing(store, timers)
    writer.add(row)
    timers.run_next()
    assert (writer.waiting, caplog.text) == (0, "")


def test_database_lost_between_rows_is_tried_again(timers: Timers) -> None:
    """Nothing of the batch is dropped for that."""
    answers: list[Exception | None] = [DataError("bad"), None, OperationalError("gone")]
    store = FakeStore(lambda entries: answers.pop(0) if answers else None)
    writer = writing(store, timers)
    rows = [entry(), entry()]
    for row in rows:
        writer.add(row)
    timers.run_next()
    assert (writer.waiting, writer.is_failing) == (2, True)
    timers.run_next()
    assert store.rows == [rows[0], *rows]


# The end of the process.


def test_end_writes_at_once(timers: Timers) -> None:
    """Not after half a second."""
    store = FakeStore()
    writer = writing(store, timers)
    writer.add(entry())
    assert writer.write(timers.clock() + 1.0) == 0
    assert store.batches == [1]


def test_end_tells_what_is_left_once(timers: Timers) -> None:
    """The second time nobody waits for it again, unless there is more."""
    store = FakeStore(down)
    writer = writing(store, timers)
    writer.add(entry())
    writer.add(entry())
    assert writer.write(timers.clock() + 1.0) == 2
    timers.flush = lambda timeout: pytest.fail("waited again")  # type: ignore[method-assign]
    assert writer.write(timers.clock() + 1.0) == 0
    del timers.flush
    writer.add(entry())
    assert writer.write(timers.clock() + 1.0) == 1


@contextlib.contextmanager
def started(store: Any) -> Iterator[Writer]:
    """Have a thread for a block."""
    writer = Writer(store, limits)
    writer.start()
    writer.start()
    yield writer
    writer.stop()


def test_end_does_not_wait_for_a_stuck_database() -> None:
    """Not longer than it may."""
    entered, opened = threading.Event(), threading.Event()

    def stick(entries: Sequence[HistoryEntry]) -> None:
        entered.set()
        opened.wait(PATIENCE)

    with started(FakeStore(stick)) as writer:
        writer.add(entry())
        assert writer.write(0.0) == 1
        assert entered.wait(PATIENCE)
        opened.set()


def test_thread_is_a_daemon_and_leaves_no_connection(store: Store) -> None:
    """It is not the items' connection, and it is open during a turn only."""
    threads: list[threading.Thread] = []

    class Watched(Store):
        def write(self, entries: Sequence[HistoryEntry]) -> None:
            """Write, and note where."""
            super().write(entries)
            threads.append(threading.current_thread())

    left: list[Any] = []
    with started(Watched()) as writer:
        writer.add(entry())
        assert writer.write(writer_module.time.monotonic() + PATIENCE) == 0
        writer._thread.post(lambda: left.extend(c.connection for c in connections.all(initialized_only=True)))
        assert writer._thread.flush(PATIENCE)
    assert [thread.daemon for thread in threads] == [True]
    assert left == [None]
    assert len(store.read(Wanted())) == 1


def test_locked_database_is_written_when_it_is_free(
    store: Store, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite has one writer at a time; PostgreSQL's table may be locked."""
    writer = writing(store, timers)
    writer.add(entry())
    connection = connections[ALIAS]
    if connection.vendor == "sqlite":
        lock = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
    else:
        lock = connection.copy(ALIAS)
        lock.set_autocommit(False)
        lock.cursor().execute("LOCK TABLE django_qbwi_history_historyentry")
        connection.cursor().execute("SET lock_timeout = 100")
        connection.close = lambda: None
    timers.run_next()
    assert writer.is_failing
    lock.rollback() if connection.vendor != "sqlite" else lock.execute("ROLLBACK")
    lock.close()
    connection.__dict__.pop("close", None)
    timers.run_next()
    assert (writer.waiting, writer.is_failing) == (0, False)
    assert len(store.read(Wanted())) == 1
    assert "lock" in caplog.text


def test_missing_table_is_told_with_the_cure(store: Store, timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    """The rows are written once it is migrated."""
    table = HistoryEntry._meta.db_table
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    writer = writing(store, timers)
    writer.add(entry())
    timers.run_next()
    assert "The table is missing: run `manage.py migrate django_qbwi_history --database history`" in caplog.text
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    timers.run_next()
    assert len(store.read(Wanted())) == 1


# Cleaning.


def test_old_rows_are_removed_each_hour(timers: Timers) -> None:
    """A minute after the first item, then each hour, by the limits of that moment."""
    store = FakeStore()
    writer = writing(store, timers)
    timers.start = lambda: None  # type: ignore[attr-defined]
    writer.start()
    assert [timers.run_next(), timers.run_next()] == [60.0, 3_600.0]
    assert store.cleaned == [limits(), limits()]


def test_many_rows_are_removed_as_they_come(timers: Timers, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each thousand that were written, and not for each row."""
    monkeypatch.setattr(writer_module, "_CLEAN_AFTER_ROWS", 3)
    store = FakeStore()
    writer = writing(store, timers)
    for _ in range(7):
        writer.add(entry())
        timers.run_next()
    assert len(store.cleaned) == 2


def test_failed_removal_is_a_warning(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    """And the next one follows."""
    store = FakeStore()
    writer = Writer(store, lambda: (1 / 0, None), timers.clock)  # type: ignore[arg-type]
    writer._thread = timers  # type: ignore[assignment]
    writer._clean_regularly()
    assert "Old rows of the history could not be removed: ZeroDivisionError" in caplog.text
    assert len(timers.timed) == 1


# Forks.


def test_no_fork_happens_within_a_turn() -> None:
    """The locks of a database's library would stay taken in the child, by a thread that it does not have."""
    entered, opened, forked = threading.Event(), threading.Event(), threading.Event()

    def stick(entries: Sequence[HistoryEntry]) -> None:
        entered.set()
        opened.wait(PATIENCE)

    with started(FakeStore(stick)) as writer:
        writer.add(entry())
        writer._thread.post(writer.turn)
        assert entered.wait(PATIENCE)
        assert not writer._writing.acquire(False)
        threading.Timer(0.0, opened.set).start()
        writer.before_fork()
        try:
            writer.add(entry())
            writer._thread.post(writer.turn)
            # Only whoever has it may give it back.
            other = threading.Thread(target=lambda: (writer.after_fork_in_parent(), forked.set()))
            other.start()
            other.join(PATIENCE)
            assert forked.is_set()
            assert writer.waiting == 1
        finally:
            writer.after_fork_in_parent()
        assert writer.write(writer_module.time.monotonic() + PATIENCE) == 0


def test_connection_that_fails_to_close_is_replaced(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that broke; the thread goes on."""
    connection = connections[ALIAS]
    connection.ensure_connection()
    broken = connection.connection

    def fail() -> None:
        raise OperationalError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "close", fail)
        writer_module._disconnect()
    assert connection.connection is None
    broken.close()
