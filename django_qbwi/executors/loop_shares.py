"""The executor of a pool's async lane: it has slots of its own on the one loop of the process."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.executors.loop_slots import LoopLane
from django_qbwi.executors.loop_thread import LoopExecutor
from django_qbwi.machine.primitives import holding


class LoopShare:
    """Runs the async items of one pool on the loop of another executor, at most `lane.limits.running` at a time.

    The loop, its thread and its end are that executor's: what awaits in one pool and in another may share a client, a
    lock or a connection of asyncio's, and a pool costs no thread.
    """

    def __init__(self, owner: LoopExecutor, lane: Lane[WorkItem], lock: Any) -> None:
        """Make it; `lock` is that of the scheduler."""
        self._owner = owner
        self._lock = lock
        self._slots = LoopLane(lane)
        owner.add(self._slots)
        lane.executor = self

    def __repr__(self) -> str:
        return f"<LoopShare {self._slots!r}>"

    def prepare(self) -> None:
        """Have the loop run; see `Executor.prepare`."""
        self._owner.prepare()

    def wake(self) -> bool:
        """Have the loop look at this lane; see `Executor.wake`."""
        return self._owner.wake_for(self._slots)

    def grow(self) -> None:
        """Do nothing: there is one loop."""

    def adopt(self, item: WorkItem, awaitable: Any, context: Context) -> None:
        """Go on with an item of the pool whose function returned `awaitable`; see `LoopExecutor.adopt`."""
        self._owner.adopt_into(self._slots, item, awaitable, context)

    def give_up_slot(self, item: WorkItem) -> bool:
        """Count an overdue item apart; see `Executor.give_up_slot`."""
        return self._owner.give_up_slot_in(self._slots, item)

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        """Cancel the asyncio tasks of items; see `Executor.cancel_natively`."""
        self._owner.cancel_natively(items)

    def stack(self, item: WorkItem) -> str:
        """Return the await chain of the item's task."""
        return self._owner.stack(item)

    @property
    def is_stuck(self) -> bool:
        """True if no slot of the pool comes free by itself; that the loop stands still is its owner's to say."""
        return holding(self._lock, self._slots.is_stuck)

    def retire(self) -> None:
        """Do nothing, here and below: the loop is its owner's."""

    def join(self, timeout: float) -> bool:
        """Return True."""
        return True

    def stop_in_child(self) -> None:
        """Do nothing."""
