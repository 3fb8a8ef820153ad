"""The parent of runserver's autoreloader, which starts the process that serves: it must not kill that at a Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

_GIVING_UP_SECONDS = 2.0


def swallow_first_interrupt() -> None:
    """Keep runserver's parent from killing its child 0.25 s after a Ctrl-C, as `subprocess.call` does.

    The child gets the same Ctrl-C from the terminal and drains; the parent leaves when the child is gone, also if that
    was about to be replaced since a file had changed. After a second one the child has two seconds to say which items
    it gives up; a third works as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:
        return

    def first(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, previous)
        if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
            signal.signal(signal.SIGCHLD, leave)
            signal.signal(signum, second)

    def second(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, previous)
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, previous)
        signal.setitimer(signal.ITIMER_REAL, _GIVING_UP_SECONDS)

    def leave(signum: int, frame: FrameType | None) -> None:
        if _child_is_gone():
            if signal.getsignal(signal.SIGALRM) is previous:
                # Or it would kill this process, late in whose exit Python takes its handlers back.
                signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)


def _child_is_gone() -> bool:
    # Not when it was only stopped, or goes on.
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # the wait that the signal has met has taken its status already
        return True
