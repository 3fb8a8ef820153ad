"""What shows the processes of other hosts: the protocol of a registry, and what it tells of a process. No Django.

The channel reaches the processes of one machine, and they answer as they are. A registry reaches those of all hosts,
and tells what each of them last wrote down of itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Protocol

from django_qbwi.inspection.records import ProcessRecord
from django_qbwi.inspection.subject import Subject


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredProcess:
    """What a process last wrote down of itself."""

    key: str
    """Names this process among all that ever were."""
    record: ProcessRecord
    place: str
    """The `place_of_this_process` of that process, "" if nobody can ask it."""
    age: float
    """Seconds since it was written."""
    is_stale: bool
    """Whether that is so long ago that the process may not live any more."""


class Registry(Protocol):
    """Keeps what processes write down of themselves, and what is wanted of them.

    `read` and `request_cancellation` block, and raise InspectionError where the registry cannot be reached.
    """

    @property
    def name(self) -> str:
        """Which one it is, for people."""

    @property
    def pick_up_seconds(self) -> float:
        """After how many seconds at the most a process looks at what is wanted of it."""

    def open(self, subject: Subject) -> None:
        """Begin to write down this process; any thread, more than once, never blocks.

        Raises:
            RuntimeError: The operating system gave no thread.
        """

    def close(self) -> None:
        """Forget this process, which ends; blocks for half a second at the most."""

    def read(self) -> list[StoredProcess]:
        """Return the processes of this site, stale ones too."""

    def request_cancellation(self, wanted: Mapping[str, Iterable[str]], by: str) -> set[str]:
        """Ask processes, by their keys, to cancel items; return the keys of those that will see it."""


def place_of_this_process() -> str:
    """Return what two processes have in common if, and only if, they find each other over the channel.

    "" where nobody can tell: not on Linux, or without /proc. Containers of one machine have network namespaces, and so
    channels, of their own; machines that were cloned differ by the boot.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/net")
    except OSError:
        return ""
    return hashlib.sha256("\0".join((socket.gethostname(), boot, namespace)).encode()).hexdigest()[:32]
