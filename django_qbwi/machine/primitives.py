"""Locks and threads of the operating system, also where gevent has replaced those of the standard library.

Items must run on real threads: with patched ones the running-loop mark of asyncio is shared by all greenlets of the
process, and a CPU-bound item lets the hub tick once a second (observed with gevent under gunicorn).
Nothing here imports gevent: where it is not loaded already, it has not patched anything.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import queue
import selectors
import signal
import sys
import threading
import types
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

_VERY_LONG = 1e8
"""Seconds, three years: longer than any process lives."""

_TURN = 0.5
"""Seconds: how long the main thread sleeps at a time, and how late it may hear of a signal."""

# CPython gh-113964: these cannot start a thread any more once the interpreter has begun to exit.
STARTS_NO_THREADS_LATE = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2)


class Lock(Protocol):
    """What `threading.Lock` and `threading.RLock` have in common."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> bool: ...

    def __exit__(self, *exc_info: object) -> None: ...


def new_lock() -> Lock:
    """Return a new unlocked lock that parks a real thread."""
    lock: Lock = _original("_thread", "allocate_lock", _thread.allocate_lock)()
    return lock


def new_rlock() -> Lock:
    """Return a new re-entrant lock of real threads.

    Re-entrant because queueing, cancelling and reading are allowed in `__del__`, weakref callbacks and signal
    handlers, which can run between any two statements of the thread that holds the lock.
    """
    lock: Lock = _original("_thread", "RLock", threading.RLock)()
    return lock


def holding(lock: Lock, step: Callable[..., _T], *args: Any) -> _T:
    """Return `step(*args)`, run while this thread holds `lock`, a re-entrant one; never leaves it held.

    In place of `with lock:` wherever the main thread takes a lock. A signal handler may raise there between any two
    steps of the interpreter, and on Python 3.14 also between the taking of a lock and the beginning of the block
    (python/cpython#148874): the lock is held for ever then. No context manager can help, since it is the statement that
    is struck. What holds on every version is this order: the lock is taken inside of `try`, by a call into C, and given
    back by another one. Where even a call is too much (`WorkItemScheduler.queue`), the same lines stand in the place.
    """
    try:
        lock.acquire()
        return step(*args)
    finally:
        try:
            lock.release()
        except RuntimeError:
            # The exception came while we waited for the lock, which we do not have then.
            pass


def new_mailbox() -> queue.SimpleQueue[Any]:
    """Return a queue whose `put` is re-entrant and safe in signal handlers (documented for the C SimpleQueue)."""
    mailbox: queue.SimpleQueue[Any] = _original("queue", "SimpleQueue", queue.SimpleQueue)()
    return mailbox


def new_thread_locals() -> Any:
    """Return a namespace of each real thread, which is gone with the thread."""
    return _original("_thread", "_local", threading.local)()


def new_selector() -> selectors.BaseSelector | None:
    """Return a selector that waits in a real thread, for an event loop; None: asyncio's own choice is one.

    gevent's would start a hub in the loop's thread, which ends with LoopExit when it sees nothing to wait for.
    """
    monkey = _gevent_monkey()
    for name in () if monkey is None else ("EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector"):
        try:
            selector: selectors.BaseSelector = monkey.get_original("selectors", name)()
        except AttributeError:
            continue  # this system has none of that kind
        return selector
    return None


def process_spawner() -> Callable[..., int]:
    """Return `os.posix_spawn`, where gevent's tells its hub of the child, which only the main thread may do."""
    spawn: Callable[..., int] = _original("os", "posix_spawn", getattr(os, "posix_spawn", None))
    return spawn


def process_waiter() -> Callable[[int, int], tuple[int, int]]:
    """Return `os.waitpid`, where gevent's asks its hub."""
    wait: Callable[[int, int], tuple[int, int]] = _original("os", "waitpid", getattr(os, "waitpid", None))
    return wait


class Alarm:
    """A `threading.Event` for one waiter and one use, which an exception out of a signal handler cannot tear.

    Struck inside of `Event.set`, the lock of the event is never given back: the waiter, and whoever sets it again,
    would hang for ever. Here it is one step of C. Where gevent has replaced locks a greenlet waits, as with an Event.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __repr__(self) -> str:
        return f"<Alarm set={not self._lock.locked()}>"

    def set(self) -> None:
        """Wake the waiter; any thread, never blocks, and may be done again."""
        # It is not locked: set already, maybe by a call that was struck right behind this.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float | None) -> None:
        """Block until it is set, or for `timeout` seconds; once.

        The main thread waits in turns. A signal that arrives as it goes to sleep, or that another thread receives, does
        not end the wait for a lock (seen with CPython 3.11 to 3.14): a stop signal would be heard when the item ends.
        """
        limit = patience(timeout)
        if threading.get_ident() == threading.main_thread().ident:
            while limit is None or limit > _TURN:
                if self._lock.acquire(True, _TURN):
                    return
                limit = None if limit is None else limit - _TURN
        if limit is None:
            self._lock.acquire()
        elif limit > 0:
            self._lock.acquire(True, limit)


def patience(timeout: float | None) -> float | None:
    """Return `timeout` for the wait of a lock; a very long one in place of None where gevent has replaced locks.

    A wait without a timeout in a real thread ends with LoopExit there: the thread's hub sees nothing to wait for, since
    it does not know of other threads. A timer is something.
    """
    return _VERY_LONG if timeout is None and _gevent_monkey() is not None else timeout


def thread_ident_getter() -> Callable[[], int]:
    """Return the function that tells the ident of the current real thread, where gevent's tells a greenlet's."""
    getter: Callable[[], int] = _original("_thread", "get_ident", _thread.get_ident)
    return getter


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a daemon thread in an empty context.

    Daemon, because only our own bounded wait may hold the exit of a process, never a join of the interpreter.
    In an empty context, because Python 3.14 can let a thread inherit the one of its starter, which here is a
    request (`sys.flags.thread_inherit_context`).

    Raises:
        RuntimeError: The operating system gave no thread. Nothing was started.
    """
    run = functools.partial(_run_thread, target)
    monkey = _gevent_monkey()
    if monkey is not None:
        start = monkey.get_original("_thread", "start_new_thread")
        Context().run(start, run, ())
        return
    Context().run(threading.Thread(target=run, name=name, daemon=True).start)


def in_own_thread() -> bool:
    """Return whether this thread was started by `start_thread`; slow, for the way of an error only."""
    # The stack is asked, since an own mark would have to live in a context or in a thread-local of gevent's.
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not _run_thread.__code__:
        frame = frame.f_back
    return frame is not None


def _run_thread(target: Callable[[], None]) -> None:
    _unblock_stop_signals()
    target()


def _unblock_stop_signals() -> None:
    # Signal masks are inherited: a subprocess started by an item would ignore terminate() if the thread that started
    # ours had the stop signals blocked. There is no pthread_sigmask on Windows.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        # A matter of its process, as gevent's patches are: nothing can be asked of a host when a thread is started.
        if "uwsgi" in sys.modules:
            # While its main thread handles a SIGINT, which ends the process, a second one would come to us, and end it
            # at once. uWSGI itself blocks all signals in its further threads.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _gevent_monkey() -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    return monkey


def _original(module: str, name: str, fallback: Any) -> Any:
    monkey = _gevent_monkey()
    return fallback if monkey is None else monkey.get_original(module, name)
