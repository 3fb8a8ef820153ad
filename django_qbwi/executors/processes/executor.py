"""The executor of helper processes: worker threads that are proxies, each of which has a helper; see the package."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from django_qbwi.core.exceptions import HelperDied
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.ports import Environment
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.processes.deaths import Deaths
from django_qbwi.executors.processes.process import HelperProcess, Setup
from django_qbwi.executors.processes.remote import Packed, ProcessCall, RemoteRun
from django_qbwi.executors.threads import ThreadExecutor
from django_qbwi.executors.worker import Worker
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding

logger = SafeLogger("django_qbwi.scheduler")

_KILL_SECONDS = 0.5
"""From SIGTERM to SIGKILL."""
_FAREWELL_SECONDS = 1.0
_SPENT_SECONDS = 10.0


class ProcessExecutor(ThreadExecutor):
    """Runs the items of a lane in at most `lane.limits.running` helper processes.

    Lock: the scheduler's guards `_helpers`, `_runs`, `_resting` and `_deaths`, as it does what a `ThreadExecutor` has.
    """

    thread_name = "qbwi-process"

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        lane: Lane[WorkItem],
        setup: Setup,
        *,
        max_items: int = 1000,
        environment: Environment | None = None,
        start: Callable[[Setup], HelperProcess] = HelperProcess,
    ) -> None:
        """Make it; nothing is started before its first item, but for what `prestart` is asked for."""
        super().__init__(scheduler, lane, environment=environment)
        self._setup = setup
        self._max_items = max_items
        self._start = start
        self._helpers: dict[Worker, HelperProcess] = {}
        self._runs: dict[WorkItem, RemoteRun] = {}
        self._resting: set[Worker] = set()
        self._deaths = Deaths(scheduler.clock)

    def __repr__(self) -> str:
        return f"<ProcessExecutor helpers={len(self._helpers)} running={len(self._runs)}>"

    def prepare(self) -> None:
        """Start nothing: most processes have no such item."""

    def call_of(self, function: Callable[..., Any], packed: Packed) -> ProcessCall:
        """Return what an item calls in place of its function."""
        return ProcessCall(function, packed, self._run_in_helper)

    def refusal(self, name: str) -> str | None:
        """Return why an item of that name does not run now, None if it may."""
        return holding(self._lock, self._deaths.refusal, name)

    def give_up_slot(self, item: WorkItem) -> bool:
        """Say that the slot is free: in a moment it is, since the item's helper is ended."""
        return True

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        """End the helpers of these items, which did not end by themselves: SIGTERM, and then SIGKILL."""
        for item in items:
            run = self._runs.get(item)
            if run is None or run.helper.is_ended:
                continue
            run.helper.terminate()
            self._scheduler.keeper.call_at(self._scheduler.clock() + _KILL_SECONDS, run.helper.kill)
            # The thread that holds the exit writes no record: a handler of the log may be stuck.
            self._scheduler.keeper.post(functools.partial(_tell_of_the_end, item, run.helper.pid))

    def stack(self, item: WorkItem) -> str:
        """Return the stack of the main thread of the item's helper; waits a moment for its answer.

        One that was told to end is not asked. At the limit of a drain that moment is longer than all that is left for
        the last records, and each of the others would go untold.
        """
        run = self._runs.get(item)
        if run is None:
            return super().stack(item)
        return run.helper.stack() if run.helper.is_alive else f"  <helper process {run.helper.pid} is ended>\n"

    def deadline_changed(self) -> None:
        """Have the helpers know the limit of a drain, which has begun."""
        for run in list(self._runs.values()):
            run.tell_remaining()

    def _retire(self) -> None:
        super()._retire()
        for worker in list(self._resting):
            self._wake_resting(worker)

    def stop_in_child(self) -> None:
        """Close what a forked child has of the helpers, which are its parent's."""
        for helper in self._helpers.values():
            helper.forget()
        self._helpers.clear()

    # In the threads of the workers.

    def next_item(self, worker: Worker) -> bool:
        """Have the worker's helper ready before it takes an item; see `ThreadExecutor.next_item`."""
        if self._lane.queue and not self._retired:
            self._drop_spent(worker)
            if worker not in self._helpers:
                if self._rests(worker):
                    return True
                with contextlib.suppress(HelperDied):
                    # Its item says so when it tries again: it is not left in the queue.
                    self._helper_of(worker)
        return super().next_item(worker)

    def dismiss(self, worker: Worker, error: BaseException | None) -> None:
        """Let the worker's helper end, and wait for that for a moment."""
        with self._lock:
            helper = self._helpers.pop(worker, None)
        if helper is not None:
            helper.end()
            if not helper.wait(_FAREWELL_SECONDS):
                helper.kill()
        super().dismiss(worker, error)

    def _strike_out(self, worker: Worker) -> None:
        super()._strike_out(worker)
        with self._lock:
            helper = self._helpers.pop(worker, None)
        if helper is not None:
            # Its thread was killed, in the middle of an item maybe.
            helper.kill()
            helper.end()

    def _drop_spent(self, worker: Worker) -> None:
        helper = self._helpers.get(worker)
        if helper is None or (helper.is_alive and helper.items < self._max_items):
            return
        if not helper.is_alive:
            with self._lock:
                self._deaths.died(None)
        self._let_go(worker, helper)

    def _let_go(self, worker: Worker, helper: HelperProcess) -> None:
        with self._lock:
            self._helpers.pop(worker, None)
        helper.end()
        if helper.status is None:
            self._scheduler.keeper.call_at(self._scheduler.clock() + _SPENT_SECONDS, helper.kill)

    def _rests(self, worker: Worker) -> bool:
        """Let the worker wait outside of the queue until the next helper may start; False if it may now."""
        with self._lock:
            seconds = self._deaths.seconds_until_start
            if seconds <= 0 or self._retired:
                return False
            self._resting.add(worker)
        self._scheduler.keeper.call_at(
            self._scheduler.clock() + seconds, lambda: holding(self._lock, self._wake_resting, worker)
        )
        return True

    def _wake_resting(self, worker: Worker) -> None:
        if worker in self._resting:
            self._resting.discard(worker)
            worker.park.release()

    def _helper_of(self, worker: Worker) -> HelperProcess:
        """Return the helper of a worker, and start it if need be.

        Raises:
            HelperDied: There is none to be had.
        """
        helper = self._helpers.get(worker)
        if helper is not None:
            return helper
        try:
            helper = self._start(self._setup)
        except Exception as error:
            # No process, no thread, no descriptor, no Python; or what other libraries have made of those.
            self._count_death(None)
            raise HelperDied(f"no helper process could be started: {error}") from error
        with self._lock:
            self._helpers[worker] = helper
        try:
            helper.await_ready()
        except HelperDied:
            self._count_death(None)
            self._let_go(worker, helper)
            raise
        return helper

    def _run_in_helper(self, item: WorkItem, payload: bytes) -> None:
        refusal = self.refusal(item.name)
        if refusal is not None:
            raise HelperDied(f"{item.name} was not run: {refusal}")
        worker = next(worker for worker in list(self._workers) if worker.item is item)
        helper = self._helper_of(worker)
        helper.items += 1
        item.run.thread = f"{worker.name} (pid {helper.pid})"
        run = self._runs[item] = RemoteRun(helper, item)
        try:
            run.run(payload)
        finally:
            del self._runs[item]
            self._look_at(worker, helper, item)

    def _look_at(self, worker: Worker, helper: HelperProcess, item: WorkItem) -> None:
        """Count a helper that is gone, behind an item; one that was ended by us is not counted."""
        if helper.is_alive:
            with self._lock:
                self._deaths.survived(item.name)
            return
        was_killed = helper.is_ended
        self._let_go(worker, helper)
        if was_killed and item.token.is_cancellation_requested:
            return
        self._count_death(item.name)

    def _count_death(self, name: str | None) -> None:
        with self._lock:
            refused = self._deaths.died(name)
        if refused:
            logger.error("Work item name=%s is refused for a minute: its helper processes die, three in a row", name)


def _tell_of_the_end(item: WorkItem, pid: int) -> None:
    logger.warning(
        "Work item id=%s name=%s does not end though it was cancelled: its helper process %d is ended",
        item.id,
        item.name,
        pid,
    )
