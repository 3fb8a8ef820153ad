"""eventlet, under which nothing of ours can run, whatever the server is."""

from __future__ import annotations

import sys


def refusal_of_threads() -> str | None:
    """Say why no item can run in this process: its threads are none; None where they are."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return None
    return (
        "eventlet has replaced the threads of this process, and work items need real ones: use gunicorn's gthread or "
        "gevent workers"
    )
