"""Tools for the tests of those who use work items.

The pytest plugin offers the same as fixtures, by the same names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from django_qbwi import hosting
from django_qbwi.core.calls import NO_ORIGIN, Call
from django_qbwi.core.cancellation import CancellationToken, CancelReason, StopFlag
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.intake.intake import Surrounded, origin_of
from django_qbwi.machine.running_loop import refuse_on_running_loop

Waits = Literal["real", "skip", "cancel"]
Prepare = Callable[[WorkItem], object]

_NO_WAITS = "waits are cancelled in this test"


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
) -> tuple[Assembly, WorkItem]:
    assembly = hosting.this_process().current
    options = assembly.options_of(name, timeout)
    origin = origin_of(work_item, args) or NO_ORIGIN
    item = assembly.scheduler.make_item(Call(work_item, args, is_async, origin, options))
    if waits != "real":
        item.run.token = _ImpatientToken(assembly.scheduler.stop, waits == "cancel")
    return assembly, item
