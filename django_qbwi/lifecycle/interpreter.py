"""The interpreter's own ends: its exit, and a fork.

`threading._register_atexit` runs before the interpreter joins threads and shuts executors. `atexit` is too late: every
executor and asgiref call fails there with "cannot schedule new futures after (interpreter) shutdown".
"""

from __future__ import annotations

import atexit

# Imported for its side effect: it registers the hook that shuts all executors. Hooks run last in, first out, and ours
# has to run before that one.
import concurrent.futures.thread  # noqa: F401
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from django_qbwi.machine.primitives import STARTS_NO_THREADS_LATE


def call_at_exit(hook: Callable[[], None]) -> None:
    """Have `hook` run when the interpreter begins to exit, while threads and executors still work.

    The hook also runs in forked children and in master processes: it has to return at once where nothing is its own.
    It is called again a little later, and has to do its work only once: under gevent the first call is skipped when a
    signal handler raises SystemExit into the exit, as gunicorn's does at Ctrl-C.
    """
    atexit.register(hook)
    # A private name of CPython since 3.9; without it the exit is held too late for executors, but it is held.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        try:
            register(hook)
        except RuntimeError:
            # "can't register atexit after shutdown": the interpreter is exiting already.
            return


def warnings(starts_no_threads_late: bool = STARTS_NO_THREADS_LATE) -> list[str]:
    """Say what this Python cannot do at its exit, in words that say what to change."""
    if not starts_no_threads_late:
        return []
    version = ".".join(map(str, sys.version_info[:3]))
    return [
        (
            f"Python {version} starts no thread once its exit has begun (CPython issue 113964): an item that still "
            "runs then fails if it needs a new one, for a library's executor or for a child process; upgrade to Python "
            "3.12.3 or later"
        )
    ]


def call_in_forked_child(hook: Callable[[], None]) -> None:
    """Have `hook` run in the child after each fork; does nothing where there is no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=hook)


def ended_by_interrupt() -> bool:
    """Tell whether Ctrl-C ended the main thread, whose traceback is printed before the exit begins."""
    kind = _last_error()
    return kind is not None and issubclass(kind, KeyboardInterrupt)


def exit_code(signum: int | None) -> int:
    """Return the code of a process that the signal `signum`, or None, has ended, as a shell would tell it.

    Of a `sys.exit()` nothing can be known any more: it counts as a normal end.
    """
    if signum is None and ended_by_interrupt():
        signum = signal.SIGINT
    if signum is not None:
        return 128 + signum
    return 0 if _last_error() is None else 1


def _last_error() -> type[BaseException] | None:
    if hasattr(sys, "ps1"):
        # An interactive shell prints what its commands raise, and goes on.
        return None
    last = getattr(sys, "last_exc", None)
    return type(last) if last is not None else getattr(sys, "last_type", None)


def keep_interrupt_status() -> None:
    """Have a process that Ctrl-C ended die of SIGINT, as it would have without us; in the main thread.

    CPython does so after an unhandled KeyboardInterrupt if a flag still says so, which every compilation of a string in
    any thread resets: a named tuple, a dataclass that an item imports.
    """
    if not ended_by_interrupt():
        return
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")
