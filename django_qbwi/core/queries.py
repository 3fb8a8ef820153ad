"""What a token offers to code with a database: the core knows none, so that whoever does puts it here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

_makers: list[Callable[[Any], AbstractContextManager[None]]] = []


def provide(maker: Callable[[Any], AbstractContextManager[None]]) -> None:
    """Have `maker` make the blocks of all tokens of this process."""
    _makers[:] = [maker]


class CancelsQueries:
    """The part of a token that ends queries."""

    __slots__ = ()

    def cancels_queries(self) -> AbstractContextManager[None]:
        """Return a block in which the token's cancellation ends the query of this thread, by OperationCancelled.

        It ends the query that runs, or refuses the next one, once: what the code does about it, such as to roll back or
        to note where it stands, has its queries again. The connection stays usable. Each thread has its own block;
        the function that an async item gives to `sync_to_async` enters one.

        Queries of Django's own connections are meant, of all aliases: on PostgreSQL, SQLite and MySQL those that run
        are ended; on others the next one is refused. Never blocks at the beginning; at the end for the time that the
        database takes to hear of it.

        Raises:
            RuntimeError: This thread runs an event loop, or Django's apps are not loaded.
        """
        if not _makers:
            raise RuntimeError(
                "token.cancels_queries() works when Django's apps are loaded: call django.setup() before"
            )
        return _makers[0](self)
