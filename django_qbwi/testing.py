"""Tools for the tests of those who use work items.

The pytest plugin offers the same as fixtures, by the same names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from django_qbwi import hosting
from django_qbwi.core.calls import NO_ORIGIN, Call
from django_qbwi.core.cancellation import CancellationToken, CancelReason, StopFlag
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.records import Labels, WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.intake.intake import Surrounded, origin_of
from django_qbwi.intake.options import NO_START
from django_qbwi.machine.running_loop import refuse_on_running_loop

Waits = Literal["real", "skip", "cancel"]
Prepare = Callable[[WorkItem], object]

_NO_WAITS = "waits are cancelled in this test"
_MOST_NAMED = 10


class CapturedWorkItem:
    """A call that was queued and not run; `run()` runs it here and now."""

    def __init__(self, scheduler: WorkItemScheduler, item: WorkItem) -> None:
        self._scheduler = scheduler
        self._item = item
        self.handle = handle_of(item)
        queued = item.work[0]
        self.work_item: Callable[..., Any] | None = queued.function if isinstance(queued, Surrounded) else queued
        """The queued function."""
        self.args = item.work[1]
        """Its arguments after the token."""
        self.timeout = item.timeout
        """Seconds, or None."""

    def __repr__(self) -> str:
        return f"<CapturedWorkItem {self.name} args={self.args!r} status={self.status}>"

    @property
    def name(self) -> str:
        """The name of the item."""
        return self._item.name

    @property
    def status(self) -> WorkItemStatus:
        """QUEUED until it was run."""
        return self._item.status

    def run(self) -> WorkItemHandle:
        """Run it in this thread, unless it was run or cancelled before; see how it ended in the handle."""
        if self._item.status is WorkItemStatus.QUEUED:
            assembly = hosting.this_process().current
            run_immediately(self._scheduler, self._item, assembly.environment.scope)
        return self.handle

    def discard(self) -> None:
        """Give it up, unless it was run or cancelled before; nothing is logged."""
        if self._item.status is WorkItemStatus.QUEUED:
            self._scheduler.discard(self._item)


class CapturedWorkItems(list[CapturedWorkItem]):
    """The list of what was captured, in the order of queueing."""

    def run_all(self) -> list[WorkItemHandle]:
        """Run all that were not run yet, also those that they queue meanwhile; return the handles of all."""
        for item in self:
            # A list may grow while it is iterated; what the items queue is run too.
            item.run()
        return [item.handle for item in self]


class _Immediately:
    """Runs what is queued, in place of queueing."""

    def __init__(self, on_commit: bool, waits: Waits) -> None:
        self.on_commit = on_commit
        self._waits = waits

    def __call__(self, *call: Any, prepare: Prepare | None = None) -> WorkItemHandle:
        assembly, item = _make(self._waits, *call)
        if prepare is not None:
            prepare(item)
        run_immediately(assembly.scheduler, item, assembly.environment.scope)
        return handle_of(item)


class _ImpatientToken(CancellationToken):
    """A token on which nobody waits."""

    __slots__ = ("_cancels",)

    def __init__(self, stop: StopFlag, cancels: bool) -> None:
        super().__init__(stop)
        self._cancels = cancels

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once what the wait would have returned at its end."""
        if not self.is_cancellation_requested:
            # A mistake that shall not wait for production.
            refuse_on_running_loop("token.wait()", "await token.cancelled()")
        if timeout is None or (self._cancels and timeout > 0):
            # Without a limit nothing else would end it.
            self._cancel(CancelReason.REQUESTED, _NO_WAITS)
        return super().wait(0)

    async def cancelled(self) -> None:
        """Cancel the token, since nothing else would."""
        self._cancel(CancelReason.REQUESTED, _NO_WAITS)


@contextlib.contextmanager
def immediate_work_items(on_commit: bool = False, waits: Waits = "real") -> Iterator[None]:
    """Run items at the call, in the caller's thread, in this whole process for the time of a block.

    An item sees the test's own transaction, and nothing else of the caller: a context of its own, and empty thread
    locals of the libraries that keep the current user there. A failure of an item does not reach the caller: look at
    the handle, or at the log.

    Args:
        on_commit: Whether `queue_on_commit`, too, runs an item at the call, where it waits for a commit that never
            comes: inside the transaction that a TestCase rolls back.
        waits: What `token.wait(60)` does in an item. "real": it waits. "skip": it returns False at once, as after 60
            seconds. "cancel": it cancels the token and returns True, so that an item which waits again and again ends.
            A wait without a limit (`token.wait()`, `await token.cancelled()`) is cancelled by both.
    """
    with hosting.intercept(_Immediately(on_commit, _checked(waits))):
        yield


@contextlib.contextmanager
def captured_work_items(waits: Waits = "real") -> Iterator[CapturedWorkItems]:
    """Collect what is queued, in this whole process for the time of a block, and run none of it.

    `run_all()` runs them. What is never run is DISCARDED, in silence, when the block is left.

    Args:
        waits: As for `immediate_work_items`.
    """
    _checked(waits)
    captured = CapturedWorkItems()

    def capture(*call: Any, prepare: Prepare | None = None) -> WorkItemHandle:
        assembly, item = _make(waits, *call)
        if prepare is not None:
            prepare(item)
        captured.append(CapturedWorkItem(assembly.scheduler, item))
        return captured[-1].handle

    with hosting.intercept(capture):
        try:
            yield captured
        finally:
            for left in captured:
                left.discard()


def drain(timeout: float = 5.0) -> bool:
    """Wait until nothing is queued or running in this process, undisturbed, for `timeout` seconds at the most.

    What is left then is cancelled, and after a tenth of the time abandoned or discarded, with a record each. The
    scheduler is open again afterwards.

    Returns:
        True if everything had ended by itself.
    """
    here = hosting.this_process()
    assembly = here.assembly
    if assembly is None or not assembly.scheduler.started or assembly.scheduler.wait_until_empty(timeout):
        return True
    here.renew(max(0.5, timeout / 10))
    return False


def assert_no_work_items_left(timeout: float = 1.0) -> None:
    """Wait until nothing is queued or running in this process, for `timeout` seconds at the most.

    What is left is not touched: `drain(0)` ends it, so that the next test does not meet it.

    Raises:
        AssertionError: Something is left; it is named, with where it comes from and the stack of what runs.
    """
    __tracebackhide__ = True
    left = left_after(_seconds("timeout", timeout))
    if left is not None:
        raise AssertionError(left)


@dataclasses.dataclass(frozen=True, slots=True)
class Shutdown:
    """What became of the items at a simulated shutdown: handles, in the order of queueing."""

    finished: list[WorkItemHandle]
    """SUCCEEDED or FAILED."""
    cancelled: list[WorkItemHandle]
    abandoned: list[WorkItemHandle]
    """Still running at the limit."""
    discarded: list[WorkItemHandle]
    """Never started."""
    handed_off: list[WorkItemHandle]
    """Moved to another engine."""


def simulate_shutdown(
    after: float = 0.1,
    *,
    timeout: float = 5.0,
    meanwhile: Callable[[], object] | None = None,
    check: bool = True,
) -> Shutdown:
    """End the background work of this process as a deploy does, without a signal; blocks until that is over.

    Tokens are cancelled with SHUTDOWN, items are accepted or refused as in a drain, and what does not end is given up
    at the limit. The settings that hold now count (CANCEL_AFTER and so on). Afterwards a new scheduler is open.

    Args:
        after: Seconds for which the items are left alone before, less if all have ended.
        timeout: The limit of the shutdown in seconds, as the server's, at most that of QBWI["SHUTDOWN_TIMEOUT"]; a
            tenth of it is kept for the last records.
        meanwhile: Called without arguments when the shutdown has begun: what the last requests still do.
        check: Whether an item that outlasts the limit is an error.

    Returns:
        What was queued or running when the shutdown began, or came later (of these at most QBWI["HISTORY_SIZE"]).

    Raises:
        AssertionError: An item did not honour its token in time; it is named with its stack.
        RuntimeError: Called on a running event loop, which it would stop.
    """
    __tracebackhide__ = True
    after, timeout = _seconds("after", after), _seconds("timeout", timeout)
    refuse_on_running_loop("simulate_shutdown()", "await asyncio.to_thread(simulate_shutdown)")
    here = hosting.this_process()
    assembly = here.current
    assembly.scheduler.wait_until_empty(after)
    try:
        items = _shut_down(assembly, timeout, meanwhile)
        abandoned = [item for item in items if item.status is WorkItemStatus.ABANDONED]
        if check and abandoned:
            what = "did not honour the token of a shutdown within"
            raise AssertionError(_named(what, timeout, assembly.scheduler, abandoned))
    finally:
        here.renew(timeout)
    return _outcome([handle_of(item) for item in items])


def _shut_down(assembly: Assembly, timeout: float, meanwhile: Callable[[], object] | None) -> list[WorkItem]:
    """Drain and close a scheduler; return the items that were there, or came."""
    scheduler, coordinator = assembly.scheduler, assembly.coordinator
    began, items = scheduler.clock(), scheduler.live_items()
    coordinator.has_audience = False
    coordinator.sign("a simulated shutdown", at_most=timeout)
    if meanwhile is not None:
        meanwhile()
    coordinator.hold(last=True)
    known = {item.id for item in items}
    came = [item for item in reversed(scheduler.finished_items()) if item.queued >= began and item.id not in known]
    # Those that run were in the order of their start.
    return sorted(items + came, key=lambda item: item.queued)


def _outcome(handles: list[WorkItemHandle]) -> Shutdown:
    def ended(*statuses: WorkItemStatus) -> list[WorkItemHandle]:
        return [handle for handle in handles if handle.status in statuses]

    return Shutdown(
        finished=ended(WorkItemStatus.SUCCEEDED, WorkItemStatus.FAILED),
        cancelled=ended(WorkItemStatus.CANCELLED),
        abandoned=ended(WorkItemStatus.ABANDONED),
        discarded=ended(WorkItemStatus.DISCARDED),
        handed_off=ended(WorkItemStatus.HANDED_OFF),
    )


def left_after(timeout: float, waited: float = 0.0) -> str | None:
    """Return what to say of the items that are left after `timeout` seconds, None if there are none; internal."""
    assembly = hosting.this_process().assembly
    if assembly is None or assembly.scheduler.is_empty:
        return None
    scheduler = assembly.scheduler
    if timeout:
        refuse_on_running_loop("assert_no_work_items_left()", "await asyncio.to_thread(assert_no_work_items_left)")
        scheduler.wait_until_empty(timeout)
    # They may have ended in between, and who waits for one is woken a moment before it leaves the registry.
    left = [item for item in scheduler.live_items() if not item.ended]
    return _named("left after", waited + timeout, scheduler, left) if left else None


def _named(what: str, timeout: float, scheduler: WorkItemScheduler, items: list[WorkItem]) -> str:
    """Return a list of items for the message of an AssertionError, with the stacks of those that run."""
    lines = [f"{len(items)} work item{'s' * (len(items) != 1)} {what} {timeout:g} s:"]
    for item in items[:_MOST_NAMED]:
        info = item.info()
        verb, since = ("queued", info.queued_at) if info.started_at is None else ("started", info.started_at)
        origin = f", from {info.origin}" if info.origin else ""
        lines.append(f"- {info.name} id={info.id} status={info.status}, {verb} at {since:%H:%M:%S.%f} UTC{origin}")
        if info.started_at is not None:
            lines += ["  It is at:", textwrap.indent(scheduler.stack(item).rstrip(), "  ")]
    if len(items) > _MOST_NAMED:
        lines.append(f"- and {len(items) - _MOST_NAMED} more")
    return "\n".join(lines)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} is {value!r}: give a number of seconds, 0 or more")
    return float(value)


def _checked(waits: Waits) -> Waits:
    if waits not in get_args(Waits):
        raise ValueError(f'waits is {waits!r}: give "real", "skip" or "cancel"')
    return waits


def _make(
    waits: Waits,
    work_item: Callable[..., Any],
    args: tuple[Any, ...],
    is_async: bool,
    name: str | None,
    timeout: float | None,
    labels: Labels = (),
) -> tuple[Assembly, WorkItem]:
    assembly = hosting.this_process().current
    options = assembly.options_of(name, timeout, NO_START._replace(labels=labels) if labels else None)
    origin = origin_of(work_item, args) or NO_ORIGIN
    item = assembly.scheduler.make_item(Call(work_item, args, is_async, origin, options))
    if waits != "real":
        item.run.token = _ImpatientToken(assembly.scheduler.stop, waits == "cancel")
    return assembly, item
