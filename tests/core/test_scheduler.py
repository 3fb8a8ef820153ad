"""The scheduler: accepts within its bound, counts exactly, decides each status once, ends in order."""

import asyncio
import gc
import itertools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

import pytest

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.calls import Call
from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, SchedulerDraining, WorkItemRejected
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.core.ports import NullObserver
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.runs import Ending
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.machine.service_thread import ServiceThread, Timer
from tests.support.gates import PATIENCE, until
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


def started(manual: ManualRuntime, *args: Any, **options: Any) -> WorkItem:
    """Queue an item, start it and return it."""
    item = manual.queue(*args, **options)
    assert (manual.loop if item.lane is manual.loop.lane else manual.sync).start() is item
    return item


def sign(manual: ManualRuntime, limit: float = 10.0) -> None:
    """Give the first sign of the end, as a signal handler does."""
    stop = manual.scheduler.stop
    stop.deadline = manual.clock() + limit
    stop.first_sign = stop.cancels_since = manual.clock()
    stop.requested = True


# The way of an item.


def test_new_scheduler_is_open_and_empty(manual: ManualRuntime) -> None:
    """A scheduler without items counts nothing, and has started no thread."""
    scheduler = manual.scheduler
    assert (scheduler.state, scheduler.queued_count, scheduler.running_count) == (SchedulerState.OPEN, 0, 0)
    assert scheduler.is_empty
    assert not scheduler.started
    assert set(scheduler.totals.values()) == {0}


def test_counts_follow_an_item(manual: ManualRuntime) -> None:
    """An item is queued, then running, then in the totals, and never in two of them."""
    scheduler = manual.scheduler
    item = manual.queue()
    assert (scheduler.queued_count, scheduler.running_count) == (1, 0)
    manual.sync.start()
    assert (scheduler.queued_count, scheduler.running_count) == (0, 1)
    manual.sync.finish(item)
    assert (scheduler.queued_count, scheduler.running_count) == (0, 0)
    assert scheduler.totals[S.SUCCEEDED] == 1


def test_repr_shows_state_and_counts(manual: ManualRuntime) -> None:
    """The scheduler shows what it has."""
    started(manual)
    manual.queue()
    assert repr(manual.scheduler) == "<WorkItemScheduler open queued=1 running=1>"


@pytest.mark.parametrize("work_item", [noop, anoop])
def test_items_of_a_kind_start_in_order(manual: ManualRuntime, work_item: Any) -> None:
    """First in, first out, for each kind."""
    queued = [manual.queue(work_item) for _ in range(5)]
    executor = manual.loop if work_item is anoop else manual.sync
    assert [executor.start() for _ in range(6)] == [*queued, None]


def test_kinds_do_not_wait_for_each_other(manual: ManualRuntime) -> None:
    """An async item behind a sync one is first in its own queue."""
    manual.queue(noop)
    item = manual.queue(anoop)
    assert manual.loop.start() is item
    assert manual.scheduler.lanes["sync"].waiting == 1
    assert manual.scheduler.lanes["async"].waiting == 0


def test_live_items_are_the_running_then_the_queued(manual: ManualRuntime) -> None:
    """What is listed: running first, then queued, the cancelled ones left out, up to the limit."""
    gone, running, waiting = manual.queue(), manual.queue(), manual.queue()
    asynchronous = manual.queue(anoop)
    manual.scheduler.cancel(gone)
    manual.sync.start()
    assert manual.scheduler.live_items() == [running, waiting, asynchronous]
    assert manual.scheduler.live_items(limit=1) == [running]
    assert manual.scheduler.running_items() == [running]


def test_finished_items_are_remembered_up_to_a_size() -> None:
    """The last items to end are kept, newest first, and no more than asked for."""
    manual = ManualRuntime(history_size=2)
    ended = [started(manual) for _ in range(3)]
    for item in ended:
        manual.sync.finish(item)
    assert manual.scheduler.finished_items() == [ended[2], ended[1]]


def test_executors_are_prepared_with_the_first_item(manual: ManualRuntime) -> None:
    """R12: all threads are started with the first item, and only then."""
    assert manual.sync.prepared == manual.loop.prepared == 0
    manual.queue()
    manual.queue(anoop)
    assert manual.sync.prepared == manual.loop.prepared == 1
    assert manual.keeper._started
    assert manual.scheduler.started


def test_f24_item_is_not_queued_without_any_thread(manual: ManualRuntime) -> None:
    """F24: if the first threads cannot be started, the caller gets the error and nothing is queued."""
    manual.sync.failure = RuntimeError("can't start new thread")
    with pytest.raises(WorkItemRejected, match="no thread could be started") as caught:
        manual.queue()
    assert caught.value.__cause__ is manual.sync.failure
    assert manual.scheduler.is_empty
    assert manual.observer.names() == ["rejected"]
    manual.sync.failure = None
    assert manual.queue().status is S.QUEUED


def test_executor_is_asked_to_grow_when_nobody_is_idle(manual: ManualRuntime) -> None:
    """A worker is added only if none could be woken."""
    manual.queue()
    assert manual.sync.grown == 0
    manual.sync.wakes_enough = False
    manual.queue()
    assert manual.sync.grown == 1


def test_r3_queued_is_told_before_a_worker_can_see_the_item() -> None:
    """R3: an observer of queued items sees them first: no worker can take them yet."""
    manual = ManualRuntime(announces=True)
    seen: list[tuple[int, WorkItem | None, int]] = []
    tell = manual.observer.queued

    def queued(item: WorkItem) -> None:
        tell(item)
        seen.append((manual.sync.woken, manual.sync.start(), manual.scheduler.queued_count))

    manual.observer.queued = queued  # type: ignore[method-assign]
    manual.sync.wakes_enough = False
    item = manual.queue()
    assert seen == [(0, None, 1)]
    assert manual.sync.start() is item
    assert manual.sync.grown == 1


def test_f45_item_is_queued_although_an_observer_raises() -> None:
    """F45: an observer that raises while an item is told of does not keep it from running."""
    manual = ManualRuntime(announces=True)
    manual.observer.queued = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        manual.queue()
    assert manual.sync.start() is not None
    assert manual.scheduler.queued_count == 0


def test_item_that_is_cancelled_while_it_is_told_of_never_starts() -> None:
    """A receiver of the queued signal may cancel the item: it is not queued then."""
    manual = ManualRuntime(announces=True)
    manual.observer.queued = lambda item: handle_of(item).cancel()  # type: ignore[assignment,method-assign]
    item = manual.queue()
    assert item.status is S.CANCELLED
    assert manual.sync.start() is None
    assert manual.scheduler.is_empty


# The bound.


def test_f27_bound_is_exact() -> None:
    """F27: MAX_QUEUED items may wait, of both kinds together; the next is refused at once, with the cure."""
    manual = ManualRuntime(max_queued=3)
    for work_item in (noop, anoop, noop):
        manual.queue(work_item)
    with pytest.raises(QueueFull, match=r'3 items are waiting already.*raise QBWI\["MAX_WORKERS"\]'):
        manual.queue()
    assert manual.scheduler.queued_count == 3
    assert manual.observer.names() == ["rejected"]


def test_running_items_do_not_count_against_the_bound() -> None:
    """A place is free again as soon as an item starts."""
    manual = ManualRuntime(max_queued=1)
    started(manual)
    manual.queue()
    with pytest.raises(QueueFull):
        manual.queue()
    manual.sync.start()
    manual.queue()


def test_r6_cancelled_item_frees_its_place() -> None:
    """R6: a queued item that is cancelled leaves the bound at once."""
    manual = ManualRuntime(max_queued=2)
    first, _ = manual.queue(), manual.queue()
    manual.scheduler.cancel(first)
    assert manual.scheduler.queued_count == 1
    manual.queue()
    with pytest.raises(QueueFull):
        manual.queue()


def test_announced_items_count_against_the_bound() -> None:
    """An item that is just told of has its place: the queued signal cannot overrun the bound."""
    manual = ManualRuntime(announces=True, max_queued=1)
    refused: list[Exception] = []

    def queued(item: WorkItem) -> None:
        with pytest.raises(QueueFull) as caught:
            manual.queue()
        refused.append(caught.value)

    manual.observer.queued = queued  # type: ignore[method-assign]
    manual.queue()
    assert len(refused) == 1


def test_f55_queue_and_cancel_in_a_loop_is_flat_in_memory() -> None:
    """F55: 100,000 items queued and cancelled, while nobody takes any, leave nothing behind."""
    manual = ManualRuntime(max_queued=10, history_size=10)
    manual.scheduler.observer = NullObserver()
    manual.queue()
    blocks: list[int] = []
    for _ in range(2):
        for _ in range(50_000):
            item = manual.scheduler.make_item(Call(noop))
            manual.scheduler.queue(item)
            manual.scheduler.cancel(item)
        # The keeper's work, who has no thread here: some hundred that ended last wait to be counted.
        manual.scheduler.statistics.count()
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert blocks[1] - blocks[0] < 1_000
    assert manual.scheduler.queued_count == 1


def test_r6_cancelling_keeps_the_order(manual: ManualRuntime) -> None:
    """R6: cancelling most of the queue leaves the others in their order."""
    queued = [manual.queue() for _ in range(200)]
    for item in queued:
        if queued.index(item) % 5:
            manual.scheduler.cancel(item)
    assert [manual.sync.start() for _ in range(41)] == [*queued[::5], None]


def test_r2_cancelling_within_a_cancellation(manual: ManualRuntime) -> None:
    """R2: a signal handler that cancels the others, between any two lines of a cancellation, tears nothing apart."""
    for line in range(12):
        queued = [manual.queue() for _ in range(4)]
        lines = itertools.count()

        def interrupt(frame: Any, event: str, argument: Any, lines=lines, line=line, queued=queued) -> Any:
            if frame.f_code is WorkItemScheduler.leave_queue.__code__ and event == "line" and next(lines) == line:
                for item in queued[2:]:
                    manual.scheduler.cancel(item)
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            manual.scheduler.cancel(queued[1])
        finally:
            sys.settrace(before)
        manual.scheduler.cancel(queued[2])
        manual.scheduler.cancel(queued[3])
        assert manual.scheduler.queued_count == 1
        assert manual.sync.start() is queued[0]
        assert manual.sync.start() is None
        manual.sync.finish(queued[0])
        assert manual.scheduler.is_empty


def test_interrupted_cancellation_leaves_nothing_that_could_start(manual: ManualRuntime) -> None:
    """R1: an exception between the status of a cancelled item and its removal: it never starts."""
    first, second = manual.queue(), manual.queue()
    first.ending = Ending(S.CANCELLED, manual.clock())
    assert manual.sync.start() is second
    assert manual.scheduler.queued_count == 0


def test_cancel_of_an_item_that_was_never_queued(manual: ManualRuntime) -> None:
    """An item that a test has captured instead of queueing it can be cancelled."""
    item = manual.make()
    assert manual.scheduler.cancel(item) is True
    assert item.status is S.CANCELLED
    assert manual.scheduler.is_empty


# How an item ends.


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, S.SUCCEEDED),
        (ValueError("no such album"), S.FAILED),
        (SystemExit(1), S.FAILED),
        (KeyboardInterrupt(), S.FAILED),
        (GeneratorExit(), S.FAILED),
        (RecursionError(), S.FAILED),
        (MemoryError(), S.FAILED),
        (asyncio.CancelledError(), S.FAILED),
    ],
)
def test_status_of_an_end_without_cancellation(
    manual: ManualRuntime, error: BaseException | None, status: WorkItemStatus
) -> None:
    """An item whose token is not cancelled succeeded or failed; F20: also with a CancelledError of its own."""
    item = started(manual)
    manual.sync.finish(item, error)
    assert item.status is status


@pytest.mark.parametrize("error", [asyncio.CancelledError(), "own", "other"])
def test_r7_cancelled_error_counts_by_the_token(manual: ManualRuntime, error: Any) -> None:
    """R7: with its token cancelled, any CancelledError makes an item CANCELLED, also without attributes."""
    item, other = started(manual), started(manual)
    manual.scheduler.cancel(item)
    manual.scheduler.cancel(other)
    if isinstance(error, str):
        error = OperationCancelled(item.token if error == "own" else other.token)
    manual.sync.finish(item, error)
    assert item.status is S.CANCELLED
    assert item.cancel_reason is CancelReason.REQUESTED


def test_r7_foreign_cancellation_is_a_failure(manual: ManualRuntime) -> None:
    """R7: OperationCancelled of another item's token is a failure while the own token is not cancelled."""
    item, other = started(manual), started(manual)
    manual.scheduler.cancel(other)
    manual.sync.finish(item, OperationCancelled(other.token))
    assert item.status is S.FAILED


def test_r7_item_that_returns_has_succeeded(manual: ManualRuntime) -> None:
    """R7: an item that finishes its work in spite of its cancellation SUCCEEDED, and keeps the reason."""
    item = started(manual)
    manual.scheduler.cancel(item)
    manual.sync.finish(item)
    assert (item.status, item.cancel_reason) == (S.SUCCEEDED, CancelReason.REQUESTED)


def test_failure_after_a_cancellation_is_a_failure(manual: ManualRuntime) -> None:
    """An exception that is no cancellation stays a failure after one."""
    item = started(manual)
    manual.scheduler.cancel(item)
    manual.sync.finish(item, ValueError())
    assert item.status is S.FAILED


def test_order_at_the_end(manual: ManualRuntime) -> None:
    """R3: status, record, waiters, registry: who waits finds the record, and the drain finds everything done."""
    item = started(manual)
    seen: list[tuple[str, WorkItemStatus, int]] = []
    finished = manual.observer.finished

    def record(item: WorkItem) -> None:
        finished(item)
        seen.append(("record", item.status, manual.scheduler.running_count))

    manual.observer.finished = record  # type: ignore[method-assign]
    item.add_waiter(lambda: seen.append(("waiter", item.status, manual.scheduler.running_count)))
    manual.sync.finish(item)
    assert seen == [("record", S.SUCCEEDED, 1), ("waiter", S.SUCCEEDED, 1)]
    assert manual.scheduler.is_empty


# Cancelling.


def test_cancel_before_the_start(manual: ManualRuntime) -> None:
    """A queued item that is cancelled never starts, and is reported once."""
    handle = manual.handle()
    assert handle.cancel("changed my mind") is True
    assert manual.sync.start() is None
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.REQUESTED)
    assert handle.token.message == "changed my mind"
    assert manual.observer.names() == ["finished"]
    assert handle.wait(0) is True


def test_cancel_during_the_run(manual: ManualRuntime) -> None:
    """A running item sees its token cancelled, and goes on as it likes."""
    handle = manual.handle()
    manual.sync.start()
    assert handle.cancel() is True
    assert handle.status is S.RUNNING
    assert handle.token.is_cancellation_requested


def test_second_cancel_is_not_the_first(manual: ManualRuntime) -> None:
    """Only the first cancellation of a running item is one."""
    handle = manual.handle()
    manual.sync.start()
    assert [handle.cancel(), handle.cancel()] == [True, False]


def test_cancel_after_the_end_changes_nothing(manual: ManualRuntime) -> None:
    """An ended item cannot be cancelled; its token is left alone."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    assert handle.cancel() is False
    assert not handle.token.is_cancellation_requested


def test_cancel_of_a_queued_item_after_the_stop(manual: ManualRuntime) -> None:
    """After the stop of the process a queued item, whom that spares, can still be taken back."""
    handle = manual.handle()
    sign(manual)
    assert handle.cancel() is True
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.REQUESTED)


def test_cancel_calls_back_in_the_cancelling_thread(manual: ManualRuntime) -> None:
    """Callbacks of the token run in the thread that cancels, without the lock."""
    handle = manual.handle()
    manual.sync.start()
    free: list[bool] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: free.append(manual.scheduler.queued_count == 0))
        thread.start()
        thread.join(PATIENCE)

    handle.token.register(look)
    handle.cancel()
    assert free == [True]


def test_settled_although_the_record_fails(manual: ManualRuntime) -> None:
    """An observer that breaks its promise and raises keeps nothing in the registry."""
    item = manual.queue()
    manual.observer.finished = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        manual.scheduler.cancel(item)
    assert manual.scheduler.is_empty


def test_settling_again_counts_once(manual: ManualRuntime) -> None:
    """Whoever cannot know whether an item was settled, since an exception came in between, settles it again."""
    item = started(manual)
    manual.sync.finish(item)
    manual.scheduler.settle(item)
    assert (manual.scheduler.totals[S.SUCCEEDED], manual.scheduler.finished_items()) == (1, [item])
    assert manual.scheduler.is_empty


# Timeouts.


def test_timeout_cancels_the_token(manual: ManualRuntime) -> None:
    """At its timeout the token of an item is cancelled, for TIMEOUT; the item runs on."""
    item = started(manual, timeout=3.0)
    assert item.token.remaining() == 3.0
    manual.advance(2.9)
    assert not item.token.is_cancellation_requested
    manual.advance(0.2)
    assert (item.token.reason, item.status) == (CancelReason.TIMEOUT, S.RUNNING)
    assert item.token.message == "timeout of 3.0 s"


def test_timeout_counts_from_the_start(manual: ManualRuntime) -> None:
    """The time in the queue is not counted."""
    item = manual.queue(timeout=3.0)
    manual.advance(100)
    manual.sync.start()
    manual.advance(2)
    assert not item.token.is_cancellation_requested


def test_item_that_ends_in_time_leaves_no_timer(manual: ManualRuntime) -> None:
    """The timer of an ended item is gone, and does nothing if it was just due."""
    item = started(manual, timeout=3.0)
    assert repr(manual.scheduler._timeouts) == "<Timeouts pending=1>"
    manual.sync.finish(item)
    assert not manual.scheduler._timeouts.timers
    manual.scheduler._timeouts.expire(item)
    manual.scheduler._mark_overdue(item)
    assert not item.token.is_cancellation_requested
    assert not item.run.overdue


def test_overdue_item_is_reported_once_and_gives_up_its_slot(manual: ManualRuntime) -> None:
    """OVERDUE_AFTER seconds past its timeout an item is reported with its stack, and another may run beside it."""
    item = started(manual, timeout=3.0, name="slow")
    manual.advance(3)
    manual.advance(4.9)
    assert not item.run.overdue
    manual.advance(0.2)
    manual.advance(100)
    assert item.run.overdue
    assert item.status is S.RUNNING
    assert manual.observer.overdue_items == [(item, "  the stack of slow\n", True)]
    assert manual.sync.gave_up == manual.sync.interrupted == [item]


def test_item_that_ends_between_timeout_and_overdue(manual: ManualRuntime) -> None:
    """An item that heeds its timeout is not reported as overdue."""
    item = started(manual, timeout=3.0)
    manual.advance(3)
    manual.sync.finish(item, OperationCancelled(item.token))
    manual.advance(100)
    assert (item.status, item.cancel_reason) == (S.CANCELLED, CancelReason.TIMEOUT)
    assert not manual.observer.overdue_items


def test_item_that_ends_within_its_own_timeout_callback(manual: ManualRuntime) -> None:
    """An item may end while the callbacks of its timeout run: no timer is armed for it any more."""
    item = started(manual, timeout=3.0)
    item.token.register(lambda: manual.sync.finish(item))
    manual.advance(3)
    assert item.status is S.SUCCEEDED
    assert not manual.scheduler._timeouts.timers


def test_item_that_is_given_up_before_it_begins_leaves_no_timer(manual: ManualRuntime) -> None:
    """A worker has taken it, and the limit of the drain passes before the worker comes to arm its timeout."""
    item = manual.queue(timeout=60.0)
    with manual.scheduler.lock:
        assert manual.scheduler.take(manual.sync.lane) is item
    for left in manual.scheduler.give_up():
        manual.scheduler.report_unstarted(left)
    Context().run(manual.scheduler.begin, item)
    assert (item.status, manual.scheduler._timeouts.timers) == (S.ABANDONED, {})


def test_item_whose_timeout_is_over_at_its_start_leaves_no_timer(
    manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper may cancel it, and set the timer by which it is overdue, before its worker knows of the first."""
    timers: list[Timer] = []

    def call_and_run(when: float, call: Any) -> Timer:
        timers.append(timer := ServiceThread.call_at(manual.keeper, when, call))
        manual.keeper.run_due()
        return timer

    monkeypatch.setattr(manual.keeper, "call_at", call_and_run)
    item = started(manual, timeout=0.0)
    assert item.token.reason is CancelReason.TIMEOUT
    manual.sync.finish(item)
    assert (manual.scheduler._timeouts.timers, [timer.call for timer in timers]) == ({}, [None, None])


def test_no_timer_is_set_under_the_lock(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the keeper's lock may come to a finalizer that queues, and would wait for the scheduler's."""
    lock, call_at = manual.scheduler.lock, manual.keeper.call_at
    free: list[bool] = []

    def try_lock() -> None:
        free.append(lock.acquire(blocking=False))
        if free[-1]:
            lock.release()

    def look_at_lock(*args: Any) -> Any:
        thread = threading.Thread(target=try_lock)
        thread.start()
        thread.join(PATIENCE)
        return call_at(*args)

    monkeypatch.setattr(manual.keeper, "call_at", look_at_lock)
    started(manual, timeout=3.0)
    manual.advance(3)
    assert free == [True, True]


def test_exit_in_a_timeout_callback_does_not_hide_the_overdue_item(manual: ManualRuntime) -> None:
    """Whatever a callback raises at the timeout, an item that runs on is overdue later."""
    item = started(manual, timeout=5.0)

    def leave() -> None:
        raise SystemExit

    item.token.register(leave)
    manual.advance(5)
    manual.advance(5)
    assert manual.observer.names(item) == ["started", "overdue"]


def test_r15_no_replacement_while_draining(manual: ManualRuntime) -> None:
    """R15: in a process that ends, an overdue item is reported, and gets no replacement."""
    item = started(manual, timeout=3.0)
    sign(manual, limit=60)
    manual.advance(3)
    manual.advance(5)
    assert manual.observer.overdue_items == [(item, f"  the stack of {item.name}\n", False)]
    assert not manual.sync.gave_up


def test_overdue_async_item_is_cancelled_natively(manual: ManualRuntime) -> None:
    """An async item that ignores its timeout is interrupted where it stands."""
    item = started(manual, anoop, timeout=1.0)
    manual.advance(1)
    manual.advance(5)
    assert manual.loop.gave_up == manual.loop.interrupted == [item]


# While the process ends.


def test_state_follows_the_first_sign(manual: ManualRuntime) -> None:
    """OPEN, DRAINING from the first sign on, CLOSED for ever."""
    scheduler = manual.scheduler
    sign(manual)
    assert scheduler.state is SchedulerState.DRAINING
    scheduler.close()
    assert scheduler.state is SchedulerState.CLOSED


def test_f19_item_is_accepted_while_draining(manual: ManualRuntime) -> None:
    """F19: accepted while requests are finished: it knows the deadline, and is undisturbed for half of the rest."""
    sign(manual, limit=10)
    item = started(manual)
    assert (item.token.reason, item.token.remaining()) == (None, 10.0)
    manual.advance(5)
    assert (item.token.reason, item.token.remaining()) == (CancelReason.SHUTDOWN, 5.0)


def test_f19_item_is_refused_while_draining_by_the_setting() -> None:
    """F19: with ACCEPT_WHILE_DRAINING = False the first sign ends the acceptance."""
    manual = ManualRuntime(accept_while_draining=False)
    manual.queue()
    sign(manual)
    with pytest.raises(SchedulerDraining, match="ACCEPT_WHILE_DRAINING"):
        manual.queue()


def test_r21_items_of_items_run_in_the_final_hold_and_theirs_do_not(manual: ManualRuntime) -> None:
    """R21: in the final hold a running item may queue, what it queues may not: an endless chain ends."""
    first = started(manual)
    sign(manual)
    manual.scheduler.hold_begins()
    second = manual.sync.contexts[first].run(manual.queue)
    assert manual.sync.start() is second
    with pytest.raises(SchedulerDraining, match="queued during the final wait"):
        manual.sync.contexts[second].run(manual.queue)


def in_a_thread(call: Callable[[], object]) -> Any:
    """Return what `call` gives in a new thread, which knows of no item, or raise what it raises."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(PATIENCE)


def test_g27_item_that_requeues_itself_from_a_thread_ends(manual: ManualRuntime) -> None:
    """G27: R21 counts what was queued after the hold began, also by a thread of an item's own."""
    first = started(manual)
    sign(manual)
    manual.scheduler.hold_begins()
    second = in_a_thread(manual.queue)
    manual.sync.finish(first)
    assert manual.sync.start() is second
    with pytest.raises(SchedulerDraining, match="queued during the final wait"):
        in_a_thread(manual.queue)
    manual.sync.finish(second)
    assert manual.scheduler.close_if_empty()


def test_g27_thread_that_feeds_does_not_hold_the_exit(manual: ManualRuntime) -> None:
    """G27: what a thread of its own queues is accepted while an item of before is there, queued or running."""
    waiting, other = manual.queue(), manual.queue()
    sign(manual)
    manual.scheduler.hold_begins()
    fed = [in_a_thread(manual.queue) for _ in range(3)]
    for item in (waiting, other):
        assert manual.sync.start() is item
        fed.append(in_a_thread(manual.queue))
        manual.sync.finish(item)
    with pytest.raises(SchedulerDraining):
        in_a_thread(manual.queue)
    for item in fed:
        assert manual.sync.start() is item
        manual.sync.finish(item)
    assert manual.scheduler.close_if_empty()


def test_g27_context_of_an_item_that_has_ended_feeds_no_longer(manual: ManualRuntime) -> None:
    """G27: a thread that runs on in its item's context counts as one of its own when that item has ended."""
    first, other = started(manual), started(manual)
    context = manual.sync.contexts[first].copy()
    sign(manual)
    manual.scheduler.hold_begins()
    manual.sync.finish(first)
    late = context.run(manual.queue)
    manual.sync.finish(other)
    with pytest.raises(SchedulerDraining):
        context.run(manual.queue)
    assert manual.sync.start() is late


def test_g27_request_between_two_holds_may_queue(manual: ManualRuntime) -> None:
    """R21: when a server's own hook has held, and the last one has not begun, requests are still served."""
    sign(manual)
    manual.scheduler.hold_begins()
    with pytest.raises(SchedulerDraining):
        in_a_thread(manual.queue)
    manual.scheduler.hold_ends()
    late, other = in_a_thread(manual.queue), in_a_thread(manual.queue)
    manual.scheduler.hold_begins()
    with pytest.raises(SchedulerDraining):
        in_a_thread(manual.queue)
    assert (late.status, other.status) == (S.QUEUED, S.QUEUED)


def test_f21_closed_scheduler_refuses(manual: ManualRuntime) -> None:
    """F21: after the close queueing raises, also the immediate kind."""
    manual.scheduler.close()
    with pytest.raises(SchedulerClosed, match="the background work of this process has ended"):
        manual.queue()
    with pytest.raises(SchedulerClosed):
        manual.scheduler.run_at_once(manual.make())
    assert manual.observer.names() == ["rejected", "rejected"]


def test_close_if_empty_waits_for_the_last_item(manual: ManualRuntime) -> None:
    """It closes only in a step that sees nothing left."""
    item = started(manual)
    assert manual.scheduler.close_if_empty() is False
    manual.sync.finish(item)
    assert manual.scheduler.close_if_empty() is True
    assert manual.scheduler.state is SchedulerState.CLOSED


def test_f54_queueing_races_with_the_close() -> None:
    """F54: 1,000 times a request queues in the instant of the close: accepted equals ended, refused equals refused."""
    for _ in range(1_000):
        manual = ManualRuntime()
        manual.scheduler._started = True
        barrier = threading.Barrier(2)

        def close(manual=manual, barrier=barrier) -> None:
            barrier.wait(PATIENCE)
            while not manual.scheduler.close_if_empty():
                item = manual.sync.start()
                if item is not None:
                    manual.sync.finish(item)

        thread = threading.Thread(target=close)
        thread.start()
        barrier.wait(PATIENCE)
        accepted = refused = 0
        for _ in range(3):
            try:
                manual.queue()
                accepted += 1
            except SchedulerClosed:
                refused += 1
        thread.join(PATIENCE)
        assert accepted + refused == 3
        assert manual.scheduler.totals[S.SUCCEEDED] == accepted
        assert manual.scheduler.is_empty


def test_is_empty_is_true_only_of_one_moment(manual: ManualRuntime) -> None:
    """While one thread looks, another cannot move an item from where it still has to look to where it has been."""
    manual.queue()
    looked, answers = threading.Event(), []

    class Watched(dict):
        def __bool__(self) -> bool:
            looked.set()
            # As long as it takes the other thread to be stopped by the lock, or to move the item.
            mover.join(0.05)
            return bool(len(self))

    manual.scheduler._running = Watched()

    def move() -> None:
        looked.wait(PATIENCE)
        manual.sync.start()

    mover = threading.Thread(target=move)
    mover.start()
    answers.append(manual.scheduler.is_empty)
    mover.join(PATIENCE)
    assert answers == [False]


# Letting go.


def test_give_up_declares_running_and_queued(manual: ManualRuntime) -> None:
    """At the limit running items are ABANDONED, queued ones DISCARDED, the running ones first; it is closed."""
    running, queued, asynchronous = started(manual), manual.queue(), manual.queue(anoop)
    cancelled = manual.queue()
    manual.scheduler.cancel(cancelled)
    sign(manual)
    manual.advance(10.0)
    assert manual.scheduler.give_up() == [running, queued, asynchronous]
    assert [item.status for item in (running, queued, asynchronous)] == [S.ABANDONED, S.DISCARDED, S.DISCARDED]
    assert {item.cancel_reason for item in (running, queued, asynchronous)} == {CancelReason.SHUTDOWN}
    assert manual.scheduler.state is SchedulerState.CLOSED
    assert (manual.scheduler.queued_count, manual.scheduler.running_count) == (0, 0)


def test_given_up_items_are_waited_for_until_they_are_reported(manual: ManualRuntime) -> None:
    """Until its record is out, an abandoned item is not done with."""
    item = started(manual)
    manual.scheduler.give_up()
    assert not manual.scheduler.is_empty
    manual.scheduler.report_unstarted(item)
    assert manual.scheduler.is_empty
    assert manual.observer.statuses() == [S.ABANDONED]


def test_r3_late_end_of_an_abandoned_item_changes_nothing(manual: ManualRuntime) -> None:
    """R3: what ends after it was abandoned keeps that status, and is counted and reported once."""
    item = started(manual)
    [given_up] = manual.scheduler.give_up()
    manual.scheduler.report_unstarted(given_up)
    assert manual.sync.finish(item, ValueError()) is False
    assert item.status is S.ABANDONED
    assert manual.observer.names(item) == ["started", "finished", "late"]
    assert sum(manual.scheduler.totals.values()) == 1


def test_concluded_item_is_left_to_its_worker(manual: ManualRuntime) -> None:
    """An item that is between its status and its record at the limit is not given up."""
    item = started(manual)
    manual.scheduler.conclude(item, None)
    assert manual.scheduler.give_up() == []
    manual.scheduler.settle(item)
    assert manual.scheduler.totals[S.SUCCEEDED] == 1


def test_item_that_is_told_of_at_the_limit_is_discarded() -> None:
    """An item between its queued signal and the queue is given up as well, and never gets into the queue."""
    manual = ManualRuntime(announces=True)
    given_up: list[WorkItem] = []
    manual.observer.queued = lambda item: given_up.extend(manual.scheduler.give_up())  # type: ignore[method-assign]
    item = manual.queue()
    assert given_up == [item]
    assert item.status is S.DISCARDED
    assert manual.sync.start() is None


def test_interrupt_reaches_the_running_items_of_each_lane(manual: ManualRuntime) -> None:
    """Items that run are interrupted by the executor of their lane, as far as it can."""
    sync = started(manual)
    manual.queue(anoop)
    item = manual.loop.start()
    manual.queue(anoop)
    manual.scheduler.interrupt()
    assert manual.loop.interrupted == [item]
    assert manual.sync.interrupted == [sync]


def test_retire_reaches_all_executors(manual: ManualRuntime) -> None:
    """The threads of all lanes are told to end."""
    manual.scheduler.retire()
    assert manual.sync.retired == manual.loop.retired == 1


def test_discard_of_an_item_that_was_never_queued(manual: ManualRuntime) -> None:
    """In a process that runs nothing, an item ends as DISCARDED, without a record at ERROR."""
    item = manual.make()
    manual.scheduler.discard(item)
    assert item.status is S.DISCARDED
    assert item.ended
    assert manual.observer.names() == []


def test_immediate_item_is_counted_as_running(manual: ManualRuntime) -> None:
    """An item that its caller runs is in the registry from its start to its end."""
    item = manual.make()
    manual.scheduler.run_at_once(item)
    assert (item.status, manual.scheduler.running_count) == (S.RUNNING, 1)
    manual.scheduler.conclude(item, None)
    manual.scheduler.report_unstarted(item)
    assert manual.observer.names() == ["queued", "finished"]
    assert manual.scheduler.is_empty


def test_stack_comes_from_the_executor_of_the_kind(manual: ManualRuntime) -> None:
    """Whoever runs an item knows where it is."""
    item = started(manual, anoop)
    assert manual.scheduler.stack(item) == f"  the stack of {item.name}\n"


# Waiting for all.


def test_wait_until_empty_returns_at_once_if_nothing_is_left(manual: ManualRuntime) -> None:
    """There is nothing to wait for."""
    assert manual.scheduler.wait_until_empty() is True


def test_wait_until_empty_gives_up_in_time(manual: ManualRuntime) -> None:
    """It says False when its time is over, also for a negative one, and forgets the waiter."""
    manual.queue()
    assert manual.scheduler.wait_until_empty(0.001) is False
    assert manual.scheduler.wait_until_empty(-1) is False
    assert not manual.scheduler._empty_waiters


@pytest.mark.parametrize("end", ["finish", "cancel", "nudge"])
def test_wait_until_empty_is_woken(manual: ManualRuntime, end: str) -> None:
    """The end of the last item wakes who waits, and so does a nudge."""
    item = started(manual) if end != "cancel" else manual.queue()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(manual.scheduler.wait_until_empty(PATIENCE)))
    thread.start()
    until(lambda: manual.scheduler._empty_waiters)
    if end == "finish":
        manual.sync.finish(item)
    elif end == "cancel":
        manual.scheduler.cancel(item)
    else:
        manual.scheduler.nudge()
    thread.join(PATIENCE)
    assert answers == [end != "nudge"]


def test_waiter_stays_until_the_last_item_has_ended(manual: ManualRuntime) -> None:
    """The end of one of two items wakes nobody."""
    first, second = started(manual), started(manual)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(manual.scheduler.wait_until_empty(PATIENCE)))
    thread.start()
    until(lambda: manual.scheduler._empty_waiters)
    manual.sync.finish(first)
    assert manual.scheduler._empty_waiters
    manual.sync.finish(second)
    thread.join(PATIENCE)
    assert answers == [True]


# Fork.


def test_f39_lock_is_free_in_a_forked_child(manual: ManualRuntime) -> None:
    """F39: a lock that another thread held at the fork, and which does not exist in the child, is made anew."""
    lock = manual.scheduler.lock
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join(PATIENCE)
    assert not lock.acquire(False)
    manual.scheduler.after_fork_in_child()
    assert lock.acquire(False)
    lock.release()


def test_lock_that_cannot_be_made_anew_is_left_alone(manual: ManualRuntime) -> None:
    """Where the lock offers nothing for it (not CPython), nothing is done."""
    manual.scheduler.lock = object()  # type: ignore[assignment]
    manual.scheduler.after_fork_in_child()


def test_attributes_are_found_quickly() -> None:
    """Beyond 30 attributes CPython keeps them in a dict of the object's own, which costs each queueing some percent."""
    assert len(vars(ManualRuntime().scheduler)) <= 30
