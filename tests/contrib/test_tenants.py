"""`django_qbwi.contrib.tenants`: the tenant's schema in an item, and in no other one (G48)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from django_qbwi import queue_background_work_item
from django_qbwi.contrib import tenants
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.testing import immediate_work_items
from tests.intake import postgresql

PATIENCE = 30
ROOT = Path(__file__).resolve().parents[2]


class Connections:
    """One connection of django-tenants for each thread, without a database."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def __getitem__(self, alias: str) -> Any:
        assert alias == "default"
        return self.made.setdefault(threading.get_ident(), Connection())


class Connection:
    """What django-tenants adds to a connection."""

    def __init__(self) -> None:
        self.set_schema("public")

    def set_schema(self, schema_name: str, include_public: bool = True, tenant_type: str | None = None) -> None:
        """Set the schema of the queries to come."""
        self.schema_name = schema_name
        self.include_public_schema = include_public
        self.tenant = SimpleNamespace(get_tenant_type=lambda: tenant_type)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    """Have connections that know schemas, and one worker."""
    made = Connections()
    monkeypatch.setattr(tenants, "connections", made)
    with override_settings(
        QBWI={"CONTEXT": ["django_qbwi.contrib.tenants"], "MAX_WORKERS": 1}, HAS_MULTI_TYPE_TENANTS=True
    ):
        yield made


def run(item: Any) -> None:
    """Queue an item and wait for its end."""
    handle = queue_background_work_item(item)
    assert handle.wait(PATIENCE)
    assert handle.status == "succeeded", handle.info.error


def sync_item(call: Any) -> Any:
    """Return an item that calls it."""
    return lambda token: call() and None


def async_item(call: Any) -> Any:
    """Return an async item that calls it where its ORM calls run."""

    async def item(token: object) -> None:
        await sync_to_async(call)()

    return item


def returned_awaitable(call: Any) -> Any:
    """Return a plain function that returns an awaitable, which calls it where its ORM calls run."""
    return lambda token: async_item(call)(token)


MAKE = pytest.mark.parametrize("make", [sync_item, async_item, returned_awaitable])


@MAKE
def test_g48_schema_of_the_caller(connections: Connections, make: Any) -> None:
    """An item begins with the schema of its caller, with all that belongs to it; the next one with its own."""
    seen: list[Any] = []

    def look() -> None:
        found = connections["default"]
        seen.append((found.schema_name, found.include_public_schema, found.tenant.get_tenant_type()))
        found.set_schema("of the item")

    connections["default"].set_schema("t1", False, "shop")
    run(make(look))
    connections["default"].set_schema("public")
    run(make(look))
    connections["default"].set_schema("t2")
    run(make(look))
    assert seen == [("t1", False, "shop"), ("public", True, None), ("t2", True, None)]
    # Nor does anything stay on the threads in between.
    here = connections["default"]
    assert {found.schema_name for found in connections.made.values() if found is not here} <= {"public"}


@pytest.mark.parametrize("make", [sync_item, async_item])
def test_g48_item_at_the_call(connections: Connections, make: Any) -> None:
    """An item that runs at the call leaves its caller the schema that it had."""
    connections["default"].set_schema("t1")
    with immediate_work_items():
        run(make(lambda: connections["default"].set_schema("t2")))
    assert connections["default"].schema_name == "t1"


def test_g48_failing_item(connections: Connections) -> None:
    """An item that fails leaves no schema behind."""

    def fails(token: object) -> None:
        connections["default"].set_schema("t2")
        raise ValueError("no such album")

    assert queue_background_work_item(fails).wait(PATIENCE)
    assert {found.schema_name for found in connections.made.values()} == {"public"}


def test_g48_on_a_running_loop(connections: Connections) -> None:
    """On a running event loop the schema is not known: refused, with the cure."""

    async def view() -> None:
        queue_background_work_item(sync_item(lambda: None))

    with pytest.raises(InvalidWorkItem, match=r"await sync_to_async\(item.queue\)"):
        async_to_sync(view)()


def test_g48_other_engine() -> None:
    """A database that knows no schemas is refused, with the cure."""
    with (
        override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.tenants"]}),
        pytest.raises(ImproperlyConfigured, match=r"use django_tenants\.postgresql_backend"),
    ):
        queue_background_work_item(sync_item(lambda: None))
    assert not hasattr(connection, "set_schema")


@pytest.mark.slow
def test_g48_real_django_tenants() -> None:
    """With django-tenants on PostgreSQL, each item reads the rows of its caller's schema, on one worker."""
    pytest.importorskip("django_tenants", reason="django-tenants is not installed")
    if postgresql.binaries() is None:
        pytest.skip("there are no PostgreSQL binaries (initdb, pg_ctl) on this machine")
    with postgresql.running() as settings:
        command = [sys.executable, "-W", "error", "-m", "tests.contrib.tenants_program", json.dumps(settings)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    played = json.loads(result.stdout)
    for kind in ("sync", "async", "awaitable"):
        assert played[kind] == [["t1"], ["public"], ["t2"], ["t1"], ["public"]], kind
    assert played["without the carrier"] == ["t1"]
