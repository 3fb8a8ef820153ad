"""The signals of django_qbwi and, beside them, the observer that sends them and writes the log records.

- `work_item_queued`, `work_item_rejected`: in the caller's thread. On a running event loop their async receivers are
  scheduled on that loop's background sibling, ours.
- `work_item_started`, `work_item_finished`: in the worker's thread for sync items, by `asend_robust` in the item's
  context for async ones. `work_item_retried`: in the same places, where its async receivers are scheduled.
- All five have the argument `info`, a `WorkItemInfo`; the sender is `WorkItemInfo`. `work_item_retried` has `error`, a
  `WorkItemError`, and `seconds` until the next attempt, too.
- `drain_started` (`sign`, `queued`, `running`, `limit`) and `drain_finished` (`finished`, `cancelled`,
  `abandoned`, `discarded`, `handed_off`, `elapsed`): in the thread that reports the drain; the sender is
  `WorkItemScheduler`.
- `work_items_lost` (`items`, a tuple of `LostItem`): where QBWI["CRASH_REPORT"] is read; the sender is `LostItem`.

A receiver that raises is logged by Django; it cannot change an outcome. Without receivers a signal costs next to
nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from django.dispatch import Signal

from django_qbwi.core.attempts import failed_attempt
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.failures import traceback_of
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemInfo, WorkItemStatus
from django_qbwi.core.runs import Ending
from django_qbwi.delivery import adeliver, deliver, deliver_from_item
from django_qbwi.machine.loggers import SafeLogger

work_item_queued = Signal()
work_item_started = Signal()
work_item_retried = Signal()
work_item_finished = Signal()
work_item_rejected = Signal()
drain_started = Signal()
drain_finished = Signal()
work_items_lost = Signal()

scheduler_logger = SafeLogger("django_qbwi.scheduler")
lifecycle_logger = SafeLogger("django_qbwi.lifecycle")
inspection_logger = SafeLogger("django_qbwi.inspection")

# On the path of every item; an adapter would add a call to it.
_is_enabled_for = scheduler_logger.logger.isEnabledFor
# A member is looked up by Python code before 3.12.
_SUCCEEDED = WorkItemStatus.SUCCEEDED
_FORMAT = "Work item id=%s name=%s status=%s elapsed=%.3fs"
_FORMAT_WITH_STACK = f"{_FORMAT}. It is at:\n%s"
_RETRY_FORMAT = "Work item id=%s name=%s attempt=%d failed elapsed=%.3fs: the next one follows in %.1fs"
_FORMAT_WITH_REASON = f"{_FORMAT}: %s"
_OVERDUE_WARNING_EVERY = 60.0
_KEPT = frozenset(
    {WorkItemStatus.FAILED, WorkItemStatus.ABANDONED, WorkItemStatus.DISCARDED, WorkItemStatus.HANDED_OFF}
)

Keep = Callable[[WorkItem, str | None, str | None], object]
"""Takes an item that has ended, its stack if it still runs, and why it did not run; it blocks and raises never."""


class SignalsAndRecords:
    """Tells the world of items: one record and one signal for each event. No method raises an `Exception`."""

    def __init__(
        self, schedule: Callable[[Coroutine[Any, Any, Any]], None] | None = None, keep: Keep | None = None
    ) -> None:
        """Make it; `keep` is told of each item that ended badly, or moved, before its record is written."""
        self.schedule = schedule
        """Starts a coroutine on the background loop."""
        self._keep = keep
        self._next_stall_warning = 0.0

    def __repr__(self) -> str:
        return "<SignalsAndRecords>"

    def tell_of_the_lost(self) -> None:
        """Do nothing: nobody has noted any."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    @property
    def announces(self) -> bool:
        """Whether anybody listens to queued items."""
        return True if work_item_queued.receivers else _is_enabled_for(logging.DEBUG)

    @property
    def follows(self) -> bool:
        """Whether anybody has to be told on the event loop of an async item."""
        return bool(work_item_started.receivers or work_item_finished.receivers)

    def queued(self, item: WorkItem) -> None:
        """Record and send `work_item_queued`."""
        self._record(logging.DEBUG, item)
        self._send(work_item_queued, item)

    def rejected(self, item: WorkItem, error: Exception) -> None:
        """Record and send `work_item_rejected`."""
        scheduler_logger.warning("Work item name=%s rejected: %s", item.name, error, extra=_extra(item))
        self._send(work_item_rejected, item)

    def started(self, item: WorkItem) -> None:
        """Record and send `work_item_started`."""
        if _is_enabled_for(logging.DEBUG):
            self._record(logging.DEBUG, item)
        if work_item_started.receivers:
            self._send_from_item(work_item_started, item)

    def writes_end(self, item: WorkItem) -> bool:
        """Tell whether the end of `item` is worth a record at the level of the logger."""
        ending = item.ending
        quiet = ending is not None and ending.status is _SUCCEEDED and ending.reason is None
        return not quiet or _is_enabled_for(logging.INFO)

    def finished(self, item: WorkItem) -> None:
        """Send `work_item_finished`."""
        if work_item_finished.receivers:
            self._send_from_item(work_item_finished, item)

    async def astarted(self, item: WorkItem) -> None:
        """Record and send `work_item_started` on the loop."""
        self._record(logging.DEBUG, item)
        if work_item_started.receivers:
            await self._asend(work_item_started, item)

    async def afinished(self, item: WorkItem) -> None:
        """Send `work_item_finished` on the loop."""
        if work_item_finished.receivers:
            await self._asend(work_item_finished, item)

    def late(self, item: WorkItem) -> None:
        """Record that an abandoned item has ended; its status stands."""
        scheduler_logger.debug(
            "Work item id=%s name=%s ended after it was %s", item.id, item.name, item.status, extra=_extra(item)
        )

    def overdue(self, item: WorkItem, stack: str, replaced: bool) -> None:
        """Record an overdue item with its stack, once; and that too many of them stand in the way."""
        scheduler_logger.warning(
            "Work item id=%s name=%s is overdue: running for %.1fs, its timeout is %ss. It is at:\n%s",
            item.id,
            item.name,
            item.elapsed,
            item.timeout,
            stack,
            extra=_extra(item),
        )
        now = time.monotonic()
        if not replaced and now >= self._next_stall_warning:
            self._next_stall_warning = now + _OVERDUE_WARNING_EVERY
            scheduler_logger.warning(
                "Overdue work items hold all the workers they may, and get no further replacement: queued items wait"
            )

    def _record(self, level: int, item: WorkItem, **options: Any) -> bool:
        if not _is_enabled_for(level):
            return True
        return scheduler_logger.try_log(
            level, _FORMAT, item.id, item.name, item.status, item.elapsed, extra=_extra(item), **options
        )

    def record_end(self, item: WorkItem) -> None:
        """Record how `item` ended."""
        status = item.status
        stack = self._stack_of(item) if status is WorkItemStatus.ABANDONED else None
        if self._keep is not None and status in _KEPT:
            # Before the record: a handler of the log may be stuck.
            self._keep(item, stack, _why(item))
        if status is WorkItemStatus.FAILED:
            if not self._record(logging.ERROR, item, exc_info=_exc_info(item.ending)):
                # A handler without logging's own safety net met an exception whose __str__ raises.
                self._record(logging.ERROR, item)
        elif stack is not None:
            how = (item.id, item.name, item.status, item.elapsed, stack)
            scheduler_logger.error(_FORMAT_WITH_STACK, *how, extra=_extra(item))
        elif status is WorkItemStatus.ABANDONED:
            self._record_without_start(item, WorkItemStatus.DISCARDED)
        elif status is WorkItemStatus.DISCARDED or status is WorkItemStatus.HANDED_OFF:
            self._record_without_start(item, status)
        elif item.cancel_reason is CancelReason.TIMEOUT or (
            item.cancel_reason is CancelReason.SHUTDOWN and status is WorkItemStatus.CANCELLED
        ):
            self._record(logging.WARNING, item)
        else:
            self._record(logging.INFO, item)

    def record_retry(self, item: WorkItem) -> None:
        """Record an attempt that has failed, and is followed by another one."""
        failed = failed_attempt(item)
        if failed is None or not _is_enabled_for(logging.WARNING):
            return
        how = (_RETRY_FORMAT, item.id, item.name, item.run.attempt, item.elapsed, failed.seconds)
        if not scheduler_logger.try_log(logging.WARNING, *how, extra=_extra(item), exc_info=_exc_info(failed.ending)):
            scheduler_logger.try_log(logging.WARNING, *how, extra=_extra(item))

    def retried(self, item: WorkItem) -> None:
        """Send `work_item_retried`."""
        failed = failed_attempt(item)
        if failed is not None and work_item_retried.receivers:
            details = {"error": failed.ending.failure, "seconds": failed.seconds}
            deliver_from_item(work_item_retried, WorkItemInfo, self.schedule, info=item.info(), **details)

    def _record_without_start(self, item: WorkItem, status: WorkItemStatus) -> None:
        level = logging.ERROR if status is WorkItemStatus.DISCARDED else logging.INFO
        why = _why(item)
        if why is None:
            self._record(level, item)
        elif _is_enabled_for(level):
            how = (item.id, item.name, item.status, item.elapsed, why)
            scheduler_logger.log(level, _FORMAT_WITH_REASON, *how, extra=_extra(item))

    def _stack_of(self, item: WorkItem) -> str | None:
        """Return where an item is, None for one that has left its code at a checkpoint."""
        has_left = item.options.movable is not None and item.run.ident is None
        return None if has_left else item.lane.executor.stack(item)

    def _send(self, signal: Signal, item: WorkItem) -> None:
        if signal.receivers:
            deliver(signal, WorkItemInfo, self.schedule, info=item.info())

    def _send_from_item(self, signal: Signal, item: WorkItem) -> None:
        deliver_from_item(signal, WorkItemInfo, self.schedule, info=item.info())

    async def _asend(self, signal: Signal, item: WorkItem) -> None:
        await adeliver(signal, WorkItemInfo, info=item.info())


def _why(item: WorkItem) -> str | None:
    """Return why an item never started, or where it went, None if nothing is to be said."""
    if item.cancel_reason is CancelReason.EXPIRED:
        return item.token.message
    return None if item.options.movable is None else item.options.movable.target


def _exc_info(ending: Ending | None) -> Any:
    error = None if ending is None else ending.exception
    return None if error is None else (type(error), error, traceback_of(error))


def _extra(item: WorkItem) -> dict[str, Any]:
    return {"qbwi": item.info().to_dict()}
