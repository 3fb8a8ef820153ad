"""The system check: all hosts have to reach one database."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error
from django.db import connections, router

from django_qbwi.contrib.shared_registry.models import HostedProcess
from django_qbwi.lifecycle import servers


def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database that keeps nothing, or that each process has for itself."""
    alias = router.db_for_write(HostedProcess)
    connection = connections[alias]
    if connection.vendor == "unknown":
        problem = f"the database {alias!r} is not configured"
    elif _is_in_memory(connection) and servers.test_run(sys.argv) is None:
        problem = f"the database {alias!r} is in memory, and each process has one of its own"
    else:
        return []
    return [
        Error(
            f"The shared registry cannot be used: {problem}",
            hint="Give it, by a database router, one that all hosts reach, or take the app out of INSTALLED_APPS.",
            id="qbwi.E004",
        )
    ]


def _is_in_memory(connection: Any) -> bool:
    # That of a test run usually is, and nothing is written to it.
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())
