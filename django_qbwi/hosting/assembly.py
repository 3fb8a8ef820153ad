"""The parts of one scheduler, put together: settings, executors, service threads, drain."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from django_qbwi import conf
from django_qbwi.core.attempts import let_try_again
from django_qbwi.core.calls import Options
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import ASYNC, SYNC, Lane, Limits, Pool, lane_name
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.database.connections import ConnectionEnvironment
from django_qbwi.drain_records import DrainRecords
from django_qbwi.executors.loop_shares import LoopShare
from django_qbwi.executors.loop_thread import LoopExecutor
from django_qbwi.executors.threads import ThreadExecutor
from django_qbwi.executors.tracker import Tracker
from django_qbwi.handoff import engines
from django_qbwi.handoff.calls import DecoratedCall, EngineCall
from django_qbwi.handoff.engines import Engine
from django_qbwi.handoff.movable import MovableItem, make_movable
from django_qbwi.handoff.mover import Mover
from django_qbwi.hosting.history import Find, Kept, no_history
from django_qbwi.hosting.immediate import run_in_a_thread
from django_qbwi.intake.carriers import load_carriers
from django_qbwi.intake.intake import Intake
from django_qbwi.intake.options import Start, check_pool
from django_qbwi.lifecycle import servers
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.machine.service_thread import ServiceThread
from django_qbwi.signals import SignalsAndRecords

if TYPE_CHECKING:
    from django_qbwi.hosting.process_lane import ProcessLane

_FAREWELL_SECONDS = 1.0


class Assembly:
    """One scheduler with all that it needs: settings, executors, service threads, drain."""

    def __init__(
        self,
        settings: conf.Settings,
        host: servers.ServerHost,
        started: Callable[[], object] = lambda: None,
        hint_at_locks: Callable[[str], None] = lambda alias: None,
        history: Find = no_history,
    ) -> None:
        """Put it together.

        Args:
            settings: Those that hold for it.
            host: The server around it.
            started: Called by the reporter when the first item was accepted.
            hint_at_locks: Called with an alias, in an item's thread, when a test shares its database with that thread.
            history: Returns what keeps the items that ended badly over the end of this process, if anything.
        """
        self.settings = settings
        self.host = host
        self._started = started
        self._engines: dict[str, Engine] = {}
        self._processes: ProcessLane | None = None
        self.item_timeout = settings.item_timeout
        self.options = Options(timeout=settings.item_timeout)
        """Those of an item that asks for nothing."""
        self.refusal: str | None = None
        self.looked = False
        """Whether it was looked at what hosts this process, which may have begun only after it was loaded."""
        self.unusual = True
        """Whether items are not simply queued here; until the first one, it is not known."""
        self.warns_in_transaction = settings.warn_in_transaction
        self.environment = ConnectionEnvironment(hint_at_locks)
        self.intake = Intake(settings.request_capture, load_carriers(settings.context))
        self.carries = bool(settings.context)
        """Whether there are carriers to ask at each queueing."""
        self.keeper = ServiceThread("qbwi-keeper")
        self.reporter = ServiceThread("qbwi-reporter")
        self.kept = Kept(history, self.reporter)
        self.observer = self._make_observer()
        self.scheduler = self._make_scheduler()
        self.mover = Mover(self.scheduler, self.environment, self._report, settings.max_queued)
        self.tracker = Tracker(self.scheduler, self.reporter)
        self.loop_executor = self._attach_lanes()
        self.coordinator = self._make_coordinator()
        self.host_is(host)

    def __repr__(self) -> str:
        return f"<Assembly {self.scheduler!r} host={self.host!r}>"

    @property
    def is_broken(self) -> bool:
        """Whether items cannot run here now; a service thread that is found dead is started again first."""
        # All are revived, also where the first one cannot be.
        serve = [service.revive() for service in (self.keeper, self.reporter)]
        return self.refusal is not None or self.scheduler.is_stuck or not all(serve)

    def options_of(
        self, name: str | None, timeout: float | None, start: Start | None = None, is_async: bool = False
    ) -> Options:
        """Return those of an item that asks for something; `is_async` counts with a pool only."""
        timeout = self.item_timeout if timeout is None else timeout
        if start is None:
            return Options(name, timeout)
        if start.executor is None or self.settings.immediate:
            lane = lane_name(start.pool, is_async)
        else:
            lane = self.processes().lane.name
        further: dict[str, Any] = {
            "retry": start.retry,
            "expires": start.expires,
            "keyed": start.keyed,
            "labels": start.labels,
        }
        return Options(name, timeout, lane, start.priority, **further)

    def start_of(self, start: Start, work_item: Callable[..., Any], args: tuple[Any, ...]) -> Start:
        """Return how a call starts, which is made here and now.

        Raises:
            InvalidWorkItem: There is no such pool; or as `Start.of_call`.
        """
        check_pool(start.pool, self.settings.pools)
        return start.of_call(work_item, args)

    def processes(self) -> ProcessLane:
        """Return what runs items in helper processes, made for the first of them.

        Raises:
            ImproperlyConfigured: There is no settings module that they could be set up with.
        """
        if self._processes is None:
            # Not at the top: a process that has no such item imports nothing of it.
            from django_qbwi.hosting.process_lane import process_lane

            self._processes = process_lane(self.scheduler, self.settings, self.environment)
        return self._processes

    def engine(self, alias: str) -> Engine:
        """Return the engine of an alias, which was looked at.

        Raises:
            ImproperlyConfigured: Nothing can move there.
        """
        found = self._engines.get(alias)
        if found is None:
            found = self._engines[alias] = engines.engine(alias)
        return found

    def make_movable(self, item: WorkItem, call: EngineCall, delay: float = 0.0, *, fresh_id: bool = False) -> None:
        """Let a new item be one that can move; see `MovableItem`."""
        make_movable(item, MovableItem(self.mover, call, delay, fresh_id=fresh_id))

    def start_mover(self, item: WorkItem) -> None:
        """Start what brings `item` to its engine, if it has one: once, and only where it does not run at the call.

        Raises:
            WorkItemRejected: No thread could be started for it, or the process has ended.
        """
        if item.options.movable is None:
            return
        # Also where it never comes to a lane: the end of this process is one for it, and somebody tells of its own.
        if not self.scheduler.started:
            self.scheduler.start_threads(item)
        self.mover.start()

    def prepare(self, item: WorkItem, start: Start | None) -> None:
        """Let a new item be tried again, or move, as it asks for; see `make_movable` and `call_for_engine`."""
        if start is None:
            return
        if start.crossing is not None and self._processes is not None and item.lane is self._processes.lane:
            self._processes.put(item, start.crossing)
        if start.retry is not None:
            let_try_again(item)
        elif start.expires is not None:
            # It has a run before it starts: whoever takes an item looks at its options only then.
            _ = item.run
        if start.hand_off is not None:
            self.make_movable(item, self.call_for_engine(item, start.hand_off), start.delay)

    def call_for_engine(self, item: WorkItem, alias: str) -> DecoratedCall:
        """Return the call of an item as an engine gets it.

        Raises:
            InvalidWorkItem: It is no decorated function that can be imported, or its arguments are no JSON.
            ImproperlyConfigured: Nothing can move to the engine.
        """
        options: dict[str, Any] = {"name": item.options.name, "timeout": item.options.timeout}
        if item.options.labels:
            options["labels"] = dict(item.options.labels)
        return DecoratedCall(self.engine(alias), *item.work, options)

    def host_is(self, host: servers.ServerHost) -> None:
        """Take notice of what hosts this process, once more is known of it."""
        self.host = self.coordinator.host = host
        self.refusal = host.refusal()
        self.scheduler.process.asks = not (host.has_fork_hooks and hasattr(os, "register_at_fork"))
        self.environment.keeps_connections = host.keeps_connections
        self.environment.hints_at_tests = host.hints_at_tests
        is_usual = host.serves and not host.hints_at_tests
        elsewhere = self.settings.immediate or self.settings.engine is not None
        self.unusual = not self.looked or elsewhere or self.refusal is not None or not is_usual

    def end(self, timeout: float) -> None:
        """Drain within `timeout` seconds, close, and let the threads end; blocks."""
        self.coordinator.has_audience = False
        self.coordinator.sign("the end of its settings", at_most=timeout)
        self.coordinator.hold(last=True)
        self.join(_FAREWELL_SECONDS)
        for service in (self.keeper, self.reporter):
            # Callbacks and receivers that run there may have opened connections.
            service.post(self.environment.thread_ended)
            service.stop()
        self.mover.stop()
        self.observer.close()

    def join(self, timeout: float) -> None:
        """Wait until the threads of items have closed their connections, for `timeout` seconds at the most."""
        self.scheduler.join(timeout)

    def tell_of_the_lost(self) -> None:
        """Tell of the items that killed processes had, once, where QBWI["CRASH_REPORT"] is set; blocks for the disk."""
        self.observer.tell_of_the_lost()

    def _make_scheduler(self) -> WorkItemScheduler:
        settings = self.settings
        return WorkItemScheduler(
            max_queued=settings.max_queued,
            max_delayed=settings.max_delayed,
            overdue_after=settings.overdue_after,
            accept_while_draining=settings.accept_while_draining,
            history_size=settings.history_size,
            observer=self.observer,
            keeper=self.keeper,
            start=self._start_services,
            report=lambda item: self._report([item]),
        )

    def _make_observer(self) -> SignalsAndRecords:
        settings = self.settings
        if settings.crash_report is None or sys.platform == "win32":
            return SignalsAndRecords(self._schedule, self.kept.keep)
        # Imported where it is wanted: a site without it loads nothing of it.
        from django_qbwi.crash_report.observer import NotesItems

        size = settings.max_queued + settings.max_delayed + 2 * (settings.max_workers + settings.max_async_in_flight)
        return NotesItems(os.fspath(settings.crash_report), size, self._schedule, self.kept.keep)

    def _attach_lanes(self) -> LoopExecutor:
        sync = Lane[WorkItem](SYNC, "sync", Limits(running=self.settings.max_workers))
        asynchronous = Lane[WorkItem](ASYNC, "async", Limits(running=self.settings.max_async_in_flight))
        loop_executor = LoopExecutor(self.scheduler, asynchronous, environment=self.environment)
        ThreadExecutor(self.scheduler, sync, environment=self.environment, adopt=loop_executor.adopt)
        lanes = [
            lane for name, pool in self.settings.pools.items() for lane in self._make_pool(name, pool, loop_executor)
        ]
        self.scheduler.attach(sync, asynchronous, *self.tracker.lanes, *lanes)
        return loop_executor

    def _make_pool(self, name: str, pool: conf.PoolSettings, loop_executor: LoopExecutor) -> list[Lane[WorkItem]]:
        sync, asynchronous = (
            Lane[WorkItem](f"{lane_name(name, False)}", "sync", Limits(running=pool.max_workers)),
            Lane[WorkItem](f"{lane_name(name, True)}", "async", Limits(running=pool.max_async_in_flight)),
        )
        made = Pool(name, pool.max_queued, sync, asynchronous)
        share = LoopShare(loop_executor, asynchronous, self.scheduler.lock)
        ThreadExecutor(self.scheduler, sync, environment=self.environment, adopt=share.adopt)
        return made.lanes

    def _make_coordinator(self) -> DrainCoordinator:
        return DrainCoordinator(
            self.scheduler,
            self.reporter,
            DrainRecords(),
            self.host,
            shutdown_timeout=self.settings.shutdown_timeout,
            cancel_after=self.settings.cancel_after,
            move=self._signed,
            last_writes=self.kept,
        )

    def _signed(self, limit: float) -> None:
        self.mover.sign(limit)
        if self._processes is not None:
            self._processes.deadline_changed()

    def _report(self, items: list[WorkItem]) -> None:
        for item in items:
            self.reporter.post(lambda item=item: self.scheduler.report_unstarted(item))  # type: ignore[misc]

    def _start_services(self) -> None:
        self.keeper.start()
        self.reporter.start()
        self.kept.open()
        self.reporter.post(self._started)

    def _schedule(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        loop = self.loop_executor.loop
        if loop is None or loop.is_closed():
            # Items run at the call, or none runs any more.
            run_in_a_thread(lambda: asyncio.run(coroutine))
            return
        asyncio.run_coroutine_threadsafe(coroutine, loop)
