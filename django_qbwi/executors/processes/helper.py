"""The program of a helper process. It is run by its path, since it does not know yet from where modules are imported.

Its descriptors: 3 is the pipe from its parent, 4 the one to it, 5 the lifeline, which ends with its parent.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
from typing import Any

INBOX, OUTBOX, LIFELINE = 3, 4, 5

_FDS = ("/proc/self/fd", "/dev/fd")
_MOST_FDS = 4096


def main() -> int:
    """Serve the parent until it says the end; return the exit status."""
    with contextlib.suppress(OSError):
        # Where the system could not do it at the start: the terminal's Ctrl-C is the parent's.
        os.setsid()
    _leave_sigterm_to_the_parent()
    _live_no_longer_than_the_parent()
    _close_what_was_inherited()
    start = _first_message()
    sys.path[:] = start["path"]
    if start["nice"]:
        os.nice(start["nice"])
    # From where the parent has it, which is known only now.
    from django_qbwi.executors.processes.service import serve

    return serve(start, INBOX, OUTBOX)


def _leave_sigterm_to_the_parent() -> None:
    """Ignore SIGTERM, and unblock it: systemd sends it to all processes of a service, whose items have time left.

    By a handler, which what items start does not inherit.
    """
    signal.signal(signal.SIGTERM, lambda signum, frame: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _live_no_longer_than_the_parent() -> None:
    """Have the kernel kill this process when the parent is gone, also in the middle of C code; on Linux."""
    for fd in (INBOX, OUTBOX, LIFELINE):
        # Not for what items start.
        os.set_inheritable(fd, False)
    try:
        import fcntl  # what only POSIX has

        fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(LIFELINE, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(LIFELINE, fcntl.F_SETFL, fcntl.fcntl(LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        # Not Linux: the end of the inbox is seen by the thread that reads it.
        return


def _close_what_was_inherited() -> None:
    """Close what servers leave open for children of theirs, such as the sockets that they listen on."""
    for folder in _FDS:
        with contextlib.suppress(OSError):
            found = [int(name) for name in os.listdir(folder)]
            break
    else:
        found = list(range(_MOST_FDS))
    for fd in found:
        if fd > LIFELINE:
            with contextlib.suppress(OSError):
                os.close(fd)


def _first_message() -> dict[str, Any]:
    # As `frames` does, which cannot be imported yet.
    length = struct.unpack(">I", _read(4))[0]
    start: dict[str, Any] = pickle.loads(_read(length))
    return start


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(INBOX, size - len(data))
        if not chunk:
            # The parent has gone before it has said anything.
            os._exit(1)
        data += chunk
    return data


if __name__ == "__main__":
    # Its frames are known as ours where the stack of an item is shown.
    __name__ = "django_qbwi.executors.processes.helper"
    sys.exit(main())
