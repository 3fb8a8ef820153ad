"""The channel: where processes of a site find one another, how they know one another, how a line is sealed.

One exchange, on a stream socket between two processes of one machine, each line in ASCII:

    server   qbwi 1 <server's nonce>            or "busy", or "refused", and the end
    client   <client's nonce> <seal> <JSON>
    server   <seal> <JSON>

- A seal is an HMAC-SHA256 over both nonces and the JSON, under a key derived from SECRET_KEY: a line cannot be sent
  again, nor be taken for one of the other direction.
- Both sides look at the uid of the other first, which the kernel tells. The server answers its own user and root; the
  client asks its own user and root and, if it is root, anybody.
- A line is JSON or nothing. Its size and its time are limited on both sides.

Everything here uses the sockets of the C module: gevent and eventlet replace those of the standard library by ones
that belong to the loop of a thread, and our threads have none.
"""

from __future__ import annotations

import _socket
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from django_qbwi.core.exceptions import ProcessUnreachable

PROTOCOL = "qbwi 1"
BUSY = b"busy\n"
REFUSED = b"refused\n"
MAX_REQUEST = 64 * 1024
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of a line."""

_NONCE_BYTES = 16
_NAME_PATTERN = r"qbwi-([0-9a-f]{16})-([0-9]{1,10})-([0-9a-f]{16})"
_NAME = re.compile(_NAME_PATTERN, re.ASCII)
_LISTED = re.compile(
    rb"[0-9A-Fa-f]{8,16}: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) 0001 [0-9A-F]{2} +[0-9]{1,20} @(%s)\n?"
    % _NAME_PATTERN.encode()
)
"""A line of /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path; "@" stands for the zero character.

Anybody may bind a name with a line break in it, and so write lines of his own: what is not just like this is none.
"""
_LISTENS = 0x10000
"""The flag __SO_ACCEPTCON of /proc/net/unix."""
_MAX_ADDRESSES = 1024
_BACKLOG = 64


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


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a process listens."""

    site: str
    pid: int
    path: str
    """For `bind` and `connect`; an abstract one begins with a zero character."""


class Place(Protocol):
    """Where the addresses of a machine are."""

    def listen(self, site: str, pid: int) -> tuple[_socket.socket, Address]:
        """Return a new listening socket that no child process inherits by an exec.

        Raises:
            OSError: There can be none here.
        """

    def find(self, sites: Iterable[str]) -> list[Address]:
        """Return where the processes of the given sites listen; dead ones may be among them in a directory.

        Raises:
            OSError: Nobody can tell here.
        """

    def forget(self, address: Address) -> None:
        """Remove what is left of an address whose process has ended, if anything is."""


class AbstractPlace:
    """Linux: abstract sockets, which need no file, and are gone with their process however it ends."""

    def __init__(self, listing: str = "/proc/net/unix") -> None:
        self._listing = listing

    def __repr__(self) -> str:
        return "<AbstractPlace>"

    def listen(self, site: str, pid: int) -> tuple[_socket.socket, Address]:
        """See `Place.listen`."""
        address = Address(site, pid, "\0" + _new_name(site, pid))
        return _listening(address), address

    def find(self, sites: Iterable[str]) -> list[Address]:
        """See `Place.find`."""
        wanted = frozenset(sites)
        found = []
        # As bytes: a text would have line breaks of its own, and bytes that are no text.
        with open(self._listing, "rb") as lines:
            for line in lines:
                listed = _LISTED.fullmatch(line)
                if listed is not None and int(listed[1], 16) & _LISTENS:
                    name = listed[2].decode("ascii")
                    address = _address(name, "\0" + name, wanted)
                    if address is not None:
                        found.append(address)
        return found[:_MAX_ADDRESSES]

    def forget(self, address: Address) -> None:
        """See `Place.forget`."""


class DirectoryPlace:
    """Other POSIX systems: sockets in a directory of this user's, which nobody else may enter."""

    def __init__(self, root: str = "/tmp") -> None:
        """Make one in `root`, which has to be the same for all processes, as $TMPDIR is not."""
        self._root = Path(root)

    def __repr__(self) -> str:
        return f"<DirectoryPlace {self._root}>"

    def listen(self, site: str, pid: int) -> tuple[_socket.socket, Address]:
        """See `Place.listen`."""
        directory = self._directory(os.getuid())
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            pass
        if not _is_private(directory, os.getuid()):
            raise PermissionError(f"{directory} is not a directory that only uid {os.getuid()} may enter")
        name = _new_name(site, pid)
        address = Address(site, pid, str(directory / name))
        return _listening(address), address

    def find(self, sites: Iterable[str]) -> list[Address]:
        """See `Place.find`."""
        wanted = frozenset(sites)
        found = []
        for uid in self._uids():
            directory = self._directory(uid)
            if _is_private(directory, uid):
                for name in os.listdir(directory):
                    address = _address(name, str(directory / name), wanted)
                    if address is not None:
                        found.append(address)
        return found[:_MAX_ADDRESSES]

    def forget(self, address: Address) -> None:
        """See `Place.forget`; only a name of ours, in a directory that was verified."""
        path = Path(address.path)
        if path.parent == self._directory(os.getuid()) and _NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)

    def _directory(self, uid: int) -> Path:
        return self._root / f"qbwi-{uid}"

    def _uids(self) -> list[int]:
        own = os.getuid()
        if own != 0:
            return [own]
        names = (name.removeprefix("qbwi-") for name in os.listdir(self._root) if name.startswith("qbwi-"))
        return [int(name) for name in names if name.isdecimal()]


def find_place() -> Place | None:
    """Return the place of this system, None where processes cannot find one another."""
    if not hasattr(_socket, "AF_UNIX") or not hasattr(os, "getuid"):
        return None
    return AbstractPlace() if sys.platform == "linux" else DirectoryPlace()


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


def client_accepts(connection: _socket.socket) -> bool:
    """True if the one who listens is our own user or root, or if we are root: nobody else may know what we ask."""
    return os.getuid() == 0 or server_accepts(connection)


def _peer(connection: _socket.socket) -> tuple[int | None, int | None]:
    if hasattr(_socket, "SO_PEERCRED"):
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
        return uid, pid
    if hasattr(_socket, "LOCAL_PEERCRED"):  # macOS, FreeBSD: struct xucred begins with version and uid
        _, uid = struct.unpack("2I", connection.getsockopt(0, _socket.LOCAL_PEERCRED, 256)[:8])
        return uid, None
    return None, None


# Lines.


def new_nonce() -> bytes:
    """Return a number that is used once."""
    return secrets.token_hex(_NONCE_BYTES).encode()


def is_nonce(value: bytes) -> bool:
    """True for what `new_nonce` makes."""
    return re.fullmatch(rb"[0-9a-f]{32}", value) is not None


def encode(value: Any) -> bytes:
    """Return `value` as JSON that has no line break in it."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


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


# Names and files.


def _new_name(site: str, pid: int) -> str:
    return f"qbwi-{site}-{pid}-{secrets.token_hex(8)}"


def _address(name: str, path: str, wanted: frozenset[str]) -> Address | None:
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in wanted:
        return None
    return Address(match[1], int(match[2]), path)


def _listening(address: Address) -> _socket.socket:
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # A site may have set a timeout for all sockets; ours waits without wakeups.
        listener.settimeout(None)
        listener.bind(address.path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_private(directory: Path, uid: int) -> bool:
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) == 0o700
