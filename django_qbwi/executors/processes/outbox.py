"""What a helper tells its parent: in order, from any thread, also out of signal handlers."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any

from django_qbwi.core.progress import Progress
from django_qbwi.executors.processes.frames import Message, frame_of, write

_PROGRESS_SECONDS = 0.05
"""Progress is told of as often as that at the most."""


class Outbox:
    """The way to the parent.

    Lock: `_writing` is held by whoever writes, and never waited for. Whoever finds it taken leaves the message to the
    one who has it, who looks again behind each release: so a signal handler may come in between.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._frames: deque[bytes] = deque()
        self._writing = threading.Lock()
        self._progress: Progress | None = None
        self._more = threading.Lock()
        self._more.acquire()
        self._teller: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Outbox frames={len(self._frames)}>"

    def send(self, message: Message) -> None:
        """Have the parent get a message; it may block while the parent does not read.

        Raises:
            Exception: Whatever pickling the message raises; nothing was sent.
            OSError: There is no parent any more.
        """
        self._frames.append(frame_of(message))
        while self._frames and self._writing.acquire(False):
            try:
                while self._frames:
                    write(self._fd, self._frames.popleft())
            finally:
                self._writing.release()

    def report(self, progress: Progress) -> None:
        """Have the parent know how far the item is, soon; costs no more than to note it."""
        self._progress = progress
        if self._teller is None:
            self._teller = threading.Thread(target=self._tell, name="qbwi-progress", daemon=True)
            self._teller.start()
        if self._more.locked():
            try:
                self._more.release()
            except RuntimeError:
                # Another thread has reported in between.
                pass

    def tell_progress(self) -> None:
        """Send what was reported last, if it was not sent yet."""
        progress, self._progress = self._progress, None
        if progress is not None:
            self.send(("progress", progress.done, progress.total, progress.text))

    def _tell(self) -> None:
        while True:
            self._more.acquire()
            self.tell_progress()
            time.sleep(_PROGRESS_SECONDS)


class RecordForwarder(logging.Handler):
    """Sends the records of this process to the parent, whose own handlers write them."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record: its text is made here, where its arguments and its frames are."""
        try:
            self._outbox.send(("record", _plain(record)))
        except Exception:
            self.handleError(record)


def forward_records(outbox: Outbox) -> None:
    """Have each record of this process written once, by the parent: the handlers of this process are taken out."""
    root = logging.getLogger()
    others = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for logger in (root, *others):
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
    root.addHandler(RecordForwarder(outbox))


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    values = dict(record.__dict__)
    values["msg"], values["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        values["exc_text"] = logging.Formatter().formatException(record.exc_info)
    values["exc_info"] = None
    try:
        frame_of(("record", values))
    except Exception:
        # What `extra` brought along.
        values = {name: value if _crosses(value) else repr(value) for name, value in values.items()}
    return values


def _crosses(value: Any) -> bool:
    try:
        frame_of((value,))
    except Exception:
        return False
    return True
