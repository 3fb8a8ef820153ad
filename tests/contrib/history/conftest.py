"""The table of the history, on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings

from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.store import Store
from tests.intake import postgresql

ALIAS = "history"


class ToHistory:
    """A router that gives the table a database of its own."""

    def db_for_write(self, model: type, **hints: Any) -> str | None:
        """Choose it."""
        return ALIAS if model is HistoryEntry else None

    db_for_read = db_for_write


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, Any]]:
    """Run a PostgreSQL for these tests."""
    with postgresql.offered() as settings:
        yield settings


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """Make the table, by its migrations, in a database that all threads reach."""
    if request.param == "sqlite":
        settings: dict[str, Any] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": tmp_path / "history.sqlite3",
            "OPTIONS": {"timeout": 0.1},
        }
    else:
        settings = request.getfixturevalue("postgres")
    configured = connections.configure_settings({"default": {}, ALIAS: dict(settings)})
    connections.settings[ALIAS] = configured[ALIAS]
    with django_db_blocker.unblock(), override_settings(DATABASE_ROUTERS=[ToHistory()]):
        connection = connections[ALIAS]
        loader = MigrationLoader(None)
        module = "django_qbwi.contrib.history.migrations.0001_initial"
        migration = importlib.import_module(module).Migration("0001_initial", "django_qbwi_history")
        state = loader.project_state()
        with connection.schema_editor() as editor:
            after = migration.apply(state, editor)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(after.apps.get_model("django_qbwi_history", "historyentry"))
        connection.close()
        del connections[ALIAS]
    del connections.settings[ALIAS]


@pytest.fixture
def store(database: None) -> Store:
    """Return the table."""
    return Store()
