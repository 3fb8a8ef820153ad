"""Database connections around an item, at no cost without one.

It is what Django does around a request (`close_old_connections`, `reset_queries`).
A receiver of `connection_created` notes each connection in the thread that opened it; only those are looked at, until
they are closed. Where none is open that is 0.1 microseconds, with the same guarantee as to ask for the connections of
all aliases, which takes 15.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import asgiref
from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")


class _Thread(threading.local):
    opened: tuple[BaseDatabaseWrapper, ...] = ()
    """The connections that were opened in this thread, and may still be open, or keep the text of queries."""
    environment: ConnectionEnvironment | None = None
    """That of the items of this thread."""


thread_state = _Thread()

_TAKES_EXECUTOR = tuple(int(part) for part in asgiref.__version__.split(".")[:2]) >= (3, 13)


class ConnectionEnvironment:
    """Surrounds items with connection hygiene, and async ones with a thread-sensitive context of their own."""

    def __init__(self, shares_memory: Callable[[str], None] = lambda alias: None) -> None:
        """Make it for one scheduler.

        Args:
            shares_memory: Called, in a thread of items, when it connects to the in-memory SQLite database of tests.
        """
        self._shares_memory = shares_memory
        self.keeps_connections = True
        """Whether one may live from one item to the next."""
        self.hints_at_tests = False
        """Whether `shares_memory` is called at all."""
        connection_created.connect(_mark_thread, dispatch_uid="django_qbwi.connections")

    def __repr__(self) -> str:
        return "<ConnectionEnvironment>"

    def before(self) -> None:
        """Close connections of this thread that are too old or unusable, as at the start of a request."""
        thread_state.environment = self
        if thread_state.opened:
            self._close_old()

    def after(self) -> None:
        """The same, as at the end of a request; a transaction that an item left open is rolled back."""
        if thread_state.opened:
            self._close_old()

    def repair(self) -> None:
        """Close connections of this thread that were lost, in the middle of a request; the next query opens others.

        One with an open transaction stays: what was done in it is lost, and whoever has begun it has to learn of that.
        """
        for connection in thread_state.opened:
            if connection.errors_occurred and not connection.in_atomic_block and not connection.is_usable():
                _discard(connection)

    def thread_ended(self) -> None:
        """Close all connections of this thread."""
        for connection in thread_state.opened:
            _discard(connection)
        thread_state.opened = ()

    def connected(self, connection: BaseDatabaseWrapper) -> None:
        """Take notice of a connection of an item."""
        if self.hints_at_tests and connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
            self._shares_memory(connection.alias)

    def scope(self, executor: ThreadPoolExecutor) -> AbstractAsyncContextManager[Any]:
        """Return a ThreadSensitiveContext whose thread is that of `executor`: ours, and a daemon.

        Without one of their own, all async items would take turns in one thread for their ORM calls.
        """
        if _TAKES_EXECUTOR:
            return ThreadSensitiveContext(executor=executor)
        return _OldThreadSensitiveContext(executor)

    def _close_old(self) -> None:
        for connection in thread_state.opened:
            try:
                # With DEBUG, Django keeps the text of each query until the next request begins, and none does here.
                connection.queries_log.clear()
                if not self.keeps_connections:
                    _discard(connection)
                elif connection.in_atomic_block:
                    # Rolled back before it is told: a handler of the log may write to the same database.
                    _discard(connection)
                    logger.warning(
                        "A work item left a transaction open on the database connection %r; it was rolled back",
                        connection.alias,
                    )
                    connections[connection.alias].close_if_unusable_or_obsolete()
                else:
                    connection.close_if_unusable_or_obsolete()
            except Exception:
                _discard(connection)
                logger.exception("Closing the database connection %r failed; it was replaced", connection.alias)
        # With those that a handler of these records has opened.
        thread_state.opened = _to_look_at()


class _OldThreadSensitiveContext(ThreadSensitiveContext):
    """For asgiref before 3.13, which takes no executor, and shuts down the one it has."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        super().__init__()
        self._qbwi_executor = executor

    async def __aenter__(self) -> Any:
        await super().__aenter__()  # type: ignore[no-untyped-call]
        SyncToAsync.context_to_thread_executor[self] = self._qbwi_executor
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        # It is not asgiref's to shut down: an item that runs at the call may use the one of the whole process.
        SyncToAsync.context_to_thread_executor.pop(self, None)
        await super().__aexit__(*exc_info)  # type: ignore[no-untyped-call]


def in_test_transaction(alias: str | None = None) -> bool:
    """True if a connection of this thread is inside the transaction that a TestCase rolls back at its end.

    Args:
        alias: Which one is looked at, None for any.
    """
    for connection in connections.all(initialized_only=True):
        if alias is not None and connection.alias != alias:
            continue
        blocks = getattr(connection, "atomic_blocks", ())
        if connection.in_atomic_block and blocks and getattr(blocks[0], "_from_testcase", False):
            return True
    return False


def open_transaction() -> str | None:
    """Return the alias of a connection of this thread with an open `atomic` block, a TestCase's own not counted.

    Costs next to nothing in a thread that never opened a connection.
    """
    for connection in thread_state.opened:
        if connection.in_atomic_block and not all(
            getattr(block, "_from_testcase", False) for block in connection.atomic_blocks
        ):
            return connection.alias
    return None


def _mark_thread(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if connection not in thread_state.opened:
        thread_state.opened = (*_to_look_at(), connection)
    if thread_state.environment is not None:
        thread_state.environment.connected(connection)


def _to_look_at() -> tuple[BaseDatabaseWrapper, ...]:
    return tuple(
        connection for connection in thread_state.opened if connection.connection is not None or connection.queries_log
    )


def _discard(connection: BaseDatabaseWrapper) -> None:
    """Close a connection in whatever state it is, and have Django make a new one for this thread when needed."""
    try:
        connection.close()
        # In-memory SQLite databases ignore close(), and stay in a block that was never left.
        if connection.connection is not None:
            connection.connection.close()
            connection.connection = None
    except Exception:
        logger.debug("Closing the database connection %r failed", connection.alias, exc_info=True)
    if connection.in_atomic_block:
        del connections[connection.alias]
