"""The system check: all hosts have to reach one database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error
from django.db import connections, router

from django_qbwi.contrib.shared_registry.models import HostedProcess


def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database that keeps nothing, or that each process has for itself."""
    alias = router.db_for_write(HostedProcess)
    connection = connections[alias]
    if connection.vendor == "unknown":
        problem = f"the database {alias!r} is not configured"
    elif connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
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
