"""gevent: items run on real threads, and the greenlets of requests do not notice them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.harness import Site
from tests.processes.matrix import GUNICORN_GEVENT, TERM, Row
from tests.processes.scenario import Play, is_installed, play

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("row", [pytest.param(Row(server=GUNICORN_GEVENT, event=TERM), id="gevent")])
def test_requests_answer_beside_async_items(row: Row, tmp_path: Path) -> None:
    """While an async item runs, and after it, a request with ORM and one with async_to_sync answer 200 (F57)."""
    assert is_installed(row)
    with Site(tmp_path, row.command, seconds=2.0) as site:
        site.serving()
        site.get("queue?item=async_item&item=sync_item")
        site.wait_for("started", "async_item")
        during = [site.get(path) for path in ("orm", "bridge") * 5]
        assert not [line for line in site.lines() if line["event"] == "finished"], "the items ended too soon"
        site.wait_for("finished", "async_item")
        after = [site.get(path) for path in ("orm", "bridge") * 5]
    assert set(during + after) == {"True"}


@pytest.mark.parametrize("row", [pytest.param(Row(server=GUNICORN_GEVENT, event=TERM), id="gevent")])
def test_items_wait_without_a_limit(row: Row, tmp_path: Path) -> None:
    """`handle.wait()` and `token.wait()` in an item's thread: gevent's hub there does not end them with LoopExit."""
    outcome = play(row, Play(items=("waiting_item",)), tmp_path)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert outcome.at("cancelled", "waiting_item")[0] - outcome.signed_at < 0.6, outcome
