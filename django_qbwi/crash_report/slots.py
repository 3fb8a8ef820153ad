"""The form of a file of the crash report: a slot of fixed size for each item."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

FREE, WAITS, RUNS = 0, 1, 2

SIZE = 384
"""Bytes of a slot."""

_FORM = struct.Struct("<dd48s152s128s32s")
_STARTED = struct.Struct("<d")
_TEXTS = 8
"""Where these begin: behind the state, which is written last, and what aligns them."""


@dataclasses.dataclass(frozen=True, slots=True)
class LostItem:
    """An item that a process had when it ended without a word."""

    id: str
    name: str
    queued_at: float
    """Seconds since the epoch."""
    started_at: float | None
    """Seconds since the epoch; None if it waited."""
    origin: str | None
    request_id: str | None
    pid: int
    """The process that had it."""


def write(memory: Any, at: int, queued: float, ident: bytes, name: bytes, origin: bytes, request_id: bytes) -> None:
    """Note an item that waits. Whatever ends the process in between leaves the slot free."""
    _FORM.pack_into(memory, at + _TEXTS, queued, 0.0, ident, name, origin, request_id)
    memory[at] = WAITS


def begin(memory: Any, at: int, started: float) -> None:
    """Note that the item of a slot runs."""
    _STARTED.pack_into(memory, at + _TEXTS + 8, started)
    memory[at] = RUNS


def read(content: bytes, pid: int) -> list[LostItem]:
    """Return the items of a file; what makes no sense in it is left out."""
    found = []
    for at in range(0, len(content) - SIZE + 1, SIZE):
        state = content[at]
        if state not in (WAITS, RUNS):
            continue
        queued, started, *texts = _FORM.unpack_from(content, at + _TEXTS)
        ident, name, origin, request_id = (_text(text) for text in texts)
        if ident and name and _is_moment(queued) and _is_moment(started):
            begun = started if state == RUNS else None
            found.append(LostItem(ident, name, queued, begun, origin or None, request_id or None, pid))
    return found


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "replace")


def _is_moment(seconds: float) -> bool:
    # Up to the year 9999; it is not a number of any other file.
    return 0.0 <= seconds < 253402300800.0
