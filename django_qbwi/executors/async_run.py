"""How one async item is run: a task of the loop, from its first step to its end.

The wrapping coroutine contains whatever user code raises. What its own lines raise ends the item as well, and
frees its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from django_qbwi.core.failures import is_a
from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import Environment
from django_qbwi.core.results import waited_for
from django_qbwi.core.runs import Run
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.item_end import ItemEnd
from django_qbwi.executors.loop_slots import ItemExecutors
from django_qbwi.machine.daemon_executor import DaemonExecutor
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")

_IGNORED = "coroutine ignored GeneratorExit"
"""What the interpreter raises where a coroutine awaits while it is closed."""


class AsyncRuns:
    """Makes the coroutines that run items on one loop, and knows the task of each.

    Only the loop's thread changes `in_flight`; the scheduler's lock guards it where its length counts.
    """

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        environment: Environment,
        executors: ItemExecutors,
        *,
        begun: Callable[[WorkItem], object],
        over: Callable[[WorkItem], object],
    ) -> None:
        """Make it.

        Args:
            scheduler: Whose items they are.
            environment: What surrounds each of them.
            executors: Those that are lent to items, for their sync code.
            begun: Called with each item, in its task, before its code.
            over: Called with each item when its slot is free.
        """
        self.in_flight: dict[WorkItem, asyncio.Task[Any] | None] = {}
        self._scheduler = scheduler
        self._environment = environment
        self._executors = executors
        self._begun = begun
        self._over = over
        self._end = ItemEnd(scheduler)
        self._context = Context()

    def __repr__(self) -> str:
        return f"<AsyncRuns in_flight={len(self.in_flight)}>"

    def start(self, item: WorkItem, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        """Start an item, by one of the coroutines below, as a task of its own on the running loop."""
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 12):  # pragma: no branch - each version has its own
            task = asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
        else:  # pragma: no cover - Python 3.11 has no eager tasks
            task = loop.create_task(coroutine, context=context)
        if item in self.in_flight:
            # The net below the run; one that has ended in its first step needs none.
            task.add_done_callback(functools.partial(self._catch, item, item.last_run), context=self._context)

    def _catch(self, item: WorkItem, run: Run | None, task: asyncio.Task[None]) -> None:
        # Behind a failed attempt the next one may be in flight already, and not have its task yet.
        if item in self.in_flight and item.last_run is run:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self.net(item, RuntimeError("its task has ended without it") if error is None else error)

    async def begin(self, item: WorkItem) -> None:
        """Run an item that was taken from the queue."""
        function, args = item.work
        await self._run(item, lambda: function(item.token, *args), begins=True)

    async def go_on(self, item: WorkItem, awaitable: Any) -> None:
        """Run the awaitable that a sync item has returned."""
        await self._run(item, lambda: waited_for(awaitable), begins=False)

    async def _run(self, item: WorkItem, call: Callable[[], Awaitable[Any]], *, begins: bool) -> None:
        # Before any user code: what leaves `run_forever` in an eager first step would otherwise be stored nowhere.
        self.in_flight[item] = asyncio.current_task()
        goes_on = False
        try:
            self._begun(item)
            executor = self._executors.lend(item)
            async with self._environment.scope(executor):
                error = await self._call(item, call, begins=begins)
                if not self._scheduler.process.is_here():
                    return
                # It keeps the arguments alive.
                del call
                if error is not None and _may_be_closing(error):
                    goes_on = self._end_apart(item, error, executor)
                else:
                    await self._end.areach(item, error, self._executors, executor)
                error = None
        except BaseException as error:
            # None of the item's code is above, but its surroundings are, and a task can be killed anywhere.
            self._rescue(item, error)
        finally:
            if not goes_on:
                self._leave(item)

    async def _call(self, item: WorkItem, call: Callable[[], Awaitable[Any]], *, begins: bool) -> BaseException | None:
        """Run the item's code; return what it has raised."""
        scheduler = self._scheduler
        try:
            if begins:
                scheduler.begin(item)
                if scheduler.observer.follows:
                    await scheduler.observer.astarted(item)
                else:
                    scheduler.observer.started(item)
            result = await call()
            if result is not None:
                await waited_for(result)
        except BaseException as caught:
            # User code returns to us here; an uncaught SystemExit would end the loop and all its items.
            return caught
        return None

    def _end_apart(self, item: WorkItem, error: BaseException, executor: DaemonExecutor) -> bool:
        """Have the item ended by another task, since this one may not await any more."""
        if item not in self.in_flight:
            # Closed when it was dropped: the net was there first.
            return False
        self.in_flight[item] = asyncio.get_running_loop().create_task(self._end_in_task(item, error, executor))
        return True

    async def _end_in_task(self, item: WorkItem, error: BaseException | None, executor: DaemonExecutor) -> None:
        try:
            async with self._environment.scope(executor):
                await self._end.areach(item, error, self._executors, executor)
            error = None
        except BaseException as left:
            self._rescue(item, left)
        finally:
            self._leave(item)

    def net(self, item: WorkItem, error: BaseException) -> None:
        """End an item whose task has ended without ending it, killed where nothing above could catch it."""
        running = self.in_flight.get(item)
        if item in self.in_flight and (running is None or running.done()):
            self._rescue(item, error)
            self._leave(item)

    def _rescue(self, item: WorkItem, error: BaseException) -> None:
        if self._scheduler.process.is_here():
            self._end.rescue(item, error)

    def _leave(self, item: WorkItem) -> None:
        if self._scheduler.process.is_here():
            if item in self._executors.lent:
                # Left before it was given back; nobody knows in which state it is.
                self._executors.take_back(item, clean=False)
            self._over(item)
            if item.ending is None and item.options.retry is not None:
                # The last step: from here on it is in nobody's hands.
                self._scheduler.late(item)


def _may_be_closing(error: BaseException) -> bool:
    """Return whether this coroutine may be one that is being closed, in which every `await` fails.

    A future that fails with GeneratorExit does that: the interpreter does not throw it into the coroutines that await
    one another, but closes them from the outermost on.
    """
    return is_a(error, GeneratorExit) or (is_a(error, RuntimeError) and error.args == (_IGNORED,))


def close(awaitable: Any) -> None:
    """Close an awaitable that will not be awaited, if it has anything to close; never raises."""
    with contextlib.suppress(Exception):
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()
