"""The channel: how two processes of a site know each other, and how a line between them is sealed.

One exchange, on a stream socket between two processes of one machine, each line in ASCII:

    server   qbwi 2 <server's nonce> <proof>    or "busy", or "refused <proof>", and the end
    client   <client's nonce> <seal> <JSON>     or, again, "busy" from the server
    server   <seal> <JSON>

- A proof says that the server has the key of the site whose name it bears, and which user it is: the kernel tells that
  user too, so that nobody else can show the same proof. Until it has come, the server may be anybody: the client reads
  64 bytes of it at the most, and tells it nothing.
- A seal is an HMAC-SHA256 over both nonces and the JSON, under a key derived from SECRET_KEY: a line cannot be sent
  again, nor be taken for one of the other direction.
- Both sides look at the uid of the other first, which the kernel tells. The server answers its own user and root; the
  client asks its own user, root, and whoever has proven that it would answer.
- A line is JSON or nothing. Its size and its time are limited on both sides.

Everything here uses the sockets of the C module: gevent and eventlet replace those of the standard library by ones
that belong to the loop of a thread, and our threads have none.
"""

from __future__ import annotations

import _socket
import base64
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Iterable
from typing import Any

from django_qbwi.core.exceptions import ProcessUnreachable

PROTOCOL = b"qbwi 2"
BUSY = b"busy"
REFUSED = b"refused"
MAX_GREETING = 64
"""Bytes of the first line of a server, its end included."""
MAX_REQUEST = 64 * 1024
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of a line."""

_NONCE_BYTES = 16
_PROOF_LENGTH = 22


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What tells the processes of one site: a name that everybody may see, a key that nobody may."""

    name: str
    key: bytes = dataclasses.field(repr=False)

    @classmethod
    def of(cls, secret: bytes, *parts: str) -> Site:
        """Derive both from the site's secret; `parts` tell sites apart that share it."""
        identity = "\0".join(parts).encode("utf-8", "surrogatepass")
        name = hmac.digest(secret, b"django_qbwi site\0" + identity, "sha256").hex()[:16]
        return cls(name, hmac.digest(secret, b"django_qbwi channel\0" + identity, "sha256"))


# Who is at the other end.


def peer_uid(connection: _socket.socket) -> int | None:
    """Return the uid of the other end as the kernel knows it, None where it does not tell."""
    return _peer(connection)[0]


def peer_pid(connection: _socket.socket) -> int | None:
    """Return the pid of the other end, None where the kernel does not tell."""
    return _peer(connection)[1]


def server_accepts(connection: _socket.socket) -> bool:
    """True if the one who connected is our own user or root."""
    uid = peer_uid(connection)
    # Where the kernel does not tell, the directory lets nobody else in.
    return uid is None or uid in {os.getuid(), 0}


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end as the kernel knows it: None where it does not tell, pid 0 in another container."""

    uid: int | None
    pid: int | None

    @classmethod
    def of(cls, connection: _socket.socket) -> Peer:
        """Return the other end of a connection."""
        return cls(*_peer(connection))


def _peer(connection: _socket.socket) -> tuple[int | None, int | None]:
    if hasattr(_socket, "SO_PEERCRED"):
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
        return uid, pid
    if hasattr(_socket, "LOCAL_PEERCRED"):  # macOS, FreeBSD: struct xucred begins with version and uid
        _, uid = struct.unpack("2I", connection.getsockopt(0, _socket.LOCAL_PEERCRED, 256)[:8])
        return uid, None
    return None, None


# Lines.


def greeting(key: bytes, nonce: bytes) -> bytes:
    """Return the first line of a server that answers."""
    return b" ".join((PROTOCOL, nonce, _proof(key, b"greeting", nonce, _own_uid()))) + b"\n"


def refusal(key: bytes) -> bytes:
    """Return the only line of a server for a client of another user."""
    return b" ".join((REFUSED, _proof(key, b"refusal", b"", _own_uid()))) + b"\n"


def proven_nonce(key: bytes, line: bytes, uid: int | None) -> bytes | None:
    """Return the nonce of a greeting that the user `uid` has proven, None if it is none."""
    start, _, proof = line.rpartition(b" ")
    nonce = start.removeprefix(PROTOCOL + b" ")
    if start == nonce or not is_nonce(nonce):
        return None
    return nonce if hmac.compare_digest(proof, _proof(key, b"greeting", nonce, uid)) else None


def is_proven_refusal(key: bytes, line: bytes, uid: int | None) -> bool:
    """True for a refusal by a process of the site that runs as the user `uid`."""
    kind, _, proof = line.partition(b" ")
    return kind == REFUSED and hmac.compare_digest(proof, _proof(key, b"refusal", b"", uid))


def _proof(key: bytes, kind: bytes, nonce: bytes, uid: int | None) -> bytes:
    digest = hmac.digest(key, b"\0".join((b"django_qbwi " + kind, nonce, str(uid).encode())), "sha256")
    return base64.urlsafe_b64encode(digest)[:_PROOF_LENGTH]


def _own_uid() -> int | None:
    """Return what a client is told of us."""
    tells = hasattr(_socket, "SO_PEERCRED") or hasattr(_socket, "LOCAL_PEERCRED")
    return os.geteuid() if tells else None


def new_nonce() -> bytes:
    """Return a number that is used once."""
    return secrets.token_hex(_NONCE_BYTES).encode()


def is_nonce(value: bytes) -> bool:
    """True for what `new_nonce` makes."""
    return re.fullmatch(rb"[0-9a-f]{32}", value) is not None


def encode(value: Any) -> bytes:
    """Return `value` as JSON that has no line break in it.

    Raises:
        ValueError: There is a number in it that is none.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def seal(key: bytes, direction: bytes, server_nonce: bytes, client_nonce: bytes, body: bytes) -> bytes:
    """Return the seal of a line; `direction` is b"request" or b"answer"."""
    content = b"\0".join((direction, server_nonce, client_nonce, body))
    return hmac.new(key, content, hashlib.sha256).hexdigest().encode()


def open_sealed(keys: Iterable[bytes], direction: bytes, nonces: tuple[bytes, bytes], line: bytes) -> tuple[bytes, Any]:
    """Return the key that a line `<seal> <JSON>` was sealed with, and its content.

    Raises:
        ProcessUnreachable: It was sealed with none of `keys`, or is no JSON.
    """
    given, _, body = line.partition(b" ")
    # All keys are tried, so that the time does not tell which one it was.
    fitting = [key for key in keys if hmac.compare_digest(given, seal(key, direction, *nonces, body))]
    if not fitting:
        raise ProcessUnreachable("a line on the channel was not sealed with a key of this site")
    try:
        return fitting[0], json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProcessUnreachable(f"a line on the channel was no JSON: {error}") from error


def receive_line(connection: _socket.socket, limit: int, seconds: float) -> bytes:
    """Return the next line without its end; blocks for `seconds` in total at the most.

    Raises:
        OSError: The time was over, or the connection broke (TimeoutError, ConnectionError).
        ProcessUnreachable: The line is longer than `limit` bytes.
    """
    deadline = time.monotonic() + seconds
    received = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole line in time")
        connection.settimeout(left)
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError("the connection was closed in the middle of a line")
        received += chunk
        if chunk.find(b"\n") >= 0:
            return bytes(received.partition(b"\n")[0])
        if len(received) > limit:
            raise ProcessUnreachable(f"a line was longer than {limit} bytes")
