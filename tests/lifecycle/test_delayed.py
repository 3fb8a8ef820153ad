"""The end of a process in which items wait for their time: it waits for those that can begin before its limit."""

import pytest

from django_qbwi.core.exceptions import SchedulerDraining
from django_qbwi.core.records import WorkItemStatus
from tests.lifecycle.test_drain import Drain

S = WorkItemStatus


def test_only_what_can_be_due_is_waited_for() -> None:
    """At the first sign the others are DISCARDED, each with its record and its signal."""
    drain = Drain(shutdown_timeout=20.0)
    soon, late = drain.queue_later(5.0), drain.queue_later(500.0)
    drain.coordinator.sign("a test")
    drain.advance(0)
    assert (late.status, soon.status) == (S.DISCARDED, S.QUEUED)
    assert [(name, item) for name, item, _ in drain.observer.events] == [("finished", late)]
    drain.advance(5.0)
    assert drain.sync.start() is soon


def test_limit_that_shrinks_makes_more_of_them_late() -> None:
    """A second sign may bring a shorter limit."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.queue_later(15.0)
    drain.coordinator.sign("a test")
    drain.advance(0)
    assert item.status is S.QUEUED
    drain.coordinator.sign("another", at_most=10.0)
    drain.advance(0)
    assert item.status is S.DISCARDED


def test_second_interrupt_gives_them_up() -> None:
    """A hold that is told to let go does, though what it waits for could still begin."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.queue_later(15.0)
    drain.coordinator.sign("a test")
    drain.at(3.0, drain.coordinator.force)
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert item.status is S.DISCARDED
    assert drain.elapsed() < 5


def test_idle_exit_is_not_held_for_them() -> None:
    """Where only late ones are left, the hold ends with them, and its last record counts them."""
    drain = Drain(shutdown_timeout=20.0)
    drain.queue_later(500.0)
    drain.coordinator.sign("a test")
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert drain.elapsed() == 0
    assert drain.reports.given_up == (0, 1)


def test_hold_waits_for_the_one_that_comes_due() -> None:
    """It runs, and then the hold is over."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.queue_later(5.0)
    drain.at(5.0, lambda: drain.sync.finish(drain.sync.start() or item))
    drain.coordinator.hold(last=True)
    assert item.status is S.SUCCEEDED
    assert 5 <= drain.elapsed() < 7


def test_late_item_is_refused_during_a_drain() -> None:
    """Rather than accepted and discarded."""
    drain = Drain(shutdown_timeout=20.0)
    drain.coordinator.sign("a test")
    with pytest.raises(SchedulerDraining, match="due"):
        drain.queue_later(60.0)
    item = drain.queue_later(5.0)
    drain.advance(5.0)
    assert drain.sync.start() is item


class _Again:
    """Has another attempt follow after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        return self.seconds if attempt == 1 else None


def test_waiting_attempts_end_as_their_last_one() -> None:
    """What cannot be due has FAILED at the first sign, what did not begin at the limit; neither is discarded."""
    drain = Drain(shutdown_timeout=20.0)
    late, soon = drain.running(retry=_Again(30.0)), drain.running(retry=_Again(5.0))
    for item in (late, soon):
        assert not drain.sync.finish(item, ValueError("no"))
    drain.coordinator.sign("a test")
    drain.advance(0)
    assert (late.status, soon.status) == (S.FAILED, S.QUEUED)
    drain.coordinator.hold(last=True)
    assert soon.status is S.FAILED
    (outcome,) = drain.reports.finished
    assert (outcome.finished, outcome.abandoned, outcome.discarded) == (2, 0, 0)
