"""One item as its helper sees it: a token that asks the parent, and an item that is only looked at."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from django_qbwi.core.calls import Options
from django_qbwi.core.cancellation import CancellationToken, CancelReason, OperationCancelled
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import SYNC, Lane
from django_qbwi.core.runs import Run
from django_qbwi.core.stop import StopFlag
from django_qbwi.executors.processes.outbox import Outbox
from django_qbwi.machine.primitives import Alarm


class HelperToken(CancellationToken):
    """The token of an item in its helper: the parent cancels it, and hears of progress and checkpoints."""

    __slots__ = ("_answer", "_answered", "_outbox", "number")

    def __init__(self, outbox: Outbox, number: int, remaining: float | None) -> None:
        """Make it for the call `number`, whose time is over in `remaining` seconds, if there is such a limit."""
        super().__init__(StopFlag())
        self.number = number
        self._outbox = outbox
        self._answered: Alarm | None = None
        self._answer: BaseException | None = None
        self.set_remaining(remaining)

    def set_remaining(self, remaining: float | None) -> None:
        """Take notice of the seconds until the deadline."""
        self._deadline = None if remaining is None else time.monotonic() + remaining

    def report(self, done: float, total: float | None = None, text: str = "") -> None:
        """See `CancellationToken.report`."""
        super().report(done, total, text)
        progress = self.progress
        assert progress is not None
        self._outbox.report(progress)

    def checkpoint(self, **state: Any) -> None:
        """See `CancellationToken.checkpoint`; the parent decides, which is asked."""
        self._answered = Alarm()
        self._outbox.send(("checkpoint", state))
        self._answered.wait(None)
        if self._answer is not None:
            answer, self._answer = self._answer, None
            raise answer

    def answer(self, moves: bool, error: BaseException | None) -> None:
        """Let a checkpoint return, or leave the item's code; in the thread that hears the parent."""
        self._answer = OperationCancelled(self) if moves else error
        if self._answered is not None:
            self._answered.set()


class _Owner:
    """Stands where the scheduler of an item stands, which is in the parent; see `Owner`."""

    def __init__(self, outbox: Outbox, stop: StopFlag) -> None:
        self.clock = time.monotonic
        self.lanes: Mapping[str, Any] = {SYNC: Lane[WorkItem](SYNC)}
        self.stop = stop
        self.lock = stop.lock
        self._outbox = outbox

    @property
    def pid(self) -> int:
        """This process, where the item runs."""
        return os.getpid()

    def due(self, item: WorkItem) -> float | None:
        """Return that it waits for nothing."""
        return None

    def expires(self, item: WorkItem) -> float | None:
        """Return that it has begun."""
        return None

    def make_id(self, size: int = 12) -> str:
        """Return an id where the parent has given none."""
        return os.urandom(size).hex()

    def wall_clock(self, monotonic: float) -> float:
        """Return a moment of the monotonic clock as seconds since the epoch."""
        return time.time() - time.monotonic() + monotonic

    def cancel(self, item: WorkItem, message: str | None = None) -> bool:
        """Cancel the item here at once, and then in the parent."""
        first = item.token._cancel(CancelReason.REQUESTED, message)
        if first:
            self._outbox.send(("cancel", message))
        return first


def item_of(about: dict[str, Any], function: Any, token: HelperToken, outbox: Outbox) -> WorkItem:
    """Return the item for `current_work_item()`."""
    stop = StopFlag()
    options = Options(about["name"], about["timeout"])
    item = WorkItem(_Owner(outbox, stop), function, (), False, about["origin"], options)
    item.known_id = about["id"]
    run = item.last_run = Run(stop, attempt=about["attempt"])
    run.token = token
    run.thread, run.ident = threading.current_thread().name, threading.get_ident()
    run.started = item.queued
    return item
