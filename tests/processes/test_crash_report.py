"""The items of a worker that was killed are told by the one that comes in its place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.processes.harness import Site
from tests.processes.matrix import GUNICORN_GTHREAD, TERM, UVICORN_WORKERS, Row, Server
from tests.processes.scenario import is_installed

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("server", "options"),
    [
        pytest.param(GUNICORN_GTHREAD, "--workers 1", id="gunicorn", marks=pytest.mark.process_smoke),
        pytest.param(GUNICORN_GTHREAD, "--workers 1 --preload", id="gunicorn-preload"),
        pytest.param(UVICORN_WORKERS, "", id="uvicorn"),
    ],
)
def test_killed_worker(server: Server, options: str, tmp_path: Path) -> None:
    """Its items are told once, by name, with where they came from."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    settings = {"CRASH_REPORT": str(tmp_path / "crashes")}
    prefix = "async/" if server.is_async else ""
    with Site(tmp_path, f"{server.command} {options}", seconds=60.0, settings=settings, prefix=prefix) as site:
        site.serving()
        site.get("queue?item=sync_item")
        (line,) = site.wait_until(
            lambda: [line for line in site.lines() if line["event"] == "started"], "the item that is to be lost"
        )
        os.kill(line["pid"], signal.SIGKILL)
        site.wait_for_end(line["pid"])
        told = f"was lost: process {line['pid']} ended without a word, with the item running for"
        stderr = tmp_path / "stderr"
        # By the first request of the new worker: the others may answer as well.
        site.wait_until(lambda: site.serving() and told in stderr.read_text(), "the record of the item")
        assert stderr.read_text().count(told) == 1
        assert "sync_item" in next(text for text in stderr.read_text().splitlines() if told in text)
        site.kill("server", signal.SIGTERM, 0)
        site.wait_for_end(site.process.pid)
    left = [path.name for path in (tmp_path / "crashes").iterdir()]
    assert left == ["crashes.json"]
