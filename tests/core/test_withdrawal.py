"""R1: a cancellation that is struck by an exception, wherever CPython runs signal handlers, is completed."""

import gc
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.core.withdrawal import Withdrawal
from django_qbwi.machine.primitives import Alarm
from tests.support.gates import PATIENCE, Gate
from tests.support.manual import ManualRuntime, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
TELLING = {"tell_end", "finished"}
CALLING = {"claim", "call_all", "call", "callback"}


def _names(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


def _in_cancel(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not WorkItemScheduler.cancel.__code__:
        frame = frame.f_back
    return frame is not None


def strike(point: int, cancel: Callable[[], object]) -> list[str]:
    """Raise KeyboardInterrupt at a point within a cancellation; return in which functions, none if it has fewer.

    Signal handlers run where a Python function begins, where a C function has returned, and at jumps backwards.
    """
    points = itertools.count()
    before = sys.getprofile()
    where: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and not where and _in_cancel(frame) and next(points) == point:
            sys.setprofile(before)
            where.extend(_names(frame))
            raise KeyboardInterrupt

    # A finalizer of an earlier test's garbage is no point within the cancellation; what is raised there nobody hears.
    gc.disable()
    sys.setprofile(profile)
    try:
        cancel()
    except KeyboardInterrupt:
        assert where
    else:
        # Ctrl-C is never swallowed.
        assert not where
    finally:
        sys.setprofile(before)
        gc.enable()
    return where


class Watched:
    """A cancelled item, and somebody in each place where one may wait for it."""

    def __init__(self, *, announces: bool = False, starts: bool = False) -> None:
        self.manual = ManualRuntime(announces=announces)
        self.scheduler = self.manual.scheduler
        self.item: WorkItem = self.manual.queue()
        if starts:
            assert self.manual.sync.start() is self.item
        self.called: list[str] = []
        self.woken, self.heard, self.empty = Alarm(), Alarm(), threading.Lock()
        self.item.add_waiter(self.woken.set)
        self.item.token._register(self.heard.set, wakes=True)
        self.item.token.register(self.callback)
        self.empty.acquire()
        self.scheduler._empty_waiters.append(self.empty)

    def callback(self) -> None:
        """Stand for a user's."""
        self.called.append("callback")

    def cancel(self) -> None:
        """Cancel it."""
        self.scheduler.cancel(self.item)

    def hears_of_it(self, where: list[str]) -> None:
        """Assert that whoever waits for the cancellation was woken, and that no callback runs twice."""
        assert not self.heard._lock.locked()
        # Between its claim and its call.
        calling = where[0] in CALLING or where[:2] == ["holding", "call_all"] if where else False
        assert self.called == ["callback"] or (self.called == [] and calling)
        assert not self.item.token._registrations
        assert not self.scheduler.stop.registrations


def strikes(**options: bool) -> Iterator[tuple[Watched, list[str]]]:
    """Give a cancelled item for each point at which its cancellation can be struck, and one that is not."""
    for point in itertools.count():
        watched = Watched(**options)
        where = strike(point, watched.cancel)
        watched.manual.keeper.run()
        yield watched, where
        if not where:
            assert point > 10, "there was nothing to strike"
            return


@pytest.mark.parametrize("announces", [False, True])
def test_r1_queued_item_that_is_cancelled_ends_once(announces: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Struck anywhere, it has one status, is told of once and counted once, and nobody waits for it any more."""
    caplog.set_level(logging.INFO, "django_qbwi.scheduler")
    for watched, where in strikes(announces=announces):
        item, scheduler = watched.item, watched.scheduler
        if item.status is S.QUEUED:
            # Struck at the door: it was not cancelled, and can be.
            watched.cancel()
        assert (item.status, item.ended, item.cancel_reason) == (S.CANCELLED, True, CancelReason.REQUESTED)
        watched.hears_of_it(where)
        told = watched.manual.observer.names(item).count("finished")
        # Whoever is told may be struck as well, and is not told again; the log says so.
        assert told == 1 or (told == 0 and TELLING.intersection(where) and "was interrupted" in caplog.text)
        assert not watched.woken._lock.locked()
        assert watched.empty.acquire(blocking=False)
        assert (scheduler.totals[S.CANCELLED], scheduler.finished_items()) == (1, [item])
        assert scheduler.is_empty
        assert watched.manual.sync.start() is None
        caplog.clear()


def test_r1_running_item_hears_of_its_cancellation() -> None:
    """Struck anywhere, the cancellation of a running item reaches whoever waits for it; the item goes on."""
    for watched, where in strikes(starts=True):
        assert watched.item.status is S.RUNNING
        if not watched.item.token.is_cancellation_requested:
            # Struck at the door.
            watched.cancel()
        watched.hears_of_it(where)
        watched.manual.sync.finish(watched.item)
        assert watched.scheduler.totals[S.SUCCEEDED] == 1
        assert watched.scheduler.is_empty


def test_r1_item_that_ends_before_its_struck_cancellation_is_completed() -> None:
    """An item that has started, and ended, before the keeper comes to it is its worker's: it ends once."""
    for point in range(40):
        watched = Watched(starts=True)
        where = strike(point, watched.cancel)
        watched.manual.sync.finish(watched.item)
        watched.manual.keeper.run()
        assert watched.scheduler.totals[S.SUCCEEDED] == 1
        assert watched.manual.observer.names(watched.item).count("finished") == 1
        if watched.item.token.is_cancellation_requested:
            watched.hears_of_it(where)


def test_r1_exit_in_a_callback_leaves_no_item_behind(start: Callable[..., Runtime], gate: Gate) -> None:
    """On real threads: a callback that leaves by SystemExit keeps the item neither from its end nor from its record."""
    runtime = start(max_workers=1)
    runtime.queue(gate)
    gate.await_entered()
    handle = runtime.queue(noop)

    def leave() -> None:
        raise SystemExit

    handle.token.register(leave)
    with pytest.raises(SystemExit):
        handle.cancel()
    assert handle.wait(PATIENCE)
    gate.open()
    runtime.await_empty()
    assert runtime.observer.statuses().count(S.CANCELLED) == 1


def test_r2_cancellation_by_another_is_left_to_it() -> None:
    """Two cancel the same item, and the second is struck: the first one tells of the end, alone."""
    for point in range(20):
        watched = Watched()

        def again(watched: Watched = watched, point: int = point) -> None:
            strike(point, watched.cancel)
            watched.manual.keeper.run()
            assert watched.manual.observer.names(watched.item) == []

        watched.item.token.register(again)
        watched.cancel()
        assert watched.manual.observer.names(watched.item) == ["finished"]
        assert watched.scheduler.totals[S.CANCELLED] == 1


def test_repr_shows_item_and_state(manual: ManualRuntime) -> None:
    """What stands in the log of a chore says which item it is about."""
    withdrawal = Withdrawal(manual.scheduler, manual.queue(), None)
    assert repr(withdrawal) == "<Withdrawal item=<WorkItem tests.support.manual.noop queued> told=False>"
    assert withdrawal.run() is True
    assert repr(withdrawal) == "<Withdrawal item=<WorkItem tests.support.manual.noop cancelled> told=True>"


def test_message_that_cannot_be_a_text_changes_nothing(manual: ManualRuntime) -> None:
    """A message whose `__str__` raises comes out of `cancel`, and the item stays queued."""

    class Message:
        def __str__(self) -> str:
            raise ValueError("no text")

    item = manual.queue()
    with pytest.raises(ValueError, match="no text"):
        manual.scheduler.cancel(item, Message())  # type: ignore[arg-type]
    assert manual.sync.start() is item
