"""The listener of a process: lets other processes of its site look at it, and cancel items in it.

One daemon thread waits for connections without a wakeup; each connection has a thread of its own for the second that
it may take, so that a silent client holds up nobody; where no thread can be started, the one that listens answers, and
lets others wait for that second. No thread is on the path of an item.

Two kinds of connections have their own few places: those that have sent a sealed request, and are answered, and those
that have not. Who comes when all of the latter are taken gets that of the client with the most of them, the oldest one:
clients that are silent cannot keep others out. What an answer may wait for is bounded by the subject.
"""

from __future__ import annotations

import _socket
import collections
import contextlib
import errno
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection import channel
from django_qbwi.inspection.channel import Site
from django_qbwi.inspection.places import Address, Place
from django_qbwi.inspection.subject import MAX_ITEMS, Subject
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import new_lock, start_thread
from django_qbwi.machine.supervised import SupervisedThread

logger = SafeLogger("django_qbwi.inspection")

MAX_CONNECTIONS = 8
"""Requests that are answered at the same time; further ones are told that we are busy."""
MAX_STRANGERS = 4
"""Connections without a request at the same time; a further one takes the place of one of them."""

_REQUEST_SECONDS = 0.5
"""Until a client has to have sent its request; it has no more for its answer either."""
_ANSWER_SECONDS = 1.0
"""Until it has to have read the answer."""
_PAUSE = 0.5
_MAX_IDS = 1_000


class Publisher:
    """Answers for one process, from `open` to `close`, once.

    Invariant: `address` is set as long as somebody listens.
    """

    def __init__(self, place: Place, sites: Sequence[Site], subject: Subject) -> None:
        """Make one that does not listen yet.

        Args:
            sites: The one under whose name it listens, then those whose keys are accepted as well.
        """
        self.address: Address | None = None
        self._place = place
        self._sites = sites
        self._subject = subject
        self._pid = os.getpid()
        self._listener: _socket.socket | None = None
        self._guard = new_lock()
        """Guards the two below."""
        self._strangers: dict[_socket.socket, int | None] = {}
        """Connections that have sent no request, oldest first, with the pids at their other ends."""
        self._connections: dict[_socket.socket, None] = {}
        """All of them, until their threads end."""
        self._ended = new_lock()

    def __repr__(self) -> str:
        return f"<Publisher address={self.address!r}>"

    def open(self) -> None:
        """Listen, in a thread; never blocks.

        Raises:
            OSError: There can be no such socket here.
            RuntimeError: The operating system gave no thread.
        """
        listener, address = self._place.listen(self._sites[0].name, self._pid)
        self._listener, self.address = listener, address
        self._ended.acquire()
        try:
            SupervisedThread("qbwi-inspection", lambda: self._serve(listener), spawn=start_thread).start()
        except RuntimeError:
            self._ended.release()
            self.close()
            raise

    def close(self, seconds: float = 0.5) -> None:
        """Stop listening, and wait for the end of the thread, for `seconds` at the most."""
        listener, address = self._listener, self.address
        if listener is None or address is None:
            return
        self._listener = self.address = None
        _wake(listener, address)
        self._ended.acquire(True, seconds)
        listener.close()
        with contextlib.suppress(OSError):
            self._place.forget(address)

    def close_in_child(self) -> None:
        """Let go, in a forked child, of what belongs to the parent; the parent goes on."""
        for inherited in (self._listener, *list(self._connections)):
            if inherited is not None:
                inherited.close()
        self._listener = self.address = None

    # In the thread that listens.

    def _serve(self, listener: _socket.socket) -> None:
        while self._listener is listener:
            try:
                number, _ = listener._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if self._listener is listener and error.errno != errno.ECONNABORTED:
                    # No more files, for instance: the one who connects stays in the queue, and without a pause
                    # this would turn on the spot.
                    time.sleep(_PAUSE)
                continue
            self._welcome(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, number))
        # Not where it is struck: it serves on then. Released already, if it was struck in this line.
        with contextlib.suppress(RuntimeError):
            self._ended.release()

    def _welcome(self, connection: _socket.socket) -> None:
        try:
            refusal = self._refusal(connection)
            if refusal is None:
                try:
                    start_thread(lambda: self._answer(connection), "qbwi-inspection-answer")
                except RuntimeError:
                    # Python 3.12.0 to 3.12.2 start none at their exit, which is when an operator looks.
                    self._answer(connection)
                return
            connection.settimeout(0.0)
            connection.send(refusal)
        except OSError as error:
            logger.debug("A client of the inspection channel was turned away: %r", error)
        self._end(connection)

    def _refusal(self, connection: _socket.socket) -> bytes | None:
        if self._listener is None:
            return b""
        if not channel.server_accepts(connection):
            return channel.refusal(self._sites[0].key)
        with self._guard:
            # Those that were sent away are here until their threads have noticed.
            if len(self._connections) >= MAX_CONNECTIONS + 2 * MAX_STRANGERS:
                return channel.BUSY + b"\n"
            self._connections[connection] = None
            if len(self._strangers) >= MAX_STRANGERS:
                self._send_one_away()
            self._strangers[connection] = channel.peer_pid(connection)
        return None

    def _send_one_away(self) -> None:
        count = collections.Counter(self._strangers.values())
        # The first of equals: the oldest.
        unlucky = max(self._strangers, key=lambda connection: count[self._strangers[connection]])
        del self._strangers[unlucky]
        with contextlib.suppress(OSError):
            # It may be one of ours that was slow: it is told that nothing was done, and asks again.
            unlucky.send(channel.BUSY + b"\n", _socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            unlucky.shutdown(_socket.SHUT_RDWR)  # wakes its thread

    def _admit(self, connection: _socket.socket) -> bool:
        """Let a client that has sent a sealed request out of the places for strangers, if it may be answered now."""
        with self._guard:
            if connection not in self._strangers:
                # Sent away in this moment, with the word that it shall ask again.
                return False
            del self._strangers[connection]
            return len(self._connections) - len(self._strangers) <= MAX_CONNECTIONS

    def _end(self, connection: _socket.socket) -> None:
        with self._guard:
            self._strangers.pop(connection, None)
            self._connections.pop(connection, None)
        # Behind it, for one that is closed cannot be shut down by another thread.
        connection.close()

    # In the thread of a connection.

    def _answer(self, connection: _socket.socket) -> None:
        try:
            self._exchange(connection)
        except (OSError, ProcessUnreachable) as error:
            logger.debug("A client of the inspection channel got no answer: %r", error)
        except Exception:
            logger.exception("Answering a client of the inspection channel failed")
        finally:
            self._end(connection)
            self._subject.leave_thread()

    def _exchange(self, connection: _socket.socket) -> None:
        nonce = channel.new_nonce()
        connection.settimeout(_REQUEST_SECONDS)
        connection.sendall(channel.greeting(self._sites[0].key, nonce))
        line = channel.receive_line(connection, channel.MAX_REQUEST, _REQUEST_SECONDS)
        client_nonce, _, sealed = line.partition(b" ")
        if not channel.is_nonce(client_nonce):
            raise ProcessUnreachable("a client of the inspection channel sent no nonce")
        keys = [site.key for site in self._sites]
        key, request = channel.open_sealed(keys, b"request", (nonce, client_nonce), sealed)
        if not self._admit(connection):
            connection.sendall(channel.BUSY + b"\n")
            return
        body = _fitting(self._subject, request, _describe(connection))
        connection.settimeout(_ANSWER_SECONDS)
        connection.sendall(channel.seal(key, b"answer", nonce, client_nonce, body) + b" " + body + b"\n")


def answer(subject: Subject, request: Any, limit: int, peer: str) -> Any:
    """Do what a request says, which nobody has looked at yet.

    Raises:
        ProcessUnreachable: It says nothing that can be done.
    """
    operation = request.get("operation") if isinstance(request, Mapping) else None
    if operation == "overview":
        asked = request.get("limit")
        return subject.overview(min(limit, asked) if isinstance(asked, int) and asked >= 0 else limit)
    if operation == "find":
        return subject.find(str(request.get("id")), with_stack=request.get("stack") is not False)
    if operation == "result":
        return subject.result(str(request.get("kept")), str(request.get("id")))
    if operation == "statistics":
        return subject.statistics()
    if operation == "stacks":
        return subject.stacks(limit)
    by = f"{str(request.get('by'))[:150]} ({peer})" if operation in {"cancel", "drain"} else ""
    if operation == "cancel":
        ids = request.get("ids")
        return subject.cancel([str(item_id) for item_id in ids[:_MAX_IDS]] if isinstance(ids, list) else [], by)
    if operation == "drain":
        return subject.drain(by)
    raise ProcessUnreachable(f"a client of the inspection channel asked for {operation!r}")


def _fitting(subject: Subject, request: Any, peer: str) -> bytes:
    """Return the answer, with fewer items where it would be too long."""
    limit = MAX_ITEMS
    while True:
        body = channel.encode({"answer": answer(subject, request, limit, peer)})
        if len(body) < channel.MAX_ANSWER - 100:
            return body
        if limit < 2:
            raise ProcessUnreachable(f"an answer was longer than {channel.MAX_ANSWER} bytes")
        limit //= 2


def _describe(connection: _socket.socket) -> str:
    uid, pid = channel.peer_uid(connection), channel.peer_pid(connection)
    return f"uid {'unknown' if uid is None else uid}, pid {'unknown' if pid is None else pid}"


def _wake(listener: _socket.socket, address: Address) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(_socket.SHUT_RDWR)  # wakes accept() on Linux
    if os.name == "posix" and not address.path.startswith("\0"):
        # Elsewhere only a connection does.
        with contextlib.suppress(OSError), contextlib.closing(_new_socket()) as connection:
            connection.settimeout(0.1)
            connection.connect(address.path)


def _new_socket() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
