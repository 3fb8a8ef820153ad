"""Lines that the site writes, one JSON object each, whole and in order also from several processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

DIRECTORY = Path(os.environ["QBWI_SITE_DIR"])
_FILE = os.open(DIRECTORY / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def report(event: str, name: str = "", **more: Any) -> None:
    """Append one line; safe in signal handlers and in every thread, since it is a single system call."""
    line = {"event": event, "name": name, "pid": os.getpid(), "at": time.monotonic(), **more}
    os.write(_FILE, (json.dumps(line) + "\n").encode())
