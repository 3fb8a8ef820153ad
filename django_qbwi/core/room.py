"""Room: who queues into a full queue may wait until there is some, in a thread or on an event loop.

States of a caller: looks -> has its place, reserved as that of an item which is not told of yet; or waits, behind those
who came before -> looks again, woken by whoever leaves a queue, by the end of the process, or by its own token.
Lock: that of the registry guards the callers.

Three ways in which this could fail, and what stands against each:
- A wake-up is lost: a caller leaves word how to wake it in the same step that sees no room, and whoever gets its place,
  or waits no longer, wakes the next one.
- All that runs waits for room itself, and nothing can start: the last one that comes is refused at once.
- A caller is struck where it waits, or between its place and its item: the place is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from django_qbwi.core.callers import Bound, Caller
from django_qbwi.core.exceptions import QueueFull, WorkItemRejected
from django_qbwi.core.expiry import ExpiringItems
from django_qbwi.core.items import WorkItem, current_item
from django_qbwi.core.lanes import Pool
from django_qbwi.core.loops import loop_waker
from django_qbwi.machine.primitives import Alarm, holding

_LONGEST_WAIT = 86_400.0
"""Seconds, at a time: the clock of the operating system takes no longer ones."""


class PatientCallers(ExpiringItems):
    """Lets callers wait for room; those who wait for the same room get it in the order in which they came.

    One who does not wait takes what there is: who waits keeps its turn, and waits on.
    """

    def queue_with_patience(self, item: WorkItem, tell: Callable[[], object], delay: float, seconds: float) -> WorkItem:
        """Accept `item` as `queue_when_told` does, and block for `seconds` at the most if there is no room.

        Returns:
            As `queue_when_told`; one with the same unique key that waits already is not waited for.

        Raises:
            WorkItemRejected: As `queue_when_told`; QueueFull after that time, or at once if no room can come.
            OperationCancelled: It is called by an item, whose token is cancelled while it would wait.
        """
        caller = Caller(item, delay, current_item())
        try:
            refusal = self._wait_for_room(caller, seconds)
            return self._queue_after_wait(caller, tell, refusal)
        except BaseException:
            holding(self.lock, self._give_place_back, item)
            raise

    async def aqueue_with_patience(
        self, item: WorkItem, tell: Callable[[], object], delay: float, seconds: float
    ) -> WorkItem:
        """Do as `queue_with_patience`, on a running event loop, which goes on meanwhile."""
        caller = Caller(item, delay, current_item())
        try:
            refusal = await self._await_room(caller, seconds)
            return self._queue_after_wait(caller, tell, refusal)
        except BaseException:
            holding(self.lock, self._give_place_back, item)
            raise

    def _wait_for_room(self, caller: Caller, seconds: float) -> QueueFull | None:
        """Return None where there is nothing to wait for any more, whether there is a place or a refusal."""
        limit = self._begin_to_wait(caller, seconds)
        try:
            with caller.listening():
                while True:
                    alarm = Alarm()
                    if holding(self.lock, self._look, caller, alarm.set):
                        return None
                    refusal = self._refusal_to_go_on(caller, limit, seconds)
                    if refusal is not None:
                        return refusal
                    alarm.wait(min(limit - self.clock(), _LONGEST_WAIT))
        finally:
            holding(self.lock, self._stop_waiting, caller)

    async def _await_room(self, caller: Caller, seconds: float) -> QueueFull | None:
        limit = self._begin_to_wait(caller, seconds)
        try:
            with caller.listening():
                while True:
                    woken, wake = loop_waker()
                    # By the keeper: a loop may be anybody's, and is not called under the lock.
                    if holding(self.lock, self._look, caller, lambda wake=wake: self.keeper.post(wake)):
                        return None
                    refusal = self._refusal_to_go_on(caller, limit, seconds)
                    if refusal is not None:
                        return refusal
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(limit - self.clock()):
                            await woken
        finally:
            holding(self.lock, self._stop_waiting, caller)

    def _begin_to_wait(self, caller: Caller, seconds: float) -> float:
        if not (self._started and caller.item.lane.is_prepared):
            self.start_threads(caller.item)
        return self.clock() + seconds

    def _queue_after_wait(self, caller: Caller, tell: Callable[[], object], refusal: QueueFull | None) -> WorkItem:
        item = caller.item
        if caller.found is not None:
            return caller.found
        # Another engine may take what is refused here.
        if refusal is not None and item.options.movable is None:
            self._reject(item, refusal)
        queued = self.queue_when_told(item, tell, caller.delay)
        if queued is not item:
            # It has come in between, and waits.
            holding(self.lock, self._give_place_back, item)
        return queued

    def _refusal_to_go_on(self, caller: Caller, limit: float, seconds: float) -> QueueFull | None:
        """Say why a caller without a place waits no longer; None if it does.

        Raises:
            OperationCancelled: The item that it is has been cancelled.
        """
        if caller.parent is not None:
            caller.parent.token.raise_if_cancellation_requested()
        name, pool = caller.item.name, self.pool_of(caller.item)
        if not holding(self.lock, self._may_come, caller):
            return QueueFull(
                f"{name} was not queued: {pool.fullness}, and everything that runs waits for room itself: none could "
                f"come. Queue less from items, or raise it, or {pool.setting('MAX_WORKERS')}"
            )
        if self.clock() < limit:
            return None
        which = 'QBWI["MAX_DELAYED"]' if caller.delay else pool.setting("MAX_QUEUED")
        return QueueFull(
            f"{name} was not queued: there was no room for {seconds:g} s, by {which}. Wait longer, queue less, or "
            "raise it"
        )

    # Each with the lock held.

    def _look(self, caller: Caller, wake: Callable[[], object]) -> bool:
        """Take the place of a caller, if there is one; False if it waits, to be woken by `wake`."""
        caller.wake = wake
        item, due = caller.item, self.clock() + caller.delay if caller.delay else None
        caller.found = None if item.options.keyed is None else self._same_as(item)
        if caller.found is not None:
            is_over = True
        elif next((other for other in self._callers if other.bound == caller.bound), caller) is caller:
            is_over = not isinstance(self._take_place(item, due), QueueFull)
        else:
            is_over = self._refusal_at_the_end(item, due) is not None
        if is_over:
            item.queued = self.clock()
        elif caller not in self._callers:
            self._callers.append(caller)
        else:
            # Room has come that was not for it.
            self._wake_behind(caller)
        return is_over

    def _reserve(self, item: WorkItem, due: float | None) -> WorkItem | WorkItemRejected:
        found = super()._reserve(item, due)
        if self._callers and found is item:
            self._wake_those_who_want_the_same(item)
        return found

    def _wake_those_who_want_the_same(self, item: WorkItem) -> None:
        """Have those return for whom `item` stands from now on, wherever they are in the order."""
        unique = None if item.options.keyed is None else item.options.keyed.unique
        for caller in [] if unique is None else self._callers:
            keyed = caller.item.options.keyed
            if keyed is not None and keyed.unique == unique:
                caller.wake()

    def _wake_behind(self, caller: Caller) -> None:
        behind = self._callers[self._callers.index(caller) + 1 :]
        another = next((other for other in behind if other.bound != caller.bound), None)
        if another is not None:
            another.wake()

    def _stop_waiting(self, caller: Caller) -> None:
        if caller in self._callers:
            self._callers.remove(caller)
        # There may be more room, of which only this one has heard.
        self.wake_a_caller()

    def _give_place_back(self, item: WorkItem) -> None:
        if item in self._announcing and item.ending is None:
            if item.options.keyed is not None:
                self._turns.drop(item)
            del self._announcing[item]
            self.wake_a_caller()
            self.wake_if_empty()

    def _may_come(self, caller: Caller) -> bool:
        """Return whether room may come for a caller, who is among those that wait: something is left that can start.

        Of its own pool; what runs there goes on if room comes in another one, for which it waits.
        """
        if caller.delay or caller.parent not in self._running or self._announcing:
            return True
        wanted = {other.bound: other.item.lane.pool for other in self._callers if not other.delay}
        moving: set[Bound] = set()
        while caller.bound not in moving:
            stuck = {other.parent for other in self._callers if other.bound not in moving}
            found = [bound for bound, pool in wanted.items() if bound not in moving and self._starts_in(pool, stuck)]
            if not found:
                return False
            moving.update(found)
        return True

    def _starts_in(self, pool: Pool[WorkItem] | None, stuck: set[WorkItem | None]) -> bool:
        for lane in () if pool is None else pool.lanes:
            slots = lane.limits.running
            holders = [item for item in self._running if item.lane is lane and not item.run.overdue]
            starts = slots is None or len(holders) < slots or not stuck.issuperset(holders)
            if starts and (lane.queue or (lane.held and self._turns.has_turn_without(stuck, lane))):
                return True
        return False
