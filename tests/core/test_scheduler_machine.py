"""What holds for the scheduler after any order of queueing, waiting, starting, ending, cancelling and draining."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.callers import Caller
from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.checkpoints import CheckpointReached, CheckpointToken
from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, SchedulerDraining, WorkItemRejected
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.keys import Keyed
from django_qbwi.core.lanes import Lane
from django_qbwi.core.records import WorkItemStatus
from tests.support.manual import ManualExecutor, ManualRuntime

S = WorkItemStatus
MAX_QUEUED, MAX_DELAYED = 4, 3
MAX_MAIL = 2
"""Of the other pool."""
LEGAL_ENDS = {
    # FAILED: what waits for another attempt.
    S.QUEUED: {S.CANCELLED, S.DISCARDED, S.HANDED_OFF, S.FAILED},
    S.RUNNING: {S.SUCCEEDED, S.FAILED, S.CANCELLED, S.ABANDONED, S.HANDED_OFF},
}


class Engine:
    """Stands for how an item gets to an engine, which takes what is refused here: at the call, soon, or not at all."""

    target = "the engine"

    def __init__(self, takes: str) -> None:
        self.takes = takes

    def take_over(
        self, item: WorkItem, refusal: WorkItemRejected, tell: Callable[[], object]
    ) -> WorkItemRejected | None:
        """Do what the mover does."""
        scheduler: Any = item.owner
        if self.takes == "nothing" or (self.takes == "soon" and scheduler.state is SchedulerState.CLOSED):
            return refusal
        scheduler.take_for_moving(item, self)
        if scheduler.observer.announces:
            scheduler.observer.queued(item)
        tell()
        if self.takes == "at once":
            assert scheduler.has_moved(item)
            scheduler.report_unstarted(item)
        elif self.takes == "not in the end":
            scheduler.let_go_of(item)
            return refusal
        return None

    def remember(self, state: dict[str, Any]) -> None:
        """Nothing is sent."""

    def go_on(self, item: WorkItem, state: dict[str, Any]) -> None:
        """Have the machine move it."""


class Pauses:
    """Has so many further attempts follow, each after so many seconds."""

    def __init__(self, further: int, seconds: float) -> None:
        self.further = further
        self.seconds = seconds

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        return self.seconds if attempt <= self.further else None


KEYS = st.one_of(
    st.none(),
    # Often the same one: else few items meet another one of their key.
    st.just(Keyed(limit=(1, "a"))),
    st.builds(
        lambda unique, limit, most: Keyed(unique=unique and (1, unique), limit=limit and (1, limit), most=most),
        st.none() | st.sampled_from("ab"),
        st.none() | st.sampled_from("ab"),
        st.integers(1, 2),
    ),
)
ENGINES = st.none() | st.sampled_from(["nothing", "at once", "soon", "not in the end"]).map(Engine)
POOLS = st.sampled_from([None, None, "mail"])
PAUSES = st.none() | st.builds(Pauses, st.integers(0, 2), st.floats(0, 40))


def step(token: Any, cursor: int = 0) -> None:
    """Do nothing."""


async def astep(token: Any, cursor: int = 0) -> None:
    """Do nothing, on a loop."""


def pool_of(item: WorkItem) -> str:
    """The name of the pool that an item belongs to."""
    assert item.lane.pool is not None
    return item.lane.pool.name


def before(item: WorkItem, other: WorkItem) -> bool:
    """Whether an item comes before another one that waits already."""
    return item.options.priority > other.options.priority


class SchedulerMachine(RuleBasedStateMachine):
    """Does everything that the world can do to a scheduler, and keeps its own account of it."""

    @initialize(announces=st.booleans(), accepts=st.booleans(), lives=st.integers(0, 40))
    def begin(self, announces: bool, accepts: bool, lives: int) -> None:
        self.manual = ManualRuntime(
            announces=announces,
            accept_while_draining=accepts,
            max_queued=MAX_QUEUED,
            max_delayed=MAX_DELAYED,
            history_size=3,
            pools={"mail": MAX_MAIL},
        )
        self.scheduler = self.manual.scheduler
        self.accepts = accepts
        self.accepted: list[WorkItem] = []
        self.waiting: dict[Lane[WorkItem], list[WorkItem]] = {lane: [] for lane in self.scheduler.lanes.values()}
        # Those that are not in their lane yet, and all that have a place of their key.
        self.held: list[WorkItem] = []
        self.placed: list[WorkItem] = []
        self.delayed: dict[WorkItem, float] = {}
        self.running: list[WorkItem] = []
        self.moving: list[WorkItem] = []
        self.unreported: list[WorkItem] = []
        # Ended by a worker that came too late, and told of when the keeper has its turn.
        self.stepped_over: list[WorkItem] = []
        self.expires: dict[WorkItem, float] = {}
        # With how often each was woken since it looked.
        self.callers: dict[Caller, list[None]] = {}
        self.rest = mock.patch("django_qbwi.core.expiry._REST", 0.0)
        self.rest.start()
        self.ended: dict[WorkItem, WorkItemStatus] = {}
        # Steps until the first sign of the end may come: else most of what is done would be refused.
        self.lives = lives
        self.closed_for_good = False

    def teardown(self) -> None:
        if hasattr(self, "rest"):
            try:
                self.end_everything()
            finally:
                self.rest.stop()

    def end_everything(self) -> None:
        """Come to the limit of a drain: each item that was accepted has ended once, and the counts are those."""
        self.give_up()
        while self.unreported:
            self.report()
        self.let_time_pass(0)
        for item in [*self.running]:
            self.running.remove(item)
            assert not self.executor(item.lane).finish(item)
        assert {*self.ended} == {*self.accepted}
        assert sum(self.scheduler.totals.values()) == len(self.accepted)
        assert self.scheduler.is_empty
        assert self.scheduler._turns.is_empty
        self.each_end_is_reported_once()
        self.sums_add_up()

    def executor(self, lane: Lane[WorkItem]) -> ManualExecutor:
        assert isinstance(lane.executor, ManualExecutor)
        return lane.executor

    def end(self, item: WorkItem, status: WorkItemStatus) -> None:
        """Note an end in the account, and whose turn it is by that."""
        self.note_end(item, status)
        if status is not S.ABANDONED:
            self.give_place_back(item)

    def note_end(self, item: WorkItem, status: WorkItemStatus) -> None:
        """Note an end in the account."""
        assert item not in self.ended
        before = S.QUEUED if item.started is None else S.RUNNING
        assert status in LEGAL_ENDS[before]
        if item in self.moving:
            self.moving.remove(item)
        elif item in self.delayed:
            del self.delayed[item]
        elif item in self.held:
            self.held.remove(item)
        elif before is S.QUEUED:
            self.waiting[item.lane].remove(item)
        elif status is not S.ABANDONED:
            self.running.remove(item)
        self.ended[item] = status
        self.expires.pop(item, None)

    def limit(self, item: WorkItem) -> Any:
        """The key that an item takes turns by."""
        return item.options.keyed and item.options.keyed.limit

    def most(self, item: WorkItem) -> int:
        """How many of its key may have a place when it gets one."""
        assert item.options.keyed is not None
        return item.options.keyed.most

    def give_place_back(self, item: WorkItem) -> None:
        """Note that an item neither waits in its lane nor runs, and whose turn it is now."""
        if item in self.placed:
            self.placed.remove(item)
        while not self.closed_for_good:
            others = [other for other in self.held if self.limit(other) == self.limit(item)]
            if not others or sum(self.limit(o) == self.limit(item) for o in self.placed) >= self.most(others[0]):
                return
            self.held.remove(others[0])
            self.placed.append(others[0])
            self.into_lane(others[0])

    # Acts.

    def make(self, is_async: bool, movable: Engine | None, **options: Any) -> WorkItem:
        """Return a new item, which can move or not."""
        item = self.manual.make(astep if is_async else step, movable=movable, **options)
        if movable is not None:
            item.run.token = CheckpointToken(self.scheduler.stop, lambda state: None, moves=True)
        return item

    @rule(
        is_async=st.booleans(),
        timeout=st.none() | st.floats(0.1, 20),
        priority=st.integers(-1, 1),
        movable=ENGINES,
        retry=PAUSES,
        keyed=KEYS,
        begins=st.booleans(),
        pool=POOLS,
    )
    def queue(
        self,
        is_async: bool,
        timeout: float | None,
        priority: int,
        movable: Engine | None,
        retry: Pauses | None,
        keyed: Keyed | None,
        begins: bool,
        pool: str | None,
    ) -> None:
        item = self.make(is_async, movable, timeout=timeout, priority=priority, retry=retry, keyed=keyed, pool=pool)
        full = self.is_full(item)
        state = self.scheduler.state
        same = self.same_as(item)
        try:
            if keyed is None and movable is None and pool is None:
                self.scheduler.queue(item)
            else:
                assert self.scheduler.queue_when_told(item, lambda: None) is (same or item)
            if same is not None or self.was_taken_over(item):
                return
        except SchedulerClosed:
            assert state is SchedulerState.CLOSED
        except SchedulerDraining:
            assert state is SchedulerState.DRAINING
            assert not self.accepts
        except QueueFull:
            assert full
        else:
            assert same is None
            assert not full
            assert state is SchedulerState.OPEN or (state is SchedulerState.DRAINING and self.accepts)
            self.accepted.append(item)
            self.place(item)
            if begins:
                self.begin_next(item.lane)

    def was_taken_over(self, item: WorkItem) -> bool:
        """Note an item that was refused here, and moves, or has moved at the call."""
        if item.status is not S.HANDED_OFF and not self.scheduler.is_moving(item):
            return False
        self.accepted.append(item)
        self.moving.append(item)
        if item.status is S.HANDED_OFF:
            self.end(item, S.HANDED_OFF)
        return True

    def same_as(self, item: WorkItem) -> WorkItem | None:
        """The item of the same unique key that was accepted last, if it waits and has never begun."""
        unique = item.options.keyed and item.options.keyed.unique
        if not unique:
            return None
        known = [other for other in self.accepted if other.options.keyed and other.options.keyed.unique == unique]
        waits = known and known[-1].run.attempt == 1 and known[-1] in self.queued() and not self.is_over(known[-1])
        return known[-1] if waits else None

    @rule(
        is_async=st.booleans(),
        delay=st.floats(0.5, 40),
        priority=st.integers(-1, 1),
        movable=ENGINES,
        keyed=KEYS,
        pool=POOLS,
    )
    def queue_later(
        self,
        is_async: bool,
        delay: float,
        priority: int,
        movable: Engine | None,
        keyed: Keyed | None,
        pool: str | None,
    ) -> None:
        item = self.make(is_async, movable, priority=priority, keyed=keyed, pool=pool)
        same = self.same_as(item)
        full = len(self.delayed) >= MAX_DELAYED
        state, stop, due = self.scheduler.state, self.scheduler.stop, self.manual.clock() + delay
        try:
            assert self.scheduler.queue_when_told(item, lambda: None, delay) is (same or item)
            if same is not None or self.was_taken_over(item):
                return
        except SchedulerClosed:
            assert state is SchedulerState.CLOSED
        except SchedulerDraining:
            assert state is SchedulerState.DRAINING
            assert not self.accepts or (stop.deadline is not None and due > stop.deadline)
        except QueueFull:
            assert full
        else:
            assert not full
            assert state is not SchedulerState.CLOSED
            assert stop.deadline is None or due <= stop.deadline
            self.accepted.append(item)
            self.delayed[item] = due

    @rule(
        is_async=st.booleans(),
        delay=st.just(0.0) | st.floats(0.5, 20),
        further=st.floats(0.1, 20),
        movable=ENGINES,
        retry=PAUSES,
        priority=st.integers(-1, 1),
        keyed=KEYS,
        pool=POOLS,
    )
    def queue_for_a_while(
        self,
        is_async: bool,
        delay: float,
        further: float,
        movable: Engine | None,
        retry: Pauses | None,
        priority: int,
        keyed: Keyed | None,
        pool: str | None,
    ) -> None:
        options: dict[str, Any] = {"retry": retry, "priority": priority, "keyed": keyed, "pool": pool}
        item = self.make(is_async, movable, expires=delay + further, **options)
        same = self.same_as(item)
        full = self.is_full(item) if not delay else len(self.delayed) >= MAX_DELAYED
        try:
            assert self.scheduler.queue_when_told(item, lambda: None, delay) is (same or item)
            if same is not None or self.was_taken_over(item):
                return
        except QueueFull:
            assert full
        except (SchedulerClosed, SchedulerDraining):
            assert self.scheduler.stop.first_sign is not None or self.scheduler.state is SchedulerState.CLOSED
        else:
            assert not full
            self.accepted.append(item)
            self.expires[item] = item.queued + delay + further
            if delay:
                self.delayed[item] = self.manual.clock() + delay
            else:
                self.place(item)

    @rule(is_async=st.booleans(), keyed=KEYS, expires=st.none() | st.floats(0.1, 20), pool=POOLS)
    def wait_for_room(self, is_async: bool, keyed: Keyed | None, expires: float | None, pool: str | None) -> None:
        self.look(Caller(self.make(is_async, None, keyed=keyed, expires=expires, pool=pool), 0.0, None))

    @precondition(lambda self: any(self.callers.values()))
    @rule(data=st.data())
    def look_again(self, data: st.DataObject) -> None:
        self.look(data.draw(st.sampled_from([caller for caller, woken in self.callers.items() if woken])))

    def look(self, caller: Caller) -> None:
        """Do what one does who comes, or is woken, and queue if there is a place."""
        woken: list[None] = []
        before = next((other for other in self.callers if other.bound == caller.bound), caller)
        full = self.is_full(caller.item) or before is not caller
        same = self.same_as(caller.item)
        with self.scheduler.lock:
            is_over = self.scheduler._look(caller, lambda: woken.append(None))
        if not is_over:
            assert full
            assert same is None
            self.callers[caller] = woken
            return
        try:
            assert self.scheduler._queue_after_wait(caller, lambda: None, None) is (same or caller.item)
        except (SchedulerClosed, SchedulerDraining):
            assert self.scheduler.stop.first_sign is not None or self.scheduler.state is SchedulerState.CLOSED
        else:
            assert same is not None or not full
            if same is None:
                self.accepted.append(caller.item)
                if caller.item.options.expires is not None:
                    self.expires[caller.item] = self.manual.clock() + caller.item.options.expires
                self.place(caller.item)
        self.callers.pop(caller, None)
        with self.scheduler.lock:
            self.scheduler._stop_waiting(caller)

    def is_full(self, item: WorkItem) -> bool:
        """Whether no item more is taken, of the pool of this one, that could begin."""
        waiting = [other for other in (*chain(*self.waiting.values()), *self.held) if pool_of(other) == pool_of(item)]
        return len(waiting) >= (MAX_MAIL if pool_of(item) == "mail" else MAX_QUEUED)

    def is_over(self, item: WorkItem) -> bool:
        """Whether an item waits that may not start any more."""
        return item in self.expires and self.expires[item] <= self.manual.clock()

    def place(self, item: WorkItem) -> None:
        """Note an item in its lane, or before it, until it is its turn."""
        limit = self.limit(item)
        if limit is not None:
            placed = [other for other in self.placed if self.limit(other) == limit]
            held = [other for other in self.held if self.limit(other) == limit]
            if len(placed) >= self.most(item) or held:
                first = not held or held[0].options.priority < item.options.priority
                lower = [other for other in placed if other not in self.running and before(item, other)]
                if not (item.options.priority and first and lower):
                    self.hold(item)
                    return
                self.placed.remove(lower[-1])
                self.waiting[lower[-1].lane].remove(lower[-1])
                self.hold(lower[-1], first=True)
            self.placed.append(item)
        self.into_lane(item)

    def hold(self, item: WorkItem, *, first: bool = False) -> None:
        """Note an item that waits for its turn: behind those of its priority, or before them."""
        self.held.append(item)
        self.held.sort(key=lambda other: (-other.options.priority, other is not item if first else other is item))

    def into_lane(self, item: WorkItem) -> None:
        """Note an item in its lane: behind those of its priority."""
        waiting = self.waiting[item.lane]
        waiting.append(item)
        waiting.sort(key=lambda other: -other.options.priority)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data(), in_vain=st.booleans())
    def start(self, data: st.DataObject, in_vain: bool) -> None:
        lanes = [lane for lane, waiting in self.waiting.items() if waiting or in_vain]
        self.begin_next(data.draw(st.sampled_from(lanes)))

    def begin_next(self, lane: Lane[WorkItem]) -> None:
        """Begin what waits first in a lane, if there is anything."""
        while self.waiting[lane] and self.is_over(self.waiting[lane][0]):
            late = self.waiting[lane][0]
            self.end(late, S.DISCARDED)
            self.stepped_over.append(late)
        item = self.executor(lane).start()
        expected = self.waiting[lane].pop(0) if self.waiting[lane] else None
        assert item is expected, "first in, first out within a priority"
        if item is not None:
            self.running.append(item)
            self.expires.pop(item, None)

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["return", "return", "raise", "exit", "cancel", "foreign"]),
        cancels_meanwhile=st.booleans(),
    )
    def finish(self, data: st.DataObject, outcome: str, cancels_meanwhile: bool) -> None:
        item = data.draw(st.sampled_from(self.running))
        cancelled = item.token.is_cancellation_requested
        errors = {
            "return": None,
            "raise": ValueError("no such album"),
            "exit": SystemExit(1),
            "cancel": OperationCancelled(item.token),
            "foreign": asyncio.CancelledError(),
        }
        late = item in self.ended
        again = not late and not (cancelled or outcome == "return") and self.is_tried_again(item)
        attempt = item.run.attempt
        withdrawn = again and cancels_meanwhile

        def meanwhile() -> None:
            if withdrawn:
                assert handle_of(item).cancel()

        decided = self.executor(item.lane).finish(item, errors[outcome], meanwhile)
        assert decided is not (late or again)
        assert item.run.attempt == attempt + (again and not withdrawn)
        if withdrawn:
            self.end(item, S.CANCELLED)
            return
        if late or again:
            self.running.remove(item)
        if again:
            assert item.options.retry is not None
            self.delayed[item] = self.manual.clock() + item.options.retry.seconds
            self.give_place_back(item)
        if late:
            self.give_place_back(item)
        if not decided:
            return
        if outcome == "return":
            self.end(item, S.SUCCEEDED)
        else:
            self.end(item, S.CANCELLED if cancelled and outcome in ("cancel", "foreign") else S.FAILED)

    def is_tried_again(self, item: WorkItem) -> bool:
        """Whether another attempt follows one that fails now."""
        retry, stop = item.options.retry, self.scheduler.stop
        if not isinstance(retry, Pauses) or item.run.attempt > retry.further or len(self.delayed) >= MAX_DELAYED:
            return False
        in_time = stop.deadline is None or self.manual.clock() + retry.seconds <= stop.deadline
        return in_time and self.scheduler.state is not SchedulerState.CLOSED

    def left(self, item: WorkItem) -> WorkItemStatus:
        """How an item ends that waits when nothing begins any more."""
        return S.DISCARDED if item.run.attempt == 1 else S.FAILED

    @precondition(lambda self: any(item.options.movable for item in self.live()))
    @rule(data=st.data())
    def leave_at_a_checkpoint(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([item for item in self.live() if item.options.movable]))
        if item.token.reason is not CancelReason.SHUTDOWN:
            item.token.checkpoint(cursor=1)
            return
        with pytest.raises(CheckpointReached) as left:
            item.token.checkpoint(cursor=1)
        assert not self.executor(item.lane).finish(item, left.value)
        self.running.remove(item)
        self.moving.append(item)
        self.give_place_back(item)

    @precondition(lambda self: any(item.options.movable for item in self.queued()))
    @rule(data=st.data())
    def start_moving(self, data: st.DataObject) -> None:
        found = self.scheduler.movable_items(late_only=False)
        assert found == [item for item in self.queued() if item.options.movable]
        item = data.draw(st.sampled_from(found))
        if self.is_over(item):
            assert self.scheduler.start_moving(item, self) is None
            return
        self.move(item)

    def move(self, item: WorkItem) -> None:
        """Take an item out of its queue, for an engine."""
        assert self.scheduler.start_moving(item, self) is not None
        assert self.scheduler.start_moving(item, self) is None
        if item in self.delayed:
            del self.delayed[item]
        elif item in self.held:
            self.held.remove(item)
        else:
            self.waiting[item.lane].remove(item)
        self.moving.append(item)
        self.expires.pop(item, None)
        self.give_place_back(item)

    @precondition(lambda self: self.scheduler.stop.first_sign is not None)
    @rule()
    def move_what_is_late(self) -> None:
        deadline = self.scheduler.stop.deadline
        late = [item for item, due in self.delayed.items() if item.options.movable and deadline and due > deadline]
        assert self.scheduler.movable_items(late_only=True) == late
        for item in late:
            if not self.is_over(item):
                self.move(item)

    @precondition(lambda self: any(self.is_withdrawn(item) for item in self.moving))
    @rule(data=st.data())
    def end_what_no_engine_has_yet(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([item for item in self.moving if self.is_withdrawn(item)]))
        assert self.scheduler.end_moving(item, S.CANCELLED)
        assert not self.scheduler.has_moved(item)
        self.end(item, S.CANCELLED)
        self.unreported.append(item)

    def is_withdrawn(self, item: WorkItem) -> bool:
        """Whether an item was cancelled by somebody before an engine has it."""
        return item.token.reason is CancelReason.REQUESTED and item.waits

    @precondition(lambda self: any(item.options.movable for item in self.ended))
    @rule(data=st.data())
    def accept_too_late(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([item for item in self.ended if item.options.movable]))
        assert not self.scheduler.has_moved(item)

    @precondition(lambda self: self.moving)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.moving))
        assert self.scheduler.has_moved(item)
        assert not self.scheduler.has_moved(item)
        self.end(item, S.HANDED_OFF)
        self.unreported.append(item)

    @precondition(lambda self: len(self.ended) < len(self.accepted))
    @rule(data=st.data(), message=st.none() | st.text(max_size=5))
    def cancel(self, data: st.DataObject, message: str | None) -> None:
        item = data.draw(st.sampled_from(self.accepted))
        first = not item.token.is_cancellation_requested and item not in self.ended
        assert handle_of(item).cancel(message) is first
        if item in self.queued():
            self.end(item, S.CANCELLED)

    @rule(seconds=st.floats(0, 30))
    def let_time_pass(self, seconds: float) -> None:
        self.manual.advance(seconds)
        for item in sorted(self.delayed, key=self.delayed.__getitem__):
            if self.delayed[item] <= self.manual.clock():
                del self.delayed[item]
                if item in self.expires:
                    # In the order in which the timers were set.
                    self.expires[item] = self.expires.pop(item)
                self.place(item)
        over = sorted((item for item in self.expires if self.is_over(item)), key=self.expires.__getitem__)
        for item in over:
            self.note_end(item, S.DISCARDED)
        for item in over:
            self.give_place_back(item)
        self.stepped_over.clear()

    @rule(seconds=st.floats(0, 10))
    def let_the_keeper_be_late(self, seconds: float) -> None:
        self.manual.clock.advance(seconds)

    @precondition(lambda self: self.lives <= 0)
    @rule(limit=st.floats(1, 30))
    def sign_of_the_end(self, limit: float) -> None:
        stop = self.scheduler.stop
        if stop.first_sign is None:
            stop.deadline = self.manual.clock() + limit
            stop.requested = True
            stop.first_sign = self.manual.clock()
            stop.deliver()

    @precondition(lambda self: self.scheduler.stop.first_sign is not None)
    @rule()
    def drop_late(self) -> None:
        deadline = self.scheduler.stop.deadline
        delayed = [] if deadline is None else [item for item, due in self.delayed.items() if due > deadline]
        late = [item for item in delayed if not item.options.movable]
        assert self.scheduler.drop_late() == late
        for item in late:
            self.end(item, self.left(item))
        self.unreported += late

    @precondition(lambda self: self.lives <= 0)
    @rule()
    def close_if_empty(self) -> None:
        empty = not (self.queued() or self.live() or self.untold() or self.moving)
        was_closed = self.scheduler.state is SchedulerState.CLOSED
        assert self.scheduler.close_if_empty() is (empty or was_closed)

    @precondition(lambda self: self.lives <= 0)
    @rule()
    def give_up(self) -> None:
        queued = self.queued()
        left = self.scheduler.give_up()
        self.closed_for_good = True
        begun = [item for item in self.moving if item.started is not None]
        assert left == [*self.live(), *begun, *queued, *(item for item in self.moving if item not in begun)]
        for item in left:
            self.end(item, self.left(item) if item.started is None else S.ABANDONED)
        self.unreported += left

    @precondition(lambda self: self.unreported)
    @rule()
    def report(self) -> None:
        self.scheduler.report_unstarted(self.unreported.pop(0))

    # What holds.

    def queued(self) -> list[WorkItem]:
        """The items that have not started."""
        # As they are listed, which is not the order of their turns.
        listed = [item for lane in self.scheduler.lanes.values() for item in lane.held]
        held = sorted(self.held, key=lambda item: listed.index(item) if item in listed else -1)
        return [*chain(*self.waiting.values()), *held, *self.delayed]

    def untold(self) -> list[WorkItem]:
        """The items that have ended, and are not told of yet."""
        return [*self.unreported, *self.stepped_over]

    def live(self) -> list[WorkItem]:
        """The running items that were not given up."""
        return [item for item in self.running if item not in self.ended]

    @invariant()
    def time_passes(self) -> None:
        self.lives -= 1

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.scheduler.queued_count == len(self.queued())
        assert self.scheduler.delayed_count == len(self.delayed) <= MAX_DELAYED
        assert {lane: [*lane.queue] for lane in self.scheduler.lanes.values()} == self.waiting
        assert self.scheduler.running_count == len(self.live())
        assert self.scheduler.live_items() == [*self.live(), *self.queued(), *self.moving]

    @invariant()
    def sums_add_up(self) -> None:
        done = len(self.ended) - len(self.untold())
        assert sum(self.scheduler.totals.values()) == done
        live = len(self.live()) + len(self.moving) + self.scheduler.queued_count
        assert done + len(self.untold()) + live == len(self.accepted)
        expected = Counter(status for item, status in self.ended.items() if item not in self.untold())
        assert {status: total for status, total in self.scheduler.totals.items() if total} == expected

    @invariant()
    def statuses_are_those_of_the_account(self) -> None:
        for item in self.accepted:
            expected = self.ended.get(item, S.QUEUED if item.started is None else S.RUNNING)
            assert item.status is expected

    @invariant()
    def each_end_is_reported_once(self) -> None:
        reported = Counter(item for event, item, _ in self.manual.observer.events if event == "finished")
        assert set(reported) == {item for item in self.ended if item not in self.untold()}
        assert all(times == 1 for times in reported.values())

    @invariant()
    def history_is_bounded(self) -> None:
        assert len(self.scheduler.finished_items()) == min(3, len(self.ended) - len(self.untold()))

    @invariant()
    def timers_belong_to_running_items(self) -> None:
        known = {item for item in self.running if item not in self.ended} | set(self.untold())
        assert set(self.scheduler._timeouts.timers) <= known

    @invariant()
    def delayed_items_have_their_timer(self) -> None:
        # That of an item which moves finds it nowhere.
        timers = set(self.scheduler._timetable.timers) - set(self.untold()) - set(self.moving)
        assert timers == {*self.delayed, *self.expires}

    @invariant()
    def room_is_told_of(self) -> None:
        # Each one who is woken for room of another pool wakes one behind.
        woken = False
        for caller, wakes in self.callers.items():
            woken = woken or bool(wakes)
            if not self.is_full(caller.item) and self.scheduler.state is SchedulerState.OPEN:
                assert woken, "nobody wakes who waits"

    @invariant()
    def what_waits_already_is_not_waited_for(self) -> None:
        for caller, woken in self.callers.items():
            assert woken or self.same_as(caller.item) is None

    @invariant()
    def no_more_of_a_key_have_a_place(self) -> None:
        known = [item for item in self.live() if self.limit(item) is not None]
        for item in known:
            assert sum(self.limit(other) == self.limit(item) for other in known) <= 2

    @invariant()
    def those_without_a_place_are_held(self) -> None:
        held = [item for lane in self.scheduler.lanes.values() for item in lane.held]
        assert {*held} == {*self.held}
        assert len(held) == len(self.held)

    @invariant()
    def nothing_is_kept_of_keys(self) -> None:
        if not (self.queued() or self.running or self.unreported or self.moving):
            assert self.scheduler._turns.is_empty

    @invariant()
    def emptiness_is_seen(self) -> None:
        nothing = not (self.live() or self.queued() or self.untold() or self.moving)
        assert self.scheduler.is_empty is nothing


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=200, stateful_step_count=40)
