"""Where the processes of a machine listen, and how they are found. The names are public, and anybody may take one.

A name says a site, a pid and a number that is used once. Who really listens there only the kernel tells, after a
connection: `channel`.
"""

from __future__ import annotations

import _socket
import dataclasses
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

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
_BACKLOG = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a process listens."""

    site: str
    pid: int
    path: str
    """For `bind` and `connect`; an abstract one begins with a zero character."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What names there are."""

    addresses: list[Address]
    """Of the sites that were asked for, all of them: any user may bind thousands, and so none is left out here."""
    elsewhere: list[int]
    """The pids that the names of other sites say, each once."""


class Place(Protocol):
    """Where the addresses of a machine are."""

    def listen(self, site: str, pid: int) -> tuple[_socket.socket, Address]:
        """Return a new listening socket that no child process inherits by an exec.

        Raises:
            OSError: There can be none here.
        """

    def find(self, sites: Iterable[str]) -> Listing:
        """Return where the processes of the given sites listen; dead ones may be among them in a directory.

        Raises:
            OSError: Nobody can tell here.
        """

    def owner(self, address: Address) -> int | None:
        """Return the uid of the process that an address names, as far as anybody can tell without asking it."""

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

    def find(self, sites: Iterable[str]) -> Listing:
        """See `Place.find`."""
        names = _Names(sites)
        # As bytes: a text would have line breaks of its own, and bytes that are no text.
        with open(self._listing, "rb") as lines:
            for line in lines:
                listed = _LISTED.fullmatch(line)
                if listed is not None and int(listed[1], 16) & _LISTENS:
                    name = listed[2].decode("ascii")
                    names.add(name, "\0" + name)
        return names.listing()

    def owner(self, address: Address) -> int | None:
        """See `Place.owner`; root, for a process of this user that may not be looked into."""
        try:
            return os.stat(f"/proc/{address.pid}").st_uid
        except OSError:
            return None

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

    def find(self, sites: Iterable[str]) -> Listing:
        """See `Place.find`."""
        names = _Names(sites)
        for uid in self._uids():
            directory = self._directory(uid)
            if _is_private(directory, uid):
                for name in os.listdir(directory):
                    names.add(name, str(directory / name))
        return names.listing()

    def owner(self, address: Address) -> int | None:
        """See `Place.owner`; nobody else could have made it there."""
        try:
            return os.lstat(Path(address.path).parent).st_uid
        except OSError:
            return None

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


class _Names:
    """Takes names, and sorts them."""

    def __init__(self, sites: Iterable[str]) -> None:
        self._wanted = frozenset(sites)
        self._addresses: dict[Address, None] = {}
        self._elsewhere: dict[int, None] = {}

    def add(self, name: str, path: str) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            return
        if match[1] in self._wanted:
            self._addresses[Address(match[1], int(match[2]), path)] = None
        else:
            self._elsewhere[int(match[2])] = None

    def listing(self) -> Listing:
        return Listing(addresses=list(self._addresses), elsewhere=sorted(self._elsewhere))


def _new_name(site: str, pid: int) -> str:
    return f"qbwi-{site}-{pid}-{secrets.token_hex(8)}"


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
