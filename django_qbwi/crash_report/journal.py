"""The file of one process, in which it notes the items that it has.

A mapped page survives the process, SIGKILL included, since it is the system's. To note an item is to write some bytes
of memory: no system call, and nothing to flush.

Lock: none. A slot is one item's from `pop()` to `append()`, each of which is one step of C.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from pathlib import Path
from typing import Any

from django_qbwi.crash_report import slots
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.crash_report")

SUFFIX = ".qbwi"

_MOST_SLOTS = 8192
"""3 MB; what a process has beyond it is not noted."""

own: set[str] = set()
"""The names of the files of this process, and of those that it was forked from: not to be opened again, since that
would give back their locks."""


class Journal:
    """Notes items in a file that is there until the process has ended in good order."""

    def __init__(self, directory: str, size: int) -> None:
        """Make the file.

        Args:
            directory: Made if it is not there, for this user alone.
            size: For how many items.

        Raises:
            OSError: The directory cannot be made or written to, or the disk is full.
        """
        self._pid = os.getpid()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.path = Path(directory) / f"{self._pid}-{secrets.token_hex(8)}{SUFFIX}"
        size = min(size, _MOST_SLOTS)
        # Before it is there: the reporter may be reading the directory, and its lock would be as good as ours.
        own.add(self.path.name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o600)
        try:
            # Now: a page that finds no room on the disk later would end the process (SIGBUS).
            _reserve(self._fd, size * slots.SIZE)
            # Held as long as the process lives, whatever ends it; not by those that it forks.
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._memory: Any = mmap.mmap(self._fd, size * slots.SIZE)
        except BaseException:
            os.close(self._fd)
            os.unlink(self.path)
            own.discard(self.path.name)
            raise
        # The one that was used last is the next: its page is there.
        self._free = list(range((size - 1) * slots.SIZE, -1, -slots.SIZE))
        self._names: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<Journal {self.path.name} free={len(self._free)}>"

    def enter(self, queued: float, ident: str, name: str, origin: str | None, request_id: str | None) -> int | None:
        """Note an item that waits; return its slot, None if there is none left."""
        try:
            at = self._free.pop()
        except IndexError:
            return None
        encoded = self._names.get(name)
        if encoded is None:
            if len(self._names) > 1000:
                self._names.clear()
            encoded = self._names[name] = _encoded(name)
        slots.write(self._memory, at, queued, ident.encode(), encoded, _encoded(origin), _encoded(request_id))
        return at

    def begin(self, at: int, started: float) -> None:
        """Note that the item of a slot runs."""
        slots.begin(self._memory, at, started)

    def wait_again(self, at: int) -> None:
        """Note that it waits for its next attempt."""
        self._memory[at] = slots.WAITS

    def leave(self, at: int) -> None:
        """Note that it has ended."""
        self._memory[at] = slots.FREE
        self._free.append(at)

    def close(self) -> None:
        """Remove the file, if this process is its owner and nothing is in it; what is noted later raises ValueError."""
        if self._memory.closed or os.getpid() != self._pid or len(self._free) * slots.SIZE < len(self._memory):
            # With its lock: until this process has ended nobody reads it.
            return
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        own.discard(self.path.name)
        self._memory.close()
        os.close(self._fd)


def _encoded(text: str | None) -> bytes:
    return b"" if text is None else text.encode("utf-8", "replace")


def _reserve(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    # macOS has none.
    if os.pwrite(fd, bytes(size), 0) < size:
        raise OSError("the disk is full")
