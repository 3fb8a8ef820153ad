"""The table of schedules in a database that all threads reach: SQLite in a file, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from django_qbwi.contrib.schedules.models import ScheduleState
from tests.intake import postgresql

ALIAS = "schedules"


class ToSchedules:
    """A router that gives the table a database of its own."""

    def db_for_write(self, model: type, **hints: Any) -> str | None:
        """Choose it."""
        return ALIAS if model is ScheduleState else None


@pytest.fixture(scope="package")
def postgres() -> Iterator[dict[str, Any]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(params=["sqlite", "postgresql"])
def settings_of_database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an empty database."""
    if request.param == "sqlite":
        fast = {"init_command": "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"}
        path = str(tmp_path / "schedules.sqlite3")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": fast}
    return dict(request.getfixturevalue("postgres"))


@pytest.fixture
def empty(settings_of_database: dict[str, Any], django_db_blocker: Any) -> Iterator[None]:
    """Have the table's database without the table."""
    connections.settings[ALIAS] = connections.configure_settings({"default": {}, ALIAS: settings_of_database})[ALIAS]
    with django_db_blocker.unblock(), override_settings(DATABASE_ROUTERS=[ToSchedules()]):
        yield
        connections[ALIAS].close()
        del connections[ALIAS]
    del connections.settings[ALIAS]


@pytest.fixture
def database(empty: None) -> Iterator[None]:
    """Make the table."""
    with connections[ALIAS].schema_editor() as editor:
        editor.create_model(ScheduleState)
    yield
    with connections[ALIAS].schema_editor() as editor:
        editor.delete_model(ScheduleState)
