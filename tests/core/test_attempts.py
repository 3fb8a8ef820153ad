"""Attempts: what has failed is tried again, holds no worker meanwhile, and ends in one way whatever comes."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from django_qbwi.core.attempts import Attempt
from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from tests.support.manual import ManualRuntime

S = WorkItemStatus


class Policy:
    """Tries again after so many seconds each; an exception among them is raised."""

    def __init__(self, *seconds: Any) -> None:
        self.seconds = list(seconds)
        self.asked: list[tuple[int, BaseException]] = []

    def seconds_until_next(self, attempt: int, error: BaseException) -> Any:
        self.asked.append((attempt, error))
        answer = self.seconds[attempt - 1] if attempt <= len(self.seconds) else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def failed(manual: ManualRuntime, item: WorkItem, error: BaseException | None = None) -> BaseException:
    """Begin the next attempt of an item, and let it fail."""
    error = ValueError("no") if error is None else error
    assert manual.sync.start() is item
    manual.sync.finish(item, error)
    return error


def test_next_attempt_comes_after_the_pause(manual: ManualRuntime) -> None:
    """It waits as a delayed one, and is QUEUED, until its moment; the last one decides."""
    policy = Policy(10.0, 20.0)
    item = manual.queue(retry=policy)
    first = failed(manual, item)
    assert (item.status, manual.scheduler.delayed_count, manual.scheduler.running_count) == (S.QUEUED, 1, 0)
    manual.advance(9.9)
    assert manual.sync.start() is None
    manual.advance(0.1)
    second = failed(manual, item)
    manual.advance(20)
    assert manual.sync.start() is item
    assert item.info().attempt == 3
    manual.sync.finish(item)
    assert item.status is S.SUCCEEDED
    assert policy.asked == [(1, first), (2, second)]
    assert manual.scheduler.is_empty


def test_last_attempt_fails(manual: ManualRuntime) -> None:
    """Behind the last one the item is FAILED, with what that has raised."""
    item = manual.queue(retry=Policy(1.0))
    failed(manual, item)
    manual.advance(1)
    error = failed(manual, item, KeyError("the last"))
    assert (item.status, item.ending and item.ending.exception) == (S.FAILED, error)
    assert manual.scheduler.totals[S.FAILED] == 1


def test_each_attempt_has_a_token_of_its_own(manual: ManualRuntime) -> None:
    """That of the first one has passed away with it."""
    item = manual.queue(retry=Policy(1.0), timeout=5.0)
    assert manual.sync.start() is item
    first = item.token
    manual.sync.finish(item, ValueError())
    assert item.token is not first
    manual.advance(1)
    assert manual.sync.start() is item
    manual.advance(5)
    assert item.token.is_cancellation_requested
    assert not first.is_cancellation_requested


def test_timeout_counts_for_each_attempt(manual: ManualRuntime) -> None:
    """The clock of an attempt begins with it, and stops at its end."""
    item = manual.queue(retry=Policy(60.0), timeout=5.0)
    failed(manual, item)
    manual.advance(30)
    assert not item.token.is_cancellation_requested


@pytest.mark.parametrize("error", [None, asyncio.CancelledError(), ValueError("because of it")], ids=repr)
def test_what_was_cancelled_is_not_tried_again(manual: ManualRuntime, error: BaseException | None) -> None:
    """However it ends: nobody wants it any more."""
    policy = Policy(1.0)
    item = manual.queue(retry=policy)
    assert manual.sync.start() is item
    manual.scheduler.cancel(item)
    manual.sync.finish(item, OperationCancelled(item.token) if error is None else error)
    assert item.status is (S.FAILED if isinstance(error, ValueError) else S.CANCELLED)
    assert policy.asked == []


def test_cancelled_while_it_waits(manual: ManualRuntime) -> None:
    """One that waits for its next attempt is CANCELLED at once, and never comes."""
    item = manual.queue(retry=Policy(10.0))
    failed(manual, item)
    assert manual.scheduler.cancel(item)
    assert item.status is S.CANCELLED
    manual.advance(20)
    assert manual.sync.start() is None
    assert manual.scheduler.is_empty


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (RuntimeError("oops"), "its backoff raised builtins.RuntimeError: oops"),
        (SystemExit(3), "its backoff raised builtins.SystemExit: 3"),
        (-1, "its backoff gave -1"),
        (math.nan, "its backoff gave nan"),
        (math.inf, "its backoff gave inf"),
        (True, "its backoff gave True"),
        ("5", "its backoff gave '5'"),
    ],
)
def test_backoff_that_is_wrong(manual: ManualRuntime, caplog: pytest.LogCaptureFixture, answer: Any, text: str) -> None:
    """It ends the item, FAILED by its own failure, and is named in a record."""
    item = manual.queue(retry=Policy(answer))
    error = failed(manual, item)
    assert (item.status, item.ending and item.ending.exception) == (S.FAILED, error)
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert text in record.getMessage()


def test_bound_of_what_waits_for_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """Where MAX_DELAYED items wait there is no place: the item fails, and a record says why."""
    manual = ManualRuntime(max_delayed=1)
    manual.queue_later(60)
    item = manual.queue(retry=Policy(1.0))
    failed(manual, item)
    assert item.status is S.FAILED
    assert 'QBWI["MAX_DELAYED"]' in caplog.text


# The end of the process.


def test_attempt_beyond_the_end_is_left_out(manual: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """What fails in a drain is tried again only if that can begin before the limit."""
    soon, late = manual.queue(retry=Policy(5.0)), manual.queue(retry=Policy(50.0))
    manual.scheduler.stop.first_sign = manual.clock()
    manual.scheduler.stop.deadline = manual.clock() + 20
    failed(manual, soon)
    failed(manual, late)
    assert (soon.status, late.status) == (S.QUEUED, S.FAILED)
    assert "is not tried again: the process will have ended by then" in caplog.text


def test_waiting_attempt_fails_at_the_first_sign(manual: ManualRuntime) -> None:
    """One that cannot be due before the limit ends FAILED, with what its last attempt has raised, and is told of."""
    item = manual.queue(retry=Policy(50.0))
    error = failed(manual, item)
    manual.scheduler.stop.first_sign = manual.clock()
    manual.scheduler.stop.deadline = manual.clock() + 20
    assert manual.scheduler.drop_late() == [item]
    manual.scheduler.report_unstarted(item)
    assert (item.status, item.ending and item.ending.exception) == (S.FAILED, error)
    assert manual.scheduler.is_empty


def test_waiting_attempt_fails_at_the_limit(manual: ManualRuntime) -> None:
    """Where others are DISCARDED, one that has begun once is FAILED."""
    item, other = manual.queue(retry=Policy(5.0)), manual.queue()
    error = failed(manual, item)
    assert manual.scheduler.give_up() == [other, item]
    assert (item.status, other.status) == (S.FAILED, S.DISCARDED)
    assert item.ending is not None
    assert item.ending.exception is error
    assert item.ending.failure is not None


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_limit_between_the_plan_and_the_last_step(manual: ManualRuntime, seconds: float) -> None:
    """The item is still a running one there: ABANDONED by who gives up, and never tried again."""
    item = manual.queue(retry=Policy(seconds))
    assert manual.sync.start() is item
    assert manual.scheduler.conclude(item, ValueError()) is False
    assert isinstance(item.run, Attempt)
    assert item.run.again is not None
    assert manual.scheduler.give_up() == [item]
    manual.scheduler.late(item)
    manual.scheduler.report_unstarted(item)
    manual.advance(10)
    assert item.status is S.ABANDONED
    assert manual.scheduler.is_empty


def test_end_between_the_plan_and_the_last_step(manual: ManualRuntime) -> None:
    """A sign that comes there leaves the attempt no time: the item is FAILED, told of and settled by its own thread."""
    item = manual.queue(retry=Policy(50.0))
    assert manual.sync.start() is item
    assert manual.scheduler.conclude(item, ValueError()) is False
    manual.scheduler.stop.first_sign = manual.clock()
    manual.scheduler.stop.deadline = manual.clock() + 20
    manual.scheduler.late(item)
    assert (item.status, item.ended) == (S.FAILED, True)
    assert manual.observer.names(item)[-1] == "finished"
    assert manual.scheduler.is_empty


def test_cancelled_between_the_plan_and_the_last_step(manual: ManualRuntime) -> None:
    """Its next attempt would have another token: the item is CANCELLED, told of and settled by its own thread."""
    item = manual.queue(retry=Policy(5.0))
    assert manual.sync.start() is item
    assert manual.scheduler.conclude(item, ValueError()) is False
    assert manual.scheduler.cancel(item)
    manual.scheduler.late(item)
    assert (item.status, item.ended, item.cancel_reason) == (S.CANCELLED, True, CancelReason.REQUESTED)
    assert manual.observer.names(item)[-1] == "finished"
    manual.advance(10)
    assert manual.sync.start() is None
    assert manual.scheduler.is_empty


# Checkpoints.


def test_next_attempt_goes_on_from_the_checkpoint(manual: ManualRuntime) -> None:
    """The last state replaces the arguments, by place and by name; also behind an attempt that noted none."""

    def rows(token: Any, first: int, last: int = 9, *, size: int = 1) -> None:
        """Do nothing."""

    item = manual.queue(rows, 0, retry=Policy(1.0, 1.0))
    assert manual.sync.start() is item
    item.token.checkpoint(first=3)
    item.token.checkpoint(first=4, size=2)
    manual.sync.finish(item, ValueError())
    for _ in range(2):
        manual.advance(1)
        assert manual.sync.start() is item
        function, args = item.work
        assert (args, function.keywords) == ((4,), {"size": 2})  # type: ignore[attr-defined]
        if item.run.attempt == 2:
            manual.sync.finish(item, ValueError())


@pytest.mark.parametrize("state", [{"nobody": 1}, {"token": 1}])
def test_state_with_which_it_cannot_be_called(manual: ManualRuntime, state: dict[str, Any]) -> None:
    """It is refused at the checkpoint, and not at the next attempt."""

    def rows(token: Any, first: int) -> None:
        """Do nothing."""

    item = manual.queue(rows, 0, retry=Policy(1.0))
    assert manual.sync.start() is item
    with pytest.raises(InvalidWorkItem, match="rows cannot be called again"):
        item.token.checkpoint(**state)


def test_memory_of_an_attempt(manual: ManualRuntime) -> None:
    """While an item waits it does not keep the frames of the attempt before."""
    item = manual.queue(retry=Policy(1.0))
    try:
        raise ValueError
    except ValueError as caught:
        error: ValueError = caught
    failed(manual, item, error)
    assert error.__traceback__ is None
