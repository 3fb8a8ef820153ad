"""The tenant's schema in an item: QBWI = {"CONTEXT": ["django_qbwi.contrib.tenants"]}, for django-tenants.

django-tenants keeps the schema on the database connection, and its middleware sets it for each request. Nothing sets it
for an item: `connection.set_schema("t1")` in one would be there for the next one on the same thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.intake.reading import on_running_loop

Schema = tuple[str, bool, "str | None"]
"""Name, whether the public schema is searched too, and the type of the tenant where there are several."""


class TenantsCarrier:
    """Takes the schema along, by its name.

    - Every item begins with the schema that was set where it was queued: the one of the request's tenant, or public.
    - Afterwards the connection has the schema that it had before, whatever the item has set.
    - In an async item that holds for its thread-sensitive code (the ORM, `sync_to_async`), not for `asyncio.to_thread`.
    - `connection.tenant` is no model instance in an item; fetch it where it is needed.
    """

    def capture(self) -> Schema:
        """Return the schema of the caller's connection.

        Raises:
            InvalidWorkItem: Called on a running event loop, whose thread has a connection that no middleware has set.
        """
        if on_running_loop():
            raise InvalidWorkItem(
                "the tenant's schema is not known on a running event loop, whose thread has another connection than "
                "the ORM: queue by `await sync_to_async(item.queue)(...)`"
            )
        return _schema_of(_connection())

    @contextlib.contextmanager
    def restore(self, captured: Schema, /) -> Iterator[None]:
        """Have the schema set on the connection of this thread, for the time of the item."""
        before = _schema_of(_connection())
        _set(captured)
        try:
            yield
        finally:
            _set(before)

    @contextlib.asynccontextmanager
    async def arestore(self, captured: Schema, /) -> AsyncIterator[None]:
        """The same for an async item, in the thread of its ORM calls."""
        before = await sync_to_async(_change)(captured)
        try:
            yield
        finally:
            await sync_to_async(_set)(before)


def _change(schema: Schema) -> Schema:
    before = _schema_of(_connection())
    _set(schema)
    return before


def _connection() -> Any:
    connection: Any = connections[getattr(settings, "TENANT_DB_ALIAS", DEFAULT_DB_ALIAS)]
    if not hasattr(connection, "set_schema"):
        raise ImproperlyConfigured(
            f"django_qbwi.contrib.tenants: the database {connection.alias!r} has ENGINE "
            f"{connection.settings_dict['ENGINE']!r}, which knows no schemas; use django_tenants.postgresql_backend"
        )
    return connection


def _schema_of(connection: Any) -> Schema:
    tenant_type = connection.tenant.get_tenant_type() if getattr(settings, "HAS_MULTI_TYPE_TENANTS", False) else None
    return connection.schema_name, connection.include_public_schema, tenant_type


def _set(schema: Schema) -> None:
    connection = _connection()
    if _schema_of(connection) != schema:
        # It clears the cache of content types, so not without need.
        name, include_public, tenant_type = schema
        connection.set_schema(name, include_public, tenant_type)


Carrier = TenantsCarrier
