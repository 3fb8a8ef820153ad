"""A work item: the live object with its one owner, and the handle that others hold.

States: QUEUED (-> RUNNING) -> one of SUCCEEDED, FAILED, CANCELLED, DISCARDED, ABANDONED and HANDED_OFF, for ever.
Lock: a `WorkItem` is changed under the lock of its owner only; its first ending stands.
"""

from __future__ import annotations

import datetime
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

from django_qbwi.core.calls import Options, Origin
from django_qbwi.core.cancellation import CancellationToken, CancelReason
from django_qbwi.core.lanes import ASYNC, SYNC, Lane
from django_qbwi.core.names import name_of
from django_qbwi.core.ports import Owner
from django_qbwi.core.process_local import ProcessLocal
from django_qbwi.core.progress import Progress
from django_qbwi.core.records import WorkItemInfo, WorkItemStatus, utc
from django_qbwi.core.runs import Ending, Run
from django_qbwi.core.waiting import Waited
from django_qbwi.machine.primitives import holding
from django_qbwi.machine.running_loop import refuse_on_running_loop

_current: ContextVar[WorkItem] = ContextVar("django_qbwi_current_work_item")

# A member is looked up by Python code before 3.12.
_QUEUED, _RUNNING = WorkItemStatus.QUEUED, WorkItemStatus.RUNNING


class WorkItem(Waited):
    """One accepted call, from queueing to its end; internal, others see `WorkItemHandle`.

    Invariant: `ending` is set once and then for ever; `ended` follows when the connections are closed and the record
    and the signal are out.
    """

    __slots__ = (
        "__weakref__",
        "_id",
        "called",
        "ending",
        "is_async",
        "lane",
        "last_run",
        "options",
        "origin",
        "queued",
    )

    def __init__(
        self,
        owner: Owner[WorkItem],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        is_async: bool,
        origin: Origin,
        options: Options,
    ) -> None:
        """Make it of the fields of a `Call`; a call of its own for each item cost a sixth of queueing it."""
        self.owner: Owner[WorkItem] = owner
        self.lane: Lane[WorkItem] = owner.lanes[options.lane or (ASYNC if is_async else SYNC)]
        self.called: tuple[Callable[..., Any], tuple[Any, ...]] | str | types.FunctionType = (function, args)
        """What to call with what, in one store, until it is dropped; then what its name is made of."""
        self.is_async = is_async
        self.origin = origin
        self.options = options
        self.queued = owner.clock()
        self.ending: Ending | None = None
        self.ended = False
        self.waiters: list[Callable[[], object]] | None = None
        self._id: str | None = None
        self.last_run: Run | None = None
        """Its run, None if it has not started, and nobody has asked for its token."""

    def __repr__(self) -> str:
        return f"<WorkItem {self.name} {self.status}>"

    @property
    def status(self) -> WorkItemStatus:
        """The status at this moment."""
        ending = self.ending
        if ending is not None:
            return ending.status
        run = self.last_run
        return _QUEUED if run is None or run.started is None else _RUNNING

    @property
    def runs(self) -> bool:
        """Whether it has started, and not ended."""
        return self.ending is None and self.last_run is not None and self.last_run.started is not None

    @property
    def waits(self) -> bool:
        """Whether it has neither started nor ended."""
        return self.ending is None and (self.last_run is None or self.last_run.started is None)

    @property
    def id(self) -> str:
        """The unguessable id, made when somebody asks."""
        return self._id or holding(self.owner.lock, self._make_id)

    def _make_id(self) -> str:
        if self._id is None:
            # An engine that stores tasks keeps it, if it is as long as a UUID.
            self._id = self.owner.make_id() if self.options.movable is None else self.owner.make_id(16)
        return self._id

    @property
    def known_id(self) -> str | None:
        """The id if somebody has asked for it, or given one before anybody could, else None."""
        return self._id

    @known_id.setter
    def known_id(self, given: str) -> None:
        self._id = given

    @property
    def name(self) -> str:
        """The given name, or that of the function."""
        name = self.options.name
        if name is None:
            work = self.called
            name = work if type(work) is str else name_of(work[0] if type(work) is tuple else work)
        return name

    @property
    def work(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What to call, and its arguments after the token, until it has ended.

        Raises:
            RuntimeError: It has ended, and both were dropped.
        """
        work = self.called
        if type(work) is not tuple:
            raise RuntimeError(f"the call of {self.name} was dropped at its end")
        return work

    def replace_work(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Have something else called in its next run."""
        self.called = (function, args)

    @property
    def timeout(self) -> float | None:
        """Seconds after its start at which its token is cancelled."""
        return self.options.timeout

    @property
    def run(self) -> Run:
        """Its run, made on first use."""
        run = self.last_run
        return holding(self.owner.lock, self._make_run) if run is None else run

    def _make_run(self) -> Run:
        if self.last_run is None:
            # One that waits for its turn is not cancelled by the stop of the process.
            self.last_run = Run(self.owner.stop, early=True)
        return self.last_run

    @property
    def token(self) -> CancellationToken:
        """The token that it gets."""
        return self.run.token

    @property
    def started(self) -> float | None:
        """The monotonic second of its start."""
        return None if self.last_run is None else self.last_run.started

    @property
    def elapsed(self) -> float:
        """Seconds it has been running, or ran; of an item that did not start, seconds since it was queued."""
        ending, started = self.ending, self.started
        until = self.owner.clock() if ending is None else ending.finished
        return until - (self.queued if started is None else started)

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why its token is cancelled, or was when it ended."""
        if self.ending is not None:
            return self.ending.reason
        return None if self.last_run is None else self.last_run.token.reason

    def forget_call(self) -> None:
        """Drop function and arguments, which may be large, as soon as they are no longer needed."""
        work, name = self.called, self.options.name
        if type(work) is not tuple:
            return
        function = work[0]
        try:
            # A name takes a while, and nobody may look. A function without a closure is its module's anyway; anything
            # else can hold large objects, and must go now.
            if name is None and (type(function) is not types.FunctionType or function.__closure__ is not None):
                name = name_of(function)
        finally:
            # Unnamed if the object's own code has left where it was asked.
            self.called = name or (function if type(function) is types.FunctionType else "<unnamed>")

    def info(self) -> WorkItemInfo:
        """Describe the item as it is now; any thread, never blocks."""
        # The ending first: what it says of is there by then.
        ending, run = self.ending, self.last_run
        return WorkItemInfo(
            id=self.id,
            name=self.name,
            kind=self.lane.kind,
            status=self.status if ending is None else ending.status,
            queued_at=utc(self.owner.wall_clock(self.queued)),
            started_at=None if run is None else self._moment(run.started),
            finished_at=None if ending is None else self._moment(ending.finished),
            due_at=self._moment(self.owner.due(self)),
            expires_at=self._moment(self.owner.expires(self)),
            timeout=self.timeout,
            priority=self.options.priority,
            pool=self.lane.pool_name,
            attempt=1 if run is None else run.attempt,
            held=ending is None and self in self.lane.held,
            overdue=run is not None and run.overdue,
            cancel_reason=self.cancel_reason if ending is None else ending.reason,
            error=None if ending is None else ending.failure,
            origin=self.origin[0],
            request_id=self.origin[1],
            pid=self.owner.pid,
            thread=None if run is None else run.thread,
            progress=None if run is None else run.token.progress,
            labels=dict(self.options.labels),
        )

    def _moment(self, monotonic: float | None) -> datetime.datetime | None:
        return None if monotonic is None else utc(self.owner.wall_clock(monotonic))


class WorkItemHandle(ProcessLocal):
    """What the caller of `queue` holds: to look at an item, to wait for it, to cancel it.

    Any thread may use it; it keeps the item's outcome, never its function, arguments or frames beyond the item's end.
    """

    pass_instead = "handle.id or handle.info"

    __slots__ = ("__weakref__", "_item")

    _item: WorkItem  # No __init__: a call of one, where an item is queued, takes as long as all that it would do.

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
    def progress(self) -> Progress | None:
        """What the item reported last by `token.report`; kept beyond its end, None if it never did."""
        run = self._item.last_run
        return None if run is None else run.token.progress

    @property
    def token(self) -> CancellationToken:
        """The token that the item got, or will get."""
        return self._item.token

    def cancel(self, message: str | None = None) -> bool:
        """Cancel the item: one that has not started never will, a running one sees its token cancelled.

        Running code is never interrupted. Never blocks, and may be called anywhere. `message` says why, see
        `token.message`; bounded. True if this was the first cancellation and the item had not ended.
        """
        return self._item.owner.cancel(self._item, message)

    def add_done_callback(self, callback: Callable[[WorkItemHandle], object]) -> None:
        """Have `callback(handle)` called once at the end, in the thread that ends it; now, if it has ended.

        It should be quick, as a receiver of a signal. What it raises is logged, and changes no outcome.
        """
        if not callable(callback):
            raise TypeError(f"add_done_callback() takes a callable with one argument, not {callback!r}")
        self._item.call_at_end(lambda: callback(self))

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the item has ended, its record and signal included, or for `timeout` seconds; True if it has.

        Never raises the item's failure: see `exception()`. Items that wait for ones behind them can block all workers.
        RuntimeError on a running event loop, which it would stop: await the handle there.
        """
        if self._item.ended:
            return True
        refuse_on_running_loop("handle.wait()", "await it (`await handle`)")
        return self._item.wait(timeout)

    def __await__(self) -> Generator[Any, None, WorkItemInfo]:
        """Wait for the end on any event loop, return the info; to cancel who awaits does not cancel the item."""
        return self._wait_on_loop().__await__()

    def exception(self) -> BaseException | None:
        """Return what the item raised if its status is FAILED, else None; without traceback; never blocks."""
        ending = self._item.ending
        return None if ending is None else ending.exception

    async def _wait_on_loop(self) -> WorkItemInfo:
        await self._item.wait_on_loop()
        return self._item.info()


def handle_of(item: WorkItem) -> WorkItemHandle:
    """Return a handle of an item."""
    handle = WorkItemHandle()
    handle._item = item
    return handle


def current_work_item() -> WorkItemHandle | None:
    """Return the handle of the item that is running here, None outside of an item; also in `sync_to_async` code."""
    item = _current.get(None)
    return None if item is None else handle_of(item)


def current_item() -> WorkItem | None:
    """Return the live item that is running here, for the scheduler."""
    return _current.get(None)


def enter_item(item: WorkItem) -> None:
    """Make `item` the current one of this context, which belongs to it alone."""
    _current.set(item)
