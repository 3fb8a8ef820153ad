"""The other side: finds the processes of a site on this machine, and asks all of them at the same time.

An unresponsive process is a normal state: it is stopped, or busy in C code that holds the GIL. A process that has
ended is not listed: its socket went with it.
"""

from __future__ import annotations

import _socket
import dataclasses
import errno
import selectors
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection import channel
from django_qbwi.inspection.channel import Address, Place, Site

SECONDS = 0.5
"""That a process has for its answer."""

_AGAIN_AFTER = 0.02
_NOBODY = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back."""

    answers: list[tuple[int, Any]]
    """Pid and answer of each process that answered, by pid."""
    unresponsive: list[int]
    """The pids of those that did not answer in time."""
    refused: list[int]
    """The pids of those of another user."""


def ask(
    place: Place,
    sites: Sequence[Site],
    request: dict[str, Any],
    *,
    but: Address | None = None,
    pids: Iterable[int] | None = None,
    seconds: float = SECONDS,
) -> Answers:
    """Ask all processes of a site; blocks for `seconds` at the most.

    Args:
        sites: The site under each of its secrets.
        but: The address of the asking process, which is not asked.
        pids: Ask only these processes.

    Raises:
        OSError: Nobody can tell here which processes there are.
    """
    keys = {site.name: site.key for site in sites}
    wanted = None if pids is None else frozenset(pids)
    questions = [
        _Question(address, keys[address.site], request)
        for address in place.find(keys)
        if address != but and (wanted is None or address.pid in wanted)
    ]
    with selectors.DefaultSelector() as selector:
        try:
            _ask_all(questions, selector, time.monotonic() + seconds)
        finally:
            for question in questions:
                question.leave(selector)
    for question in questions:
        if question.outcome == "gone":
            place.forget(question.address)
    return Answers(
        answers=sorted(
            ((question.address.pid, question.answer) for question in questions if question.outcome == "answered"),
            key=lambda answer: answer[0],
        ),
        unresponsive=sorted(
            question.address.pid for question in questions if question.outcome in {None, "unresponsive"}
        ),
        refused=sorted(question.address.pid for question in questions if question.outcome == "refused"),
    )


def _ask_all(questions: list[_Question], selector: selectors.BaseSelector, deadline: float) -> None:
    while True:
        now = time.monotonic()
        for question in questions:
            if question.begin_at is not None and question.begin_at <= now:
                question.begin(selector)
        waiting = [question for question in questions if question.outcome is None]
        if not waiting or now >= deadline:
            return
        moments = [question.begin_at for question in waiting if question.begin_at is not None]
        for key, _ in selector.select(max(0.0, min([deadline, *moments]) - now)):
            question = key.data
            question.read(selector)


class _Question:
    """One process that is asked.

    `outcome` is None, and then once "answered", "gone", "refused" or, if that is certain before the time is over,
    "unresponsive".
    """

    def __init__(self, address: Address, key: bytes, request: dict[str, Any]) -> None:
        self.address = address
        self.outcome: str | None = None
        self.answer: Any = None
        self.begin_at: float | None = 0.0
        """When to connect, None while connected."""
        self._key = key
        self._request = request
        self._socket: _socket.socket | None = None
        self._received = bytearray()
        self._nonces: tuple[bytes, bytes] | None = None
        self._asked = False

    def __repr__(self) -> str:
        return f"<_Question pid={self.address.pid} outcome={self.outcome}>"

    def begin(self, selector: selectors.BaseSelector) -> None:
        """Connect."""
        self.begin_at, self._nonces, self._received = None, None, bytearray()
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket.settimeout(0.0)
        try:
            self._socket.connect(self.address.path)
            if not channel.client_accepts(self._socket):
                self._end("refused", selector)
                return
            if self._asked:
                # It lives, but broke off: what was asked for is not done twice.
                self._end("unresponsive", selector)
                return
            selector.register(self._socket.fileno(), selectors.EVENT_READ, self)
        except OSError as error:
            self._failed(error, selector)

    def read(self, selector: selectors.BaseSelector) -> None:
        """Take what has come."""
        assert self._socket is not None
        try:
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                # It had no room for us, or it has just ended: another try tells.
                self._again(selector)
                return
            self._received += chunk
            if chunk.endswith(b"\n"):
                self._take(bytes(self._received[:-1]), selector)
            elif len(self._received) > channel.MAX_ANSWER:
                raise ProcessUnreachable(f"an answer was longer than {channel.MAX_ANSWER} bytes")
        except OSError as error:
            self._failed(error, selector)
        except ProcessUnreachable:
            # Somebody who speaks otherwise, or another version of us: it does not answer, and will not.
            self._end("unresponsive", selector)

    def leave(self, selector: selectors.BaseSelector) -> None:
        """Close the connection."""
        if self._socket is not None:
            if self._socket.fileno() in selector.get_map():
                selector.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _take(self, line: bytes, selector: selectors.BaseSelector) -> None:
        if self._nonces is not None:
            _, content = channel.open_sealed([self._key], b"answer", self._nonces, line)
            if not isinstance(content, dict) or "answer" not in content:
                raise ProcessUnreachable("an answer was none")
            self.answer = content["answer"]
            self._end("answered", selector)
        elif line + b"\n" == channel.REFUSED:
            self._end("refused", selector)
        elif line + b"\n" == channel.BUSY:
            self._again(selector)
        else:
            self._send_request(line)

    def _send_request(self, greeting: bytes) -> None:
        nonce = greeting.removeprefix(channel.PROTOCOL.encode() + b" ")
        if not channel.is_nonce(nonce):
            raise ProcessUnreachable("the greeting of a process was none of ours")
        assert self._socket is not None
        self._nonces = (nonce, channel.new_nonce())
        self._received.clear()
        body = channel.encode(self._request)
        line = b" ".join((self._nonces[1], channel.seal(self._key, b"request", *self._nonces, body), body)) + b"\n"
        if len(line) > channel.MAX_REQUEST:
            raise ProcessUnreachable(f"the request is longer than {channel.MAX_REQUEST} bytes")
        # The buffer of a new connection takes all of it.
        self._asked = True
        self._socket.sendall(line)

    def _failed(self, error: OSError, selector: selectors.BaseSelector) -> None:
        if self._nonces is None and error.errno in _NOBODY:
            self._end("gone", selector)
        elif self._nonces is None and error.errno in {errno.EACCES, errno.EPERM}:
            self._end("refused", selector)
        else:
            self._again(selector)

    def _again(self, selector: selectors.BaseSelector) -> None:
        self.leave(selector)
        self.begin_at = time.monotonic() + _AGAIN_AFTER

    def _end(self, outcome: str, selector: selectors.BaseSelector) -> None:
        self.outcome = outcome
        self.leave(selector)
