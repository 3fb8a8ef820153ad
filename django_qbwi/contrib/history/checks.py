"""The system checks: the table has to be there, in a database that keeps it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections, router

from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.lifecycle import servers


def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database that keeps nothing."""
    alias = router.db_for_write(HistoryEntry)
    connection = connections[alias]
    if connection.vendor == "unknown":
        problem = f"the database {alias!r} is not configured"
    elif _is_in_memory(connection) and servers.test_run(sys.argv) is None:
        problem = f"the database {alias!r} is in memory, and gone with the process"
    else:
        return []
    hint = "Give it, by a database router, one that stays, or take the app out of INSTALLED_APPS."
    return [Error(f"The history cannot be used: {problem}", hint=hint, id="qbwi.E005")]


def check_table(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a table that is not there; only asked with `check --database`, as all that asks a database."""
    alias = router.db_for_write(HistoryEntry)
    # `migrate` asks ahead of its work, and is about to make it.
    if alias not in (databases or ()) or sys.argv[1:2] == ["migrate"] or not is_missing(alias):
        return []
    hint = f"R{cure(alias)[1:]}."
    return [Warning(f"The table of the history is missing in the database {alias!r}", hint=hint, id="qbwi.W005")]


def cure(alias: str) -> str:
    """Say how the table is made."""
    return f"run `manage.py migrate django_qbwi_history{'' if alias == 'default' else f' --database {alias}'}`"


def is_missing(alias: str) -> bool:
    """Tell whether the table is certainly not there; blocks as long as the database."""
    try:
        return HistoryEntry._meta.db_table not in connections[alias].introspection.table_names()
    except DatabaseError:
        return False


def _is_in_memory(connection: Any) -> bool:
    # That of a test run usually is, and nothing is written to it.
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())
