"""The table of all hosts, and the heartbeat that writes it, on SQLite and on PostgreSQL."""

import contextlib
import contextvars
import datetime
import functools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.models import DateTimeField, Value
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_qbwi import InspectionError, WorkItemHandle, hosting, queue_background_work_item
from django_qbwi.contrib.shared_registry import heartbeat
from django_qbwi.contrib.shared_registry.checks import check_database
from django_qbwi.contrib.shared_registry.heartbeat import Heartbeat
from django_qbwi.contrib.shared_registry.models import HostedProcess
from django_qbwi.contrib.shared_registry.registry import SharedRegistry
from django_qbwi.contrib.shared_registry.store import MAX_REQUESTS, Row, Store, requests_of
from django_qbwi.hosting.identity import sites
from django_qbwi.inspection.subject import Subject
from tests.admin import site
from tests.intake import postgresql
from tests.support.scripts import unexpected

ALIAS = "registry"
CHECKOUT = Path(__file__).resolve().parents[2]
MOMENT = datetime.datetime(2026, 1, 5, 12, 0, tzinfo=datetime.UTC)
PATIENCE = 30
SITE = "a" * 16

FORK = """
import os, time, warnings
import django
django.setup()
from django.core.management import call_command
from django.db import connections
from django_qbwi import queue_background_work_item
from django_qbwi.contrib.shared_registry.models import HostedProcess

warnings.simplefilter("ignore", DeprecationWarning)
call_command("migrate", verbosity=0)

def wait_for(count):
    limit = time.monotonic() + 30
    while HostedProcess.objects.count() != count:
        assert time.monotonic() < limit, HostedProcess.objects.values("pid")
        time.sleep(0.01)

queue_background_work_item(lambda token: None).wait(30)
wait_for(1)
# As whoever forks has to; a connection is nothing to be shared.
connections.close_all()
child = os.fork()
if not child:
    queue_background_work_item(lambda token: None).wait(30)
    wait_for(2)
    assert {row.pid for row in HostedProcess.objects.all()} == {os.getpid(), os.getppid()}
else:
    assert os.waitpid(child, 0)[1] == 0
    wait_for(1)
    assert HostedProcess.objects.get().pid == os.getpid()
"""

SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django_qbwi", "django_qbwi.contrib.shared_registry"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {name!r}}}}}
USE_TZ = True
"""


class ToRegistry:
    """A router that gives the table a database of its own."""

    def db_for_write(self, model: type, **hints: Any) -> str | None:
        """Choose it."""
        return ALIAS if model is HostedProcess else None


class Clock:
    """Stands for the clock of the database."""

    def __init__(self) -> None:
        self.moment = MOMENT

    def __call__(self) -> Any:
        return Value(self.moment, output_field=DateTimeField())

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += datetime.timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, Any]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """Make the table in a database that all threads reach."""
    if request.param == "sqlite":
        settings: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "registry.sqlite3"}
    else:
        settings = request.getfixturevalue("postgres")
    configured = connections.configure_settings({"default": {}, ALIAS: dict(settings)})
    connections.settings[ALIAS] = configured[ALIAS]
    with django_db_blocker.unblock(), override_settings(DATABASE_ROUTERS=[ToRegistry()]):
        connection = connections[ALIAS]
        with connection.schema_editor() as editor:
            editor.create_model(HostedProcess)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(HostedProcess)
        connection.close()
        del connections[ALIAS]
    del connections.settings[ALIAS]


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the store."""
    return Clock()


@pytest.fixture
def store(database: None, clock: Clock) -> Store:
    """Return the table with a clock that moves only when a test says so."""
    return Store(clock)


def row(key: str = "k", **fields: Any) -> Row:
    """Return what a process writes down."""
    return Row(**{"key": key, "site": SITE, "host": "web-1", "pid": 7, "place": "here", "state": "{}"} | fields)


def keys(store: Store) -> list[str]:
    """Return the keys that can be read."""
    return [found.key for found in store.read([SITE])]


# The table.


@pytest.mark.usefixtures("database")
def test_row_is_read_as_it_was_written() -> None:
    """With its age by the clock of the database, and whatever characters are in its state."""
    store = Store()
    hostile = json.dumps({"name": "\0\ud800\u202e"})
    assert store.write(row(state=hostile), "")
    (found,) = store.read([SITE])
    assert (found.key, found.place, found.state) == ("k", "here", hostile)
    assert datetime.timedelta() <= found.age < datetime.timedelta(seconds=PATIENCE)


def test_other_sites_are_not_read(store: Store) -> None:
    """One table may serve several sites."""
    store.write(row(site="b" * 16), "")
    assert store.read([SITE]) == []


def test_row_grows_old_and_is_purged(store: Store, clock: Clock) -> None:
    """Until five minutes it is read, then it is removed; one that has been written meanwhile stays."""
    store.write(row("dead"), "")
    store.write(row("alive"), "")
    clock.advance(31)
    assert [found.age.total_seconds() for found in store.read([SITE])] == [31, 31]
    clock.advance(270)
    assert store.touch("alive")
    assert keys(store) == ["alive"]
    store.purge()
    assert list(HostedProcess.objects.using(ALIAS).values_list("pk", flat=True)) == ["alive"]


def test_row_of_the_future_is_young(store: Store, clock: Clock) -> None:
    """The clock of a database may be set back."""
    store.write(row(), "")
    clock.advance(-60)
    assert [found.age for found in store.read([SITE])] == [datetime.timedelta()]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_g44_age_needs_no_aware_times(use_tz: bool, zone: str) -> None:
    """A row that was just written is young, is touched and is not purged, whatever USE_TZ and TIME_ZONE say."""
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        store = Store()
        assert store.write(row(), "")
        assert store.touch("k")
        store.purge()
        (found,) = store.read([SITE])
        assert datetime.timedelta() <= found.age < datetime.timedelta(seconds=PATIENCE)


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("month", [3, 10])
def test_g44_age_does_not_jump_with_the_clocks(store: Store, clock: Clock, use_tz: bool, month: int) -> None:
    """In the night when the clocks change, the living stay and the silent grow old by real seconds."""
    change = datetime.datetime(2026, month, {3: 29, 10: 25}[month], 1, tzinfo=datetime.UTC)
    with override_settings(USE_TZ=use_tz, TIME_ZONE="Europe/Berlin"):
        clock.moment = change - datetime.timedelta(seconds=5)
        if not use_tz and connections[ALIAS].vendor == "sqlite":
            clock.moment = clock.moment.replace(tzinfo=None)  # its own clock gives UTC, and it takes naive times only
        store.write(row(), "")
        clock.advance(40)
        assert [found.age.total_seconds() for found in store.read([SITE])] == [40]


def test_row_is_removed(store: Store) -> None:
    """At the end of its process."""
    store.write(row(), "")
    store.remove("k")
    assert keys(store) == []


def test_requests_are_taken_away_once_done(store: Store) -> None:
    """With the state that shows what came of them."""
    store.write(row(), "")
    assert store.request("k", [("item", "ada")])
    wanted = store.requests("k")
    assert requests_of(wanted) == [("item", "ada")]
    assert not store.touch("k")
    assert store.write(row(), wanted)
    assert store.requests("k") == ""


def test_request_that_came_meanwhile_is_kept(store: Store) -> None:
    """The state is written, and the next look finds both: the first is done a second time, which changes nothing."""
    store.write(row(), "")
    store.request("k", [("first", "ada")])
    done = store.requests("k")
    store.request("k", [("second", "bob")])
    assert not store.write(row(state='{"new": 1}'), done)
    assert dict(requests_of(store.requests("k"))) == {"first": "ada", "second": "bob"}
    assert store.read([SITE])[0].state == '{"new": 1}'


def test_requests_of_many_are_all_kept(store: Store) -> None:
    """Four operators at once: nobody's words are written over."""
    store.write(row(), "")
    begin = threading.Barrier(4)
    taken: list[bool] = []

    def ask(who: int) -> None:
        begin.wait(PATIENCE)
        taken.extend(store.request("k", [(f"{who}-{number}", "x")]) for number in range(5))
        connections.close_all()

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert taken == [True] * 20
    assert len(requests_of(store.requests("k"))) == 20


def test_request_opens_no_transaction(store: Store) -> None:
    """SQLite refuses a writer that has read before, in one transaction, while another one writes."""
    store.write(row(), "")
    with CaptureQueriesContext(connections[ALIAS]) as queries:
        store.request("k", [("item", "ada")])
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "UPDATE"]


def test_request_is_refused(store: Store) -> None:
    """Where there is no such process, or where too much is wanted of it already."""
    assert not store.request("k", [("item", "ada")])
    store.write(row(), "")
    assert store.request("k", [(str(number), "x") for number in range(MAX_REQUESTS)])
    assert not store.request("k", [("one more", "x")])


@pytest.mark.parametrize("text", ["{", "5", '["a"]', '[["a"]]', '[["a", 5]]', "[" * 100_000])
def test_what_is_no_request_is_left_out(text: str) -> None:
    """Whatever somebody wrote into the table."""
    assert requests_of(text) == []


def test_failed_look_does_not_spoil_a_transaction(store: Store) -> None:
    """A page may be shown inside of a transaction, and before the table was made."""
    table = "django_qbwi_shared_registry_hostedprocess"
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        with pytest.raises(InspectionError, match="could not be read"):
            SharedRegistry(store).read()
        cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    assert SharedRegistry(store).read() == []


# The heartbeat.


@pytest.fixture
def held() -> Iterator[WorkItemHandle]:
    """Return an item of this process that runs until its token is cancelled."""
    entered = threading.Event()

    def hold(token: Any) -> None:
        entered.set()
        token.wait(PATIENCE)

    with override_settings(QBWI={}):
        handle = queue_background_work_item(hold, name="held")
        assert entered.wait(PATIENCE)
        yield handle
        handle.cancel()
        assert handle.wait(PATIENCE)


def beating(store: Any, subject: Any = None) -> Heartbeat:
    """Return the heartbeat of this process, which has not started."""
    return Heartbeat(subject or hosting.this_process().subject, store, lambda: sites()[0].name, lambda: "here")


def test_process_is_written_as_it_answers(store: Store, held: WorkItemHandle) -> None:
    """The same as over the channel, with the nonce of the process as its key."""
    beating(store).beat()
    (found,) = SharedRegistry(store).read()
    assert found.record.to_dict() == hosting.this_process().subject.overview()
    assert (found.place, found.is_stale, len(found.key)) == ("here", False, 32)


def test_silent_process_is_stale(store: Store, clock: Clock, held: WorkItemHandle) -> None:
    """After 30 seconds."""
    beating(store).beat()
    clock.advance(30)
    assert [found.is_stale for found in SharedRegistry(store).read()] == [False]
    clock.advance(1)
    assert [found.is_stale for found in SharedRegistry(store).read()] == [True]


def test_item_is_cancelled_at_the_beat(store: Store, held: WorkItemHandle) -> None:
    """In the name of who asked for it; then nothing is wanted any more."""
    beat = beating(store)
    beat.beat()
    registry = SharedRegistry(store)
    (found,) = registry.read()
    assert registry.request_cancellation({found.key: [held.id], "gone": ["x"]}, "ada (host web-2)") == {found.key}
    beat.beat()
    assert held.wait(PATIENCE)
    assert held.token.message == "cancelled by ada (host web-2)"
    assert store.requests(found.key) == ""


def test_end_of_a_cancelled_item_is_written_soon(store: Store, held: WorkItemHandle) -> None:
    """Not ten seconds later: at the beat that cancels it, it may be in neither list."""
    beat = beating(store)
    beat.beat()
    store.request(SharedRegistry(store).read()[0].key, [(held.id, "ada")])
    beat.beat()
    assert beat.pause == heartbeat.SOON_SECONDS
    beat.beat()
    assert beat.pause == heartbeat.BEAT_SECONDS


def test_item_is_cancelled_without_a_thread(
    store: Store, held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives none, the heartbeat does it itself."""
    beat = beating(store)
    beat.beat()
    store.request(SharedRegistry(store).read()[0].key, [(held.id, "ada")])

    def fail(target: Any, name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("django_qbwi.inspection.cancelling.start_thread", fail)
    beat.beat()
    assert held.token.message == "cancelled by ada"


def test_receiver_that_fails_is_recorded(
    store: Store, held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The state is written, and the thread goes on."""
    beat = beating(store)
    beat.beat()
    key = SharedRegistry(store).read()[0].key
    store.request(key, [(held.id, "ada")])

    def fail(item_ids: Any, by: str) -> None:
        raise ValueError("a callback")

    monkeypatch.setattr(hosting.this_process().subject, "cancel", fail)
    beat.beat()
    assert "Cancelling what the shared registry asks for failed" in caplog.text
    assert store.requests(key) == ""


def test_idle_process_writes_only_that_it_lives(store: Store, clock: Clock, held: WorkItemHandle) -> None:
    """A state that has not changed is not sent again."""
    beat = beating(store)
    beat.beat()
    clock.advance(10)
    with CaptureQueriesContext(connections[ALIAS]) as queries:
        beat.beat()
    updates = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert len(updates) == 1
    assert "pid" not in updates[0]
    assert [found.age.total_seconds() for found in store.read([sites()[0].name])] == [0]


def test_changes_are_written_at_the_next_beat(store: Store, held: WorkItemHandle) -> None:
    """What has come, and what has ended."""
    beat = beating(store)
    beat.beat()
    second = queue_background_work_item(lambda token: token.wait(PATIENCE), name="second")
    beat.beat()
    (found,) = SharedRegistry(store).read()
    second.cancel()
    assert second.wait(PATIENCE)
    assert {item["name"] for item in found.record.items} == {"held", "second"}


def test_beat_purges_the_rows_of_the_dead(store: Store, clock: Clock, held: WorkItemHandle) -> None:
    """Any process does it for all."""
    store.write(row("dead"), "")
    clock.advance(301)
    beating(store).beat()
    assert HostedProcess.objects.using(ALIAS).filter(pk="dead").count() == 0


def test_purged_process_comes_back(store: Store, held: WorkItemHandle) -> None:
    """One that was stopped for five minutes, and goes on."""
    beat = beating(store)
    beat.beat()
    HostedProcess.objects.using(ALIAS).all()._raw_delete(ALIAS)
    beat.beat()
    assert len(SharedRegistry(store).read()) == 1


def test_long_state_is_cut(store: Store, held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer items until it fits, and it says so."""
    for _ in range(20):
        assert queue_background_work_item(lambda token: None, name="n" * 100).wait(PATIENCE)
    monkeypatch.setattr(heartbeat, "MAX_STATE", 4_000)
    beating(store).beat()
    (found,) = SharedRegistry(store).read()
    assert found.record.truncated
    assert 0 < len(found.record.recent) < 20


@pytest.mark.parametrize(
    "change",
    [
        {"started_at": "2026-01-01T00:00:00"},
        {"remaining": float("nan")},
        {"limits": functools.reduce(lambda inner, _: {"a": inner}, range(40), {})},
        {"host": None},
        {"running": 10**400},
    ],
    ids=["naive", "nan", "levels", "missing", "huge"],
)
def test_g35_row_that_nobody_can_compute_with_is_left_out(store: Store, change: dict[str, Any]) -> None:
    """The rows beside it are read, and no reader of it has to look again."""
    state = site.process(pid=7)
    for key, values in (("good", {}), ("bad", change)):
        store.write(Row(key=key, site=sites()[0].name, host="h", pid=7, place="", state=json.dumps(state | values)), "")
    assert [found.key for found in SharedRegistry(store).read()] == ["good"]


def test_blocked_callback_does_not_hold_the_beat(store: Store, held: WorkItemHandle) -> None:
    """Somebody's callback of a token waits for ever: the process must not look dead for that."""
    gate, entered, left = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE)
        left.set()

    beat = beating(store)
    beat.beat()
    key = SharedRegistry(store).read()[0].key
    store.request(key, [(held.id, "ada")])
    with held.token.register(block):
        beat.beat()
        assert entered.wait(PATIENCE)
        assert (store.requests(key), left.is_set()) == ("", False)
        gate.set()


class Noted:
    """Stands for the table: notes what it is asked, and fails when it is told to."""

    def __init__(self) -> None:
        self.fails = False
        self.beats: list[str] = []
        self.changed = threading.Condition()
        self.leaving = threading.Event()
        self.leaving.set()
        self.left = threading.Event()
        self.beat: Heartbeat | None = None
        self.held: list[bool] = []

    def requests(self, key: str) -> str:
        """Note the thread, what is in its context, and whether a fork would have to wait."""
        if self.beat is not None:
            self.held.append(not self.beat._beating.acquire(False))
        with self.changed:
            self.beats.append(f"{threading.current_thread().daemon} {MARK.get('empty')}")
            self.changed.notify_all()
        if self.fails:
            raise OperationalError("the database is down")
        return ""

    def touch(self, key: str) -> bool:
        """Be as it was."""
        return True

    def write(self, row: Row, done: str) -> bool:
        """Take it."""
        return True

    def purge(self) -> None:
        """Do nothing."""

    def remove(self, key: str) -> None:
        """Take until a test lets go."""
        self.leaving.wait(PATIENCE / 10)
        self.left.set()

    def wait_for(self, count: int) -> None:
        """Wait until so many beats have begun."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.beats) >= count, PATIENCE)


MARK = contextvars.ContextVar[str]("MARK")


@contextlib.contextmanager
def started(store: Any) -> Iterator[Heartbeat]:
    """Have this process beat for a block."""
    beat = beating(store, Subject(lambda: "gunicorn", lambda: None))
    store.beat = beat
    beat.start()
    yield beat
    beat.stop(PATIENCE)


def test_process_is_there_from_start_to_stop(database: None) -> None:
    """In a thread of its own, which leaves no row and no connection behind."""
    registry = SharedRegistry(Store())
    with override_settings(QBWI={}):
        registry.open(hosting.this_process().subject)
        registry.open(hosting.this_process().subject)
        assert len(registry._heartbeats) == 1
        while not registry.read():
            threading.Event().wait(0.001)
        registry.close()
    assert registry.read() == []


def test_thread_is_a_daemon_with_an_empty_context() -> None:
    """It never holds the exit, and keeps nothing of the request that came first."""
    noted = Noted()
    MARK.set("of a request")
    with started(noted):
        noted.wait_for(1)
    assert noted.beats[0] == "True empty"


def test_lost_database_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """And one record more when it is back; in between it is tried at each beat."""
    noted = Noted()
    noted.fails = True
    with caplog.at_level(logging.INFO, "django_qbwi.inspection"), started(noted) as beat:
        for count in range(1, 4):
            noted.wait_for(count)
            beat.wake()
        noted.wait_for(4)
        noted.fails = False
        beat.wake()
        noted.wait_for(5)
        beat.wake()
        noted.wait_for(6)
        beat.wake()
        noted.wait_for(7)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "the database is down" in caplog.text


def test_connection_that_fails_to_close_is_replaced(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that broke; the thread goes on."""
    connection = connections[ALIAS]
    connection.ensure_connection()
    broken = connection.connection

    def fail() -> None:
        raise OperationalError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "close", fail)
        Heartbeat._disconnect()
    assert connection.connection is None
    broken.close()


def test_exit_does_not_wait_for_a_lost_database() -> None:
    """`stop` returns though the thread is stuck in the database."""
    noted = Noted()
    noted.fails = True
    with started(noted) as beat:
        noted.wait_for(1)
        beat.wake()
        noted.wait_for(2)
        noted.leaving.clear()
        beat.stop(PATIENCE)
        assert not noted.left.is_set()
        noted.leaving.set()


def test_no_fork_happens_within_a_beat() -> None:
    """The locks of a database's library would stay taken in the child, by a thread that it does not have."""
    noted = Noted()
    with started(noted) as beat:
        noted.wait_for(1)
        beat.before_fork()
        try:
            # Only whoever has it may give it back.
            thread = threading.Thread(target=beat.after_fork_in_parent)
            thread.start()
            thread.join(PATIENCE)
            assert not beat._beating.acquire(False)
        finally:
            beat.after_fork_in_parent()
        beat.wake()
        noted.wait_for(2)
    assert noted.held == [True] * len(noted.held)


def test_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a database that does not answer."""
    monkeypatch.setattr(heartbeat, "_FORK_SECONDS", 0.0)
    beat = beating(Noted(), Subject(lambda: "gunicorn", lambda: None))
    with beat._beating:
        beat.before_fork()
        beat.after_fork_in_parent()
        assert not beat._beating.acquire(False)


def test_registry_keeps_forks_out_of_its_beats() -> None:
    """Of this process, if it beats at all."""
    noted = Noted()
    registry = SharedRegistry(noted)  # type: ignore[arg-type]
    registry.before_fork()
    registry.after_fork_in_parent()
    registry.open(Subject(lambda: "gunicorn", lambda: None))
    noted.wait_for(1)
    (beat,) = registry._heartbeats.values()
    registry.before_fork()
    held = not beat._beating.acquire(False)
    registry.after_fork_in_parent()
    registry.close()
    assert held


def test_drain_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other hosts see the state of a process that ends before its next beat would come."""
    noted = Noted()
    registry = SharedRegistry(noted)  # type: ignore[arg-type]
    registry.on_drain_started()
    registry.open(Subject(lambda: "gunicorn", lambda: None))
    noted.wait_for(1)
    registry.on_drain_started()
    noted.wait_for(2)
    registry.close()


def test_row_of_another_version_is_left_out(store: Store) -> None:
    """It is no reason to show none."""
    store.write(row("a", site=sites()[0].name, state='{"pid": "x"}'), "")
    store.write(row("b", site=sites()[0].name, state="nonsense"), "")
    assert SharedRegistry(store).read() == []


def test_table_that_cannot_be_written_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the error that operators know."""

    def fail(*args: Any) -> None:
        raise DatabaseError("full")

    monkeypatch.setattr(Store, "request", fail)
    with pytest.raises(InspectionError, match="could not be written: full"):
        SharedRegistry(store).request_cancellation({"k": ["item"]}, "ada")


# The app.


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python in a project with the app."""
    (tmp_path / "project.py").write_text(SETTINGS.format(name=str(tmp_path / "db.sqlite3")), encoding="utf-8")
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(CHECKOUT)]),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)

    return run


def test_migration_makes_the_model(program: Callable[..., Any]) -> None:
    """Nothing is left to migrate."""
    result = program("-m", "django", "makemigrations", "--check", "--dry-run")
    assert (result.returncode, result.stdout) == (0, "No changes detected\n")


def test_forked_child_has_a_row_of_its_own(program: Callable[..., Any]) -> None:
    """Each under its own pid and key, removed at its own end."""
    result = program("-c", FORK)
    assert (result.returncode, unexpected(result.stderr)) == (0, "")


def test_table_that_was_not_made_is_a_warning(program: Callable[..., Any]) -> None:
    """Items run, and the process ends as ever."""
    run = "import django; django.setup(); from django_qbwi import queue_background_work_item as q; "
    result = program("-c", f"{run}h = q(lambda token: token.wait(0.5)); print(h.wait(30), h.status)")
    assert (result.returncode, result.stdout) == (0, "True succeeded\n")
    assert result.stderr.count("The shared registry could not be written") == 1


@pytest.mark.parametrize(
    ("engine", "problem"),
    [("", "is not configured"), ("django.db.backends.sqlite3", "is in memory")],
)
def test_useless_database_is_reported(monkeypatch: pytest.MonkeyPatch, engine: str, problem: str) -> None:
    """None at all, and one that each process has for itself."""
    configured = connections.configure_settings({"default": {"ENGINE": engine, "NAME": ":memory:"}})
    monkeypatch.setitem(connections.settings, ALIAS, configured["default"])
    monkeypatch.setattr("django_qbwi.contrib.shared_registry.checks.servers.test_run", lambda argv: None)
    with override_settings(DATABASE_ROUTERS=[ToRegistry()]):
        (found,) = check_database(None)
    del connections[ALIAS]
    assert (found.id, problem in found.msg) == ("qbwi.E004", True)


def test_database_of_a_test_run_is_fine() -> None:
    """It usually is in memory, and `manage.py test` checks it."""
    assert check_database(None) == []


@pytest.mark.usefixtures("database")
def test_useful_database_is_fine() -> None:
    """A file, or a server."""
    assert check_database(None) == []
