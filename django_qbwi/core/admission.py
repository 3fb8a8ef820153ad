"""What a scheduler accepts: into which lane, up to which bound, and until when.

States of the end: accepting -> held (the exit waits; R21) -> closed.
Lock: that of the registry.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from django_qbwi.core import items
from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, SchedulerDraining, WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane, Pool
from django_qbwi.core.moving import MovingItems
from django_qbwi.core.statistics import Statistics
from django_qbwi.core.stop import StopFlag
from django_qbwi.core.turns import Turns
from django_qbwi.machine.primitives import holding


class SchedulerState(enum.StrEnum):
    """Whether a scheduler accepts items."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """What is taken."""

    pool: Pool[WorkItem]
    """The one of all lanes that belong to no other: what waits in it, but for those that wait for their time."""
    max_delayed: int
    """Items that wait for their time."""
    accept_while_draining: bool
    """Whether any are taken after the first sign of the end."""


class Admission(MovingItems):
    """A registry that knows what it still takes, and says why it refuses the rest."""

    def __init__(
        self,
        stop: StopFlag,
        clock: Callable[[], float],
        history_size: int,
        turns: Turns,
        bounds: Bounds,
        statistics: Statistics,
    ) -> None:
        super().__init__(stop, clock, history_size, turns, statistics)
        self._held = False
        # None until the exit is held for the first time.
        self._queued_in_hold: set[WorkItem] | None = None
        self._bounds = bounds
        self._room = 0
        """Items that the default pool takes for certain: what waits is counted when they are used up, not for each.

        Invariant: no more than `max_queued - _room` wait, since items leave the queues meanwhile, and enter them here.
        """
        self._closed = False

    @property
    def state(self) -> SchedulerState:
        """Whether it is open, draining or closed."""
        if self._closed:
            return SchedulerState.CLOSED
        return SchedulerState.OPEN if self.stop.first_sign is None else SchedulerState.DRAINING

    @property
    def final_hold(self) -> bool:
        """True once the exit is held: only items queued by items of before are still accepted."""
        return self._queued_in_hold is not None

    def attach(self, *lanes: Lane[WorkItem]) -> None:
        """Set the lanes, each with its executor; once, before the first item."""
        self.lanes = {lane.name: lane for lane in lanes}
        for lane in lanes:
            if lane.pool is None:
                self._bounds.pool.add(lane)

    def nudge(self) -> None:
        """Have those who wait for an empty registry, or for room, look again at what has changed."""
        super().nudge()
        holding(self.lock, self.wake_callers)

    def wake_callers(self) -> None:
        """Have all who wait for room look at what has changed; the caller holds the lock."""
        for caller in self._callers:
            caller.wake()

    def hold_begins(self) -> None:
        """Accept from now on what items of before queue, and nothing of what these queue (R21)."""
        self._held = True
        if self._queued_in_hold is None:
            self._queued_in_hold = set()
        holding(self.lock, self.wake_callers)

    def hold_ends(self) -> None:
        """Accept again what a request queues that the server still answers."""
        self._held = False

    def _refusal(self, item: WorkItem, due: float | None = None) -> WorkItemRejected | None:
        refusal = self._refusal_at_the_end(item, due)
        if refusal is not None:
            return refusal
        if due is not None:
            return self._refusal_to_wait(item)
        pool = self.pool_of(item)
        if self._waiting_in(pool) < pool.max_queued:
            return None
        return QueueFull(
            f"{item.name} was not queued: {pool.fullness}. Queue less, raise it, or raise {pool.setting('MAX_WORKERS')}"
        )

    def pool_of(self, item: WorkItem) -> Pool[WorkItem]:
        """Return the pool that an item belongs to."""
        return self._bounds.pool if item.lane.pool is None else item.lane.pool

    def _waiting_in(self, pool: Pool[WorkItem]) -> int:
        """Return how many items count against the bound of a pool; the caller holds the lock."""
        # Of these there are as few as threads that queue at this moment.
        return pool.waiting + sum(item.lane.pool is pool for item in self._announcing)

    def _refusal_at_the_end(self, item: WorkItem, due: float | None = None) -> WorkItemRejected | None:
        """Say why the end of the process lets no further item in, whatever room there is; None if it does."""
        if self._closed:
            return SchedulerClosed(
                f"{item.name} was not queued: the background work of this process has ended (pid {self.pid})"
            )
        if self.stop.first_sign is not None:
            if self._queued_in_hold is not None:
                self._queued_in_hold.add(item)
                if self._comes_of_the_hold(items.current_item(), self._queued_in_hold):
                    return SchedulerDraining(
                        f"{item.name} was not queued: the process is ending, and waits for no item that was queued by "
                        "one which was itself queued during the final wait"
                    )
            if not self._bounds.accept_while_draining:
                return SchedulerDraining(
                    f'{item.name} was not queued: the process is ending, and QBWI["ACCEPT_WHILE_DRAINING"] is False'
                )
            if due is not None and due > (self.stop.deadline or 0.0):
                return SchedulerDraining(
                    f"{item.name} was not queued: the process is ending, and will have ended when the item is due"
                )
        return None

    def _refusal_to_wait(self, item: WorkItem) -> WorkItemRejected | None:
        if len(self._delayed) < self._bounds.max_delayed:
            return None
        return QueueFull(
            f"{item.name} was not queued: {self._bounds.max_delayed} items wait for their time already, which is "
            'QBWI["MAX_DELAYED"]. Queue less, or raise it'
        )

    def _comes_of_the_hold(self, parent: WorkItem | None, queued_in_hold: set[WorkItem]) -> bool:
        """Whether a call is made by what was queued after the hold began (R21): by that, or in a thread of its own."""
        if parent is not None and (parent in queued_in_hold or parent.ending is None):
            return parent in queued_in_hold
        # Of a thread of its own nobody knows who made it: as long as an item of before is there, it may have been that.
        return self._held and queued_in_hold.issuperset(self.live_items())

    def close_if_empty(self) -> bool:
        """Close, if nothing is queued or running, in the same step that sees it."""
        return holding(self.lock, self._close_if_empty)

    def _close_if_empty(self) -> bool:
        if self._is_empty():
            self._close()
        return self._closed

    def close(self) -> None:
        """Refuse everything from now on."""
        holding(self.lock, self._close)

    def _close(self) -> None:
        self._closed = True
        self.wake_callers()

    def drop_late(self) -> list[WorkItem]:
        """Declare the items DISCARDED that can begin neither before the end of a drain nor elsewhere, and return them.

        Each of them has still to be reported and settled by the caller.
        """
        deadline = self.stop.deadline
        if deadline is None or not self._delayed:
            return []
        return holding(self.lock, self.end_late, deadline)

    def give_up(self) -> list[WorkItem]:
        """Close; declare running items ABANDONED and queued ones DISCARDED; return those, running ones first.

        Each of them has still to be reported and settled by the caller.
        """
        return holding(self.lock, self._give_up)

    def _give_up(self) -> list[WorkItem]:
        self._close()
        return self.end_all()
