"""Reads what processes that ended without a word have left, once, and tells it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from django_qbwi.core.names import printable
from django_qbwi.crash_report import slots
from django_qbwi.crash_report.journal import SUFFIX, own
from django_qbwi.crash_report.slots import LostItem
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.crash_report")

_MOST_BYTES = 8 * 1024 * 1024
_MOST_FILES = 1000
_MOST_RECORDS = 100
"""Items of one pass with a record of their own."""

_CRASHES = "crashes.json"
_IN_A_ROW = 3


def read(directory: str) -> list[LostItem]:
    """Read the files of processes that are gone, remove them, and write the records of their items.

    Any thread; blocks for the disk. What cannot be read costs a DEBUG record.
    """
    lost: list[LostItem] = []
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX) and name not in own)
    except OSError as error:
        logger.debug("The crash report in %s cannot be read: %s", directory, error)
        return lost
    for name in names[:_MOST_FILES]:
        try:
            lost += _taken(Path(directory) / name)
        except (OSError, ValueError) as error:
            logger.debug("The crash report %s cannot be read: %s", name, error)
    if lost:
        _tell(lost)
        try:
            _suspect(Path(directory), {item.name for item in lost if item.started_at is not None})
        except (OSError, ValueError) as error:
            logger.debug("The crashes in %s cannot be counted: %s", directory, error)
    return lost


def _taken(path: Path) -> list[LostItem]:
    """Return what a file has, and remove it; nothing, if its process lives, or another one was faster."""
    with _opened(path) as fd:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return []
        found = os.fstat(fd)
        if found.st_nlink == 0:
            return []
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(f"it belongs to user {found.st_uid}")
        content = os.pread(fd, _MOST_BYTES, 0)
        # First: what is told twice is worse than what is told late.
        os.unlink(path)
        return slots.read(content, int(path.name.partition("-")[0]))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT * (path.name == _CRASHES) | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _tell(lost: list[LostItem]) -> None:
    now = time.time()
    # Those that ran are the more interesting ones.
    lost.sort(key=lambda item: (item.started_at is None, item.queued_at))
    for item in lost[:_MOST_RECORDS]:
        running = "waiting" if item.started_at is None else f"running for {max(0.0, now - item.started_at):.0f}s"
        logger.error(
            "Work item id=%s name=%s was lost: process %d ended without a word, with the item %s, queued %.0fs ago%s",
            printable(item.id),
            printable(item.name),
            item.pid,
            running,
            max(0.0, now - item.queued_at),
            f" by {printable(item.origin)}" if item.origin else "",
        )
    if len(lost) > _MOST_RECORDS:
        logger.error("%d more work items were lost by processes that ended without a word", len(lost) - _MOST_RECORDS)


def _suspect(directory: Path, running: set[str]) -> None:
    """Name what ran at the last three crashes; those that one pass finds are one."""
    with _opened(directory / _CRASHES) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        try:
            before = json.loads(os.pread(fd, _MOST_BYTES, 0) or b"[]")
            crashes = [set(names) for names in before]
        except (ValueError, TypeError):
            crashes = []
        crashes = [*crashes, running][-_IN_A_ROW:]
        text = json.dumps([sorted(names)[:_MOST_RECORDS] for names in crashes]).encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
    if len(crashes) == _IN_A_ROW:
        for name in sorted(set.intersection(*crashes)):
            logger.error(
                "Work item name=%s ran at each of the last %d crashes: it is their likely cause", printable(name), 3
            )
