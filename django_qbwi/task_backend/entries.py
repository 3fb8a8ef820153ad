"""One task that was enqueued: what it is called with, how it runs as a work item, and its result.

Order of the end: the outcome is stored, then `task_finished` is sent, inside of the handling of what the task has
raised (`sys.exc_info()` is there for its receivers), and only then the item ends and those who wait for it wake.
An item that never came to its own code, or left it too late, is told of when it is settled (`ended`).

One that is tried again is READY behind each attempt that has failed. That is planned where the task has raised, so that
its end is not told of too early; an item that then ends by that failure all the same is told of when it is settled.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from django_qbwi.core.attempts import ended_by_an_earlier_attempt, failed_attempt, is_tried_again
from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.checkpoints import CheckpointReached
from django_qbwi.core.exceptions import SchedulerClosed
from django_qbwi.core.failures import is_a, traceback_of, traceback_text, type_of, without_frames
from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.delivery import Schedule, deliver, deliver_from_item
from django_qbwi.handoff.calls import PlainCall
from django_qbwi.handoff.frameworks import Framework
from django_qbwi.handoff.plain_json import round_trip
from django_qbwi.intake.options import NO_START, Start
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.task_backend.outcome import Failure, Outcome
from django_qbwi.task_backend.results import TaskResults

_MAX_WORKER_ID = 64
_RETRY_FORMAT = "Task id=%s path=%s state=%s attempt=%d failed: the next one follows in %.1fs"


class TaskEntry:
    """A task, as it was enqueued, and its outcome.

    Invariant: `outcome` is replaced as a whole, by `TaskResults.change`; its first final one stands.
    """

    __slots__ = (
        "__weakref__",
        "_item",
        "_schedule",
        "args",
        "backend",
        "call",
        "framework",
        "id",
        "kwargs",
        "outcome",
        "results",
        "sender",
        "start",
        "task",
    )

    def __init__(
        self,
        framework: Framework,
        results: TaskResults,
        sender: type,
        task: Any,
        result_id: str,
        backend: str,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Make it of arguments that are plain JSON; `sender` is that of its signals."""
        self.framework = framework
        self.results = results
        self.sender = sender
        self.task = task
        self.id = result_id
        self.backend = backend
        self.args = args
        self.kwargs = kwargs
        self.outcome = Outcome()
        self.call: PlainCall | None = None
        """What goes on from a checkpoint, here or in another engine; None if it is not tried again, and cannot move."""
        self.start: Start = NO_START
        """With its keys, and what follows an attempt that has failed; without its moment."""
        self._item: WorkItem | None = None
        self._schedule: Schedule = None

    def __repr__(self) -> str:
        return f"<TaskEntry id={self.id} path={self.path} status={self.outcome.status}>"

    @property
    def path(self) -> str:
        """The dotted path of its function."""
        return str(self.task.module_path)

    @property
    def result(self) -> Any:
        """A `TaskResult` of this moment: nothing that is done to it reaches anybody else's."""
        outcome, framework = self.outcome, self.framework
        result = framework.result(
            task=self.task,
            id=self.id,
            status=framework.status(outcome.status),
            enqueued_at=outcome.enqueued_at,
            started_at=outcome.started_at,
            finished_at=outcome.finished_at,
            last_attempted_at=outcome.last_attempted_at,
            args=self.args,
            kwargs=self.kwargs,
            backend=self.backend,
            errors=[
                framework.error(exception_class_path=failure.exception_class_path, traceback=failure.traceback)
                for failure in outcome.failures
            ],
            worker_ids=list(outcome.worker_ids),
        )
        # The class is frozen, and has no argument for it.
        object.__setattr__(result, "_return_value", framework.normalize(outcome.value))
        return result

    def describe(self) -> dict[str, Any]:
        """Return what another process is told of it, as plain JSON; `remote` reads it."""
        task, outcome = self.task, self.outcome
        return {
            "path": self.path,
            "priority": task.priority,
            "queue_name": task.queue_name,
            "run_after": _told(task.run_after),
            "takes_context": task.takes_context,
            "args": self.args,
            "kwargs": self.kwargs,
            "status": outcome.status,
            "enqueued_at": _told(outcome.enqueued_at),
            "started_at": _told(outcome.started_at),
            "last_attempted_at": _told(outcome.last_attempted_at),
            "finished_at": _told(outcome.finished_at),
            "failures": [dataclasses.asdict(failure) for failure in outcome.failures],
            "worker_ids": list(outcome.worker_ids),
            "value": outcome.value,
        }

    # In the caller's thread.

    def accepted(self, item: WorkItem) -> None:
        """Take notice of the work item that runs it, before that can begin; the two have one id."""
        item.known_id = self.id
        self._item = item
        self._schedule = getattr(getattr(item.owner, "observer", None), "schedule", None)
        self.results.change(self, self.outcome.enqueued(timezone.now()))
        self.results.add(self)
        item.add_waiter(self.ended)
        signal = self.framework.task_enqueued
        if signal.receivers:
            deliver(signal, self.sender, self._schedule, task_result=self.result)

    # In the thread of the item.

    def run(self, token: object) -> None:
        """Run a task that is a plain function."""
        self._begin()
        self._tell(self.framework.task_started)
        try:
            args, kwargs = self._arguments()
            value = self._checked(self.task.call(*args, **kwargs))
        except CheckpointReached:
            # Its rest moves; if not, `ended` is told what has become of it.
            raise
        except BaseException as error:
            # User code returns to us here: SystemExit too fails the task, and the item.
            if self._is_tried_again(error):
                self._record_retry(error)
            else:
                self._fail(error)
            raise
        self._finish(self.outcome.succeeded(timezone.now(), value))

    async def arun(self, token: object) -> None:
        """Run a task that is a coroutine function."""
        self._begin()
        framework = self.framework
        await self._atell(framework.task_started)
        try:
            args, kwargs = self._arguments()
            value = self._checked(await self.task.acall(*args, **kwargs))
        except CheckpointReached:
            raise
        except BaseException as error:
            # As above. Where the coroutine is closed, nothing can be awaited any more.
            is_closed = is_a(error, GeneratorExit)
            if self._is_tried_again(error):
                if is_closed:
                    self._record_retry(error)
                else:
                    await sync_to_async(self._record_retry)(error)
            elif is_closed:
                self._fail(error)
            elif self._store(self.outcome.failed(timezone.now(), _failure_of(error))):
                await self._atell(framework.task_finished)
            raise
        if self._store(self.outcome.succeeded(timezone.now(), value)):
            await self._atell(framework.task_finished)

    # In the thread that settles the item.

    def ended(self) -> None:
        """Take notice of the end of the item; a task that has no final outcome by then gets one."""
        item, self._item = self._item, None
        if item is None or self.outcome.is_finished:
            return
        if item.status is WorkItemStatus.HANDED_OFF:
            # It is the engine's now, and so is its result.
            movable: Any = item.options.movable
            self.results.has_moved(self, movable.engine_id)
            return
        try:
            raise _reason_of(item)
        except BaseException as error:
            # Raised, so that the receivers find it: the record of the framework, and what reports errors.
            if ended_by_an_earlier_attempt(item):
                self._finish(self.outcome.given_up(timezone.now()))
            else:
                self._fail(error)
            without_frames(error)

    def refused(self, error: Exception) -> None:
        """Take notice that it cannot run, once nobody is there to be told of it at the call: after a commit."""
        self.results.add(self)
        try:
            raise error
        except Exception:
            self._fail(error)

    def _begin(self) -> None:
        worker = f"{self.results.worker}:{threading.current_thread().name}"
        self.results.change(self, self.outcome.started(timezone.now(), worker[-_MAX_WORKER_ID:]))

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        given = self if self.call is None else self.call
        # Copies: what a task does to its arguments is not seen in its result.
        args: list[Any] = self.framework.normalize(given.args)
        kwargs: dict[str, Any] = self.framework.normalize(given.kwargs)
        if self.task.takes_context:
            args = [self.framework.context(task_result=self.result), *args]
        return args, kwargs

    def _checked(self, value: Any) -> Any:
        # First as the framework does, whose error it is then.
        value = self.framework.normalize(value)
        return round_trip(value, f"what {self.path} has returned", self.framework.normalize)

    def _is_tried_again(self, error: BaseException) -> bool:
        """Return whether another attempt follows the one that has raised `error`; the task is READY for it then."""
        item = self._item
        return (
            item is not None and is_tried_again(item, error) and self._store(self.outcome.retried(_failure_of(error)))
        )

    def _record_retry(self, error: BaseException) -> None:
        """Record on the framework's logger what no signal of the framework tells of."""
        item = self._item
        failed = None if item is None else failed_attempt(item)
        if failed is None:
            return
        outcome, logger = self.outcome, SafeLogger(self.framework.name)
        how = (_RETRY_FORMAT, self.id, self.path, outcome.status, len(outcome.worker_ids), failed.seconds)
        if not logger.try_log(logging.WARNING, *how, exc_info=(type(error), error, traceback_of(error))):
            # A handler without logging's own safety net met an exception whose __str__ raises.
            logger.try_log(logging.WARNING, *how)

    def _fail(self, error: BaseException) -> None:
        self._finish(self.outcome.failed(timezone.now(), _failure_of(error)))

    def _finish(self, outcome: Outcome) -> None:
        if self._store(outcome):
            self._tell(self.framework.task_finished)

    def _store(self, outcome: Outcome) -> bool:
        return self.results.change(self, outcome)

    def _tell(self, signal: Any) -> None:
        if signal.receivers:
            deliver_from_item(signal, self.sender, self._schedule, task_result=self.result)

    async def _atell(self, signal: Any) -> None:
        if signal.receivers:
            # Not by `asend`: before version 6.0, what is being handled is not seen by its receivers.
            await sync_to_async(deliver_from_item)(signal, self.sender, self._schedule, task_result=self.result)


def _told(value: datetime.datetime | None) -> str | None:
    if value is None:
        return None
    return (value if timezone.is_aware(value) else timezone.make_aware(value)).isoformat()


def _failure_of(error: BaseException) -> Failure:
    return Failure(exception_class_path=type_of(error), traceback=traceback_text(error))


def _reason_of(item: WorkItem) -> BaseException:
    ending = item.ending
    if ending is not None and ending.exception is not None:
        return ending.exception
    if item.status is WorkItemStatus.CANCELLED or item.token.reason is CancelReason.EXPIRED:
        return OperationCancelled(item.token)
    how = "had begun it, and did not finish it in time" if item.started is not None else "had not begun it"
    return SchedulerClosed(f"{item.name} was {item.status}: the process ended, and {how}")
