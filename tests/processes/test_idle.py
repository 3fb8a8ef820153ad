"""A process whose items have all ended is as quiet as before the first one."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from pathlib import Path

import pytest

from tests.processes.harness import Site
from tests.processes.matrix import (
    COMMAND,
    GRANIAN_ASGI,
    GRANIAN_WSGI,
    GUNICORN_GEVENT,
    GUNICORN_GTHREAD,
    GUNICORN_SYNC,
    TERM,
    UVICORN_LIFESPAN,
    UWSGI,
    Row,
    Server,
)
from tests.processes.scenario import is_installed

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how often a thread was woken"),
]

QUIET_SECONDS = 10.5
"""Nothing of ours may wake up in this span, longer than the slowest beat of ours, the ten seconds of a registry's."""
TRIES = 3
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)


def _wakeups(pid: int, beside: frozenset[int] = frozenset()) -> dict[int, int]:
    """Return how often each thread of a process was given the processor, without those `beside`."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # One that has just ended is gone.
        with contextlib.suppress(OSError):
            if int(task.name) not in beside:
                found[int(task.name)] = sum(map(int, _SWITCHES.findall((task / "status").read_text())))
    return found


def _is_quiet(pid: int, beside: frozenset[int] = frozenset()) -> bool:
    # Time itself is what is measured here: nothing tells that nothing happens.
    before = _wakeups(pid, beside)
    time.sleep(QUIET_SECONDS)
    return _wakeups(pid, beside) == before


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(server, id=server.name)
        for server in (
            GUNICORN_SYNC,
            GUNICORN_GTHREAD,
            GUNICORN_GEVENT,
            UVICORN_LIFESPAN,
            GRANIAN_WSGI,
            GRANIAN_ASGI,
            UWSGI,
        )
    ],
)
def test_threads_of_an_idle_worker_sleep(server: Server, tmp_path: Path) -> None:
    """The threads that came with the first item are not woken once when nothing is queued or running any more."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    with Site(tmp_path, server.command, prefix="async/" if server.is_async else "") as site:
        worker = site.serving()
        servers_own = frozenset(_wakeups(worker))
        assert int(site.get("queue?item=quick_item&item=quick_async_item")) == worker
        for name in ("quick_item", "quick_async_item"):
            site.wait_for("finished", name)
        assert len(_wakeups(worker, servers_own)) >= 4, "the worker, the loop, the keeper and the reporter"
        site.wait_until(lambda: _is_quiet(worker, servers_own), "quiet threads", TRIES * QUIET_SECONDS)


def test_idle_command_sleeps(tmp_path: Path) -> None:
    """In a process that does nothing itself, no thread at all is woken."""
    with Site(tmp_path, f"{COMMAND.command} --sleep 600 quick_item quick_async_item") as site:
        for name in ("quick_item", "quick_async_item"):
            site.wait_for("finished", name)
        site.wait_for("ready")
        site.wait_until(lambda: _is_quiet(site.process.pid), "quiet threads", TRIES * QUIET_SECONDS)
