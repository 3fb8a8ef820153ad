"""The last lines that an item has logged, kept with its run, for its page and `manage.py qbwi show`.

They are taken where a record is made, and not by a handler: one on the root logger would keep `logging.basicConfig`
from its work, and hide that a site has none. What none of the site's handlers would write is not kept, so that nothing
is made into text that was not to be.

Any thread; no lock: two threads that log the first line of an item in the same moment may lose one of the two.
"""

from __future__ import annotations

import collections
import logging
import re
from collections.abc import Callable
from typing import Any

from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.items import WorkItem, current_item
from django_qbwi.core.runs import LogLine
from django_qbwi.intake.secrecy import is_secret_name, without_tokens

MASK = "********************"
MAX_TEXT = 500
"""Characters of a line."""

_OWN = "django_qbwi.scheduler"
"""What is told of each item, and shown otherwise."""
_NAME = re.compile(r"""(?<![\w-])([A-Za-z_][\w-]{0,60})["']?\s{0,3}[=:]\s{0,3}["']?""")
_VALUE = re.compile(r"""((?:Bearer|Basic|Token)\s+)?([^\s"',;&]+)""", re.IGNORECASE)


class KeptLines:
    """Makes records as the factory before it does, and keeps a line of each that an item logs."""

    def __init__(self, make: Callable[..., logging.LogRecord], most: Callable[[], int]) -> None:
        """Make it; `most` returns how many lines of an item are kept."""
        self._make = make
        self._most = most

    def __repr__(self) -> str:
        return f"<KeptLines make={self._make!r}>"

    def __call__(self, *args: Any, **options: Any) -> logging.LogRecord:
        """Return a new record."""
        record = self._make(*args, **options)
        item = current_item()
        if item is not None and item.ending is None and record.name != _OWN:
            try:
                self._keep(item, record)
            except Exception:
                # Whatever an argument does where it is made into text: the handlers of the site tell of it.
                pass
        return record

    def _keep(self, item: WorkItem, record: logging.LogRecord) -> None:
        run, most = item.last_run, self._most()
        if run is None or not most or not _is_written(record):
            return
        text = record.getMessage()[: 4 * MAX_TEXT]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = f"{text} ({type_of(error)}: {message_of(error)[:MAX_TEXT]})"
        text = without_secrets(text)
        text = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
        if run.lines is None:
            run.lines = collections.deque(maxlen=most)
        run.lines.append(LogLine(record.created, record.levelname, record.name, text))


def install(most: Callable[[], int]) -> None:
    """Have the records of this process made so, once."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, KeptLines):
        logging.setLogRecordFactory(KeptLines(make, most))


def without_secrets(text: str) -> str:
    """Return a text with the values of secret names masked, and with what looks like a token."""
    text = without_tokens(text, MASK)
    parts, end = [], 0
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end()) if name.start() >= end and is_secret_name(name[1]) else None
        if value is not None:
            parts += [text[end : name.end()], value[1] or "", MASK]
            end = value.end()
    return "".join([*parts, text[end:]])


def _is_written(record: logging.LogRecord) -> bool:
    """Say whether a handler would write it."""
    logger: Any = logging.root if record.name == "root" else logging.root.manager.loggerDict.get(record.name)
    found = False
    while isinstance(logger, logging.Logger):
        for handler in logger.handlers:
            found = True
            if record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return not found and logging.lastResort is not None and record.levelno >= logging.lastResort.level
