"""Messages through a pipe: a length of four bytes, and then a pickled tuple whose first entry says what it is."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
_CHUNK = 65_536

Message = tuple[Any, ...]


def frame_of(message: Message) -> bytes:
    """Return the bytes of a message.

    Raises:
        Exception: Whatever pickling raises; it is code of the values.
    """
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def write(fd: int, frame: bytes) -> None:
    """Write a whole frame; blocks while the pipe is full. One below PIPE_BUF bytes is written in one piece.

    Raises:
        OSError: Nobody reads there any more.
    """
    view = memoryview(frame)
    while view:
        view = view[os.write(fd, view) :]


class Frames:
    """The messages that come through one pipe, in order; for one thread."""

    __slots__ = ("_buffer", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<Frames fd={self._fd} buffered={len(self._buffer)}>"

    def read(self) -> bool:
        """Read what is there, and wait for it if need be; False at the end of the pipe."""
        chunk = os.read(self._fd, _CHUNK)
        self._buffer += chunk
        return bool(chunk)

    def next(self) -> Message | None:
        """Return the next message that is there as a whole, None if there is none.

        Raises:
            Exception: Whatever unpickling raises. The message is gone, those behind it are not.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        message: Message = pickle.loads(body)
        return message

    def receive(self) -> Message | None:
        """Return the next message, and wait for it; None at the end of the pipe."""
        while True:
            message = self.next()
            if message is not None:
                return message
            if not self.read():
                return None
