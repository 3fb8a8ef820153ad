"""Snapshots of requests that came over a real socket, through gunicorn and uvicorn."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.harness import reserve_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60

APPLICATION = "tests.intake.live_site:application"
COMMANDS = {
    "gunicorn": ["-m", "gunicorn", "--threads", "2", "--bind", "127.0.0.1:{port}", APPLICATION],
    "uvicorn": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", APPLICATION],
}

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", params=list(COMMANDS))
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a server and return its port."""
    pytest.importorskip(request.param)
    log = tmp_path_factory.mktemp("live") / "log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    with reserve_port() as reservation, log.open("wb") as output:
        port: int = reservation.getsockname()[1]
        command = [sys.executable, *(part.format(port=port) for part in COMMANDS[request.param])]
        server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
        try:
            wait_for(server, port, log)
            yield port
        finally:
            server.terminate()
            server.wait(PATIENCE)
    assert "Traceback" not in log.read_text()


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server listens."""
    limit = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.01)


def send(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """Send a request and return its JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
    assert response.status == 200, text
    return json.loads(text)


FORM = (
    b'--frame\r\nContent-Disposition: form-data; name="title"\r\n\r\nSea\r\n'
    b'--frame\r\nContent-Disposition: form-data; name="photo"; filename="sea.txt"\r\n\r\nwaves\r\n--frame--\r\n'
)


@pytest.mark.parametrize("page", ["page", "async"])
def test_post(port: int, page: str) -> None:
    """An item sees what its request brought, from sync and async views, in threads and on the loop."""
    seen = send(
        port,
        "POST",
        f"/{page}/?q=1&token=hidden",
        FORM,
        Content_Type="multipart/form-data; boundary=frame",
        Host="example.org",
        Accept_Language="de",
        X_Tenant="acme",
        X_Request_Id="r-1",
        X_Forwarded_Proto="https",
    )
    assert seen["full_path"] == f"/{page}/?q=1&token=********************"
    assert (seen["method"], seen["host"], seen["uri"]) == ("POST", "example.org", "https://example.org/next/")
    assert (seen["title"], seen["photo"], seen["tenant"]) == ("Sea", "waves", "acme")
    assert (seen["language"], seen["time_zone"], seen["page"]) == ("de", "UTC", "/page/")
    assert (seen["remote_addr"], seen["origin"], seen["request_id"]) == ("127.0.0.1", f"POST /{page}/", "r-1")


@pytest.mark.parametrize("page", ["page", "async"])
def test_next_request_sees_nothing_of_it(port: int, page: str) -> None:
    """The language of one request's item is not that of the next one's."""
    assert send(port, "GET", f"/{page}/", Accept_Language="de")["language"] == "de"
    assert send(port, "GET", f"/{page}/")["language"] == "en"


def test_user(port: int) -> None:
    """In a sync view an anonymous visitor is known; in an async one reading the user raises, until it was awaited."""
    assert send(port, "GET", "/page/")["user"] == [None, "", False]
    on_loop = send(port, "GET", "/async/")["user"]
    # Under WSGI an async view runs on a loop as well.
    assert "await request.auser()" in on_loop[0]


def test_captured(port: int) -> None:
    """A request of a real server is recognised, and so are its environ and its scope."""
    messages = send(port, "GET", "/captured/")
    assert "the variable 'request' of the enclosing function" in messages[0]
    assert "a WSGI environ" in messages[1] or "an ASGI scope" in messages[1]
