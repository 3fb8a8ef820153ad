"""Calls that others have prepared: tasks of a framework, and what the worker of an engine runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_qbwi.core.attempts import let_try_again
from django_qbwi.core.calls import NO_ORIGIN, Call
from django_qbwi.core.items import WorkItem
from django_qbwi.database.connections import thread_state
from django_qbwi.handoff.calls import EngineCall, PlainCall
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.hosting.process import Process
from django_qbwi.hosting.unusual import queue_from, queue_unusually
from django_qbwi.intake.callables import examine
from django_qbwi.intake.labels import of_mapping
from django_qbwi.intake.options import NO_START, Start, check_pool


class PreparedCalls:
    """Takes calls of our own, and puts them before the scheduler of this process, or runs them at once."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Process]) -> None:
        """Make it; `find` returns the state of this process."""
        self._find = find

    def __repr__(self) -> str:
        return "<PreparedCalls>"

    def surround(self, work_item: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
        """Return a call for `queue_prepared` inside of what QBWI["CONTEXT"] takes along from here.

        Raises:
            ImproperlyConfigured: settings.QBWI is wrong.
        """
        assembly = (self._find()).admit()
        return assembly.intake.surround(work_item, is_async) if assembly.carries else work_item

    def queue_prepared(
        self,
        work_item: Callable[..., Any],
        is_async: bool,
        prepare: Callable[[WorkItem], object],
        *,
        name: str,
        item_id: str,
        cure: str | None = None,
        start: Start = NO_START,
        call: PlainCall | None = None,
    ) -> WorkItem | None:
        """Queue a call of our own, made for another framework and maybe surrounded; it takes the token alone.

        Args:
            work_item: What to call.
            is_async: Whether calling it only makes a coroutine.
            prepare: Called with the item, in this thread, once it is accepted and before it can begin.
            name: For logs and lists.
            item_id: What it is known by, unguessable.
            cure: What to do where it should not be queued inside an open transaction, None if it may be.
            start: When it may start, which is not waited for where items are run at the call.
            call: What goes on from a checkpoint; another engine may get it, if it is a call for one.

        Returns:
            The item with the same unique key that waits already, and stands for the call; None if there is none.

        Raises:
            WorkItemRejected, ImproperlyConfigured: As `queue`.
        """
        here = self._find()
        assembly = here.admitting or here.admit()
        if here.interceptors:
            here.interceptors[-1](work_item, (), is_async, name, None, prepare=prepare)
            return None
        options = assembly.options_of(name, None, start, is_async)
        item = assembly.scheduler.make_item(Call(work_item, (), is_async, NO_ORIGIN, options))
        item.known_id = item_id
        _give_run(item, start, call)
        if isinstance(call, EngineCall):
            assembly.make_movable(item, call, start.delay)
        if cure is not None and thread_state.opened and assembly.warns_in_transaction:
            here.hints.warn_of_transaction(item, cure)
        return _queue_in_steps(here, assembly, item, prepare, start)

    def run_for_engine(
        self,
        work_item: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        name: str | None,
        timeout: float | None,
        item_id: str,
        hand_off: str,
        labels: Mapping[str, Any] | None = None,
    ) -> WorkItem:
        """Run a decorated function in this thread, the worker's of an engine; its rest may move to the same engine.

        Raises:
            InvalidWorkItem: It cannot be called so.
            WorkItemRejected, ImproperlyConfigured: As `queue`.
        """
        is_async = examine(work_item, args)
        here = self._find()
        assembly = here.admitting or here.admit()
        scheduler = assembly.scheduler
        start = NO_START._replace(labels=of_mapping(labels)) if labels else None
        options = assembly.options_of(name, timeout, start)
        item = scheduler.make_item(Call(work_item, args, is_async, NO_ORIGIN, options))
        item.known_id = item_id
        assembly.make_movable(item, assembly.call_for_engine(item, hand_off), fresh_id=True)
        # The end of this process is one for it, as for any item.
        assembly.start_mover(item)
        here.notice_handlers()
        run_immediately(scheduler, item, assembly.environment.scope)
        return item

    def prove(self, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool, start: Start | None) -> None:
        """Refuse now what could not be queued so, or handed off, later.

        Raises:
            InvalidWorkItem, ImproperlyConfigured: As `queue`.
        """
        if start is None:
            return
        assembly = (self._find()).admit()
        check_pool(start.pool, assembly.settings.pools)
        if start.hand_off is not None:
            item = assembly.scheduler.make_item(Call(work_item, args, is_async))
            assembly.call_for_engine(item, start.hand_off)


def _give_run(item: WorkItem, start: Start, call: PlainCall | None) -> None:
    """Let an item have its run before it starts, where it is tried again or expires; see `Assembly.prepare`."""
    if start.retry is not None:
        let_try_again(item, call)
    elif start.expires is not None:
        _ = item.run


def _queue_in_steps(
    here: Process, assembly: Assembly, item: WorkItem, prepare: Callable[[WorkItem], object], start: Start
) -> WorkItem | None:
    if assembly.unusual and queue_unusually(here, assembly, item, prepare):
        return None
    here.notice_handlers()
    if here.host.watched:
        here.watch()
    queued = queue_from(assembly, item, lambda: prepare(item), start)
    return None if queued is item else queued
