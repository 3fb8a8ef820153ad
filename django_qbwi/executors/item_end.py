"""The end of an item's run: one order of steps, for threads and for the loop.

Status, connections closed, record, signal, waiters wake, out of the registry. Each step is taken whatever the one
before it has raised, so that nothing stands between the end of a run and those who wait for it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from django_qbwi.core.attempts import failed_attempt
from django_qbwi.core.failures import is_a
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.loop_slots import ItemExecutors
from django_qbwi.machine.daemon_executor import DaemonExecutor
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")


class ItemEnd:
    """Brings runs to their end, for one scheduler.

    - Whoever decides the status tells of it, and settles the item; for anybody else it has ended late.
    - `clean_up` closes the connections of the item; it is called again where a handler of the log or a receiver may
      have opened one.
    """

    __slots__ = ("_scheduler",)

    def __init__(self, scheduler: WorkItemScheduler) -> None:
        self._scheduler = scheduler

    def __repr__(self) -> str:
        return f"<ItemEnd {self._scheduler!r}>"

    def reach(self, item: WorkItem, error: BaseException | None, clean_up: Callable[[], object]) -> None:
        """End `item`, which has raised `error` or nothing, in the thread that ran it."""
        scheduler = self._scheduler
        observer = scheduler.observer
        decided = scheduler.conclude(item, error)
        # It would keep the frames of a failure alive.
        del error
        if decided and not observer.follows and not observer.writes_end(item):
            # The same steps, where nobody reads nor hears of it: most items.
            run = item.last_run or item.run
            run.told, run.context = True, None
            try:
                clean_up()
            finally:
                try:
                    observer.finished(item)
                finally:
                    scheduler.settle(item)
            return
        record = self._record_of(item, decided)
        try:
            try:
                clean_up()
            finally:
                if record is not None:
                    record()
        finally:
            try:
                if decided:
                    observer.finished(item)
                elif _is_tried_again(item):
                    observer.retried(item)
                if record is not None or observer.follows:
                    clean_up()
            finally:
                self._leave(item, decided)

    async def areach(
        self, item: WorkItem, error: BaseException | None, executors: ItemExecutors, executor: DaemonExecutor
    ) -> None:
        """End `item` in its task, on the loop; its `executor` goes back to the others before anybody hears of it."""
        scheduler = self._scheduler
        observer = scheduler.observer
        decided = scheduler.conclude(item, error)
        del error
        clean = True
        record = self._record_of(item, decided)
        try:
            try:
                if executor.touched:
                    clean = await executors.clean_up(executor)
            finally:
                if record is not None:
                    await executors.write(record)
        finally:
            try:
                if decided:
                    if observer.follows:
                        await self._tell(item)
                        if clean and executor.touched:
                            # A receiver may have opened a connection.
                            clean = await executors.clean_up(executor)
                    else:
                        observer.finished(item)
                elif _is_tried_again(item):
                    observer.retried(item)
            finally:
                executors.take_back(item, clean)
                if decided or item.ending is not None:
                    self._leave(item, decided)

    def rescue(self, item: WorkItem, error: BaseException) -> None:
        """End `item`, whose run was left by an error between its steps, with what it has not had of them.

        What the registry and the run say counts, never a variable of whoever was struck. It may be called again.
        """
        if not is_a(error, asyncio.CancelledError):
            logger.error("The run of %s was left by %r", item.name, error)
        scheduler, run = self._scheduler, item.run
        if not scheduler.conclude(item, error) and (item.ending is None or item.status is WorkItemStatus.ABANDONED):
            # It is told of, and settled, by whoever has given it up, or moves its rest; or it is tried again.
            return
        try:
            if not run.told:
                run.told = True
                run.context = None
                scheduler.tell_end(item)
        finally:
            scheduler.settle(item)

    def _record_of(self, item: WorkItem, decided: bool) -> Callable[[], object] | None:
        """Return what writes the record of an end, None where there is none; from here on it is told of."""
        run, observer = item.last_run or item.run, self._scheduler.observer
        context, run.context = run.context, None
        if decided:
            run.told = True
            if not observer.writes_end(item):
                return None
            record = functools.partial(observer.record_end, item)
        elif _is_tried_again(item):
            record = functools.partial(observer.record_retry, item)
        else:
            return None
        # With the ids of the request and of the trace, which its carriers had restored.
        return record if context is None else functools.partial(context.run, record)

    async def _tell(self, item: WorkItem) -> None:
        try:
            await self._scheduler.observer.afinished(item)
        except BaseException as error:
            # A receiver, or a native cancel that came too late; the item has its status already.
            logger.debug("Telling the end of %s was interrupted by %r", item.name, error)

    def _leave(self, item: WorkItem, decided: bool) -> None:
        if decided:
            self._scheduler.settle(item)
        else:
            self._scheduler.late(item)


def _is_tried_again(item: WorkItem) -> bool:
    """Return whether the run of an item has failed, and another attempt is planned."""
    return item.options.retry is not None and item.ending is None and failed_attempt(item) is not None
