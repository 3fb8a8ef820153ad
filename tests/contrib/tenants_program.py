"""Items under the real django-tenants: which rows each of them reads. Takes the database's settings, prints JSON."""

import json
import sys
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings

PATIENCE = 60
QBWI = {"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}

settings.configure(
    SECRET_KEY="for the tests only",
    INSTALLED_APPS=["django.contrib.contenttypes", "django_qbwi"],
    DATABASES={"default": {**json.loads(sys.argv[1]), "ENGINE": "django_tenants.postgresql_backend"}},
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
    QBWI={**QBWI, "CONTEXT": ["django_qbwi.contrib.tenants"]},
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.db import connection, connections  # noqa: E402
from django.test import override_settings  # noqa: E402

from django_qbwi import queue_background_work_item  # noqa: E402
from django_qbwi.testing import drain  # noqa: E402


def make_schemas() -> None:
    """Make three schemas with one table each, whose one row has the name of its schema."""
    with connection.cursor() as cursor:
        for name in ("public", "t1", "t2"):
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
            cursor.execute(f"CREATE TABLE {name}.album (name text)")
            cursor.execute(f"INSERT INTO {name}.album VALUES ('{name}')")


def names() -> list[str]:
    """Read the rows of the current schema."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM album")
        return [row[0] for row in cursor.fetchall()]


def look_and_leave(seen: list[Any]) -> None:
    """Read the rows, and leave another schema behind."""
    seen.append(names())
    connection.set_schema("t2" if seen[-1] != ["t2"] else "t1")
    names()


def play(make: Any) -> list[Any]:
    """Run items with several callers' schemas, one after the other."""
    seen: list[Any] = []
    for schema in ("t1", "public", "t2", "t1", "public"):
        connection.set_schema(schema)
        handle = queue_background_work_item(make(lambda: look_and_leave(seen)))
        assert handle.wait(PATIENCE)
        assert handle.info.error is None, handle.info.error
        assert connection.schema_name == schema
    return seen


def async_item(call: Any) -> Any:
    """Return an async item that calls it where its ORM calls run."""

    async def item(token: Any) -> None:
        await sync_to_async(call)()

    return item


def without_the_carrier() -> list[str]:
    """Set a schema in an item, and read in the next one on that worker: what the carrier is for."""
    seen: list[Any] = []
    connection.set_schema("public")
    with override_settings(QBWI=QBWI):
        queue_background_work_item(lambda token: connection.set_schema("t1") or names()).wait(PATIENCE)
        queue_background_work_item(lambda token: seen.append(names())).wait(PATIENCE)
    found: list[str] = seen[0]
    return found


if __name__ == "__main__":
    make_schemas()
    result = {
        "sync": play(lambda call: lambda token: call()),
        "async": play(async_item),
        "awaitable": play(lambda call: lambda token: async_item(call)(token)),
        "without the carrier": without_the_carrier(),
    }
    assert drain(PATIENCE)
    connections.close_all()
    json.dump(result, sys.stdout)
