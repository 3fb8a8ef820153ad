"""Queries that do not outlive their item: `token.cancels_queries()`.

States of a block: entered -> (token cancelled) -> told, when OperationCancelled was raised -> left.
Lock: `_guard`, of each block, guards which connection is in a query, and who is about to end that one.

Order of events:
1. The thread of the block notes its connection, then looks at the token, then executes.
2. Whoever cancels sets the reason, then looks whether a connection is noted. So one of both sees the other.
3. A thread of its own tells the database, again and again until the query has left: what is told between the note and
   the execution finds nothing to end. Whoever cancels may be an event loop or the end of the process, and never waits.
4. The thread of the block goes on when that thread has ended, so that nothing which is under way hits the next query,
   or another user of a pooled connection. Where that takes too long, the connection is closed.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from types import TracebackType
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_qbwi.core.cancellation import CancellationRegistration, CancellationToken, OperationCancelled
from django_qbwi.core.queries import provide
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding, new_mailbox, new_rlock, start_thread
from django_qbwi.machine.running_loop import refuse_on_running_loop

logger = SafeLogger("django_qbwi.scheduler")

_LIMIT = 5.0
"""Seconds for which a database may take to hear of a cancellation."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two tries to end a query."""

_OF_TRANSACTIONS = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK")


class _Query:
    """One query that runs, as those who would end it see it."""

    __slots__ = ("connection", "ended", "ident", "left", "struck")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        # MySQL's driver refuses to tell another thread while a query runs.
        self.ident: int | None = connection.connection.thread_id() if connection.vendor == "mysql" else None
        self.struck = False
        """Whether a thread is there to end it."""
        self.left = new_mailbox()
        """Wakes that thread: the query is over. A mailbox, since a real thread waits, also where gevent is."""
        self.ended = new_mailbox()
        """Gets the last act of that thread."""


class QueryBlock:
    """Ends the queries of one thread when a token is cancelled; for one `with` statement."""

    def __init__(self, token: CancellationToken) -> None:
        self._token = token
        self._guard = new_rlock()
        self._query: _Query | None = None
        """The one that runs."""
        self._told = False
        self._wrappers = contextlib.ExitStack()
        self._sqlite: list[BaseDatabaseWrapper] = []
        self._registration: CancellationRegistration | None = None

    def __repr__(self) -> str:
        return f"<QueryBlock of {self._token!r}>"

    def __enter__(self) -> None:
        refuse_on_running_loop("token.cancels_queries()", "enter it in the function that sync_to_async runs")
        # Of all aliases, without connecting: which ones the code will use is not known yet.
        for connection in connections.all():
            if connection.vendor == "sqlite":
                self._sqlite.append(connection)
            self._wrappers.enter_context(connection.execute_wrapper(self._around))
        self._registration = self._token.register(self._cancel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._registration is not None:
                self._registration.close()
            # Behind it none of those who cancel looks at a connection of this thread any more.
            holding(self._guard, self._sqlite.clear)
        finally:
            self._wrappers.close()
        if isinstance(error, DatabaseError) and not self._told and self._was_ended(error):
            # Of rows that were fetched, behind their query.
            raise OperationCancelled(self._token) from error

    # In the thread of the block.

    def _around(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if self._told or (isinstance(sql, str) and sql.startswith(_OF_TRANSACTIONS)):
            return execute(sql, params, many, context)
        query = _Query(context["connection"])
        outer, self._query = self._query, query
        try:
            if self._token.is_cancellation_requested:
                raise self._telling()
            return execute(sql, params, many, context)
        except DatabaseError as error:
            if self._was_ended(error):
                raise self._telling() from error
            raise
        except OperationCancelled as error:
            # Of a block inside of this one.
            if error.token is self._token:
                self._told = True
            raise
        finally:
            if holding(self._guard, self._leave, query, outer):
                self._part_from(query)

    def _leave(self, query: _Query, outer: _Query | None) -> bool:
        self._query = outer
        query.left.put(None)
        return query.struck

    def _part_from(self, query: _Query) -> None:
        if not _came(query.ended, _LIMIT + 1):
            logger.warning(
                "The database %r took more than %g s to hear that a query is cancelled; its connection was closed",
                query.connection.alias,
                _LIMIT,
            )
            _close(query.connection)
            # In place of what came of the query, whose rows cannot be fetched any more.
            raise self._telling()

    def _telling(self) -> OperationCancelled:
        self._told = True
        return OperationCancelled(self._token)

    def _was_ended(self, error: DatabaseError) -> bool:
        return self._token.is_cancellation_requested and _is_cancellation(error)

    # In the thread that cancels, which must not wait.

    def _cancel(self) -> None:
        query = holding(self._guard, self._strike)
        if query is None:
            return
        try:
            start_thread(lambda: _end(query), "qbwi-cancel-query")
        except RuntimeError:
            # No thread is to be had. This one tells the database once: better late than not at all.
            query.left.put(None)
            _end(query)

    def _strike(self) -> _Query | None:
        for connection in self._sqlite:
            # A query whose rows are fetched one by one is not noted, and SQLite works for each row.
            _interrupt(connection)
        query = self._query
        if query is None or query.connection.vendor not in _ENDINGS:
            return None
        query.struck = True
        return query


def _end(query: _Query) -> None:
    """Tell the database of a query that runs to end it, until it has."""
    pause = _FIRST_PAUSE
    try:
        while True:
            _ENDINGS[query.connection.vendor](query)
            if _came(query.left, pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)
    except Exception:
        logger.warning(
            "A query on the database %r could not be cancelled; it goes on", query.connection.alias, exc_info=True
        )
    finally:
        query.ended.put(None)


def _came(mailbox: queue.SimpleQueue[None], seconds: float) -> bool:
    try:
        mailbox.get(timeout=seconds)
    except queue.Empty:
        return False
    return True


def _interrupt(connection: Any) -> None:
    database = connection.connection
    if database is not None:
        with contextlib.suppress(Exception):  # closed in this moment
            database.interrupt()


def _end_sqlite(query: _Query) -> None:
    _interrupt(query.connection)


def _end_postgresql(query: _Query) -> None:
    database: Any = query.connection.connection
    if hasattr(database, "cancel_safe"):
        database.cancel_safe(timeout=_LIMIT)  # psycopg 3.2
    else:
        database.cancel()


def _end_mysql(query: _Query) -> None:
    connection: Any = query.connection
    other = connection.get_new_connection({**connection.get_connection_params(), "connect_timeout": int(_LIMIT)})
    try:
        with contextlib.closing(other.cursor()) as cursor:
            cursor.execute("KILL QUERY %s", (query.ident,))
    finally:
        other.close()


_ENDINGS: dict[str, Callable[[_Query], None]] = {
    "postgresql": _end_postgresql,
    "mysql": _end_mysql,
    "sqlite": _end_sqlite,
}


def _is_cancellation(error: DatabaseError) -> bool:
    """Whether a database says that a query was ended from outside, in the words of its driver."""
    cause = error.__cause__
    codes = (
        getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None),
        getattr(cause, "sqlite_errorname", None),
        cause.args[0] if cause is not None and cause.args else None,
    )
    return codes[0] == "57014" or codes[1] == "SQLITE_INTERRUPT" or codes[2] == _MYSQL_INTERRUPTED


_MYSQL_INTERRUPTED = 1317


def _close(connection: Any) -> None:
    with contextlib.suppress(Exception):
        # Itself, which `close()` may leave open and give back to a pool.
        connection.connection.close()
    with contextlib.suppress(Exception):
        connection.close()


def provide_blocks() -> None:
    """Have the tokens of this process make such blocks."""
    provide(QueryBlock)
