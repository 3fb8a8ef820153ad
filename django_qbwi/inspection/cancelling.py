"""Cancels items for somebody who does not wait for their callbacks.

The callbacks of a token, and the receivers of signals, are code of the site: they may block for ever. They run in
threads of their own, one item after the other; a thread that an item keeps for too long is left to it, and another one
goes on with the next. So one item holds up neither the others nor the one who cancels.
"""

from __future__ import annotations

import collections
import queue
import time
from collections.abc import Callable, Iterable

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.core.items import WorkItem
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import new_mailbox, start_thread

logger = SafeLogger("django_qbwi.inspection")

MAX_THREADS = 16
"""That callbacks may keep at the same time."""

_PATIENCE = 0.05
"""Seconds that an item may keep a thread from the others."""
_SECONDS = 0.4
"""That all items of one call are waited for; a client waits for half a second."""


class Canceller:
    """Cancels in its own threads; they are counted for as long as callbacks keep them."""

    def __init__(self) -> None:
        self._threads: dict[_Thread, None] = {}

    def __repr__(self) -> str:
        return f"<Canceller threads={len(self._threads)}>"

    def cancel(
        self, scheduler: WorkItemScheduler, items: Iterable[WorkItem], by: str, leave_thread: Callable[[], None]
    ) -> dict[str, bool]:
        """Cancel items; see `WorkItemHandle.cancel` for what is returned of each.

        Args:
            by: Who does it.
            leave_thread: Called last in each thread.

        Raises:
            ProcessUnreachable: Callbacks keep so many threads that some of the items were not cancelled.
        """
        waiting = collections.deque(items)
        done: dict[str, bool] = {}
        until = time.monotonic() + _SECONDS
        while waiting:
            if len(self._threads) >= MAX_THREADS:
                raise ProcessUnreachable("too many callbacks of cancelled items block")
            thread = _Thread(scheduler, waiting, done, by)
            self._start(thread, leave_thread)
            if thread.is_in_time(until) and time.monotonic() >= until:
                # It goes on, and comes to all of them.
                done |= {item.id: _is_first(item) for item in list(waiting)}
                break
        return dict(done)

    def _start(self, thread: _Thread, leave_thread: Callable[[], None]) -> None:
        self._threads[thread] = None

        def run() -> None:
            try:
                thread.run()
            finally:
                leave_thread()
                del self._threads[thread]

        try:
            start_thread(run, "qbwi-inspection-cancel")
        except RuntimeError:
            # There is none to be had, or the interpreter lets none start any more. The caller may be in the middle of a
            # request, whose connections stay open.
            del self._threads[thread]
            thread.run()


class _Thread:
    """Cancels one item after the other, until there is none or one has kept it for too long."""

    def __init__(
        self, scheduler: WorkItemScheduler, waiting: collections.deque[WorkItem], done: dict[str, bool], by: str
    ) -> None:
        self._scheduler = scheduler
        self._waiting = waiting
        self._done = done
        self._by = by
        self._is_late = False
        self._steps = new_mailbox()
        """False after each item, True at the end."""

    def run(self) -> None:
        """Cancel; runs code of the site."""
        try:
            while self._waiting and not self._is_late:
                self._cancel(self._waiting.popleft())
                self._steps.put(False)
        except IndexError:
            pass  # another one was faster
        finally:
            self._steps.put(True)

    def is_in_time(self, until: float) -> bool:
        """Wait until it has ended, or for the time that is left; False if an item has kept it for too long."""
        try:
            while not self._steps.get(timeout=_PATIENCE):
                if time.monotonic() >= until:
                    break
        except queue.Empty:
            self._is_late = True
        return not self._is_late

    def _cancel(self, item: WorkItem) -> None:
        # Said before its callbacks run: the token is what decides.
        self._done[item.id] = _is_first(item)
        try:
            first = self._done[item.id] = self._scheduler.cancel(item, f"cancelled by {self._by}")
        except Exception:
            logger.exception("Cancelling work item id=%s name=%s failed", item.id, item.name)
            return
        outcome = "cancellation requested" if first else "had ended or been cancelled before it was cancelled"
        logger.info("Work item id=%s name=%s %s by %s", item.id, item.name, outcome, self._by)


def _is_first(item: WorkItem) -> bool:
    return not (item.status.is_terminal or item.token.is_cancellation_requested)
