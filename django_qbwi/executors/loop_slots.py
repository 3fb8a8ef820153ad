"""The threads for the sync code of async items: one for each item, lent while it runs, and used again.

Only the loop's thread lends and takes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextvars import copy_context

from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import Environment
from django_qbwi.machine.daemon_executor import DaemonExecutor

_MAX_SPARE = 8
_CLEANUP_SECONDS = 0.5
_CLEANUP_TURN = 0.1


class ItemExecutors:
    """Lends each async item a thread-sensitive executor of its own; its thread starts with the first call.

    Invariant: an executor is lent to one item, or spare, or retired; the shared one is the exception.
    """

    def __init__(self, environment: Environment, is_closed: Callable[[], bool]) -> None:
        """Make it for one loop; `is_closed` tells whether the process ends now."""
        self.spare: list[DaemonExecutor] = []
        self.lent: dict[WorkItem, DaemonExecutor] = {}
        self.shared: DaemonExecutor | None = None
        """For all, once no thread can be started any more; made by `prestart` only."""
        self.records = DaemonExecutor(
            1, "qbwi-records", environment.thread_ended, before=environment.before, after=environment.after
        )
        """Writes the records of ends: the event loop neither waits for a handler nor may it use the ORM."""
        self._environment = environment
        self._is_closed = is_closed

    def __repr__(self) -> str:
        return f"<ItemExecutors lent={len(self.lent)} spare={len(self.spare)}>"

    def prestart(self) -> None:
        """Start what an item at the end of the process may need, where threads cannot be started late.

        Raises:
            RuntimeError: No thread could be started.
        """
        # Kept before they are started: a start that a signal handler's exception interrupts is tried again.
        if not self.spare:
            self.spare.append(self._new())
        self.spare[0].prestart()
        if self.shared is None:
            self.shared = self._new()
        self.shared.prestart()
        self.records.prestart()

    def lend(self, item: WorkItem) -> DaemonExecutor:
        """Return an executor for an item that begins."""
        if self.spare:
            executor = self.spare.pop()
            executor.touched = False
        else:
            executor = self._new()
            if self.shared is not None:
                try:
                    executor.prestart()
                except RuntimeError:
                    # The interpreter is exiting. Taking turns in one thread is better than to fail at the first call.
                    executor = self.shared
        self.lent[item] = executor
        executor.owner = item
        return executor

    def take_back(self, item: WorkItem, clean: bool) -> None:
        """Keep the executor of an item that has ended, if it is `clean`, or let its thread end."""
        executor = self.lent.pop(item)
        executor.owner = None
        if executor is self.shared:
            return
        if clean and len(self.spare) < _MAX_SPARE:
            self.spare.append(executor)
        else:
            executor.retire()

    async def write(self, record: Callable[[], object]) -> None:
        """Have the record of an item's end written in a thread, where a handler of the log may use the database.

        Where no thread can be had any more, or the one for records is behind at the very end, it is written here.
        """
        try:
            submitted = self.records.submit(copy_context().run, record)
        except RuntimeError:
            record()
            return
        written = asyncio.wrap_future(submitted)
        while not written.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({written}, timeout=_CLEANUP_TURN)
            if self._is_closed() and submitted.cancel():
                record()
                return
        # Looked at, so that nobody complains of what a record has raised.
        written.exception()

    async def clean_up(self, executor: DaemonExecutor) -> bool:
        """Clean up behind an item in its executor's thread; False if a stuck call is in the way.

        The connections of the async ORM live in that thread. The call waits behind a stuck one, so not for long.
        """
        cleanup = asyncio.wrap_future(executor.submit(self._environment.after))
        limit = time.monotonic() + _CLEANUP_SECONDS
        while not cleanup.done() and (left := limit - time.monotonic()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({cleanup}, timeout=min(left, _CLEANUP_TURN))
            if self._is_closed():
                # The process ends now, and with it the connection; the item's record shall still come out.
                break
        if cleanup.done() and not cleanup.cancelled():
            cleanup.exception()
            return True
        return False

    def all(self) -> list[DaemonExecutor]:
        """Return all that there are, for their end."""
        return [*self.spare, *self.lent.values(), *([] if self.shared is None else [self.shared]), self.records]

    def _new(self) -> DaemonExecutor:
        # A thread that was parked for a while may hold a connection that has grown too old; `before` sees to it when
        # an item uses the thread, at no cost for an item that does not.
        environment = self._environment
        return DaemonExecutor(1, "qbwi-item-executor", environment.thread_ended, before=environment.before)
