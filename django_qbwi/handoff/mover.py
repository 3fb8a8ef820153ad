"""The mover: brings items to their engines, in threads of its own with connections of its own.

States of an item: see `core.moving`. Order of events: taken out of its queue, accepted by the engine, HANDED_OFF.
Begun at the first sign of the end for what cannot come any more, and for the rest shortly before the limit: once an
engine has accepted one, all of its items are taken out of their queues, and none of them begins here. Whatever is
refused here is moved at once, in its caller's thread; what has left its code at a checkpoint, when it comes here.
Lock: none of its own. Both threads may be at work; each item is taken by one step of C, or under the registry's lock.

Four ways in which this could fail, and what stands against each:
- The reply to the engine's commit is lost: it is asked whether it has the id, and gets the item under no other one.
- The engine is down: one further item a turn is held for it; all the others can still run here.
- The engine hangs: a second thread goes on, over a connection of its own; nobody waits for either beyond the limit of
  the drain, and what they had is DISCARDED by name.
- A worker takes the item meanwhile: it cannot, the item has left its queue under the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.exceptions import QueueFull, WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import Environment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.handoff.movable import movable_of
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.running_loop import on_running_loop
from django_qbwi.machine.service_thread import ServiceThread, Timer

logger = SafeLogger("django_qbwi.scheduler")

_LAST_PART = 10
"""The last tenth of the limit, or two seconds, is for moving."""
_AT_LEAST = 2.0
_FOR_EACH = 0.01
"""Seconds that an item may take to move, as far as the begin is concerned."""
_LOOK_AGAIN = 0.25
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_WARN_EVERY = 5.0
_LONGEST_CALL = 5.0
"""Seconds for one call of an engine, or a third of what is left of the drain: then the second thread goes on."""


class Mover:
    """Moves the items of one scheduler."""

    def __init__(
        self,
        scheduler: WorkItemScheduler,
        environment: Environment,
        report: Callable[[list[WorkItem]], object],
        max_held: int,
        services: tuple[ServiceThread, ServiceThread] | None = None,
    ) -> None:
        """Make it; `report` takes items that were declared ended, to have them reported and settled elsewhere."""
        self.scheduler = scheduler
        self._environment = environment
        self._report = report
        self._max_held = max_held
        self._clock = scheduler.clock
        self._limit = 0.0
        self._services = services or (ServiceThread("qbwi-mover"), ServiceThread("qbwi-mover-2"))
        self._service = self._services[0]
        """The one that takes the next turn: the first, until an engine has kept it for too long."""
        self._started = False
        self._held: deque[tuple[WorkItem, float]] = deque()
        self._coming: dict[WorkItem, None] = {}
        self._pause = _SHORTEST_PAUSE
        self._next_turn: Timer | None = None
        self._next_warning = 0.0

    def __repr__(self) -> str:
        return f"<Mover started={self._started} held={len(self._held)}>"

    def start(self) -> None:
        """Start the threads, once, with the first item that could move.

        Raises:
            WorkItemRejected: There are none, by which items could move at the end.
        """
        if not self._started:
            try:
                # Now: a process that ends starts none.
                for service in self._services:
                    service.start()
            except (RuntimeError, OSError) as error:
                raise WorkItemRejected(f"nothing was queued: no thread could be started ({error})") from error
            self._started = True

    # In the thread of whoever queues.

    def take_over(
        self, item: WorkItem, refusal: WorkItemRejected, tell: Callable[[], object]
    ) -> WorkItemRejected | None:
        """Move an item that is refused here, in this thread; on a running event loop soon, by the mover's.

        See `Movable`.
        """
        if on_running_loop():
            return self._take_over_soon(item, refusal, tell)
        scheduler, movable = self.scheduler, movable_of(item)
        try:
            try:
                scheduler.take_for_moving(item, self)
                movable.send(item, _due_of(item), self._environment.repair)
            except Exception as error:
                scheduler.let_go_of(item)
                refused = type(refusal)(f"{refusal}; nor could it be handed off: {movable.problem}")
                refused.__cause__ = error
                return refused
            try:
                if scheduler.observer.announces:
                    scheduler.observer.queued(item)
                tell()
            finally:
                if self._is_declared(item):
                    scheduler.report_unstarted(item)
        except BaseException:
            # Struck by a signal handler's exception (R1), or left by what was told: nothing stays half done.
            self._service.post(lambda: self._complete(item))
            raise
        return None

    def _take_over_soon(
        self, item: WorkItem, refusal: WorkItemRejected, tell: Callable[[], object]
    ) -> WorkItemRejected | None:
        scheduler = self.scheduler
        if scheduler.state is SchedulerState.CLOSED:
            # Nobody would wait for it.
            return refusal
        if len(self._held) + len(self._coming) >= self._max_held:
            return QueueFull(f"{refusal}; nor could it be handed off: {self._max_held} items wait for that already")
        try:
            scheduler.take_for_moving(item, self)
            if scheduler.observer.announces:
                scheduler.observer.queued(item)
            tell()
        finally:
            # Whatever was told: what has its place moves.
            self.hold(item)
        return None

    def send(self, item: WorkItem) -> None:
        """Have an engine accept an item that does not run here; see `take_over`.

        Raises:
            WorkItemRejected: It has not, or too many wait for it; chained from what it has raised.
        """
        refusal = self.take_over(item, WorkItemRejected(f"{item.name} was not queued here"), lambda: None)
        if refusal is not None:
            self.scheduler.observer.rejected(item, refusal)
            raise refusal

    # Posted by anybody.

    def hold(self, item: WorkItem) -> None:
        """Move an item that was taken out already, soon; any thread."""
        self._coming[item] = None
        self._service.post(lambda: self._hold(item))

    def sign(self, limit: float) -> None:
        """Take notice of a sign of the end of the process, with `limit` seconds from the sign on; any thread."""
        if self._started:
            self._limit = limit
            self._service.post(self._turn)

    def stop(self) -> None:
        """Let the threads end."""
        if self._started:
            for service in self._services:
                service.post(self._environment.thread_ended)
                service.stop()

    # In the mover's thread.

    def _complete(self, item: WorkItem) -> None:
        """Take the steps of `take_over` that were cut off."""
        if movable_of(item).engine_id is None:
            self.scheduler.let_go_of(item)
        elif self.scheduler.has_moved(item) or (item.status is WorkItemStatus.HANDED_OFF and not item.ended):
            self._report([item])

    def _hold(self, item: WorkItem) -> None:
        # In both for a moment, rather than in none: they are counted.
        self._held.append((item, _due_of(item)))
        self._coming.pop(item, None)
        self._turn()

    def _turn(self) -> None:
        """Move what can be moved now; then wait, for the engine or for the moment at which the rest has to go."""
        scheduler = self.scheduler
        self._environment.before()
        try:
            wait = self._move_all()
        finally:
            # Nobody knows when the next turn comes: no connection is kept for it.
            self._environment.thread_ended()
        if self._next_turn is not None:
            self._next_turn.cancel()
        if wait is not None and scheduler.state is not SchedulerState.CLOSED:
            self._next_turn = self._service.call_at(self._clock() + wait, self._turn)

    def _move_all(self) -> float | None:
        """Return the seconds until the next turn, None if there is nothing to wait for."""
        wait = self._move_waiting() if self.scheduler.stop.first_sign is not None else None
        for _ in range(len(self._held)):
            item, due = self._held.popleft()
            if item.ending is None and not self._move(item, due):
                break
        if self._held:
            wait = self._pause
            self._pause = min(_LONGEST_PAUSE, self._pause * 2)
        return wait

    def _move_waiting(self) -> float | None:
        begins_in = self._begins_in()
        there: set[str] = set()
        for item in self.scheduler.movable_items(late_only=begins_in > 0):
            due, alias = self.scheduler.start_moving(item, self), movable_of(item).alias
            if due is None:
                continue
            if alias in there:
                # Out of its queue before the others have moved, one by one: what begins now would not finish.
                self._held.append((item, due))
            elif self._move(item, due):
                there.add(alias)
            else:
                # One only: the others may still run here.
                break
        if self.scheduler.is_empty:
            return None
        return begins_in if begins_in > 0 else _LOOK_AGAIN

    def _begins_in(self) -> float:
        """Return the seconds until everything is moved that waits; they may have passed."""
        deadline = self.scheduler.stop.deadline
        if deadline is None:
            return 0.0
        takes = max(_AT_LEAST, self._limit / _LAST_PART, self.scheduler.queued_count * _FOR_EACH)
        return deadline - takes - self._clock()

    def _move(self, item: WorkItem, due: float) -> bool:
        """Have the engine accept an item; else keep it for the next turn, and return False."""
        movable = movable_of(item)
        if self._is_cancelled(item):
            return True
        service = self._service
        timer = self.scheduler.keeper.call_at(self._clock() + self._patience(), lambda: self._overtake(service))
        try:
            movable.send(item, due, self._environment.after)
        except BaseException:
            # The engine's code returns to us here.
            self._environment.after()
            if movable.engine_id is None:
                self._failed(item, due)
                return False
        finally:
            timer.cancel()
        self._pause = _SHORTEST_PAUSE
        if movable.engine_id is not None and self._is_declared(item):
            self._report([item])
        return True

    def _patience(self) -> float:
        """Return for how many seconds a call may keep its thread."""
        deadline = self.scheduler.stop.deadline
        return _LONGEST_CALL if deadline is None else min(_LONGEST_CALL, max(0.5, (deadline - self._clock()) / 3))

    def _overtake(self, service: ServiceThread) -> None:
        """Have the second thread go on, over a connection of its own, beside a call that hangs; in the keeper's thread.

        What hangs stays the first one's, and moves if its call comes back in time.
        """
        if service is self._services[0] and self._service is service:
            self._service = self._services[1]
            logger.warning("An engine does not answer: what else is to be handed off goes over another connection")
            self._service.post(self._turn)

    def _failed(self, item: WorkItem, due: float) -> None:
        if self._is_cancelled(item):
            return
        self._held.append((item, due))
        now = self._clock()
        if now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY
            logger.warning(
                "Work item id=%s name=%s could not be handed off yet, and is tried again: %s",
                item.id,
                item.name,
                movable_of(item).problem,
            )

    def _is_cancelled(self, item: WorkItem) -> bool:
        if item.token.reason is not CancelReason.REQUESTED or not item.waits:
            return False
        if self.scheduler.end_moving(item, WorkItemStatus.CANCELLED):
            self._report([item])
        return True

    def _is_declared(self, item: WorkItem) -> bool:
        if self.scheduler.has_moved(item):
            return True
        logger.error(
            "Work item id=%s name=%s was handed off after it had been declared %s: it runs there all the same",
            item.id,
            item.name,
            item.status,
        )
        return False


def _due_of(item: WorkItem) -> float:
    return item.queued + movable_of(item).delay
