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

from django_qbwi.machine.primitives import in_own_thread

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class SafeLogger(_Adapter):
    """The logger of a name; what its handlers and filters raise is printed, as `logging` prints it, and forgotten.

    In the main thread, and in threads that are not ours, that holds for an Exception only; see `may_contain`.
    """

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
        except BaseException as error:
            if not may_contain(error):
                raise
            _print(error)
            return False
        return True


def may_contain(error: BaseException) -> bool:
    """Return whether we may end the way of `error`, which came out of code that we only call to tell it something.

    An Exception always. SystemExit, KeyboardInterrupt and the like only in a thread of ours, which would die of it. In
    the main thread it may have come out of a signal handler that struck while that code ran: Ctrl-C, or a server that
    ends its process. In any other thread a library may have thrown it, which limits the time of its caller. Both go on.
    """
    return isinstance(error, Exception) or in_own_thread()


def _print(error: BaseException) -> None:
    if logging.raiseExceptions:
        # sys.stderr may be closed, or be replaced by something that raises as well.
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
