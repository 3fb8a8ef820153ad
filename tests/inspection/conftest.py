"""One scheduler to look at, and a listener for it."""

import _socket
import contextlib
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from django_qbwi.conf import Settings
from django_qbwi.core.calls import Call, Options
from django_qbwi.core.items import WorkItemHandle, handle_of
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.inspection.channel import Site
from django_qbwi.inspection.places import AbstractPlace, Place
from django_qbwi.inspection.publisher import Publisher
from django_qbwi.inspection.subject import Inspected, Subject
from django_qbwi.intake.callables import examine
from django_qbwi.lifecycle.servers import ServerHost

PATIENCE = 30
SITE = Site.of(secrets.token_bytes(), "tests", "inspection")
"""Of this run alone: others on the same machine would be found, and would answer."""


FORGED_LINES = [
    pytest.param(b"\nx x x zz x x x @qbwi-" + SITE.name.encode() + b"-1-" + b"0" * 16, id="flags"),
    pytest.param(b"\n0: 0 0 10000 1 1 1 @qbwi-" + SITE.name.encode() + b"-\xb2-" + b"0" * 16, id="superscript"),
    pytest.param(b"\r0: 0 0 10000 1 1 1 @qbwi-%s-1-" % SITE.name.encode(), id="carriage return"),
    pytest.param(b"\n" * 90, id="breaks"),
    pytest.param(b"qbwi-\xff\xfe\x85\n\x0b\x0c 0 0 -1 @qbwi-", id="bytes"),
    pytest.param(b"\n0: 0 0 " + b"f" * 60 + b" 1 1 1 @qbwi-x", id="number"),
]
"""Names of sockets that write lines of their own into the kernel's listing."""


@contextlib.contextmanager
def bound(name: bytes) -> Iterator[_socket.socket]:
    """Listen under an abstract name, as any local user may."""
    with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as listener:
        listener.bind(b"\0" + name)
        listener.listen(1)
        yield listener


class Inspection:
    """A subject with a scheduler of its own, and whatever listens for it."""

    def __init__(self, **settings: Any) -> None:
        self.assembly = Assembly(Settings(**settings), ServerHost())
        self.scheduler = self.assembly.scheduler
        self.connections_closed = 0
        self.closed_in: list[int] = []
        """The threads whose connections were closed."""
        self.left = threading.Event()
        self.subject = Subject(lambda: "tests", self._inspected)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self._publishers: list[Publisher] = []

    def queue(self, work_item: Callable[..., Any], *args: Any, **options: Any) -> WorkItemHandle:
        """Queue a call."""
        item = self.scheduler.make_item(Call(work_item, args, examine(work_item, args), options=Options(**options)))
        self.scheduler.queue(item)
        return handle_of(item)

    def hold(self, token: Any) -> None:
        """An item that runs until the gate opens, whatever its token says."""
        self.entered.release()
        assert self.gate.wait(PATIENCE)

    def queue_held(self, count: int = 1) -> list[WorkItemHandle]:
        """Queue items that run until the gate opens, and wait until as many have begun."""
        handles = [self.queue(self.hold) for _ in range(count)]
        for _ in handles:
            assert self.entered.acquire(timeout=PATIENCE)
        return handles

    def listen(self, place: Place | None = None, *sites: Site) -> Publisher:
        """Open a listener."""
        publisher = Publisher(place or AbstractPlace(), sites or (SITE,), self.subject)
        publisher.open()
        self._publishers.append(publisher)
        return publisher

    def end(self) -> None:
        """Let all items go, and all threads."""
        self.gate.set()
        for publisher in self._publishers:
            publisher.close(PATIENCE)
        self.assembly.end(PATIENCE)

    def _inspected(self) -> Inspected:
        return Inspected(
            scheduler=self.scheduler,
            limits={"max_workers": self.assembly.settings.max_workers},
            drain_seconds=self.assembly.settings.shutdown_timeout,
            close_connections=self._close_connections,
        )

    def _close_connections(self) -> None:
        self.connections_closed += 1
        self.closed_in.append(threading.get_ident())
        self.left.set()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a temporary folder with a name that leaves room for that of a socket, which has about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="qbwi", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def make_inspection() -> Iterator[Callable[..., Inspection]]:
    """Return a function that makes an inspection with settings."""
    made: list[Inspection] = []

    def make(**settings: Any) -> Inspection:
        made.append(Inspection(**settings))
        return made[-1]

    yield make
    for inspection in made:
        inspection.end()
    for thread in threading.enumerate():
        if thread.name.startswith("qbwi-"):
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread


@pytest.fixture
def inspection(make_inspection: Callable[..., Inspection]) -> Inspection:
    """Return one with room for one sync item at a time."""
    return make_inspection(max_workers=1)


@pytest.fixture
def listener(inspection: Inspection) -> Publisher:
    """Return a listener on an idle process."""
    return inspection.listen()
