"""The public functions and the decorator."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import transaction
from django.http import HttpRequest

from django_qbwi import hosting
from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.exceptions import InvalidWorkItem, WorkItemRejected
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.names import FunctionWrapper, name_of, printable
from django_qbwi.intake.callables import examine
from django_qbwi.intake.snapshot import RequestSnapshot
from django_qbwi.signals import scheduler_logger

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

WorkItemFunction = Callable[Concatenate[CancellationToken, P], R]


def queue_background_work_item(
    work_item: Callable[..., Any],
    /,
    *args: Any,
    name: str | None = None,
    timeout: float | None = None,
    **unknown: Any,
) -> WorkItemHandle:
    """Run `work_item(token, *args)` in the background of this process, soon.

    - The item may be a function, a lambda, a partial, a bound method or an object with `__call__`; sync, async, or
      sync and returning an awaitable (then it has ended when the awaitable has).
    - The process does not end before the item has, as far as the server allows; the token says when to hurry.
    - The item runs in a context of its own: nothing of the request flows into it but the arguments.
    - An exception of the item is logged and kept in the handle; it never reaches the caller.
    - An item has no result. Nothing is kept over a crash or a SIGKILL.

    Never blocks, takes microseconds, and may be called from any thread and on a running event loop.

    Args:
        work_item: What to call; its first argument is a `CancellationToken`.
        args: Its further arguments; for keyword arguments use `functools.partial`.
        name: A name for logs and lists, default: module and qualified name of the function.
        timeout: Seconds after its start at which the token is cancelled, default: QBWI["ITEM_TIMEOUT"].

    Returns:
        A handle, to look at the item, wait for it or cancel it.

    Raises:
        InvalidWorkItem: `work_item` cannot be called so, or an option is wrong.
        CapturedRequest: It would carry the request along, which is over when it runs.
        QueueFull: QBWI["MAX_QUEUED"] items wait already.
        SchedulerDraining, SchedulerClosed: The process is ending.
        NotHosted: The app is not installed, or Django is not set up.
    """
    if unknown:
        raise _unknown_keyword(unknown)
    if type(work_item) is BackgroundWorkItem:
        return work_item.using(name=name, timeout=timeout).queue(*args)
    if name is not None or timeout is not None:
        name, timeout = _options(name, timeout)
    return hosting.queue(work_item, args, name, timeout)


def queue_on_commit(
    work_item: Callable[..., Any],
    /,
    *args: Any,
    using: str | None = None,
    name: str | None = None,
    timeout: float | None = None,
    **unknown: Any,
) -> None:
    """Queue `work_item(token, *args)` when the current transaction commits; at once where none is open.

    The item is checked, and its request copied (`copies_request`), at the call. If it is refused after the commit
    (QueueFull and the like), that is logged at ERROR and sent as `work_item_rejected`; it reaches neither the caller
    nor the other on-commit hooks.

    Args:
        work_item: As for `queue_background_work_item`.
        args: Its further arguments.
        using: Alias of the database whose transaction counts, default: the default one.
        name: As for `queue_background_work_item`.
        timeout: As for `queue_background_work_item`.

    Raises:
        InvalidWorkItem: It cannot be called so, an option is wrong, or an event loop is running in this thread, where
            no transaction can be open.
        NotHosted: The app is not installed, or Django is not set up.
    """
    if unknown:
        raise _unknown_keyword(unknown)
    if type(work_item) is BackgroundWorkItem:
        work_item.using(name=name, timeout=timeout, using=using).queue_on_commit(*args)
        return
    is_async = examine(work_item, args)
    name, timeout = _options(name, timeout)
    _refuse_on_running_loop(work_item)
    # Raises here what a hook after the commit could only log: wrong settings, no app.
    work_item, args = hosting.take(work_item, args, is_async)
    if hosting.runs_before_commit(using):
        _queue_after_commit(work_item, args, is_async, name, timeout)
        return
    transaction.on_commit(
        functools.partial(_queue_after_commit, work_item, args, is_async, name, timeout), using=using, robust=True
    )


class BackgroundWorkItem(FunctionWrapper, Generic[P, R]):
    """A function that can be queued: what `background_work_item` makes of it.

    Calling it still runs the function, in place, with a token as the first argument.
    """

    def __init__(
        self,
        function: Callable[Concatenate[CancellationToken, P], R],
        *,
        name: str | None = None,
        timeout: float | None = None,
        using: str | None = None,
    ) -> None:
        name, timeout = _options(name, timeout)
        # First: it copies the attributes of the function, which may be a callable of ours with the same ones.
        functools.update_wrapper(self, function)
        self._function = function
        self._name = name
        self._timeout = timeout
        self._using = using
        if iscoroutinefunction(function):
            markcoroutinefunction(self)

    def __repr__(self) -> str:
        return f"<BackgroundWorkItem {self._name or name_of(self._function)}>"

    def __call__(self, token: CancellationToken, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, as a unit test does."""
        return self._function(token, *args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> BackgroundWorkItem[..., R]:
        """Bind it as a method; `instance.method.queue(...)` passes the instance along."""
        if instance is None:
            return self
        bound: Callable[..., R] = self._function.__get__(instance, owner)
        return BackgroundWorkItem(bound, name=self._name, timeout=self._timeout, using=self._using)

    @property
    def function(self) -> Callable[..., Any]:
        """The decorated function."""
        return self._function

    def copying_request(
        self: BackgroundWorkItem[Concatenate[RequestSnapshot, Q], R],
        copy: Callable[[Callable[..., Any]], Callable[..., Any]],
        /,
    ) -> BackgroundWorkItem[Concatenate[HttpRequest | RequestSnapshot, Q], R]:
        """Return it with its function inside of `copy`; for `copies_request` above `background_work_item`."""
        return BackgroundWorkItem(copy(self._function), name=self._name, timeout=self._timeout, using=self._using)

    def queue(self, *args: P.args, **kwargs: P.kwargs) -> WorkItemHandle:
        """Queue the function with its own arguments; see `queue_background_work_item`."""
        call: Callable[..., Any] = self._function if not kwargs else functools.partial(self._function, **kwargs)
        return hosting.queue(call, args, self._name, self._timeout)

    def queue_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue the function when the current transaction commits; see `queue_on_commit`."""
        call: Callable[..., Any] = self._function if not kwargs else functools.partial(self._function, **kwargs)
        queue_on_commit(call, *args, using=self._using, name=self._name, timeout=self._timeout)

    def using(
        self, *, name: str | None = None, timeout: float | None = None, using: str | None = None
    ) -> BackgroundWorkItem[P, R]:
        """Return it with other options; `using` is the database alias for `queue_on_commit`."""
        return BackgroundWorkItem(
            self._function,
            name=self._name if name is None else name,
            timeout=self._timeout if timeout is None else timeout,
            using=self._using if using is None else using,
        )


@overload
def background_work_item(function: Callable[Concatenate[CancellationToken, P], R], /) -> BackgroundWorkItem[P, R]: ...


@overload
def background_work_item(
    *, name: str | None = None, timeout: float | None = None
) -> Callable[[Callable[Concatenate[CancellationToken, P], R]], BackgroundWorkItem[P, R]]: ...


def background_work_item(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    **unknown: Any,
) -> Any:
    """Give a function `queue`, `queue_on_commit` and `using`; with or without parentheses.

    Args:
        function: Takes a `CancellationToken` first; sync or async.
        name: As for `queue_background_work_item`.
        timeout: As for `queue_background_work_item`.

    Raises:
        InvalidWorkItem: It is not such a function, or an option is wrong.
    """
    if unknown:
        raise InvalidWorkItem(
            f"background_work_item() got unknown option(s) {', '.join(map(repr, unknown))}; it takes name and timeout"
        )

    def decorate(decorated: Callable[..., Any]) -> BackgroundWorkItem[..., Any]:
        if not callable(decorated):
            raise InvalidWorkItem(f"background_work_item decorates functions, not {decorated!r}")
        return BackgroundWorkItem(decorated, name=name, timeout=timeout)

    return decorate if function is None else decorate(function)


def _queue_after_commit(
    work_item: Callable[..., Any],
    args: tuple[Any, ...],
    is_async: bool,
    name: str | None,
    timeout: float | None,
) -> None:
    try:
        hosting.queue(work_item, args, name, timeout, is_async)
    except WorkItemRejected as error:
        # The transaction is committed: whoever called has done their part, and the other hooks still have to run.
        scheduler_logger.error("After the commit: %s", error)


def _options(name: Any, timeout: Any) -> tuple[str | None, float | None]:
    if name is not None:
        if not isinstance(name, str) or not name:
            raise InvalidWorkItem(f"name is {name!r}: give a non-empty str, or leave it out")
        name = printable(str(name))
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= sys.float_info.max:
            raise InvalidWorkItem(f"timeout is {timeout!r}: give a number of seconds above 0, or None for no limit")
        timeout = float(timeout)
    return name, timeout


def _unknown_keyword(unknown: dict[str, Any]) -> InvalidWorkItem:
    names = ", ".join(map(repr, unknown))
    return InvalidWorkItem(
        f"unknown option(s) {names}: options never reach the work item. To pass keyword arguments to it, queue "
        "functools.partial(work_item, keyword=value)"
    )


def _refuse_on_running_loop(work_item: Callable[..., Any]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidWorkItem(
        f"queue_on_commit({name_of(work_item)}) was called on a running event loop, where no transaction can be open: "
        "call queue_background_work_item(), or queue inside the function that opens the transaction and is run by "
        "sync_to_async()"
    )
