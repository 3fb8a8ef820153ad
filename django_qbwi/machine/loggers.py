"""Loggers for code that must go on whatever a logging handler does.

The handlers of the standard library report their own failures; others raise, and so do filters. A record is written in
the middle of an item's way to its end, of a drain, or of a chore of the service threads: none of them may stop there.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class SafeLogger(_Adapter):
    """The logger of a name; what its handlers and filters raise is printed, as `logging` prints it, and forgotten."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), None)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add nothing: `extra` is the caller's."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a record; every other method comes through here."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        self.try_log(level, msg, *args, **kwargs)

    def try_log(self, level: int, msg: object, *args: object, **kwargs: Any) -> bool:
        """Write a record; return False if a handler or a filter raised."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:
            if logging.raiseExceptions:
                # It chains what was to be logged, which may not let itself be printed.
                with contextlib.suppress(Exception):
                    traceback.print_exc()
            return False
        return True
