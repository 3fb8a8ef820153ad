"""The ticker: what is due runs once, is given back, left out, told of; on SQLite and on PostgreSQL.

No thread and no real time: each `Process` of a test is a ticker whose thread is moved by hand.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.models import F
from django.test import override_settings

from django_qbwi import QueueFull, SchedulerDraining, WorkItemStatus
from django_qbwi.contrib.schedules import ticker as ticker_module
from django_qbwi.contrib.schedules.declared import Schedule
from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.store import LEASE, Claim, Store
from django_qbwi.contrib.schedules.ticker import SKEW, Ticker
from django_qbwi.contrib.schedules.timing import Cron, Every, Timing
from tests.contrib.schedules import scheduled
from tests.contrib.schedules.conftest import ALIAS
from tests.support.clock import FakeClock
from tests.support.manual import ManualServiceThread

START = 1_780_000_000.0
MINUTE = timedelta(minutes=1)


class Handle:
    """Stands for that of a work item."""

    def __init__(self) -> None:
        self.id = f"item{next(_numbers)}"
        self.status = WorkItemStatus.QUEUED
        self._callbacks: list[Callable[[Any], object]] = []

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """As that of a real one."""
        self._callbacks.append(callback)

    def end(self, status: WorkItemStatus = WorkItemStatus.SUCCEEDED) -> None:
        """End it."""
        self.status = status
        for callback in self._callbacks:
            callback(self)


_numbers = itertools.count(1)


class Process:
    """One process: its ticker, and what that has queued."""

    def __init__(self, time: FakeClock, *schedules: Schedule, store: Store | None = None) -> None:
        self.started: list[tuple[str, Handle]] = []
        self.open = True
        self.refusal: Exception | None = None
        self.ahead = 0.0
        self.schedules = list(schedules)
        self.service = ManualServiceThread(time)
        self.ticker = Ticker(
            lambda: self.schedules,
            store or Store(),
            self._start,  # type: ignore[arg-type]
            lambda: self.open,
            self.service,
            wall=lambda: time() + self.ahead,
            clock=time,
        )
        self.ticker.start(0)
        self.service.run()

    def _start(self, schedule: Schedule) -> Handle:
        if self.refusal is not None:
            raise self.refusal
        handle = Handle()
        self.started.append((schedule.name, handle))
        return handle

    def run(self) -> int:
        """Do what is due; return how many runs have been started until now."""
        self.service.run()
        return len(self.started)

    def end(self, status: WorkItemStatus = WorkItemStatus.SUCCEEDED) -> None:
        """End the last run, and do what follows."""
        self.started[-1][1].end(status)
        self.service.run()

    @property
    def sleeps(self) -> float:
        """Seconds until it wakes up next."""
        wait = self.service.run_due()
        assert wait is not None
        return wait


class BrokenStore(Store):
    """A table that can be out of reach, or lose its answers."""

    def __init__(self) -> None:
        self.broken = False
        self.mute = False
        self.meanwhile: Callable[[], object] | None = None
        """What other processes do between our look and our claim, once."""

    def rows(self) -> dict[str, ScheduleState]:
        """Fail if it is broken."""
        self._look()
        return super().rows()

    def claim(self, *args: Any, **kwargs: Any) -> bool:
        """Do it, and lose the answer if it is mute."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        found = super().claim(*args, **kwargs)
        if self.mute:
            raise OperationalError("server closed the connection unexpectedly")
        return found

    def ended(self, claim: Claim, status: str, now: int) -> None:
        """Fail if it is broken."""
        self._look()
        super().ended(claim, status, now)

    def is_missing(self) -> bool:
        """Fail if it is broken."""
        self._look()
        return super().is_missing()

    def _look(self) -> None:
        if self.broken:
            raise OperationalError("could not connect to server")


@pytest.fixture
def time(database: None) -> FakeClock:
    """Return the clock of all processes, beside the table."""
    return FakeClock(START)


def minutely(name: str = "it", *, overlap: bool = False, timing: Timing | None = None) -> Schedule:
    """Return a schedule of every minute."""
    return Schedule(scheduled.plain, timing or Every(MINUTE), overlap, name)


def row(name: str = "it") -> ScheduleState:
    """Return what the table says."""
    return ScheduleState.objects.using(ALIAS).get(pk=name)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# Ticks.


def test_new_schedule_waits_for_its_first_tick(time: FakeClock) -> None:
    """A deploy starts nothing; the first run comes after one period."""
    process = Process(time, minutely())
    assert (process.started, row().next_ms) == ([], (START + 60) * 1000)
    time.advance(59.9)
    assert process.run() == 0
    time.advance(0.1)
    assert process.run() == 1


def test_tick_runs_once_in_all_processes(time: FakeClock) -> None:
    """Each of ten ticks is started by one of three processes, whichever looks first."""
    processes = [Process(time, minutely()) for _ in range(3)]
    for number in range(10):
        time.advance(60)
        for process in processes[number % 3 :] + processes[: number % 3]:
            process.run()
            if process.started:
                process.end()
        assert sum(len(process.started) for process in processes) == number + 1
    assert [len(process.started) for process in processes] == [4, 3, 3]


def test_run_and_its_end_are_written_down(time: FakeClock) -> None:
    """The tick, the item, the place, the outcome."""
    process = Process(time, minutely())
    time.advance(60)
    process.run()
    assert (row().status, row().tick_ms, row().item) == ("running", (START + 60) * 1000, process.started[0][1].id)
    assert row().place.endswith(f":{ticker_module.os.getpid()}")
    time.advance(7)
    process.end(WorkItemStatus.FAILED)
    found = row()
    assert (found.status, found.ended_ms, found.busy_until_ms) == ("failed", (START + 67) * 1000, 0)


@pytest.mark.parametrize("timing", [Every(MINUTE), Cron("* * * * *", "UTC")])
def test_missed_ticks_run_once(time: FakeClock, timing: Timing) -> None:
    """A site that was down for ten hours makes up for them with one run, and goes on with the next tick."""
    Process(time, minutely(timing=timing))
    time.advance(36_000)
    process = Process(time, minutely(timing=timing))
    assert process.run() == 1
    process.end()
    assert START * 1000 + 36_000_000 < row().next_ms <= START * 1000 + 36_060_000
    time.advance(60)
    assert process.run() == 2


def test_late_look_moves_no_later_tick(time: FakeClock) -> None:
    """The ticks stay where they are, though each run begins some seconds late."""
    process = Process(time, minutely())
    for number in range(1, 4):
        time.now = START + 60 * number + 7
        process.run()
        process.end()
    assert row().next_ms == (START + 240) * 1000


@pytest.mark.parametrize("use_tz", [True, False])
def test_tick_in_the_double_hour(database: None, use_tz: bool) -> None:
    """Every half hour through the change in autumn: each of ten ticks runs once, whatever USE_TZ says."""
    begin = datetime.datetime(2026, 10, 24, 22, 10, tzinfo=datetime.UTC).timestamp()
    time = FakeClock(begin)
    with override_settings(USE_TZ=use_tz, TIME_ZONE="Europe/Berlin"):
        processes = [Process(time, minutely(timing=Cron("*/30 * * * *"))) for _ in range(2)]
        for number in range(10):
            time.now = begin + 1200 + 1800 * number
            assert sum(process.run() for process in processes) == number + 1
            for process in processes:
                if process.started and process.started[-1][1].status == "queued":
                    process.end()


def test_idle_process_sleeps(time: FakeClock) -> None:
    """Until the next tick, or for a minute: then what others gave back is seen."""
    assert Process(time, minutely()).sleeps == 60
    assert Process(time, minutely(timing=Every(timedelta(days=1)), name="daily")).sleeps == 60
    assert Process(time).sleeps == 60


def test_schedule_that_is_imported_late(time: FakeClock) -> None:
    """Runs from then on."""
    process = Process(time)
    process.schedules.append(minutely())
    time.advance(60)
    process.run()
    time.advance(60)
    assert process.run() == 1


def test_tick_that_another_process_takes_meanwhile(time: FakeClock) -> None:
    """Between the look and the claim: one of them has it, though it has ended already."""
    store = BrokenStore()
    one, other = Process(time, minutely(), store=store), Process(time, minutely())

    def take() -> None:
        assert other.run() == 1
        other.end()

    time.advance(60)
    store.meanwhile = take
    assert one.run() == 0
    assert (row().item, row().next_ms) == (other.started[0][1].id, (START + 120) * 1000)


# Overlap.


def test_tick_is_left_out_while_a_run_goes_on(time: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """On any host; it is counted, and warned of once for each run."""
    one, other = Process(time, minutely()), Process(time, minutely())
    time.advance(60)
    assert (one.run(), other.run()) == (1, 0)
    for _ in range(3):
        time.advance(60)
        assert (other.run(), one.run()) == (0, 1)
    assert (row().skipped, len(warnings(caplog))) == (3, 1)
    assert "is not over: the tick is left out" in warnings(caplog)[0]
    one.end()
    time.advance(60)
    assert (other.run(), one.run()) == (1, 1)


def test_overlap_is_allowed(time: FakeClock) -> None:
    """Each tick runs, though none has ended; the row tells of the last one."""
    process = Process(time, minutely(overlap=True))
    for _ in range(3):
        time.advance(60)
        process.run()
    assert [handle.status for _, handle in process.started] == ["queued"] * 3
    process.started[0][1].end(WorkItemStatus.FAILED)
    process.run()
    assert (row().status, row().skipped) == ("running", 0)
    process.end()
    assert row().status == "succeeded"


def test_run_of_a_killed_process_is_not_believed_for_ever(time: FakeClock) -> None:
    """After two minutes without a word the next tick runs; the word of a living process is renewed."""
    killed, other = Process(time, minutely()), Process(time, minutely())
    time.advance(60)
    assert killed.run() == 1
    for _ in range(10):
        time.advance(30)
        killed.run()
        other.run()
    assert other.started == []
    for _ in range(LEASE // 60_000 - 1):
        time.advance(60)
        other.run()
    assert other.started == []
    time.advance(60)
    assert other.run() == 1


def test_lost_run_that_ends_after_all_changes_nothing_of_the_next(time: FakeClock) -> None:
    """A process that was stopped, and goes on."""
    stopped, other = Process(time, minutely()), Process(time, minutely())
    time.advance(60)
    stopped.run()
    time.advance(300)
    assert other.run() == 1
    stopped.end(WorkItemStatus.FAILED)
    assert (row().status, row().item) == ("running", other.started[0][1].id)


# The end of a process, and a full queue.


def test_no_tick_is_started_while_draining(time: FakeClock) -> None:
    """It stays due for others, and for the same process if that goes on."""
    draining, other = Process(time, minutely()), Process(time, minutely())
    draining.open = False
    time.advance(60)
    assert draining.run() == 0
    assert other.run() == 1
    other.end()
    draining.open = True
    time.advance(60)
    assert draining.run() == 1


def test_drain_that_begins_at_the_claim_gives_back(time: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick is due again, as if nobody had claimed it."""
    process, other = Process(time, minutely()), Process(time, minutely())
    claim = Store.claim

    def claimed(*args: Any, **kwargs: Any) -> bool:
        process.open = False
        return claim(*args, **kwargs)

    time.advance(60)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "claim", claimed)
        assert process.run() == 0
    assert (row().next_ms, row().status) == ((START + 60) * 1000, "")
    assert other.run() == 1


@pytest.mark.parametrize("refusal", [QueueFull("too many"), SchedulerDraining("it ends")])
def test_refused_run_is_tried_again(time: FakeClock, caplog: pytest.LogCaptureFixture, refusal: Exception) -> None:
    """The tick is given back, and runs as soon as there is room; one WARNING."""
    process = Process(time, minutely())
    process.refusal = refusal
    time.advance(60)
    process.run()
    for _ in range(3):
        time.advance(5)
        process.run()
    assert (process.started, row().next_ms, len(warnings(caplog))) == ([], (START + 60) * 1000, 1)
    assert f"cannot be queued yet: {refusal}" in warnings(caplog)[0]
    process.refusal = None
    time.advance(5)
    assert process.run() == 1
    assert (row().tick_ms, row().next_ms) == ((START + 60) * 1000, (START + 120) * 1000)


def test_run_that_cannot_be_queued_at_all_has_failed(time: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """An ERROR with its traceback, and the next tick comes as ever."""
    process = Process(time, minutely())
    process.refusal = ImportError("no module")
    time.advance(60)
    process.run()
    assert (row().status, row().next_ms) == ("failed", (START + 120) * 1000)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.levelname == "ERROR"
    process.refusal = None
    time.advance(60)
    assert process.run() == 1


def test_run_that_was_discarded_at_the_end_goes_to_another_process(time: FakeClock) -> None:
    """It never began."""
    ending, other = (
        Process(time, minutely(timing=Every(timedelta(days=1)))),
        Process(time, minutely(timing=Every(timedelta(days=1)))),
    )
    time.advance(86_400)
    assert (ending.run(), other.run()) == (1, 0)
    ending.open = False
    ending.end(WorkItemStatus.DISCARDED)
    time.advance(60)
    assert other.run() == 1


def test_run_that_expired_does_not_come_again(time: FakeClock) -> None:
    """DISCARDED in a process that goes on: nobody wants it that late."""
    process = Process(time, minutely())
    time.advance(60)
    process.run()
    process.end(WorkItemStatus.DISCARDED)
    assert (row().status, row().next_ms) == ("discarded", (START + 120) * 1000)


# A database that is down.


def test_database_that_is_down(time: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING, looks that become rarer, an INFO at the end; the tick of meanwhile runs once."""
    caplog.set_level(logging.INFO)
    store = BrokenStore()
    process = Process(time, minutely(), store=store)
    store.broken = True
    time.advance(60)
    pauses = []
    for _ in range(8):
        process.run()
        pauses.append(process.sleeps)
        time.advance(process.sleeps)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert process.ticker.is_failing
    store.broken = False
    assert process.run() == 1
    assert not process.ticker.is_failing
    messages = [record.getMessage() for record in caplog.records if record.name == "django_qbwi.schedules"]
    assert (len(messages), "could not connect to server" in messages[0]) == (2, True)
    assert messages[1] == "The table of schedules answers again"


def test_end_of_a_run_is_written_once_the_database_is_back(time: FakeClock) -> None:
    """And nothing else waits for that."""
    store = BrokenStore()
    process = Process(time, minutely(), store=store)
    time.advance(60)
    process.run()
    store.broken = True
    time.advance(3)
    process.end()
    assert row().status == "running"
    store.broken = False
    time.advance(1)
    process.run()
    assert (row().status, row().ended_ms) == ("succeeded", (START + 63) * 1000)


def test_lost_answer_to_a_claim(time: FakeClock) -> None:
    """The statement was done, the connection broke: the key in the row tells whose the tick is."""
    store = BrokenStore()
    process, other = Process(time, minutely(), store=store), Process(time, minutely())
    store.mute = True
    time.advance(60)
    assert (process.run(), other.run()) == (0, 0)
    store.mute = False
    time.advance(1)
    assert (process.run(), other.run()) == (1, 0)
    process.end()
    assert (row().status, row().tick_ms) == ("succeeded", (START + 60) * 1000)


def test_lost_answer_that_is_found_late(time: FakeClock) -> None:
    """The run is believed from then on, not from the claim: the tick that comes next is left out."""
    store = BrokenStore()
    process, other = Process(time, minutely(), store=store), Process(time, minutely())
    store.mute = True
    time.advance(60)
    assert process.run() == 0
    store.mute = False
    time.advance(LEASE / 1000 + 30)
    assert (process.run(), other.run()) == (1, 0)
    assert (row().tick_ms, row().skipped) == ((START + 60) * 1000, 1)


def test_lost_answer_to_a_claim_that_somebody_took_over(time: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the word that the run goes on: it does not begin."""
    store = BrokenStore()
    process = Process(time, minutely(), store=store)
    store.mute = True
    time.advance(60)
    process.run()
    store.mute = False
    monkeypatch.setattr(Store, "renew", lambda *args: False)
    time.advance(30)
    assert process.run() == 0
    time.advance(30)
    assert (process.run(), row().skipped) == (0, 1)


def test_lost_answer_to_a_claim_that_another_process_had(time: FakeClock) -> None:
    """Nothing runs twice."""
    store = BrokenStore()
    process, other = Process(time, minutely(), store=store), Process(time, minutely())
    store.mute = True
    time.advance(60)
    assert other.run() == 1
    other.end()
    process.run()
    store.mute = False
    time.advance(30)
    assert process.run() == 0


def test_table_that_is_missing(empty: None, caplog: pytest.LogCaptureFixture) -> None:
    """The WARNING says what to do, and it works as soon as that was done."""
    time = FakeClock(START)
    process = Process(time, minutely())
    assert "it is not there. Run `manage.py migrate` (database 'schedules')" in warnings(caplog)[0]
    with _table():
        time.advance(1)
        process.run()
        assert row().next_ms == (START + 61) * 1000


@contextlib.contextmanager
def _table() -> Iterator[None]:
    with connections[ALIAS].schema_editor() as editor:
        editor.create_model(ScheduleState)
    yield
    with connections[ALIAS].schema_editor() as editor:
        editor.delete_model(ScheduleState)


@pytest.mark.usefixtures("time")
def test_connection_is_open_during_a_look_only(time: FakeClock) -> None:
    """An idle process takes none of the database's connections."""
    process = Process(time, minutely())
    assert connections[ALIAS].connection is None
    time.advance(60)
    process.run()
    assert connections[ALIAS].connection is None


# Clocks that jump.


def test_small_jump_back_repeats_no_tick(time: FakeClock) -> None:
    """The tick that has run is not due again when the clock shows its time once more."""
    process = Process(time, minutely())
    time.advance(60)
    process.run()
    process.end()
    process.ahead = -SKEW / 1000 + 60
    time.advance(30)
    assert process.run() == 1


def test_clocks_of_hosts_may_differ(time: FakeClock) -> None:
    """The one that is ahead starts the ticks, and none of them runs twice."""
    one, other = Process(time, minutely()), Process(time, minutely())
    one.ahead = 100
    for number in range(1, 6):
        time.advance(60)
        assert (one.run(), other.run()) == (number, 0)
        one.end()


def test_moment_that_a_wrong_clock_has_reckoned(time: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A clock was a year ahead, and was set right: the schedule does not wait for a year."""
    process = Process(time, minutely())
    process.ahead = 365 * 86_400
    time.advance(60)
    process.run()
    process.end()
    process.ahead = 0
    time.advance(60)
    process.run()
    assert "wrong clock" in warnings(caplog)[0]
    time.advance(60)
    assert process.run() == 2


# What the code says.


def test_changed_schedule_is_reckoned_anew_by_the_process_that_starts(time: FakeClock) -> None:
    """Those that run the older code leave it alone from then on."""
    old = Process(time, minutely())
    time.advance(10)
    new = Process(time, minutely(timing=Every(timedelta(seconds=20))))
    assert (row().when, row().next_ms) == ("every 20 s", (START + 30) * 1000)
    for _ in range(3):
        time.advance(20)
        assert old.run() == 0
        new.run()
        new.end()
    assert len(new.started) == 3


def test_row_of_a_schedule_that_is_gone_is_removed(time: FakeClock) -> None:
    """A day after it was due for the last time, by the next process that starts; a rename is a new schedule."""
    Process(time, minutely("old name"))
    renamed = Process(time, minutely("new name"))
    time.advance(86_000)
    renamed.run()
    assert set(Store().rows()) == {"new name", "old name"}
    time.advance(600)
    Process(time, minutely("new name"))
    assert set(Store().rows()) == {"new name"}


def test_row_of_a_monthly_schedule_stays(time: FakeClock) -> None:
    """It is not due for long."""
    Process(time, minutely("monthly", timing=Every(timedelta(days=30))))
    time.advance(20 * 86_400)
    Process(time, minutely())
    assert set(Store().rows()) == {"it", "monthly"}


def test_row_that_somebody_removed_comes_again(time: FakeClock) -> None:
    """With a tick to come."""
    process = Process(time, minutely())
    ScheduleState.objects.using(ALIAS).all().delete()
    time.advance(60)
    assert process.run() == 0
    assert row().next_ms == (START + 120) * 1000


def test_row_that_two_processes_make_at_once(database: None) -> None:
    """Is that of the first one."""
    Store().add("it", "every 60 s", 5)
    Store().add("it", "every 60 s", 7)
    assert row().next_ms == 5


def test_skip_of_a_run_that_just_ended_is_none(database: None) -> None:
    """Whoever read the row before sees nothing left out: the tick is due."""
    Store().add("it", "every 60 s", 5)
    ScheduleState.objects.using(ALIAS).update(busy_until_ms=F("busy_until_ms"))
    assert not Store().skip(row(), 65, 10)
    assert (row().next_ms, row().skipped) == (5, 0)


def test_thread_that_cannot_be_started(database: None) -> None:
    """The error of the operating system goes to whoever starts it."""

    class Refusing(ManualServiceThread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    ticker = Ticker(list, Store(), Handle, lambda: True, Refusing(FakeClock()))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        ticker.start(0)
    assert repr(ticker) == "<Ticker schedules=0 running=0 failures=0>"
