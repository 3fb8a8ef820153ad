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


@pytest.mark.parametrize(
    "where", ["/a/wasyncore.py:587", "<frozen importlib._bootstrap_external>:780", "<sys>:0", "sys:1"]
)
@pytest.mark.parametrize(
    ("what", "usual"),
    [
        ("<socket.socket fd=8, family=2, type=1, proto=0, laddr=('127.0.0.1', 1)>", True),
        ("<socket.socket fd=8, family=1, type=1, proto=0>", False),
        ("file <_io.TextIOWrapper name=0 mode='r' encoding='UTF-8'>", True),
        ("file <_io.TextIOWrapper name=7 mode='r' encoding='UTF-8'>", False),
    ],
)
def test_what_servers_leave_open_is_usual(where: str, what: str, usual: bool) -> None:
    """In development mode; it may be found at any line, also in the middle of an import. Ours would be another kind."""
    line = f"{where}: ResourceWarning: unclosed {what}"
    assert alien_lines(line, "") == ([] if usual else [line])
