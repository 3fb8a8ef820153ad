"""What the plays themselves promise, without a server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.harness import Site, alien_lines
from tests.processes.scenario import interrupt_was_lost

LOSES_INTERRUPT = """
import signal, weakref

class Data(set):
    def discard(self, item):
        signal.raise_signal(signal.SIGINT)

class Thing: pass

things = weakref.WeakSet()
things.data = Data()
things.add(Thing())
"""


def test_nobody_else_gets_the_port(tmp_path: Path) -> None:
    """Another server on the same port would answer in its place, or have it end with a status of its own."""
    with (
        Site(tmp_path, "python -c ''") as site,
        contextlib.closing(socket.socket()) as other,
        pytest.raises(OSError, match="in use"),
    ):
        other.bind(("127.0.0.1", site.port))


@pytest.mark.parametrize(("program", "expected"), [(LOSES_INTERRUPT, True), ("raise KeyboardInterrupt", False)])
def test_lost_interrupt_is_known_by_what_python_prints(program: str, expected: bool) -> None:
    """A server that goes on since Python ignored its KeyboardInterrupt is played again, and no other one."""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode == 0, interrupt_was_lost(ended.stderr)) == (expected, expected), ended.stderr


def test_sockets_that_a_server_leaves_open_are_usual() -> None:
    """In development mode; they may be found at any line, also in the middle of an import."""
    where = ["/a/wasyncore.py:587", "<frozen importlib._bootstrap_external>:780", "sys:1"]
    what = "ResourceWarning: unclosed <socket.socket fd=8, family=2, type=1, proto=0, laddr=('127.0.0.1', 1)>"
    lines = [f"{place}: {what}" for place in where]
    assert alien_lines("\n".join([*lines, "other: ResourceWarning: unclosed file 8"]), "") == [
        "other: ResourceWarning: unclosed file 8"
    ]
