"""A work item: the live object with its one owner, and the handle that others hold.

States: QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | ABANDONED; QUEUED -> CANCELLED | DISCARDED.
Lock: a `WorkItem` is changed under the lock of its scheduler only; the first terminal status stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django_qbwi.core.cancellation import CancellationToken, CancelReason, refuse_on_running_loop
from django_qbwi.core.failures import without_frames
from django_qbwi.core.names import name_of
from django_qbwi.core.ports import Environment, Executor, NullEnvironment, NullObserver, Observer
from django_qbwi.core.process_local import ProcessLocal
from django_qbwi.core.records import WorkItemError, WorkItemInfo, WorkItemStatus
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import Alarm

if TYPE_CHECKING:
    from django_qbwi.core.scheduler import WorkItemScheduler

__all__ = [
    "Environment",
    "Executor",
    "NullEnvironment",
    "NullObserver",
    "Observer",
    "WorkItem",
    "WorkItemError",
    "WorkItemHandle",
    "WorkItemInfo",
    "WorkItemStatus",
    "current_item",
    "current_work_item",
    "enter_item",
    "without_frames",
]

logger = SafeLogger("django_qbwi.scheduler")

_current: ContextVar[WorkItem] = ContextVar("django_qbwi_current_work_item")

# A member is looked up by Python code before 3.12.
_QUEUED = WorkItemStatus.QUEUED
_UNSET = {
    "_id": None,
    "cancel_reason": None,
    "exception": None,
    "failure": None,
    "finished": None,
    "generation": 0,
    "ident": None,
    "origin": (None, None),
    "overdue": False,
    "started": None,
    "thread": None,
}


class WorkItem:
    """One accepted call, from queueing to its terminal status; internal, others see `WorkItemHandle`.

    Invariant: `status` is terminal once and then for ever; `ended` follows when the connections are closed and the
    record and the signal are out.
    """

    __slots__ = (
        "__weakref__",
        "_id",
        "_name",
        "_token",
        "args",
        "cancel_reason",
        "ended",
        "exception",
        "failure",
        "finished",
        "generation",
        "ident",
        "is_async",
        "origin",
        "overdue",
        "owner",
        "queued",
        "started",
        "status",
        "thread",
        "timeout",
        "waiters",
        "work_item",
    )

    def __init__(
        self,
        owner: WorkItemScheduler,
        work_item: Callable[..., Any],
        args: tuple[Any, ...],
        is_async: bool,
        name: str | None,
        timeout: float | None,
    ) -> None:
        self.owner = owner
        self.work_item: Callable[..., Any] | None = work_item
        self.args = args
        self.is_async = is_async
        self._name: str | types.FunctionType | None = name
        self.timeout = timeout
        self.status = _QUEUED
        self.queued = owner.clock()
        self.ended = False
        self._token: CancellationToken | None = None
        self.waiters: list[Callable[[], object]] | None = None

    if TYPE_CHECKING:
        _id: str | None
        started: float | None
        finished: float | None
        cancel_reason: CancelReason | None
        exception: BaseException | None
        failure: WorkItemError | None
        overdue: bool
        thread: str | None
        ident: int | None
        generation: int
        origin: tuple[str | None, str | None]
        """Method and path of the request that queued it, and its id, where known."""
    else:

        def __getattr__(self, name: str) -> Any:
            # Eleven slots stay empty until there is something to put in; filling them cost a third of queueing.
            try:
                return _UNSET[name]
            except KeyError:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __repr__(self) -> str:
        return f"<WorkItem {self.name} {self.status}>"

    @property
    def id(self) -> str:
        """The unguessable id, made when somebody asks."""
        if self._id is None:
            with self.owner.lock:
                if self._id is None:
                    self._id = self.owner.make_id()
        return self._id

    @property
    def name(self) -> str:
        """The given name, or that of the function."""
        work_item = self.work_item  # read first: `forget_call` sets the name before it drops the function
        name = self._name
        if not isinstance(name, str):
            name = self._name = name_of(work_item if name is None else name)
        return name

    @property
    def token(self) -> CancellationToken:
        """The item's token, made on first use."""
        token = self._token
        if token is None:
            with self.owner.lock:
                if self._token is None:
                    # One that waits for its turn is not cancelled by the stop of the process.
                    self._token = CancellationToken(self.owner.stop, waits=self.started is None)
                token = self._token
        return token

    @property
    def elapsed(self) -> float:
        """Seconds it has been running, or ran; of an item that did not start, seconds since it was queued."""
        until = self.owner.clock() if self.finished is None else self.finished
        return until - (self.queued if self.started is None else self.started)

    def forget_call(self) -> None:
        """Drop function and arguments, which may be large, as soon as they are no longer needed."""
        try:
            if self._name is None:
                work_item = self.work_item
                # A name takes a while to make, and nobody may ever look. A function without a closure is its module's
                # anyway; anything else can hold large objects, and must go now.
                if type(work_item) is types.FunctionType and work_item.__closure__ is None:
                    self._name = work_item
                else:
                    self._name = name_of(work_item)
        finally:
            if self._name is None:
                # The object's own code has left where it was asked.
                self._name = "<unnamed>"
            self.work_item = None
            self.args = ()

    def info(self) -> WorkItemInfo:
        """Describe the item as it is now; any thread, never blocks."""
        token = self._token
        reason = self.cancel_reason
        if reason is None and token is not None:
            reason = token.reason
        return WorkItemInfo(
            id=self.id,
            name=self.name,
            kind="async" if self.is_async else "sync",
            status=self.status,
            queued_at=_utc(self.owner.wall_clock(self.queued)),
            started_at=self._moment(self.started),
            finished_at=self._moment(self.finished),
            timeout=self.timeout,
            overdue=self.overdue,
            cancel_reason=reason,
            error=self.failure,
            origin=self.origin[0],
            request_id=self.origin[1],
            pid=self.owner.pid,
            thread=self.thread,
        )

    def add_waiter(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called at the end; False, and it is not, if the item has ended already."""
        with self.owner.lock:
            if self.waiters is None:
                self.waiters = []
            # Published first: `wake_waiters` sets the flag and then looks for waiters, without the lock.
            self.waiters.append(wake)
            if not self.ended:
                return True
            self.remove_waiter(wake)
            return False

    def remove_waiter(self, wake: Callable[[], object]) -> None:
        """Take `wake` back."""
        with self.owner.lock:
            if self.waiters is not None and wake in self.waiters:
                self.waiters.remove(wake)

    def wake_waiters(self) -> None:
        """Mark the item as ended, and wake those who wait for it."""
        # Set first, then take: `add_waiter` looks at it under the lock.
        self.ended = True
        if self.waiters is None:
            return
        with self.owner.lock:
            waiters = list(self.waiters or ())
        for wake in waiters:
            try:
                wake()
            except Exception:
                # The loop of one who waits may be anybody's; the others wait too.
                logger.exception("Waking one who waits for %s failed", self.name)
        # Last: interrupted by an exception, it is done again. Woken twice does no harm.
        with self.owner.lock:
            self.waiters = None

    def _moment(self, monotonic: float | None) -> datetime.datetime | None:
        return None if monotonic is None else _utc(self.owner.wall_clock(monotonic))


class WorkItemHandle(ProcessLocal):
    """What the caller of `queue` holds: to look at an item, to wait for it, to cancel it.

    All of it may be used from any thread; it keeps the item's outcome, never its function, arguments or frames
    beyond the item's end.
    """

    pass_instead = "handle.id or handle.info"

    __slots__ = ("__weakref__", "_item")

    def __init__(self, item: WorkItem) -> None:
        self._item = item

    def __repr__(self) -> str:
        return f"<WorkItemHandle id={self.id} name={self.name} status={self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkItemHandle) and other._item is self._item

    def __hash__(self) -> int:
        return hash(self._item)

    @property
    def id(self) -> str:
        """An unguessable id, unique among all processes."""
        return self._item.id

    @property
    def name(self) -> str:
        """The name given when queueing, or module and qualified name of the function."""
        return self._item.name

    @property
    def status(self) -> WorkItemStatus:
        """The status at this moment."""
        return self._item.status

    @property
    def info(self) -> WorkItemInfo:
        """Everything known at this moment, as plain values."""
        return self._item.info()

    @property
    def token(self) -> CancellationToken:
        """The token that the item got, or will get."""
        return self._item.token

    def cancel(self, message: str | None = None) -> bool:
        """Cancel the item: one that has not started never will, a running one sees its token cancelled.

        Running code is never interrupted. Does not block, and may be called anywhere.

        Args:
            message: Why; bounded, shown in `OperationCancelled` and `token.message`.

        Returns:
            True if this was the first cancellation and the item had not ended.
        """
        return self._item.owner.cancel(self._item, message)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the item has ended, its record and signal included, or for `timeout` seconds.

        Never raises the item's failure: see `exception()`. An item that waits for one queued behind it can wait for
        ever when all workers do the same.

        Returns:
            True if the item has ended.

        Raises:
            RuntimeError: Called on a running event loop, which it would stop: await the handle there.
        """
        if self._item.ended:
            return True
        refuse_on_running_loop("handle.wait()", "await it (`await handle`)")
        alarm = Alarm()
        if not self._item.add_waiter(alarm.set):
            return True
        try:
            alarm.wait(timeout)
        finally:
            self._item.remove_waiter(alarm.set)
        return self._item.ended

    def __await__(self) -> Generator[Any, None, WorkItemInfo]:
        """Wait for the item's end on any event loop and return its info; never raises the item's failure.

        Cancelling the awaiter does not cancel the item.
        """
        return self._wait_on_loop().__await__()

    def exception(self) -> BaseException | None:
        """Return what the item raised if its status is FAILED, else None; without traceback; never blocks."""
        return self._item.exception if self._item.status is WorkItemStatus.FAILED else None

    async def _wait_on_loop(self) -> WorkItemInfo:
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake_from_thread() -> None:
            # A loop that is closed meanwhile has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(wake)

        if self._item.add_waiter(wake_from_thread):
            try:
                await woken
            finally:
                self._item.remove_waiter(wake_from_thread)
        return self._item.info()


def current_work_item() -> WorkItemHandle | None:
    """Return the handle of the item that is running here, None outside of an item; also in `sync_to_async` code."""
    item = _current.get(None)
    return None if item is None else WorkItemHandle(item)


def current_item() -> WorkItem | None:
    """Return the live item that is running here, for the scheduler."""
    return _current.get(None)


def enter_item(item: WorkItem) -> None:
    """Make `item` the current one of this context, which belongs to it alone."""
    _current.set(item)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
