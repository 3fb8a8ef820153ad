"""What was started elsewhere, as items: listed, counted, and waited for at the end of the process.

States of one: RUNNING, from the step that takes it in -> ended, by its own end, or ABANDONED at the limit.
Lock: that of the scheduler guards the items; `_tracked` is changed in single steps of C.

At a shutdown the token alone is cancelled: whoever has started it looks there. By its own means (`Future.cancel`) it is
cancelled where somebody asks for just that (`handle.cancel()`), and in the last moment before it is abandoned, as an
async item is. Its end is recorded, and its receivers are called, in the reporter's thread: the one in which it ends is
somebody's loop, or in its last moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django_qbwi.core.calls import Call, Options
from django_qbwi.core.cancellation import CancellationRegistration, CancelReason
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import TRACKED_ASYNC, TRACKED_SYNC, Lane
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.followed import Followed, followed
from django_qbwi.machine.primitives import holding
from django_qbwi.machine.service_thread import ServiceThread
from django_qbwi.machine.stacks import stack_of_thread


class Tracker:
    """Serves the lanes of what was started elsewhere: has no thread, and takes from no queue.

    - What is tracked twice has one item.
    - An item that was taken in is followed to its end, whatever strikes the thread that brings it.
    - Nothing of what was tracked is kept beyond its end.
    """

    def __init__(self, scheduler: WorkItemScheduler, reporter: ServiceThread) -> None:
        self._scheduler = scheduler
        self._reporter = reporter
        self._tracked: dict[int, WorkItem] = {}
        self._registrations: dict[WorkItem, CancellationRegistration] = {}
        self.lanes = (Lane[WorkItem](TRACKED_SYNC, "sync"), Lane[WorkItem](TRACKED_ASYNC, "async"))
        for lane in self.lanes:
            lane.executor = self
            lane.owns_failures = False

    def __repr__(self) -> str:
        return f"<Tracker tracked={len(self._tracked)}>"

    def make_item(self, started: Any, name: str | None) -> WorkItem:
        """Return a new item of what was started, which is not taken in yet.

        Raises:
            InvalidWorkItem: It cannot be tracked.
        """
        scheduler = self._scheduler
        thing = followed(started, scheduler.keeper, scheduler.clock)
        options = Options(name or thing.name, None, TRACKED_ASYNC if thing.kind == "async" else TRACKED_SYNC)
        return scheduler.make_item(Call(thing.follow, (thing,), options=options))

    def take_in(self, item: WorkItem) -> WorkItem:
        """Count an item of `make_item` as running, and follow it to its end.

        Returns:
            That item, or the one that the same thing has already.

        Raises:
            WorkItemRejected: The process is ending, or no thread could be started.
        """
        scheduler = self._scheduler
        if not scheduler.started:
            scheduler.start_threads(item)
        thing: Followed = item.work[1][0]
        try:
            taken, refusal = holding(scheduler.lock, self._take, item, thing)
            if refusal is None and taken is item:
                scheduler.observer.started(item)
                self._follow(item, thing)
        except BaseException:
            # Struck by a signal handler's exception at any point: what was taken in is followed.
            scheduler.keeper.post(partial(self._follow, item, thing))
            raise
        if refusal is not None:
            scheduler.observer.rejected(item, refusal)
            raise refusal
        return taken

    def _take(self, item: WorkItem, thing: Followed) -> tuple[WorkItem, WorkItemRejected | None]:
        key = id(thing.started)
        known = self._tracked.get(key)
        if known is not None and known.runs:
            return known, None
        refusal = self._scheduler.adopt(item, thing.ident, thing.thread)
        if refusal is None:
            self._tracked[key] = item
        return item, refusal

    def _follow(self, item: WorkItem, thing: Followed) -> None:
        if not item.runs:
            return
        key = id(thing.started)
        self._tracked[key] = item
        self._registrations[item] = item.token.register(partial(self._cancelled, item))
        thing.follow(partial(self._ended, item, key), item.token)

    def _cancelled(self, item: WorkItem) -> None:
        if item.token.reason is CancelReason.REQUESTED:
            self.cancel_natively([item])

    def _ended(self, item: WorkItem, key: int, error: BaseException | None) -> None:
        """End an item, in the thread in which that was seen; a second time nothing is left to do."""
        scheduler = self._scheduler
        if not scheduler.process.is_here() or self._tracked.get(key) is not item:
            return
        registration = self._registrations.pop(item, None)
        if registration is not None:
            registration.close()
        decided = scheduler.conclude(item, error)
        self._tracked.pop(key, None)
        self._reporter.post(partial(scheduler.report_unstarted if decided else scheduler.late, item))

    # What an executor is asked for.

    def cancel_natively(self, items: Sequence[WorkItem]) -> None:
        """Cancel futures and tasks by their own means; see `Executor.cancel_natively`."""
        for item in items:
            thing = self._thing(item)
            if thing is not None:
                thing.cancel()

    def stack(self, item: WorkItem) -> str:
        """Return where it is, as far as that can be seen."""
        thing = self._thing(item)
        return stack_of_thread(item.run.ident) if thing is None else thing.stack()

    def _thing(self, item: WorkItem) -> Followed | None:
        try:
            thing: Followed = item.work[1][0]
        except RuntimeError:
            # It has ended meanwhile.
            return None
        return thing

    @property
    def is_stuck(self) -> bool:
        """False: nothing waits for its turn here."""
        return False

    def prepare(self) -> None:
        """Do nothing: there is no thread."""

    def wake(self) -> bool:
        """Do nothing, as above."""
        return True

    def grow(self) -> None:
        """Do nothing, as above."""

    def give_up_slot(self, item: WorkItem) -> bool:
        """Return False: it holds no slot."""
        return False

    def retire(self) -> None:
        """Do nothing: what was tracked is its starter's."""

    def join(self, timeout: float) -> bool:
        """Return True: no thread of ours is left."""
        return True

    def stop_in_child(self) -> None:
        """Do nothing: an end is asked for its process."""
