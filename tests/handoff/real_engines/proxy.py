"""A proxy in front of a PostgreSQL: it can cut a connection between a commit and its reply, refuse, and hang."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from collections.abc import Iterator
from enum import Enum

_CHUNK = 65_536
_WRITES = re.compile(rb'INSERT INTO "django_tasks|\bCOMMIT\b')
_POLL_SECONDS = 0.2


class Mood(Enum):
    """What it does with connections."""

    FORWARDS = "forwards"
    REFUSES = "refuses"
    HANGS = "hangs"


class Proxy:
    """Listens on TCP, and forwards to a Unix socket.

    - A write that is chosen reaches the server, which has carried it out before the connection is cut.
    - Which one is chosen is left to `chance`, with the probability `drops`.
    """

    def __init__(self, target: str, drops: float = 0.0, chance: random.Random | None = None) -> None:
        self.target = target
        self.drops = drops
        self.then: Mood | None = None
        """What it becomes with the first reply that it drops."""
        self.dropped = 0
        self.writes = 0
        self._chance = chance or random.Random(0)
        self._mood = Mood.FORWARDS
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._is_closed = False
        self.port = 0

    def __enter__(self) -> Proxy:
        self._listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_closed = True
        self._stop_listening()
        self._cut_all()
        for thread in self._threads:
            thread.join(30)

    def become(self, mood: Mood) -> None:
        """Do something else from now on, with the connections that there are too."""
        self._mood = mood
        if mood is Mood.REFUSES:
            self._stop_listening()
        if mood is not Mood.HANGS:
            self._cut_all()
        if mood is not Mood.REFUSES and self._listener is None:
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        # On some systems nothing wakes an accept() whose socket is closed.
        listener.settimeout(_POLL_SECONDS)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._accept, listener)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _cut_all(self) -> None:
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _cut(end)

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._is_closed:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, self._known(client, server):
            server.connect(self.target)
            connection = _Connection(client, server)
            back = threading.Thread(target=self._backward, args=(connection,), daemon=True)
            back.start()
            self._forward(connection)
            _cut(server)
            _cut(client)
            back.join(30)

    @contextlib.contextmanager
    def _known(self, *ends: socket.socket) -> Iterator[None]:
        with self._lock:
            self._ends.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._ends.difference_update(ends)

    def _forward(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while chunk := connection.client.recv(_CHUNK):
                if self._mood is Mood.HANGS:
                    continue
                if _WRITES.search(chunk):
                    self.writes += 1
                    if self._chance.random() < self.drops:
                        connection.drops_reply = True
                connection.server.sendall(chunk)

    def _backward(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while chunk := connection.server.recv(_CHUNK):
                if self._mood is Mood.HANGS:
                    continue
                if connection.drops_reply:
                    # The server is ready for the next command: it has carried out this one.
                    self.dropped += 1
                    if self.then is not None:
                        self.become(self.then)
                    break
                connection.client.sendall(chunk)
        _cut(connection.client)
        _cut(connection.server)


class _Connection:
    """Both ends of one connection, and whether its next reply is dropped."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.drops_reply = False


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
