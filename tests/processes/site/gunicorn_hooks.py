"""A gunicorn configuration with hooks of the user's own."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from typing import Any

# Not site.report: a preloading master would import the site's modules before the application does.
_FILE = os.open(os.path.join(os.environ["QBWI_SITE_DIR"], "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


_STACK = os.path.join(os.environ["QBWI_SITE_DIR"], "stack")


def post_worker_init(worker: Any) -> None:
    """Let the harness ask where a worker hangs."""
    worker.qbwi_stack = open(_STACK, "w")  # noqa: SIM115 - as long as the process
    faulthandler.register(signal.SIGXCPU, file=worker.qbwi_stack, all_threads=False)


def worker_int(worker: Any) -> None:
    """Report gunicorn's hook."""
    _report("worker_int")


def worker_exit(server: Any, worker: Any) -> None:
    """Report gunicorn's hook."""
    _report("worker_exit")


def _report(name: str) -> None:
    line = {"event": "hook", "name": name, "pid": os.getpid(), "at": time.monotonic()}
    os.write(_FILE, (json.dumps(line) + "\n").encode())
