"""The slots of the loop: how many each lane has, whose turn it is, and the threads for the sync code of the items.

Of these there is one for each item, lent while it runs, and used again; only the loop's thread lends and takes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.ports import Environment
from django_qbwi.machine.daemon_executor import DaemonExecutor

Adopted = tuple[Any, Context]
"""An awaitable that a sync item has returned, and the context in which it goes on."""

_MAX_IN_FLIGHT = 100
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


class LoopLane:
    """What one lane has of the loop.

    - No more of its items than it has slots are in flight, without those that are overdue.
    - Of these as many are counted apart.

    Lock: that of the scheduler.
    """

    __slots__ = ("adopted", "in_flight", "is_woken", "lane", "most", "overdue")

    def __init__(self, lane: Lane[WorkItem]) -> None:
        self.lane = lane
        self.most = lane.limits.running or _MAX_IN_FLIGHT
        self.in_flight: dict[WorkItem, None] = {}
        self.overdue: dict[WorkItem, None] = {}
        self.adopted: dict[WorkItem, Adopted] = {}
        """Items that go on here, and wait for a slot, ahead of those in the queue."""
        self.is_woken = False
        """Whether the loop is going to look at it."""

    def __repr__(self) -> str:
        return f"<LoopLane {self.lane.name} in_flight={len(self.in_flight)} adopted={len(self.adopted)}>"

    def give_up(self, item: WorkItem) -> bool:
        """Count an overdue item apart, so that another one has its slot; False if there were too many of those."""
        if item not in self.in_flight or len(self.overdue) >= self.most:
            return False
        self.overdue[item] = None
        return True

    def free(self, item: WorkItem) -> None:
        """Take the slot of an item that has ended."""
        self.in_flight.pop(item, None)
        if item in self.overdue:
            del self.overdue[item]
            # At the cap an overdue item kept its slot; it gives it up as soon as another one has ended.
            stuck = next((other for other in self.in_flight if other.run.overdue and other not in self.overdue), None)
            if stuck is not None:
                self.overdue[stuck] = None

    def is_stuck(self) -> bool:
        """Return whether all slots, and all that may be lost, have overdue items in them."""
        is_full = len(self.overdue) >= self.most and len(self.in_flight) - len(self.overdue) >= self.most
        return is_full and all(item.run.overdue for item in self.in_flight)


class LoopLanes:
    """All lanes that one loop serves, each in its turn; those in which nothing waits are not looked at.

    Lock: that of the scheduler.
    """

    __slots__ = ("_all", "_of_items", "_own", "_woken")

    def __init__(self, own: LoopLane) -> None:
        """Make it; `own` is always looked at."""
        self._own = own
        own.is_woken = True
        self._all = [own]
        # The next one first.
        self._woken = deque(self._all)
        # Of those in flight: an item that is to be tried again may be of another lane when its slot comes free.
        self._of_items: dict[WorkItem, LoopLane] = {}

    def __repr__(self) -> str:
        return f"<LoopLanes lanes={len(self._all)} woken={len(self._woken)} in_flight={len(self._of_items)}>"

    def add(self, lane: LoopLane) -> None:
        """Serve another lane, too; before the first item."""
        self._all.append(lane)

    def wake(self, lane: LoopLane) -> None:
        """Look at a lane from now on."""
        if not lane.is_woken:
            # Twice at worst, if it is interrupted in between.
            self._woken.append(lane)
            lane.is_woken = True

    def next(self) -> LoopLane | None:
        """Return the next lane in which something waits for a slot, and has one; None if there is none."""
        woken = self._woken
        for _ in range(len(woken)):
            lane = woken[0]
            is_next = (lane.adopted or lane.lane.queue) and len(lane.in_flight) - len(lane.overdue) < lane.most
            if is_next or lane is self._own:
                # One step: killed before or after it, no lane is lost.
                woken.rotate(-1)
            else:
                lane.is_woken = False
                woken.popleft()
            if is_next:
                return lane
        return None

    def enter(self, item: WorkItem, lane: LoopLane) -> None:
        """Give an item a slot of that lane."""
        self._of_items[item] = lane
        lane.in_flight[item] = None

    def free(self, item: WorkItem) -> bool:
        """Take the slot of an item that has ended; return whether anything of its lane waits for one."""
        lane = self._of_items.pop(item, self._own)
        lane.free(item)
        if lane.adopted or lane.lane.queue:
            self.wake(lane)
            return True
        return False

    def clear(self) -> list[Adopted]:
        """Take out what waits for a slot to go on, and return it."""
        left = [adopted for lane in self._all for adopted in lane.adopted.values()]
        for lane in self._all:
            lane.adopted.clear()
        return left
