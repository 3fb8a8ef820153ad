"""What the plays themselves promise, without a server."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.processes.harness import Site


def test_nobody_else_gets_the_port(tmp_path: Path) -> None:
    """Another server on the same port would answer in its place, or have it end with a status of its own."""
    with (
        Site(tmp_path, "python -c ''") as site,
        contextlib.closing(socket.socket()) as other,
        pytest.raises(OSError, match="in use"),
    ):
        other.bind(("127.0.0.1", site.port))
