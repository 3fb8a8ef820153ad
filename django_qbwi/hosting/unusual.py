"""Where queueing is not what it is elsewhere: items that run at the call, or by an engine, or not at all."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from django_qbwi.core.exceptions import InvalidWorkItem, NotHosted
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.handoff.calls import stands_in_its_module
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.hosting.process import Process
from django_qbwi.intake.options import Start
from django_qbwi.signals import scheduler_logger

_stays_here: ContextVar[bool] = ContextVar("django_qbwi_stays_here", default=False)


@contextlib.contextmanager
def staying_here() -> Iterator[None]:
    """Have what is queued in this context run in this process, whatever QBWI["ENGINE"] is."""
    reset = _stays_here.set(True)
    try:
        yield
    finally:
        _stays_here.reset(reset)


def nothing(item: WorkItem | None = None) -> None:
    """Tell nobody."""


def queue_from(assembly: Assembly, item: WorkItem, tell: Callable[[], object], start: Start) -> WorkItem:
    """Queue an item that starts by its own rules, in its caller's thread; return what stands for the call.

    See `Acceptance.queue_when_told`. Where the caller is to await its place, another one may stand for it in the end.
    """
    scheduler, seconds = assembly.scheduler, start.wait_for_room
    assembly.start_mover(item)
    if seconds is None:
        return _standing_for(item, scheduler.queue_when_told(item, tell, start.delay))
    if start.pending is None:
        return _standing_for(item, scheduler.queue_with_patience(item, tell, start.delay, seconds))
    start.pending.append(functools.partial(_queue_on_loop, scheduler, item, tell, start.delay, seconds))
    return item


async def _queue_on_loop(
    scheduler: WorkItemScheduler, item: WorkItem, tell: Callable[[], object], delay: float, seconds: float
) -> WorkItemHandle:
    return handle_of(_standing_for(item, await scheduler.aqueue_with_patience(item, tell, delay, seconds)))


def _standing_for(item: WorkItem, queued: WorkItem) -> WorkItem:
    if queued is not item and scheduler_logger.isEnabledFor(logging.DEBUG):
        scheduler_logger.debug("Work item id=%s name=%s waits already, and is not queued again", queued.id, queued.name)
    return queued


def queue_unusually(
    here: Process,
    assembly: Assembly,
    item: WorkItem,
    prepare: Callable[[WorkItem], object] = nothing,
    start: Start | None = None,
) -> bool:
    """Handle the cases in which queueing is not what it is elsewhere; True if the item was dealt with."""
    if assembly.settings.immediate:
        prepare(item)
        run_immediately(assembly.scheduler, item, assembly.environment.scope)
        return True
    if runs_nothing(here, assembly, item, prepare):
        return True
    if here.host.hints_at_tests and not here.hints.test_warned:
        here.hints.warn_of_test_transaction(item)
    # A task says by its alias where it is run.
    return prepare is nothing and assembly.settings.engine is not None and _sent_to_engine(here, assembly, item, start)


def runs_nothing(
    here: Process, assembly: Assembly, item: WorkItem, prepare: Callable[[WorkItem], object] = nothing
) -> bool:
    """Refuse or discard `item` where this process hosts none; False where it does.

    Raises:
        NotHosted: Nothing can run here.
    """
    if assembly.refusal is not None:
        refusal = NotHosted(f"{item.name} was not queued: {assembly.refusal}")
        assembly.scheduler.observer.rejected(item, refusal)
        raise refusal
    if not here.host.serves:
        # A user's ready() queues in both processes of runserver; this one only watches the other.
        if scheduler_logger.isEnabledFor(logging.DEBUG):
            scheduler_logger.debug("Work item name=%s discarded: runserver's parent runs none", item.name)
        prepare(item)
        assembly.scheduler.discard(item)
        return True
    return False


def _sent_to_engine(here: Process, assembly: Assembly, item: WorkItem, start: Start | None) -> bool:
    """Have QBWI["ENGINE"] take a decorated function; False if the call is none, or cannot leave this process."""
    alias = assembly.settings.engine
    if alias is None or _stays_here.get() or not stands_in_its_module(item.work[0]):
        return False
    try:
        call = assembly.call_for_engine(item, alias)
    except InvalidWorkItem as error:
        here.hints.warn_of_engine(item, error)
        return False
    assembly.make_movable(item, call, 0.0 if start is None else start.delay)
    assembly.start_mover(item)
    assembly.mover.send(item)
    return True
