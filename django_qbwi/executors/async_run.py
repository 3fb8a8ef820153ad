"""How one async item is run: a task of the loop, from its first step to its end.

The wrapping coroutine contains whatever user code raises. What its own lines raise ends the item as well, and
frees its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import Environment
from django_qbwi.core.results import waited_for
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.item_end import ItemEnd
from django_qbwi.executors.loop_slots import ItemExecutors
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")


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

    def __repr__(self) -> str:
        return f"<AsyncRuns in_flight={len(self.in_flight)}>"

    async def begin(self, item: WorkItem) -> None:
        """Run an item that was taken from the queue."""
        call = item.call
        await self._run(item, lambda: call.function(item.token, *call.args), begins=True)

    async def go_on(self, item: WorkItem, awaitable: Any) -> None:
        """Run the awaitable that a sync item has returned."""
        await self._run(item, lambda: waited_for(awaitable), begins=False)

    async def _run(self, item: WorkItem, call: Callable[[], Awaitable[Any]], *, begins: bool) -> None:
        # Before any user code: what leaves `run_forever` in an eager first step would otherwise be stored nowhere.
        self.in_flight[item] = asyncio.current_task()
        scheduler = self._scheduler
        try:
            self._begun(item)
            executor = self._executors.lend(item)
            async with self._environment.scope(executor):
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
                    error: BaseException | None = caught
                else:
                    error = None
                if os.getpid() != scheduler.pid:
                    return
                # They keep the arguments, and what was made of them, alive.
                call = result = None  # type: ignore[assignment]
                await self._end.areach(item, error, self._executors, executor)
                error = None
        except BaseException as error:
            # None of the item's code is above, but its surroundings are, and a task can be killed anywhere.
            if os.getpid() == scheduler.pid:
                self._end.rescue(item, error)
        finally:
            if os.getpid() == scheduler.pid:
                self._over(item)


def close(awaitable: Any) -> None:
    """Close an awaitable that will not be awaited, if it has anything to close; never raises."""
    with contextlib.suppress(Exception):
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()
