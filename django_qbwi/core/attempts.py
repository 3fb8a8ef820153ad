"""Attempts: a run that has failed is followed by another one, after a while.

States: RUNNING -> planned (it is told of, and its connections are closed) -> QUEUED, among those that wait for their
time -> in its lane -> RUNNING. One that waits so ends FAILED, as its last attempt has, where others are DISCARDED.
Lock: that of the registry. While it is planned the item stays among the running ones, and only becomes another's by the
last step of its run: nobody runs it twice at a time.

Four ways in which this could fail, and what stands against each:
- The user's code raises where it is asked for the pause, or answers nonsense: that is logged, and the item is FAILED.
- The process ends, or the limit passes, between the plan and the last step: that looks again, under the lock.
- A thread is killed in between: whoever finds its item takes the last step.
- The item is cancelled in between, by a token that its next attempt would not get: that step ends it.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from django_qbwi.core.calls import continued
from django_qbwi.core.cancellation import CancellationToken, CancelReason, StopFlag
from django_qbwi.core.checkpoints import CheckpointToken
from django_qbwi.core.failures import message_of, type_of, without_frames
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import ASYNC, SYNC
from django_qbwi.core.ports import Resumable
from django_qbwi.core.records import WorkItemError, WorkItemStatus
from django_qbwi.core.room import PatientCallers
from django_qbwi.core.runs import Ending, Run
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding

logger = SafeLogger("django_qbwi.scheduler")


class FailedAttempt:
    """A run that has failed, and is followed by another one; nothing changes it."""

    __slots__ = ("due", "ending", "seconds", "withdrawn")

    def __init__(self, ending: Ending, seconds: float, due: float) -> None:
        self.ending: Final = ending
        """How the item ends if the next attempt never begins."""
        self.withdrawn: Final = Ending(WorkItemStatus.CANCELLED, ending.finished, CancelReason.REQUESTED)
        """How it ends if somebody cancels it ahead of its wait."""
        self.seconds: Final = seconds
        """Between its end and the next attempt."""
        self.due: Final = due
        """The monotonic second before which that does not begin."""

    def __repr__(self) -> str:
        return f"<FailedAttempt {self.ending!r} seconds={self.seconds}>"


class Attempt(Run):
    """A run of an item that may be followed by another one."""

    __slots__ = ("again", "before", "call")

    def __init__(
        self,
        stop: StopFlag,
        token: CancellationToken,
        before: FailedAttempt | None = None,
        number: int = 1,
        call: Resumable | None = None,
    ) -> None:
        super().__init__(stop, early=True, attempt=number)
        self.token = token
        self.call = call
        """What goes on from a checkpoint, None if that is the item's function itself."""
        self.before = before
        """The one that this one follows."""
        self.again: FailedAttempt | None = None
        """This one, once it has failed and another one is planned."""

    @property
    def last_failure(self) -> Ending | None:
        """How the item ends if this one never begins."""
        return None if self.before is None else self.before.ending


class RetriedItems(PatientCallers):
    """Takes items in again whose run has failed."""

    def plans_another(self, item: WorkItem, error: BaseException) -> bool:
        """Return whether another attempt follows the run of `item`, which has failed with `error`; in its thread."""
        run = item.run
        if not isinstance(run, Attempt):
            return False
        if run.again is not None:
            return True
        # What was cancelled is not wanted any more, however it has ended.
        seconds = None if run.token.is_cancellation_requested else _seconds_until_next(item, error)
        if seconds is None:
            return False
        now = self.clock()
        ending = Ending(WorkItemStatus.FAILED, now, None, WorkItemError.of(error), error)
        refusal = holding(self.lock, self._plan, item, run, FailedAttempt(ending, seconds, now + seconds))
        if refusal:
            logger.warning("Work item id=%s name=%s is not tried again: %s", item.id, item.name, refusal)
        return run.again is not None

    def _plan(self, item: WorkItem, run: Attempt, failed: FailedAttempt) -> str:
        """Store the plan, or return why there is none; "" also if the item has ended meanwhile."""
        if item.ending is not None or item not in self._running:
            return ""
        if not self._is_in_time(failed.due):
            return "the process will have ended by then"
        if len(self._delayed) >= self._bounds.max_delayed:
            return f'{self._bounds.max_delayed} items wait for their time already, which is QBWI["MAX_DELAYED"]'
        run.again = failed
        return ""

    def _is_in_time(self, due: float) -> bool:
        deadline = self.stop.deadline
        return not self._closed and (deadline is None or due <= deadline)

    def goes_on(self, item: WorkItem) -> bool:
        """Take the last step of a run whose item has not ended: let it wait for its next attempt, if that is planned.

        In the thread of the run, or of who has found it; nothing of the run may touch the item after that.
        """
        run = item.last_run
        if not isinstance(run, Attempt) or run.again is None:
            return False
        failed = run.again
        if failed.ending.exception is not None:
            # They keep what the attempt has worked with, which the next one does not need.
            without_frames(failed.ending.exception)
        _go_on_from(item, run)
        if holding(self.lock, self._wait_again, item, run, failed):
            self._timetable.arm(item, failed.due, lambda: item in self._delayed)
        elif item.ending is failed.ending or item.ending is failed.withdrawn:
            self.give_back(item)
        else:
            # It was given up meanwhile, and is told of by whoever did that.
            self.observer.late(item)
        return True

    def _wait_again(self, item: WorkItem, run: Attempt, failed: FailedAttempt) -> bool:
        if item.ending is not None or item.last_run is not run or item not in self._running:
            return False
        if run.token.reason is CancelReason.REQUESTED:
            item.ending = failed.withdrawn
            return False
        if not self._is_in_time(failed.due):
            item.ending = failed.ending
            return False
        item.status.then(WorkItemStatus.QUEUED)
        # Where it began: one that has returned an awaitable went on in another lane.
        item.lane = self.lanes[item.options.lane or (ASYNC if item.is_async else SYNC)]
        # In both for a moment, rather than in none.
        self._delayed[item] = failed.due
        item.last_run = self._next(run, failed)
        del self._running[item]
        if item.options.keyed is not None:
            self._turns.drop(item)
        return True

    def begin_again_at_once(self, item: WorkItem) -> bool:
        """Have the next attempt begin, if one is planned, where items run at the call: nobody waits there."""
        run = item.last_run
        if not isinstance(run, Attempt) or run.again is None or item.ending is not None:
            return False
        if run.token.reason is CancelReason.REQUESTED:
            item.ending = run.again.withdrawn
            self.give_back(item)
            return False
        _go_on_from(item, run)
        item.last_run = self._next(run, run.again)
        item.last_run.started = self.clock()
        return True

    def _next(self, run: Attempt, failed: FailedAttempt) -> Attempt:
        token = run.token
        # `make_movable` may have put another one there, of the same kind.
        assert isinstance(token, CheckpointToken)
        following = Attempt(self.stop, token.successor(), failed, run.attempt + 1, run.call)
        following.note_as(run)
        return following

    def give_back(self, item: WorkItem) -> None:
        """Have the end of an item told, and settle it; in this thread."""
        raise NotImplementedError


def let_try_again(item: WorkItem, call: Resumable | None = None) -> None:
    """Let a new item be one that may have several attempts, before anybody has asked for its token.

    Args:
        item: One of `make_item`.
        call: What goes on from a checkpoint, None if that is the function of the item itself.
    """
    stop = item.owner.stop
    if call is None:
        function, args = item.work
        token = CheckpointToken(stop, lambda state: continued(function, args, state))
    else:
        token = CheckpointToken(stop, call.with_state)
    item.last_run = Attempt(stop, token, call=call)


def failed_attempt(item: WorkItem) -> FailedAttempt | None:
    """Return how the last run of an item has failed, if another one is planned."""
    run = item.last_run
    return run.again if isinstance(run, Attempt) else None


def is_tried_again(item: WorkItem, error: BaseException) -> bool:
    """Return whether another attempt follows what is about to fail with `error`; in its thread, inside of its code."""
    owner = item.owner
    return item.options.retry is not None and isinstance(owner, RetriedItems) and owner.plans_another(item, error)


def ended_by_an_earlier_attempt(item: WorkItem) -> bool:
    """Return whether an item has ended by how an attempt has failed which was to be followed by another one."""
    run, ending = item.last_run, item.ending
    if not isinstance(run, Attempt) or ending is None:
        return False
    # Not by the endings: the limit of a drain makes one of its own of it.
    return any(failed is not None and failed.ending.exception is ending.exception for failed in (run.before, run.again))


def _seconds_until_next(item: WorkItem, error: BaseException) -> float | None:
    retry = item.options.retry
    if retry is None:
        return None
    try:
        seconds: Any = retry.seconds_until_next(item.run.attempt, error)
        if seconds is None:
            return None
        if not isinstance(seconds, bool) and isinstance(seconds, (int, float)) and 0 <= seconds <= sys.float_info.max:
            return float(seconds)
        problem = f"its backoff gave {seconds!r}, and no number of seconds, 0 or more"
    except BaseException as left:
        # User code, in the thread of the item, which has failed already.
        problem = f"its backoff raised {type_of(left)}: {message_of(left)}"
    logger.error("Work item id=%s name=%s is not tried again: %s", item.id, item.name, problem)
    return None


def _go_on_from(item: WorkItem, run: Attempt) -> None:
    token: Any = run.token
    state = token.state
    if not state:
        return
    try:
        if run.call is None:
            function, args = item.work
            item.replace_work(*continued(function, args, state))
        else:
            run.call.go_on_from(state)
        if item.options.movable is not None:
            item.options.movable.remember(state)
    except BaseException:
        # It was proven at the checkpoint; nothing keeps an item from its next attempt.
        logger.exception("Work item id=%s name=%s does not go on from its checkpoint", item.id, item.name)
