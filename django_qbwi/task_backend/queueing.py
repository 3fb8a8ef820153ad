"""What the backend does in its caller's thread: check, store, and queue a task as a work item.

Backend objects are made per thread, when a module of tasks is imported, maybe before the apps are ready, and again by
`override_settings(TASKS=...)`, which closes none. So they hold no state: what is kept of tasks belongs to the process,
by the name of the framework and the alias.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage
from django.db import transaction

from django_qbwi import hosting
from django_qbwi.core.exceptions import InvalidWorkItem, WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.names import printable
from django_qbwi.handoff.calls import EngineCall, PlainCall
from django_qbwi.handoff.engines import Engine, engine, problem_of
from django_qbwi.handoff.frameworks import Framework, framework_of
from django_qbwi.handoff.plain_json import round_trip
from django_qbwi.intake.options import Start
from django_qbwi.intake.retries import Retry
from django_qbwi.machine.running_loop import on_running_loop
from django_qbwi.signals import scheduler_logger
from django_qbwi.task_backend import remote
from django_qbwi.task_backend.checks import problems
from django_qbwi.task_backend.entries import TaskEntry
from django_qbwi.task_backend.policy import policy_of, usual_policy
from django_qbwi.task_backend.pools import pool_of
from django_qbwi.task_backend.results import TaskResults
from django_qbwi.task_backend.start import refuse_nonsense, start_of, with_delay

_MOST_RESULTS = 1000


class TaskQueueing:
    """Runs tasks as work items of this process; mixed into the base class of a framework.

    - A task is accepted or refused at the call, as any work item, whose id it has; with ON_COMMIT, behind the commit.
    - `enqueue` and `aenqueue` neither block nor change threads.
    """

    framework: ClassVar[Framework]
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    runs_in_this_process = True
    """That nothing can be handed off to it, at the end of this process."""

    alias: str
    options: dict[str, Any]
    queues: set[str]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} alias={self.alias!r}>"

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task; see `queue_background_work_item` for what it means.

        Args:
            task: A `Task` of this backend.
            args: What it is called with, as JSON has it.
            kwargs: The same.

        Returns:
            Its `TaskResult` of this moment, or that of the task with the same `unique_key` which waits already;
            `refresh()` brings what has happened since.

        Raises:
            InvalidTask: The task does not fit this backend.
            ImproperlyConfigured: An option of the alias is wrong.
            InvalidWorkItem: The arguments are no JSON, or a key of the task's raises, or is no plain value. It is a
                TypeError.
            QueueFull: QBWI["MAX_QUEUED"] items wait already, or MAX_DELAYED for their time.
            SchedulerDraining, SchedulerClosed: The process is ending.
            NotHosted: The app is not installed, or Django is not set up.
        """
        self.validate_task(task)
        entry = self._entry(task, _new_id(), args, kwargs)
        entry.call = self._engine_call(entry)
        start = start_of(self.framework, task, self.retry_of(task), entry.args, entry.kwargs, self._kept_under)
        entry.start = start._replace(pool=pool_of(self.alias, self.options, task.queue_name))
        _let_try_again(entry)
        using = self.options.get("ON_COMMIT")
        # On a running loop no transaction can be open.
        if using is not None and not on_running_loop() and not hosting.runs_before_commit(using):
            self._results.expect(entry)
            transaction.on_commit(_queueing_later(entry), using=using, robust=True)
        else:
            item = _queue(entry, _surrounded(entry), _cure(self.alias) if using is None else None)
            if item.known_id != entry.id:
                return self._known(str(item.known_id)) or entry.result
        return entry.result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task; it does not wait for anything, and changes no thread."""
        return self.enqueue(task, args, kwargs)

    def validate_task(self, task: Any) -> None:
        """Refuse a task that does not fit this backend, or the engine that may get it.

        Raises:
            InvalidTask: It does not fit.
        """
        super().validate_task(task)  # type: ignore[misc]
        refuse_nonsense(task, self.framework.invalid)
        self._engine_task(task)

    def retry_of(self, task: Any) -> Retry | None:
        """Return what follows a failed attempt of a task, None if nothing does.

        Raises:
            ImproperlyConfigured: The option is wrong.
        """
        given = self.options.get("RETRY")
        return policy_of(task, None if given is None else self._usual_retry)

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task that a process of this site on this machine has, or has had.

        One of this process is found at once; for others it blocks for half a second at the most.

        Raises:
            TaskResultDoesNotExist: Nobody knows one of that id; the message says why that may be.
        """
        known = self._known(result_id)
        return self._of_another(self._id_there(result_id)) if known is None else known

    async def aget_result(self, result_id: str) -> Any:
        """See `get_result`; a thread asks the other processes meanwhile."""
        known = self._known(result_id)
        if known is not None:
            return known
        there = self._id_there(result_id)
        # With an engine: in the thread of this context's database connections.
        is_bound = self.options.get("HAND_OFF") is not None
        return await sync_to_async(self._of_another, thread_sensitive=is_bound)(there)

    def close(self) -> None:
        """Do nothing, at the end of a request: the tasks belong to the process."""

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return what is wrong with the settings of this alias."""
        return problems(self.framework, self.alias, self.options, self.queues)

    @property
    def _limit(self) -> int:
        limit = self.options.get("RESULTS", _MOST_RESULTS)
        return limit if isinstance(limit, int) else _MOST_RESULTS

    @functools.cached_property
    def _usual_retry(self) -> Retry | None:
        return usual_policy(self.alias, self.options)

    @property
    def _results(self) -> TaskResults:
        kept, key = hosting.this_process().task_results, self._kept_under
        results: Any = kept.get(key) or kept.setdefault(key, TaskResults(self._limit))
        results.limit = self._limit
        return results  # type: ignore[no-any-return]

    @property
    def _kept_under(self) -> str:
        return f"{self.framework.name}:{self.alias}"

    def _known(self, result_id: str) -> Any:
        entry = self._results.get(str(result_id))
        return entry.result if isinstance(entry, TaskEntry) else None

    def _of_another(self, result_id: str) -> Any:
        told, gaps = remote.ask(self._kept_under, result_id)
        if told is not None:
            return self._restored(result_id, told).result
        alias = self.options.get("HAND_OFF")
        if alias is not None:
            # It has moved, or is not known there either.
            with contextlib.suppress(self.framework.does_not_exist):
                return Engine(self.framework, alias).backend.get_result(result_id)
        why = f"the process that had it has ended, or more than {self._limit} tasks have finished since"
        if self.options.get("ON_COMMIT") is not None:
            why += ", or its transaction was rolled back"
        raise self.framework.does_not_exist(
            "; ".join([f"no result {printable(result_id)!r} is known to {self.alias!r}: {why}", *gaps])
        )

    def _id_there(self, result_id: str) -> str:
        """Return the id that a task has in the engine that it was handed off to, which is mostly its own."""
        results, known = self._results, str(result_id)
        known = results.same.get(known, known)
        return results.moved.get(known, known)

    def _engine_call(self, entry: TaskEntry) -> EngineCall | None:
        """Return what the engine gets, None if there is no engine.

        Raises:
            ImproperlyConfigured: Nothing can be handed off to it.
        """
        alias, task = self.options.get("HAND_OFF"), entry.task
        if alias is None:
            return None
        found = engine(alias, self.framework)
        given = 1 if task.takes_context else 0
        return EngineCall(found, self._engine_task(task), task.func, entry.args, entry.kwargs, given)

    def _engine_task(self, task: Any) -> Any:
        """Return a task as the engine gets it, by the engine's own class; None if there is no engine.

        Raises:
            InvalidTask: It does not fit the engine.
        """
        alias = self.options.get("HAND_OFF")
        found = None if alias is None else Engine(self.framework, alias)
        if found is None or problem_of(found) is not None:
            # What is wrong with the alias is told by the system checks, and where a task is enqueued.
            return None
        options = {"queue_name": task.queue_name, "takes_context": task.takes_context}
        return found.task_of(task.func, **options)

    def _restored(self, result_id: str, told: dict[str, Any]) -> TaskEntry:
        try:
            function, attempts = remote.function_of(told)
        except Exception as error:
            # Importing runs the module's own code, which may raise whatever it likes.
            raise self.framework.does_not_exist(
                f"the result {printable(result_id)!r} is of {printable(told['path'])}, which cannot be imported here"
            ) from error
        try:
            options = {**remote.options_of(told), **attempts}
            task = self.task_class(func=function, backend=self.alias, **options)  # type: ignore[attr-defined]
        except Exception as error:
            # It is looked at as at its making: another version of the site may have other queues.
            raise self.framework.does_not_exist(
                f"the result {printable(result_id)!r} is of {printable(told['path'])}, which is no task here: {error}"
            ) from error
        entry = self._entry(task, result_id, told["args"], told["kwargs"])
        entry.outcome = remote.outcome_of(told)
        return entry

    def _entry(self, task: Any, result_id: str, args: Any, kwargs: Any) -> TaskEntry:
        framework = self.framework
        what = f"the arguments of {task.module_path}"
        plain = round_trip({"args": list(args), "kwargs": dict(kwargs)}, what, framework.normalize)
        return TaskEntry(
            framework, self._results, type(self), task, result_id, self.alias, plain["args"], plain["kwargs"]
        )


def queue_here(task: Any, args: list[Any]) -> WorkItem:
    """Run a task of any backend in this process, for `manage.py qbwi run`; its result is kept by nobody.

    Raises:
        InvalidWorkItem: It is no task, or the arguments are no JSON.
        WorkItemRejected: It cannot be queued.
    """
    framework = framework_of(task)
    if framework is None:
        raise InvalidWorkItem(f"{printable(repr(task))} is no task of django.tasks or django_tasks")
    plain = round_trip(args, f"the arguments of {task.module_path}", framework.normalize)
    backend = task.get_backend()
    sender = type(backend)
    entry = TaskEntry(framework, TaskResults(1), sender, task, _new_id(), task.backend, plain, {})
    if isinstance(backend, TaskQueueing):
        entry.start = Start(0.0, int(task.priority), None, backend.retry_of(task))
        _let_try_again(entry)
    return _queue(entry, _surrounded(entry), deferred=False)


def _let_try_again(entry: TaskEntry) -> None:
    if entry.start.retry is not None and entry.call is None:
        entry.call = PlainCall(entry.task.func, entry.args, entry.kwargs, 1 if entry.task.takes_context else 0)


def _surrounded(entry: TaskEntry) -> Callable[..., Any]:
    # In the caller's context, also if it is queued behind the commit only.
    is_async = _is_async(entry)
    return hosting.surround(entry.arun if is_async else entry.run, is_async)


def _is_async(entry: TaskEntry) -> bool:
    return inspect.iscoroutinefunction(entry.task.func)


def _cure(alias: str) -> str:
    return f'Set TASKS["{alias}"]["OPTIONS"]["ON_COMMIT"] to the alias of the database, or enqueue it on commit'


def _queue(
    entry: TaskEntry, work_item: Callable[..., Any], cure: str | None = None, *, deferred: bool = True
) -> WorkItem:
    """Queue it; return its item, or that of a task which waits already, and stands for it."""
    start = with_delay(entry.start, entry.task) if deferred else entry.start
    if start.keyed is not None:
        # Somebody else may meet its item before `accepted` is called.
        entry.results.expect(entry)
    taken: list[WorkItem] = []

    def accepted(item: WorkItem) -> None:
        taken.append(item)
        entry.accepted(item)

    try:
        standing = hosting.queue_prepared(
            work_item,
            _is_async(entry),
            accepted,
            name=entry.path,
            item_id=entry.id,
            cure=cure,
            start=start,
            call=entry.call,
        )
    except WorkItemRejected:
        if taken:
            # It was to be run at the call, by a scheduler that takes nothing any more.
            entry.results.forget(entry)
        raise
    return standing or taken[0]


def _new_id() -> str:
    # As long as a UUID, which is what engines that store tasks take for one. Not one of the `uuid` module's: that asks
    # the system for random bytes each time, which takes longer than all the rest.
    return hosting.scheduler().make_id(16)


def _queueing_later(entry: TaskEntry) -> Callable[[], None]:
    work_item = _surrounded(entry)

    # A function with a name: before version 6.0, Django asks a robust hook that raises for it.
    def queue_after_commit() -> None:
        try:
            item = _queue(entry, work_item)
            if item.known_id != entry.id:
                entry.results.leads_to(entry, str(item.known_id))
        except Exception as error:
            # The transaction is committed: whoever called has done their part, and the other hooks still have to run.
            scheduler_logger.error(
                "After the commit, the task %s id=%s was not queued: %s", entry.path, entry.id, error
            )
            entry.refused(error)

    return queue_after_commit
