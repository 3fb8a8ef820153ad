"""One process that is asked: the steps of the exchange on the client's side, none of which blocks."""

from __future__ import annotations

import _socket
import enum
import errno
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection import channel
from django_qbwi.inspection.channel import Peer
from django_qbwi.inspection.places import Address

_NOBODY = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE, errno.EPROTOTYPE})
_CHUNK = 1 << 18


class Outcome(enum.Enum):
    """What became of a question."""

    ANSWERED = "answered"
    GONE = "gone"
    REFUSED = "refused"
    """By a process of the site that runs as another user."""
    UNRESPONSIVE = "unresponsive"
    STRANGER = "stranger"
    """Somebody else took the name of the site."""


class Question:
    """One process that is asked; not connected at first, and again whenever it should be tried once more.

    `outcome` is None until it is certain. Nothing of the request is sent before `is_proven`.
    """

    def __init__(self, address: Address, key: bytes, request: dict[str, Any]) -> None:
        self.address = address
        self.outcome: Outcome | None = None
        self.answer: Any = None
        self.connection: _socket.socket | None = None
        self.peer: Peer | None = None
        """Who was there the last time, None if nobody could be connected to."""
        self.is_over = False
        """Whether nothing more comes over this connection."""
        self.is_proven = False
        self.is_counted = False
        """Whether it is among the connections to a process of a user who has proven nothing."""
        self.until = 0.0
        """The monotonic second at which its time is over, 0 before its time has begun."""
        self._key = key
        self._request = request
        self._received = bytearray()
        self._nonces: tuple[bytes, bytes] | None = None
        self._asked = False

    def __repr__(self) -> str:
        return f"<Question pid={self.address.pid} outcome={self.outcome}>"

    @property
    def uid(self) -> int | None:
        """The user at the other end."""
        return None if self.peer is None else self.peer.uid

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: It cannot, now or ever; `failed` tells which.
        """
        self._nonces, self._received, self.is_over = None, bytearray(), False
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.settimeout(0.0)
            connection.connect(self.address.path)
            self.peer = Peer.of(connection)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        if self._asked:
            # It lives, but broke off: what was asked for is not done twice.
            self.outcome = Outcome.UNRESPONSIVE

    def read(self) -> None:
        """Take what has come."""
        assert self.connection is not None
        limit = channel.MAX_GREETING if self._nonces is None else channel.MAX_ANSWER
        try:
            chunk = self.connection.recv(min(_CHUNK, limit + 1 - len(self._received)))
            self._received += chunk
            if not chunk:
                # It had no room for us, or it has just ended: another try tells.
                self.is_over = True
            elif b"\n" in chunk:
                self._take_lines()
            elif len(self._received) >= limit:
                raise ProcessUnreachable(f"a line was longer than {limit} bytes")
        except OSError as error:
            self.failed(error)
        except ProcessUnreachable:
            # Somebody who speaks otherwise, or another version of us: it does not answer, and will not.
            self.is_over, self.until = True, 0.0

    def failed(self, error: OSError) -> None:
        """Take notice that the connection broke, or could not be made."""
        self.is_over = True
        if self._nonces is None and error.errno in _NOBODY:
            self.outcome = Outcome.GONE
        elif self._nonces is None and error.errno in {errno.EACCES, errno.EPERM}:
            self.outcome = Outcome.REFUSED

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _take_lines(self) -> None:
        # The word that it is busy may come together with its greeting: another of its threads says it.
        while not self.is_over and b"\n" in self._received:
            line, _, rest = self._received.partition(b"\n")
            self._received = rest
            self._take(bytes(line))
            if self.outcome is not None:
                return

    def _take(self, line: bytes) -> None:
        if line == channel.BUSY:
            self.is_over, self._asked = True, False
        elif self._nonces is not None:
            _, content = channel.open_sealed([self._key], b"answer", self._nonces, line)
            if not isinstance(content, dict) or "answer" not in content:
                raise ProcessUnreachable("an answer was none")
            self.outcome, self.answer = Outcome.ANSWERED, content["answer"]
        elif channel.is_proven_refusal(self._key, line, self.uid):
            self.outcome = Outcome.REFUSED
        else:
            nonce = channel.proven_nonce(self._key, line, self.uid)
            if nonce is None:
                raise ProcessUnreachable("the greeting of a process was none of this site")
            self.is_proven = True
            self._send_request(nonce)

    def _send_request(self, nonce: bytes) -> None:
        assert self.connection is not None
        self._nonces = (nonce, channel.new_nonce())
        body = channel.encode(self._request)
        line = b" ".join((self._nonces[1], channel.seal(self._key, b"request", *self._nonces, body), body)) + b"\n"
        if len(line) > channel.MAX_REQUEST:
            raise ProcessUnreachable(f"the request is longer than {channel.MAX_REQUEST} bytes")
        # The buffer of a new connection takes all of it; a line that broke off is not done.
        self.connection.sendall(line)
        self._asked = True
