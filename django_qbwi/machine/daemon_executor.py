"""An executor for asyncio and asgiref whose threads are daemons that nobody joins without a limit."""

from __future__ import annotations

import functools
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from django_qbwi.machine.primitives import new_lock, new_mailbox, start_thread, thread_ident_getter
from django_qbwi.machine.thread_state import ThreadState

_T = TypeVar("_T")


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
        self._guard = new_lock()  # guards `_thread_count`, `_running` and `_idle`
        self._thread_count = 0
        # Without those that are just being started, maybe in vain.
        self._running = 0
        self._idle = 0
        self._pid = os.getpid()
        self.ident: int | None = None
        self.owner: object = None
        """Whom it is lent to, for records; None where it has no owner."""
        self.touched = False
        """Whether anything was submitted since whoever owns the executor last set this to False."""

    def __repr__(self) -> str:
        return f"<DaemonExecutor {self._name} threads={self._thread_count}>"

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run `fn(*args, **kwargs)` on one of the threads; see `concurrent.futures.Executor.submit`.

        Raises:
            RuntimeError: There is no thread yet, and none could be started; nothing was submitted.
        """
        future: Future[_T] = Future()
        if self._before is not None and (not self.touched or self._after is not None):
            fn = functools.partial(self._surround, self._before, fn)
        with self._guard:
            # Negative while calls wait for a thread at the limit.
            needs_thread = self._idle <= 0 and self._thread_count < self._limit
            if needs_thread:
                self._thread_count += 1
            else:
                self._idle -= 1
        if needs_thread:
            try:
                self._start()
            except RuntimeError:
                with self._guard:
                    if not self._running:
                        raise
                    # The call waits for one of the others, as it does at the limit.
                    self._idle -= 1
        # Not before there is a thread: there would be nothing to clean up behind the owner, and none to do it.
        self.touched = True
        self._mailbox.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: asgiref before 3.12 calls this on the event loop, and would freeze it. See `retire`."""

    def retire(self) -> None:
        """End the threads after the work that is submitted already; does not wait."""
        for _ in range(self._count_threads()):
            self._mailbox.put(None)

    def join(self, timeout: float) -> bool:
        """Wait after `retire` for the last act of each thread, for `timeout` seconds at the most; False if too short.

        One waiter, once.
        """
        deadline = time.monotonic() + timeout
        try:
            for _ in range(self._count_threads()):
                self._farewells.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return False
        return True

    def prestart(self, threads: int = 1) -> None:
        """Start threads now, up to the limit."""
        for _ in range(threads):
            with self._guard:
                if self._thread_count >= self._limit:
                    return
                self._thread_count += 1
            self._start()
            with self._guard:
                self._idle += 1

    def _count_threads(self) -> int:
        with self._guard:
            return self._thread_count

    def _start(self) -> None:
        try:
            start_thread(self._run, self._name)
        except RuntimeError:
            with self._guard:
                self._thread_count -= 1
            raise
        with self._guard:
            self._running += 1

    def _surround(self, before: Callable[[], None], fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        before()
        try:
            return fn(*args, **kwargs)
        finally:
            # In the child of a call that forks there is nothing to do.
            if self._after is not None and os.getpid() == self._pid:
                self._after()

    def _run(self) -> None:
        self.ident = thread_ident_getter()()
        state = ThreadState()
        while True:
            work = self._mailbox.get()
            if work is None:
                break
            future, fn, args, kwargs = work
            del work
            self._run_one(state, future, fn, args, kwargs)
            # Parked threads must not keep the last call's objects alive.
            del future, fn, args, kwargs
            if os.getpid() != self._pid:
                return
            with self._guard:
                self._idle += 1
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
