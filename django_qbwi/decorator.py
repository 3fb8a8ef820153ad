"""What `background_work_item` makes of a function or of a method: it can be queued."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, overload

from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.http import HttpRequest

from django_qbwi import hosting
from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.exceptions import InvalidWorkItem, WorkItemRejected
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.names import name_of
from django_qbwi.handoff.engines import expect_items
from django_qbwi.intake.callables import examine, parameter_of
from django_qbwi.intake.crossing import expect_crossing
from django_qbwi.intake.decorated import DecoratedFunction
from django_qbwi.intake.labels import merged
from django_qbwi.intake.options import NO_START, Start, checked, checked_alias, checked_start, refusing_unknown
from django_qbwi.intake.retries import Retry
from django_qbwi.intake.snapshot import RequestSnapshot
from django_qbwi.machine.running_loop import on_running_loop
from django_qbwi.signals import scheduler_logger

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S", contravariant=True)

# How tasks of other libraries are queued, and what does it here.
_ELSEWHERE = {
    "aenqueue": "queue",
    "apply_async": "queue",
    "delay": "queue",
    "delay_on_commit": "queue_on_commit",
    "enqueue": "queue",
}

_OF_QUEUE_FUNCTIONS = ("name", "timeout", "using", "delay", "expires", "executor", "labels")


class _Decorated(DecoratedFunction):
    """A decorated function with its options."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        timeout: float | None = None,
        using: str | None = None,
        delay: float | None = None,
        priority: int | None = None,
        hand_off: str | None = None,
        retry: Retry | None = None,
        expires: float | None = None,
        wait_for_room: float | None = None,
        unique_key: Callable[..., object] | None = None,
        concurrency: int | None = None,
        concurrency_key: Callable[..., object] | None = None,
        pool: str | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> None:
        name, timeout = checked(name, timeout)
        super().__init__(function)
        options: dict[str, Any] = {"delay": delay, "priority": priority, "hand_off": hand_off, "retry": retry}
        options.update(expires=expires, wait_for_room=wait_for_room, unique_key=unique_key, concurrency=concurrency)
        options.update(concurrency_key=concurrency_key, pool=pool, executor=executor, labels=labels)
        start = checked_start(**options)
        self._labels = start.labels
        self._start = None if start == NO_START and delay is None and priority is None else start
        self.hand_off = hand_off
        if hand_off is not None:
            self._expect_engine(hand_off)
        if start.executor is not None:
            expect_crossing(self, self._is_async, isinstance(self, BackgroundMethod))
        self.pool, self._of_method = pool, False
        self._name = name
        self._timeout = timeout
        self._using = using
        options.update(name=name, timeout=timeout, using=using, labels=dict(start.labels) or None)
        self._options = options

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name or name_of(self._function)}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            ours = _ELSEWHERE.get(name)
            if ours is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(f"{self!r} has no .{name}(...): a work item is queued with .{ours}(...)")

    def _changes(self) -> dict[str, Any]:
        return {option: value for option, value in self._options.items() if value is not None}

    def _expect_engine(self, alias: str) -> None:
        expect_items(alias)

    @refusing_unknown
    def using(
        self,
        *,
        name: str | None = None,
        timeout: float | None = None,
        using: str | None = None,
        delay: float | None = None,
        priority: int | None = None,
        hand_off: str | None = None,
        retry: Retry | None = None,
        expires: float | None = None,
        wait_for_room: float | None = None,
        unique_key: Callable[..., object] | None = None,
        concurrency: int | None = None,
        concurrency_key: Callable[..., object] | None = None,
        pool: str | None = None,
        executor: Literal["thread", "process"] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> Self:
        """Return it with other options, those of `queue_background_work_item` and `background_work_item`, and these.

        Args:
            name, timeout, delay, expires: As for the one.
            priority, hand_off, retry, unique_key, concurrency, concurrency_key, pool, executor: As for the other.
            labels: Further ones; one of a name that the function has already replaces that.
            using: The database alias for `queue_on_commit`.
            wait_for_room: Seconds for which `queue` may block while the queue is full, in a command or an item.
        """
        options: dict[str, Any] = {"name": name, "timeout": timeout, "using": using, "delay": delay}
        options.update(priority=priority, hand_off=hand_off, retry=retry, expires=expires, wait_for_room=wait_for_room)
        options.update(unique_key=unique_key, concurrency=concurrency, concurrency_key=concurrency_key, pool=pool)
        options.update(executor=executor, labels=None if labels is None else merged(self._labels, labels))
        given = {option: value for option, value in options.items() if value is not None}
        found = type(self)(self._function, **{**self._changes(), **given})
        return found.as_method() if self._of_method else found

    def changed(self, *options: Any) -> Self:
        """Return it with those that the queue functions take, in their order."""
        return self.using(**dict(zip(_OF_QUEUE_FUNCTIONS, options, strict=True)))

    def as_method(self) -> Self:
        """Note, of a new one, that its class has it decorated: its keys get the instance."""
        self._of_method = True
        self._start = None if self._start is None else self._start.of_method()
        return self


class BackgroundWorkItem(_Decorated, Generic[P, R]):
    """A function that can be queued: what `background_work_item` makes of it.

    Calling it still runs the function, in place, with a token as the first argument.
    """

    if TYPE_CHECKING:

        def __init__(self, function: Callable[Concatenate[CancellationToken, P], R]) -> None: ...

        def __call__(self, token: CancellationToken, /, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run the function here and now, as a unit test does."""

    else:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            """Run the function here and now, as a unit test does."""
            if not args or not isinstance(args[0], CancellationToken):
                raise _without_token(self, args)
            return self._function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> BackgroundWorkItem[..., R]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> BackgroundWorkItem[..., R]:
        """Bind it as its function is bound: not at all, if it is a static method."""
        bind = getattr(self._function, "__get__", None)
        bound = self._function if bind is None else bind(instance, owner)
        return self if bound is self._function else BackgroundWorkItem(bound, **self._changes()).as_method()

    def copying_request(
        self: BackgroundWorkItem[Concatenate[RequestSnapshot, Q], R],
        copy: Callable[[Callable[..., Any]], Callable[..., Any]],
        /,
    ) -> BackgroundWorkItem[Concatenate[HttpRequest | RequestSnapshot, Q], R]:
        """Return it with its function inside of `copy`; for `copies_request` above `background_work_item`."""
        found: BackgroundWorkItem[Any, R] = BackgroundWorkItem(copy(self._function), **self._changes())
        return found.as_method() if self._of_method else found

    def queue(self, *args: P.args, **kwargs: P.kwargs) -> WorkItemHandle:
        """Queue the function with its own arguments; see `queue_background_work_item`.

        Never blocks but by `using(wait_for_room=...)`, which a running event loop refuses: see `aqueue`.
        """
        call: Callable[..., Any] = self._function if not kwargs else functools.partial(self._function, **kwargs)
        start = self._start
        if start is not None and start.wait_for_room is not None and on_running_loop():
            raise InvalidWorkItem(
                f"{name_of(self)} was queued with wait_for_room={start.wait_for_room!r} on a running event loop, which "
                "that would block: write `await ... .using(wait_for_room=...).aqueue(...)`"
            )
        return hosting.queue(call, args, self._name, self._timeout, None, start)

    async def aqueue(self, *args: P.args, **kwargs: P.kwargs) -> WorkItemHandle:
        """Queue the function as `queue` does, on an event loop, which goes on where that waits for room.

        To cancel who awaits leaves nothing queued. Without `wait_for_room` it never waits.
        """
        call: Callable[..., Any] = self._function if not kwargs else functools.partial(self._function, **kwargs)
        start = self._start
        if start is None or start.wait_for_room is None:
            return hosting.queue(call, args, self._name, self._timeout, None, start)
        pending: list[Callable[[], Awaitable[WorkItemHandle]]] = []
        handle = hosting.queue(call, args, self._name, self._timeout, None, start._replace(pending=pending))
        for wait in pending:
            handle = await wait()
        return handle

    def queue_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue the function when the current transaction commits; see `queue_on_commit`."""
        call: Callable[..., Any] = self._function if not kwargs else functools.partial(self._function, **kwargs)
        queue_call_on_commit(call, args, self._name, self._timeout, self._using, self._start)


class BackgroundMethod(_Decorated, Generic[S, P, R]):
    """A decorated method as its class has it; that of an instance is a `BackgroundWorkItem`."""

    def _expect_engine(self, alias: str) -> None:
        raise InvalidWorkItem(
            f"{name_of(self)} is a method, and has hand_off={alias!r}: the workers of an engine find functions of "
            "modules by their names. Decorate a function, and give it the primary key of the instance"
        )

    @property
    def owner_missing(self) -> str:
        """What to do where it is queued without its instance or class."""
        if _first_parameter(self._function) == "cls":
            return "it has no class: put @background_work_item above @classmethod"
        return f"it has no instance: queue it from one, as in instance.{self._function.__name__}.queue(...)"

    if TYPE_CHECKING:

        def __init__(self, function: Callable[Concatenate[S, CancellationToken, P], R]) -> None: ...

        def __call__(self, owner: S, token: CancellationToken, /, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run the method here and now, as a unit test does."""

    else:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            """Run the method here and now, as a unit test does."""
            if len(args) < 2 or not isinstance(args[1], CancellationToken):
                raise _without_token(self, args[1:])
            return self._function(*args, **kwargs)

        # Reached from a class, and through `classmethod`, which tells nobody the class from Python 3.13 on.

        def queue(self, /, *args: Any, **kwargs: Any) -> Any:
            """Refuse, with what to do instead."""
            raise InvalidWorkItem(f"{name_of(self)} cannot be queued so: {self.owner_missing}")

        aqueue = queue_on_commit = queue

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: S, owner: type | None = None) -> BackgroundWorkItem[P, R]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind it; `instance.method.queue(...)` passes the instance along."""
        if instance is None:
            return self
        return decorate_function(self._function.__get__(instance, owner), self._changes()).as_method()

    def copying_request(
        self: BackgroundMethod[S, Concatenate[RequestSnapshot, Q], R],
        copy: Callable[[Callable[..., Any]], Callable[..., Any]],
        /,
    ) -> BackgroundMethod[S, Concatenate[HttpRequest | RequestSnapshot, Q], R]:
        """Return it with its function inside of `copy`; for `copies_request` above `background_work_item`."""
        return BackgroundMethod(copy(self._function), **self._changes())


def queue_call_on_commit(
    work_item: Callable[..., Any],
    args: tuple[Any, ...],
    name: str | None,
    timeout: float | None,
    using: str | None,
    start: Start | None = None,
) -> None:
    """Take a call now, and queue it when the transaction on `using` commits."""
    is_async = examine(work_item, args)
    name, timeout = checked(name, timeout)
    checked_alias(using)
    # Raises here what a hook after the commit could only log: wrong settings, no app.
    hosting.prove(work_item, args, is_async, start)
    work_item, args = hosting.take(work_item, args, is_async)
    start = None if start is None else start.of_call(work_item, args)

    # A function with a name: before version 6.0, Django asks a robust hook that raises for it.
    def queue_after_commit() -> None:
        try:
            hosting.queue(work_item, args, name, timeout, is_async, start)
        except WorkItemRejected as error:
            # The transaction is committed: whoever called has done their part, and the other hooks still have to run.
            scheduler_logger.error("After the commit: %s", error)
        except Exception:
            scheduler_logger.exception("After the commit, %s could not be queued", name or name_of(work_item))

    if hosting.runs_before_commit(using):
        queue_after_commit()
        return
    try:
        transaction.on_commit(queue_after_commit, using=using, robust=True)
    except SynchronousOnlyOperation as error:
        raise InvalidWorkItem(
            f"queue_on_commit({name_of(work_item)}) was called on a running event loop, where no transaction can be "
            "open: call queue_background_work_item(), or queue inside the function that opens the transaction and is "
            "run by sync_to_async()"
        ) from error


def decorate_function(
    function: Any, options: dict[str, Any]
) -> BackgroundWorkItem[..., Any] | BackgroundMethod[Any, ..., Any]:
    """Return what `background_work_item` makes of a function, or of a method as its class has it."""
    is_method = _first_parameter(function) in ("self", "cls")
    return (BackgroundMethod if is_method else BackgroundWorkItem)(function, **options)


def _first_parameter(function: Any) -> str | None:
    """Return the name of what a call of it gives first; of a bound method it is what comes after the instance."""
    return parameter_of(function, -1)


def _without_token(decorated: DecoratedFunction, args: tuple[Any, ...]) -> InvalidWorkItem:
    got = f"a {name_of(type(args[0]))}" if args else "nothing"
    name = decorated.function.__name__ if hasattr(decorated.function, "__name__") else "it"
    return InvalidWorkItem(
        f"{name_of(decorated)} was called with {got} in the place of its CancellationToken: to run it in the "
        f"background, use {name}.queue(...); to run it here, as in a unit test, {name}(CancellationToken.none(), ...)"
    )
