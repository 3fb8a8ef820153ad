"""A user's own signal handlers, which go on to those that they found."""

from __future__ import annotations

import signal
from types import FrameType

from tests.processes.site.report import report


def install() -> None:
    """Stand before the handlers of SIGTERM, SIGINT and SIGQUIT found now."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        _install(signum)


def set_uwsgi_hook() -> None:
    """Set uWSGI's own exit hook, over whatever is there."""
    import uwsgi  # it exists in uWSGI's workers only

    uwsgi.atexit = lambda: report("hook", "uwsgi.atexit")


def _install(signum: int) -> None:
    previous = signal.getsignal(signum)

    def handler(signum: int, frame: FrameType | None) -> None:
        report("user's handler", signal.Signals(signum).name)
        if callable(previous):
            previous(signum, frame)
        elif previous is signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)

    signal.signal(signum, handler)
