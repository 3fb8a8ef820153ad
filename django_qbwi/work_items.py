"""The public functions: queueing, and the decorator."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, TypeVarTuple, overload

from django_qbwi import hosting
from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.decorator import BackgroundMethod, BackgroundWorkItem, decorate_function, queue_call_on_commit
from django_qbwi.intake.options import checked, checked_start, unknown_keyword
from django_qbwi.intake.retries import Retry

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Ts = TypeVarTuple("Ts")

WorkItemFunction = Callable[Concatenate[CancellationToken, P], R]

if TYPE_CHECKING:
    # What type checkers see: the arguments are those of the work item, and there are no other options.

    def queue_background_work_item(
        work_item: Callable[[CancellationToken, *Ts], Any],
        /,
        *args: *Ts,
        name: str | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        expires: float | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> WorkItemHandle:
        """Queue it."""

    def queue_on_commit(
        work_item: Callable[[CancellationToken, *Ts], Any],
        /,
        *args: *Ts,
        using: str | None = None,
        name: str | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        expires: float | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> None:
        """Queue it on commit."""

else:

    def queue_background_work_item(
        work_item: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        expires: float | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
        **unknown: Any,
    ) -> WorkItemHandle:
        """Run `work_item(token, *args)` in the background of this process, soon, and return its handle.

        - The item is any callable; sync, async, or sync and returning an awaitable (it has ended when that has).
        - The process does not end before the item has, as far as the server allows; the token says when to hurry.
        - The item runs in a context of its own: nothing of the request flows into it but the arguments.
        - An exception of the item is logged and kept in the handle; it never reaches the caller.
        - An item has no result. Nothing is kept over a crash or a SIGKILL.
        - Queueing never blocks, takes microseconds, and may be done in any thread and on a running event loop.

        Args:
            work_item, args: What to call, with the token first; for keyword arguments use `functools.partial`.
            name: For logs and lists, default: module and qualified name of the function.
            timeout: Seconds after its start at which the token is cancelled, default: QBWI["ITEM_TIMEOUT"].
            delay, expires: Seconds until it may start, and within which it has to start, else it ends DISCARDED.
            executor: As for `background_work_item`.
            labels: At most 8 short plain values to find it by, as `{"order": 42}`; they are shown: no secrets.

        Raises:
            InvalidWorkItem: It cannot be called so, or an option is wrong; CapturedRequest: it would carry the request.
            QueueFull: QBWI["MAX_QUEUED"] items wait already, or as its pool takes; or MAX_DELAYED for their time.
            SchedulerDraining, SchedulerClosed, NotHosted: The process is ending, or the app is not set up.
        """
        if unknown:
            raise unknown_keyword(unknown)
        if type(work_item) is BackgroundWorkItem:
            return work_item.changed(name, timeout, None, delay, expires, executor, labels).queue(*args)
        if name is not None or timeout is not None:
            name, timeout = checked(name, timeout)
        if delay is None and expires is None and executor is None and labels is None:
            return hosting.queue(work_item, args, name, timeout)
        start = checked_start(delay, None, expires=expires, executor=executor, labels=labels)
        return hosting.queue(work_item, args, name, timeout, start=start)

    def queue_on_commit(
        work_item: Callable[..., Any],
        /,
        *args: Any,
        using: str | None = None,
        name: str | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        expires: float | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
        **unknown: Any,
    ) -> None:
        """Queue `work_item(token, *args)` when the current transaction commits; at once where none is open.

        The item is checked, and its request copied (`copies_request`), at the call. If it is refused after the commit
        (QueueFull and the like), that is logged at ERROR and sent as `work_item_rejected`; it reaches neither the
        caller nor the other on-commit hooks.

        Args:
            work_item: As for `queue_background_work_item`.
            args: Its further arguments.
            using: Alias of the database whose transaction counts, default: the default one.
            name, timeout, executor, labels: As for `queue_background_work_item`.
            delay, expires: As for `queue_background_work_item`, from the commit on.

        Raises:
            InvalidWorkItem: It cannot be called so, an option is wrong, or this is a running event loop, where Django
                uses no database connection.
            NotHosted: The app is not installed, or Django is not set up.
        """
        if unknown:
            raise unknown_keyword(unknown)
        if type(work_item) is BackgroundWorkItem:
            work_item.changed(name, timeout, using, delay, expires, executor, labels).queue_on_commit(*args)
            return
        start = None
        if delay is not None or expires is not None or executor is not None or labels is not None:
            start = checked_start(delay, None, expires=expires, executor=executor, labels=labels)
        queue_call_on_commit(work_item, args, name, timeout, using, start)


def track(
    started: threading.Thread | concurrent.futures.Future[Any] | asyncio.Future[Any], /, *, name: str | None = None
) -> WorkItemHandle:
    """Have what was started elsewhere listed, counted, and waited for at the end of the process; its end is the item's.

    - `handle.token` is cancelled at the stop of the process, for whoever works at it to look at. Nothing else is
      cancelled then: a thread has to look there, and so has a task. What has not ended at the limit is ABANDONED, with
      a record; a future that has not begun and a task are cancelled by their own means just before.
    - `handle.cancel()` cancels a future or a task by its own means too.
    - A result is SUCCEEDED; an exception is FAILED, also one that has left a thread; so is a cancellation without that
      of the token. With it, it is CANCELLED.
    - It has no worker, counts as running, and never against QBWI["MAX_QUEUED"]; no timeout holds for it. It runs
      already, so that no test tool captures it or runs it at the call.
    - What was tracked before has the handle that it had.

    Never blocks, and may be called from any thread and on a running event loop.

    Args:
        started: A thread that was started, a `concurrent.futures.Future`, an `asyncio.Task` or an `asyncio.Future`; one
            that has ended already is an item that ends at once.
        name: For logs and lists, default: that of the thread, or of the task's coroutine.

    Raises:
        InvalidWorkItem: It is none of these, or was not started, or the name is wrong.
        SchedulerDraining, SchedulerClosed, NotHosted: The process is ending, or the app is not set up. What was started
            runs on.
    """
    name, _ = checked(name, None)
    return hosting.track(started, name)


@overload
def background_work_item(  # type: ignore[overload-overlap]  # a method whose instance is a token
    function: Callable[Concatenate[CancellationToken, P], R], /
) -> BackgroundWorkItem[P, R]: ...


@overload
def background_work_item(
    function: Callable[Concatenate[S, CancellationToken, P], R], /
) -> BackgroundMethod[S, P, R]: ...


@overload
def background_work_item(
    *,
    name: str | None = None,
    timeout: float | None = None,
    priority: int | None = None,
    hand_off: str | None = None,
    retry: Retry | None = None,
    expires: float | None = None,
    unique_key: Callable[..., object] | None = None,
    concurrency: int | None = None,
    concurrency_key: Callable[..., object] | None = None,
    pool: str | None = None,
    executor: Literal["thread", "process"] | None = None,
    labels: Mapping[str, object] | None = None,
) -> Decorator: ...


def background_work_item(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    priority: int | None = None,
    hand_off: str | None = None,
    retry: Retry | None = None,
    expires: float | None = None,
    unique_key: Callable[..., object] | None = None,
    concurrency: int | None = None,
    concurrency_key: Callable[..., object] | None = None,
    pool: str | None = None,
    executor: Literal["thread", "process"] | None = None,
    labels: Mapping[str, object] | None = None,
    **unknown: Any,
) -> Any:
    """Give a function `queue`, `queue_on_commit` and `using`; with or without parentheses.

    Args:
        function: Takes a `CancellationToken` first; sync or async.
        name, timeout, expires, labels: As for `queue_background_work_item`.
        priority: -100 to 100, default 0: higher ones start first, within one as they came.
        hand_off: Alias of TASKS, whose engine gets what cannot finish here: a function of a module, with JSON for it.
        retry: What follows a failed attempt, default: nothing.
        unique_key: Called with the item's own arguments, where it is queued; while an item of this function with the
            same key waits, `queue` returns the handle of that one. One that runs does not count.
        concurrency, concurrency_key: How many items of this function run at once in this process; by a key, of each.
        pool: Name of a pool of QBWI["POOLS"], whose workers and bound are its own; default: "default".
        executor: "process" for a helper process, default: a thread. The arguments are pickled for it.

    Raises:
        InvalidWorkItem: It is not such a function, or an option is wrong.
    """
    options: dict[str, Any] = {"name": name, "timeout": timeout, "priority": priority, "hand_off": hand_off}
    options.update(retry=retry, expires=expires, labels=labels)
    options.update(unique_key=unique_key, concurrency=concurrency, concurrency_key=concurrency_key)
    options.update(pool=pool, executor=executor)
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise InvalidWorkItem(f"background_work_item() got unknown option(s) {names}; it takes {', '.join(options)}")
    return functools.partial(_decorated, options) if function is None else _decorated(options, function)


def _decorated(options: dict[str, Any], function: Any) -> Any:
    if not callable(function) and type(function) is not classmethod:
        raise InvalidWorkItem(f"background_work_item decorates functions, not {function!r}")
    return decorate_function(function, options)


class Decorator(Protocol):
    """What `background_work_item(...)` with options returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, function: Callable[Concatenate[CancellationToken, P], R], /
    ) -> BackgroundWorkItem[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[S, CancellationToken, P], R], /) -> BackgroundMethod[S, P, R]: ...
