"""The table: what is written, found and removed, on SQLite and on PostgreSQL."""

from __future__ import annotations

import datetime
import importlib
from typing import Any

import pytest
from django.apps import apps
from django.db import connections, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_qbwi.console import past
from django_qbwi.contrib.history import store as store_module
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.rows import row_of
from django_qbwi.contrib.history.store import Store
from django_qbwi.core.progress import Progress
from django_qbwi.core.records import WorkItemError, WorkItemStatus
from django_qbwi.hosting.history import Wanted
from tests.contrib.history.conftest import ALIAS
from tests.contrib.history.entries import NOW, ago, entry, info


def found(store: Store, **wanted: Any) -> list[str]:
    """Return the ids of what is found, newest first."""
    return [row.item_id for row in store.read(Wanted(**wanted))]


def test_row_tells_all_that_was_known(store: Store) -> None:
    """What comes back is the item's own dictionary, with its host beside it."""
    known = info()
    store.write([row_of(known, None, None, "web1")])
    (row,) = store.read(Wanted())
    assert row.to_dict() == {**known.to_dict(), "host": "web1", "stack": None, "why": None}


def test_row_of_what_still_ran_has_its_stack(store: Store) -> None:
    """One that was abandoned has no error."""
    store.write([entry(stack="  File ...", status=WorkItemStatus.ABANDONED, error=None)])
    told = store.read(Wanted())[0].to_dict()
    assert (told["error"], told["stack"], told["why"]) == (None, "  File ...", None)


def test_row_of_what_moved_tells_where(store: Store) -> None:
    """And one that was too old, that."""
    store.write([entry(why="durable, as 42", status=WorkItemStatus.HANDED_OFF, error=None)])
    told = store.read(Wanted())[0].to_dict()
    assert (told["error"], told["stack"], told["why"]) == (None, None, "durable, as 42")


def test_row_takes_whatever_a_text_holds(store: Store) -> None:
    """Zero characters and halves of surrogate pairs, which databases refuse, and texts of any length."""
    hostile = "\0\ud800\u202e" * 30_000
    error = WorkItemError(type=hostile, message=hostile, traceback=f"{hostile}the end")
    progress = Progress(1, None, hostile, NOW)
    texts = {"name": hostile, "origin": hostile, "request_id": hostile, "thread": hostile}
    store.write([entry(host=hostile, error=error, progress=progress, **texts)])
    (row,) = store.read(Wanted())
    told = row.to_dict()
    assert told["error"]["traceback"].endswith("the end")
    assert "\N{REPLACEMENT CHARACTER}" in told["error"]["message"]
    assert sum(len(value) for value in vars(row).values() if isinstance(value, str)) < 200_000


def test_row_that_is_written_again_stays_as_it_was(store: Store) -> None:
    """The answer to the first write was lost: there is one row, and the others of the batch are written."""
    known = info()
    store.write([row_of(known, None, None, "first")])
    store.write([row_of(known, None, None, "second"), entry()])
    assert sorted(row.host for row in store.read(Wanted())) == ["first", "web1"]


def test_rows_are_written_by_one_statement(store: Store) -> None:
    """However many they are, and nobody's receivers hear of them."""
    heard: list[Any] = []
    models.signals.post_save.connect(heard.append, sender=HistoryEntry, weak=False)
    with CaptureQueriesContext(connections[ALIAS]) as queries:
        store.write([entry() for _ in range(50)])
    models.signals.post_save.disconnect(heard.append, sender=HistoryEntry)
    assert sum("INSERT" in query["sql"] for query in queries) == 1
    assert heard == []


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_moments_are_the_same_without_aware_times(store: Store, use_tz: bool, zone: str) -> None:
    """With any TIME_ZONE: what is told is UTC, what is too old is removed, and what is searched by time is found."""
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        store.write([entry(id="old", finished_at=ago(days=2)), entry(id="new")])
        assert found(store, since=ago(days=1)) == ["new"]
        assert store.read(Wanted())[0].to_dict()["finished_at"] == NOW.isoformat()
        assert store.clean(ago(days=1), None) == 1
        assert found(store) == ["new"]


def test_rows_are_found_by_what_is_wanted(store: Store) -> None:
    """By id, status, process, name, text and time, newest first, and no more than wanted."""
    failed = entry(id="aa1", finished_at=ago(hours=3))
    moved = entry(id="aa2", status=WorkItemStatus.HANDED_OFF, error=None, why="durable", finished_at=ago(hours=2))
    other = entry(id="bb1", name="shop.mail.send", pid=8, origin="GET /a%b/", finished_at=ago(hours=1))
    store.write([failed, moved, other])
    assert found(store) == ["bb1", "aa2", "aa1"]
    assert found(store, limit=1) == ["bb1"]
    assert found(store, item_id="aa") == ["aa2", "aa1"]
    assert found(store, item_id="a%") == []
    assert found(store, statuses=["failed"]) == ["bb1", "aa1"]
    assert found(store, pids=[8]) == ["bb1"]
    assert found(store, name="CHARGE") == ["aa2", "aa1"]
    assert found(store, text="refused") == ["bb1", "aa1"]
    assert found(store, text="durable") == ["aa2"]
    assert found(store, text="a%b") == ["bb1"]
    assert found(store, since=ago(minutes=90)) == ["bb1"]


def test_rows_are_removed_by_age(store: Store) -> None:
    """However many there are, in statements of some hundreds; without any, nothing is written."""
    store.write([entry(finished_at=ago(days=3)) for _ in range(1_200)])
    store.write([entry(id="young")])
    with CaptureQueriesContext(connections[ALIAS]) as queries:
        assert store.clean(ago(days=1), None) == 1_200
    assert sum(query["sql"].startswith("DELETE") for query in queries) == 3
    assert found(store) == ["young"]
    with CaptureQueriesContext(connections[ALIAS]) as queries:
        assert store.clean(ago(days=1), 5) == 0
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "SELECT"]


def test_rows_are_removed_that_are_too_many(store: Store) -> None:
    """The oldest ones, also where many have ended in one moment."""
    store.write([entry(id=f"{number:03}") for number in range(10)])
    store.write([entry(id="newest", finished_at=NOW + datetime.timedelta(seconds=1))])
    assert store.clean(None, 3) == 8
    assert found(store) == ["newest", "009", "008"]
    assert store.clean(None, 3) == 0


def test_much_is_removed_a_part_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's write waits for the removal of a million rows."""
    monkeypatch.setattr(store_module, "_CHUNK", 2)
    monkeypatch.setattr(store_module, "_MOST_CHUNKS", 2)
    store.write([entry(finished_at=ago(days=3)) for _ in range(5)])
    assert store.clean(ago(days=1), None) == 4
    assert len(found(store)) == 1


def test_migrations_make_the_model() -> None:
    """As it is now, and Django would add nothing to them."""
    module = importlib.import_module("django_qbwi.contrib.history.migrations.0001_initial")
    migrated = module.Migration("0001_initial", "django_qbwi_history").mutate_state(ProjectState())
    wanted = ProjectState()
    wanted.add_model(ModelState.from_model(HistoryEntry))
    assert MigrationAutodetector(migrated, wanted)._detect_changes() == {}


def test_table_has_the_name_of_its_label() -> None:
    """Which is what a router is asked with."""
    assert not apps.is_installed("django_qbwi.contrib.history")
    assert HistoryEntry._meta.label == "django_qbwi_history.HistoryEntry"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("0.5h", 1_800)]
)
def test_span_is_read(text: str, seconds: float) -> None:
    """As people write it."""
    assert past.since(text).total_seconds() == seconds
