"""The ledger: who has begun and ended which number, one line each, whole and in order from several processes."""

from __future__ import annotations

import json
import os
import time

_GIVEN = json.loads(os.environ["QBWI_SITE_ENGINE"])
SECONDS: float = _GIVEN["seconds"]
_ROLE = os.environ["QBWI_SITE_ROLE"]
_FILE = os.open(_GIVEN["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_ROWS = os.open(_GIVEN["ledger"] + ".rows", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(what: str, number: int) -> None:
    """Append one line, by a single system call."""
    os.write(_FILE, f"{_ROLE} {os.getpid()} {what} {number}\n".encode())


def note_row(number: int, each: float) -> None:
    """Append one row, of ten bytes, by a single system call; it takes `each` seconds at the least."""
    time.sleep(each)
    os.write(_ROWS, f"{number:09d}\n".encode())
