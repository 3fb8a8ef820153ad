"""The system checks: what is declared can run, and all processes reach one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections

from django_qbwi.contrib.schedules.declared import declarations
from django_qbwi.contrib.schedules.store import Store
from django_qbwi.lifecycle import servers


def check_schedules(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report schedules that never run: wrong values, functions that are not found, names that are taken."""
    _, problems = declarations.sound()
    hint = "See how-to/schedules in the documentation for what a schedule takes."
    return [Error(problem, hint=hint, id="qbwi.E020") for problem in problems]


def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database that keeps nothing, or that each process has for itself."""
    if servers.test_run(sys.argv) is not None:
        # A test database is in memory by default, and nothing is started by the clock there.
        return []
    alias = Store().database
    connection = connections[alias]
    if connection.vendor == "unknown":
        problem = f"the database {alias!r} is not configured"
    elif connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        problem = f"the database {alias!r} is in memory, and each process has one of its own"
    else:
        return []
    return [
        Error(
            f"Schedules cannot run once for all processes: {problem}",
            hint="Give their table, by a database router, one that all hosts reach, or take the app out of "
            "INSTALLED_APPS.",
            id="qbwi.E021",
        )
    ]


def check_table(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report that the table is missing; only where databases may be asked."""
    store = Store()
    # `migrate` asks ahead of its work, and is about to make it.
    if store.database not in (databases or ()) or sys.argv[1:2] == ["migrate"]:
        return []
    try:
        is_missing = store.is_missing()
    except DatabaseError:
        # Whoever asked for this database will hear of it otherwise.
        return []
    if not is_missing:
        return []
    return [
        Warning(
            f"The table of schedules is not in the database {store.database!r}: nothing is started by the clock",
            hint="Run manage.py migrate, which makes it.",
            id="qbwi.W020",
        )
    ]
