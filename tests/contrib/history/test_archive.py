"""What of the items of a process comes into the history, and what of a process that runs tests."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import override_settings

from django_qbwi import Retry, background_work_item, hosting, queue_background_work_item, testing
from django_qbwi.contrib.history.archive import Archive, limits
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.store import Store
from django_qbwi.contrib.history.testing import written_history
from django_qbwi.core.exceptions import InspectionError
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.crash_report.slots import LostItem
from django_qbwi.hosting.history import Kept, Wanted
from django_qbwi.machine.service_thread import ServiceThread
from tests.contrib.history.conftest import ALIAS
from tests.contrib.history.entries import ERROR, info
from tests.handoff import functions
from tests.handoff.conftest import full_queue, rows  # noqa: F401 - a fixture
from tests.handoff.listed import ListedBackend
from tests.support.gates import PATIENCE, Gate


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """Have this process keep a history."""
    archive = Archive()
    monkeypatch.setattr(hosting, "_histories", [archive])
    with override_settings(QBWI={}):
        yield archive
    archive.stop()


def fail(token: Any, secret: str = "") -> None:
    """Fail."""
    local = secret
    raise ValueError(f"no album {len(local)}")


async def afail(token: Any) -> None:
    """Fail on the loop."""
    raise KeyError("no album")


def kept(archive: Archive) -> list[dict[str, Any]]:
    """Return what is in the table, newest first."""
    return archive.read(Wanted())


# Which items.


def test_items_that_end_badly_are_kept(store: Store, archive: Archive) -> None:
    """Sync and async ones that have failed, and none that has succeeded or was cancelled."""
    gate = Gate()
    with written_history():
        handles = [queue_background_work_item(work, name=name) for work, name in ((fail, "a"), (afail, "b"))]
        handles.append(queue_background_work_item(lambda token: None, name="fine"))
        handles.append(queue_background_work_item(lambda token: token.wait(PATIENCE), name="gate"))
        handles[-1].cancel()
        assert all(handle.wait(PATIENCE) for handle in handles)
    gate.open()
    told = {item["name"]: item for item in kept(archive)}
    assert sorted(told) == ["a", "b"]
    known = handles[0].info.to_dict()
    assert {name: told["a"][name] for name in known} == known
    assert told["a"]["error"]["message"] == "no album 0"
    assert "ValueError: no album 0" in told["a"]["error"]["traceback"]


def test_secrets_stay_where_they_are(store: Store, archive: Archive) -> None:
    """Neither arguments nor local variables come into a row."""
    with written_history():
        assert queue_background_work_item(fail, "hunter2-is-secret").wait(PATIENCE)
    (row,) = store.read(Wanted())
    assert "hunter2" not in " ".join(str(value) for value in vars(row).values())


def test_attempts_are_one_row(store: Store, archive: Archive) -> None:
    """That of the last one."""
    work = background_work_item(retry=Retry(max_attempts=3, backoff=lambda attempt, error: 0.0))(fail)
    with written_history():
        assert work.queue().wait(PATIENCE)
    (told,) = kept(archive)
    assert (told["status"], told["attempt"]) == ("failed", 3)


def test_what_is_left_at_the_end_is_kept(store: Store, archive: Archive) -> None:
    """The one that runs with its stack, the one that never began without."""
    gate = Gate()
    with override_settings(QBWI={"MAX_WORKERS": 1}), written_history():
        running = queue_background_work_item(gate, name="running")
        gate.await_entered()
        waiting = queue_background_work_item(fail, name="waiting")
        hosting.this_process().current.end(0.1)
        # The reporter may be late with its last records.
        assert running.wait(PATIENCE)
        assert waiting.wait(PATIENCE)
    gate.open()
    told = {item["name"]: item for item in kept(archive)}
    assert {name: item["status"] for name, item in told.items()} == {"running": "abandoned", "waiting": "discarded"}
    assert "await_entered" not in told["running"]["stack"]
    assert "gates.py" in told["running"]["stack"]
    assert told["waiting"]["stack"] is None


def test_expired_item_tells_why(store: Store, archive: Archive) -> None:
    """It was not started in time."""
    gate = Gate()
    late = background_work_item(expires=0.01)(fail)
    with override_settings(QBWI={"MAX_WORKERS": 1}), written_history():
        running = queue_background_work_item(gate)
        gate.await_entered()
        handle = late.queue()
        assert handle.wait(PATIENCE)
        gate.open()
        assert running.wait(PATIENCE)
    (told,) = kept(archive)
    assert told["status"] == "discarded"
    assert "0.01" in told["why"] or "expired" in told["why"]


@pytest.mark.usefixtures("rows")
def test_item_that_moved_tells_where_to(store: Store, archive: Archive) -> None:
    """With the id that it has there."""
    with full_queue(), archive.collecting() as collected:
        handle = functions.resize.queue(3)
        functions.gate.open()
    store.write(collected)
    (told,) = [item for item in kept(archive) if item["id"] == handle.id]
    assert (told["status"], told["error"], told["stack"]) == ("handed_off", None, None)
    assert told["why"] == f"'durable' as {ListedBackend.rows[0].id.hex}"


def test_item_at_the_call_is_kept(store: Store, archive: Archive) -> None:
    """With IMMEDIATE too, where a test asks for it."""
    with written_history(), testing.immediate_work_items():
        queue_background_work_item(fail)
    assert len(kept(archive)) == 1


def test_failing_history_hurts_no_item(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    """It has its status and its record, and one record more says so."""

    class Broken(Archive):
        def keep(self, info: WorkItemInfo, stack: str | None, why: str | None) -> None:
            """Fail."""
            raise RuntimeError("broken")

    hosting._histories[:] = [Broken()]
    handle = queue_background_work_item(fail)
    assert handle.wait(PATIENCE)
    assert handle.status == "failed"
    assert "could not be kept for the history" in caplog.text
    assert "status=failed" in caplog.text


def test_items_of_a_killed_process(store: Store, archive: Archive) -> None:
    """They are there as lost, by the signal of the crash report, with what their process had noted."""
    ran = LostItem("a" * 24, "shop.items.charge", 1_000_000.0, 1_000_001.0, "POST /pay/", "r-1", 7)
    waited = LostItem("b" * 24, "shop.items.ship", 1_000_000.0, None, None, None, 7)
    with archive.collecting() as collected:
        archive.keep_lost((ran, waited), signal=None, sender=LostItem)
    store.write(collected)
    first, second = sorted(kept(archive), key=lambda item: item["id"])
    assert (first["status"], first["name"], first["pid"], first["origin"]) == ("lost", ran.name, 7, "POST /pay/")
    assert first["why"] == "Its process ended without a word, while it ran"
    assert first["started_at"] == "1970-01-12T13:46:41+00:00"
    assert (second["status"], second["started_at"]) == ("lost", None)
    assert [item["id"] for item in archive.read(Wanted(statuses=["lost"], limit=1))] in ([ran.id], [waited.id])


# Where tests run.


def test_process_that_runs_tests_writes_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself: neither a thread nor a connection of ours stands beside the transactions of a test."""
    monkeypatch.setattr(Store, "write", lambda self, entries: pytest.fail("written"))
    assert queue_background_work_item(fail).wait(PATIENCE)
    assert archive.unwritten == 0
    assert not any(thread.name == "qbwi-history" for thread in threading.enumerate())


def test_written_history_needs_the_app() -> None:
    """It says so."""
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"), written_history():
        pass


def test_failed_block_writes_nothing(store: Store, archive: Archive) -> None:
    """A test that fails inside has its own reasons."""
    with contextlib.suppress(AssertionError), written_history():
        assert queue_background_work_item(fail).wait(PATIENCE)
        raise AssertionError
    assert kept(archive) == []
    assert archive._collectors == {}


# Where a site runs.


def test_process_writes_by_itself(store: Store, archive: Archive, outside_of_tests: None) -> None:
    """In a thread of its own, which has started with the first item."""
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    assert any(thread.name == "qbwi-history" for thread in threading.enumerate())
    assert queue_background_work_item(fail).wait(PATIENCE)
    hosting.this_process().current.kept.write(hosting.time.monotonic() + PATIENCE)
    assert len(kept(archive)) == 1
    assert not hosting.this_process().current.kept.pending


def test_item_at_the_call_starts_the_thread(store: Store, archive: Archive, outside_of_tests: None) -> None:
    """No scheduler has started, and no drain follows: the exit of the process writes it."""
    with testing.immediate_work_items():
        queue_background_work_item(fail)
    assert archive.unwritten == 1
    hosting._last_writes(archive)()
    assert len(kept(archive)) == 1


def test_end_that_is_too_short_is_one_record(
    store: Store, archive: Archive, outside_of_tests: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts what is missing."""
    opened = threading.Event()
    archive._store.write = lambda entries: opened.wait(PATIENCE)  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "django_qbwi.lifecycle"):
        assert queue_background_work_item(fail).wait(PATIENCE)
        hosting.this_process().current.end(0.1)
        opened.set()
    assert "1 work item(s) that ended badly or moved are missing in the history" in caplog.text


def test_thread_that_cannot_start_is_no_failure(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item runs; the next one that ends badly tries again."""

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(archive, "open", refuse)
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    Kept(lambda: archive, ServiceThread("unused")).open()


def test_fork_has_a_writer_of_its_own(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, outside_of_tests: None
) -> None:
    """What the parent has not written, the parent writes."""
    archive._writer().add(HistoryEntry())
    assert archive.unwritten == 1
    archive.before_fork()
    archive.after_fork_in_parent()
    monkeypatch.setattr("django_qbwi.contrib.history.archive.os.getpid", lambda: -1)
    assert archive.unwritten == 0
    assert archive.write(0.0) == 0
    archive.before_fork()
    archive.after_fork_in_parent()


# Reading.


def test_table_that_cannot_be_read_says_why(store: Store, archive: Archive) -> None:
    """With the cure where it was never made."""
    table = HistoryEntry._meta.db_table
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        with pytest.raises(InspectionError, match=r"(?s)could not be read.*migrate django_qbwi_history"):
            archive.read(Wanted())
        cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


@pytest.mark.parametrize(("days", "before"), [(None, False), (1.5, True), (1e300, True)])
def test_limits_are_those_of_the_settings(days: float | None, before: bool) -> None:
    """Of the moment."""
    with override_settings(QBWI={"HISTORY_DAYS": days, "HISTORY_ROWS": 7}):
        moment, rows = limits()
    assert ((moment is not None), rows) == (before, 7)


def test_history_of_a_process_keeps_nothing_alive(archive: Archive) -> None:
    """A row is plain texts: neither the item nor its exception are in it."""
    with archive.collecting() as collected:
        archive.keep(info(error=ERROR), None, None)
    assert {type(value).__name__ for value in vars(collected[0]).values()} <= {
        "ModelState", "NoneType", "str", "int", "datetime"
    }  # fmt: skip
