"""An executor for asyncio and asgiref whose threads are daemons that nobody joins without a limit."""

from __future__ import annotations

import functools
import itertools
import os
import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from django_qbwi.machine.primitives import holding, new_mailbox, new_rlock, start_thread, thread_ident_getter
from django_qbwi.machine.supervised import SupervisedThread
from django_qbwi.machine.thread_state import ThreadState

_T = TypeVar("_T")
_Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` by type only: asyncio accepts no other as the default executor of a loop.

    The threads of the original are joined without limit when the interpreter exits: one `sync_to_async(time.sleep)`
    of 30 s kept every server for 30 s. Threads are started when needed, or all at once by `prestart` for Python
    3.12.0 to 3.12.2, which start no thread late (CPython gh-113964).
    """

    def __init__(
        self,
        max_workers: int,
        name: str,
        thread_ended: Callable[[], None] | None = None,
        *,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Start no thread yet.

        Args:
            max_workers: The limit of threads.
            name: Their name.
            thread_ended: Called in each thread as its last act.
            before: Called in the thread ahead of the first call of each owner, and with `after` ahead of every call.
            after: Called in the thread behind every call, before its future is done.
        """
        # The original's __init__ is not called: nothing of its threads, queues and registries is used.
        self._limit = max_workers
        self._name = name
        self._thread_ended = thread_ended
        self._before = before
        self._after = after
        self._mailbox = new_mailbox()
        self._farewells = new_mailbox()
        self._guard = new_rlock()  # guards `_supervised` and `_idle`
        # With those that are still to be started: a call that is struck ahead of that leaves it to the next one.
        self._supervised: list[SupervisedThread] = []
        self._idle = 0
        self._pid = os.getpid()
        self.ident: int | None = None
        self.owner: object = None
        """Whom it is lent to, for records; None where it has no owner."""
        self.touched = False
        """Whether anything was submitted since whoever owns the executor last set this to False."""

    def __repr__(self) -> str:
        return f"<DaemonExecutor {self._name} threads={len(self._supervised)}>"

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run `fn(*args, **kwargs)` on one of the threads; see `concurrent.futures.Executor.submit`.

        Raises:
            RuntimeError: There is no thread yet, and none could be started; nothing was submitted.
        """
        future: Future[_T] = Future()
        if self._before is not None and (not self.touched or self._after is not None):
            fn = functools.partial(self._surround, self._before, fn)
        holding(self._guard, self._claim)
        for thread in tuple(self._supervised):
            if thread.is_lost:
                thread.revive()
            elif thread.is_new:
                try:
                    self._start(thread)
                except RuntimeError:
                    if not holding(self._guard, self._leave_to_others):
                        raise
        # Not before there is a thread: there would be nothing to clean up behind the owner, and none to do it.
        self.touched = True
        self._mailbox.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: asgiref before 3.12 calls this on the event loop, and would freeze it. See `retire`."""

    def retire(self) -> None:
        """End the threads after the work that is submitted already; does not wait."""
        for _ in range(self._count()):
            self._mailbox.put(None)

    def join(self, timeout: float) -> bool:
        """Wait after `retire` for the last act of each thread, for `timeout` seconds at the most; False if too short.

        One waiter, once.
        """
        deadline = time.monotonic() + timeout
        try:
            for _ in range(self._count()):
                self._farewells.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return False
        return True

    def prestart(self, threads: int = 1) -> None:
        """Start threads now, up to the limit."""
        for _ in range(threads):
            thread = holding(self._guard, self._add)
            if thread is None:
                return
            self._start(thread)
            holding(self._guard, self._count_idle)

    # Holding `_guard`.

    def _claim(self) -> None:
        """Take an idle thread for a call, or add one."""
        # Negative while calls wait for a thread at the limit.
        if self._idle > 0 or self._add() is None:
            self._idle -= 1

    def _add(self) -> SupervisedThread | None:
        """Return a further thread, which is still to be started; None at the limit."""
        if len(self._supervised) >= self._limit:
            return None
        # What a thread has taken outlives it: its successor goes on with that.
        thread = SupervisedThread(self._name, functools.partial(self._serve, deque()), spawn=start_thread)
        self._supervised.append(thread)
        return thread

    def _leave_to_others(self) -> bool:
        if not any(thread.has_started for thread in self._supervised):
            return False
        # The call waits for one of the others, as it does at the limit.
        self._idle -= 1
        return True

    def _count_idle(self) -> None:
        self._idle += 1

    def _remove(self, thread: SupervisedThread) -> None:
        if thread in self._supervised:
            self._supervised.remove(thread)

    # Not holding it.

    def _count(self) -> int:
        return sum(not thread.is_new for thread in tuple(self._supervised))

    def _start(self, thread: SupervisedThread) -> None:
        try:
            thread.start()
        except RuntimeError:
            holding(self._guard, self._remove, thread)
            raise

    def _surround(self, before: Callable[[], None], fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        before()
        try:
            return fn(*args, **kwargs)
        finally:
            # In the child of a call that forks there is nothing to do.
            if self._after is not None and os.getpid() == self._pid:
                self._after()

    def _serve(self, taken: deque[_Call | None]) -> None:
        self.ident = thread_ident_getter()()
        if taken:
            # An exception has struck this thread outside of a call.
            _settle(taken)
        state = ThreadState()
        while True:
            if not taken:
                # One step of C, as in `ServiceThread`: a call that is taken is never lost.
                taken.extend(itertools.starmap(self._mailbox.get, ((),)))
            work = taken[0]
            if work is None:
                break
            self._run_one(state, *work)
            # Parked threads must not keep the last call's objects alive.
            del work, taken[0]
            if os.getpid() != self._pid:
                return
            holding(self._guard, self._count_idle)
        try:
            if self._thread_ended is not None:
                self._thread_ended()
        finally:
            self._farewells.put(None)

    def _run_one(
        self,
        state: ThreadState,
        future: Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if not future.set_running_or_notify_cancel():
            return
        error: BaseException | None = None
        result = None
        state.begin()
        try:
            result = fn(*args, **kwargs)
        except BaseException as caught:
            error = caught
        if os.getpid() == self._pid:
            # Ahead of its future, behind which the owner ends.
            state.renew(self.owner or "A call in an executor")
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            # Break the cycle of the exception with this frame.
            del future, error


def _settle(taken: deque[_Call | None]) -> None:
    """End a call that was struck on its way; one that has not begun yet stays for another try."""
    work = taken[0]
    if work is None:
        return
    future = work[0]
    if future.running():
        future.set_exception(RuntimeError("the thread was struck by an asynchronous exception"))
    if future.done():
        taken.clear()
