"""What an operator is told at the first item, by the real server: once in each process, and what to change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.processes.harness import Site
from tests.processes.matrix import GRANIAN_WSGI, GUNICORN_GTHREAD, MOD_WSGI, TERM, UWSGI, UWSGI_GRACEFUL, Row, Server
from tests.processes.scenario import is_installed

pytestmark = pytest.mark.processes

GRACEFUL = "unix_signal:15 gracefully_kill_them_all"
UWSGI_NO_MASTER = dataclasses.replace(UWSGI, command=UWSGI.command.replace("--master", ""))
UWSGI_ONE_THREAD = dataclasses.replace(UWSGI, command=UWSGI.command.replace("--enable-threads --threads 4", ""))


def _records(server: Server, options: str, directory: Path) -> tuple[list[str], list[str]]:
    """Queue three items, one after the other; return our records, and the errors of those that were refused."""
    if not is_installed(Row(server=server, event=TERM)):
        pytest.skip(f"{server.name} is not installed here")
    with Site(directory, f"{server.command} {options}") as site:
        worker = site.serving()
        for count in (1, 2, 3):
            site.get("queue?item=quick_item")
            site.wait_until(lambda count=count: _answered(site) == count, "the item")  # type: ignore[misc]
        site.kill("worker", 9, worker)
        outcome = site.outcome(0.0, 0.0, "")
    return outcome.records, [line["error"] for line in outcome.lines if line["event"] == "rejected"]


def _answered(site: Site) -> int:
    # Not by what an item says of itself: its record comes behind that.
    ended = site.records().count("status=succeeded")
    return ended + sum(line["event"] == "rejected" for line in site.lines())


@pytest.mark.parametrize(
    ("server", "options", "text"),
    [
        pytest.param(GUNICORN_GTHREAD, "", "start it with --graceful-timeout 90 or lower", id="gunicorn"),
        pytest.param(UWSGI_GRACEFUL, "", "worker-reload-mercy = 90 or lower", id="uWSGI mercy"),
        pytest.param(UWSGI, "", f"add the line hook-master-start = {GRACEFUL}", id="uWSGI hook"),
        pytest.param(UWSGI_GRACEFUL, "--hook-master-start print:x", "below the other lines", id="uWSGI last hook"),
        pytest.param(UWSGI_NO_MASTER, "", "uWSGI runs without a master", id="uWSGI no master"),
        pytest.param(UWSGI_GRACEFUL, "--harakiri 20", "longer than harakiri (20 s)", id="uWSGI harakiri"),
        pytest.param(UWSGI_GRACEFUL, "--evil-reload-on-rss 2048", "use reload-on-rss", id="uWSGI evil reload"),
        pytest.param(UWSGI_GRACEFUL, "--skip-atexit", "skip-atexit: items are lost", id="uWSGI skip-atexit"),
        pytest.param(
            GRANIAN_WSGI, "--workers-kill-timeout 30", "start it with --workers-kill-timeout 90 or lower", id="granian"
        ),
        pytest.param(MOD_WSGI, "", "mod_wsgi gives work items 3 s", id="mod_wsgi"),
    ],
)
def test_server_is_warned_of_once(server: Server, options: str, text: str, tmp_path: Path) -> None:
    """A limit below ours, or an option that cuts items off: one WARNING, however many items there are."""
    records, refused = _records(server, options, tmp_path)
    found = [record for record in records if text in record]
    assert (len(found), refused) == (1, []), records
    assert found[0].startswith("WARNING "), records


@pytest.mark.parametrize(
    ("server", "options"),
    [
        pytest.param(GUNICORN_GTHREAD, "--graceful-timeout 95", id="gunicorn"),
        pytest.param(UWSGI_GRACEFUL, "--worker-reload-mercy 95", id="uWSGI"),
        pytest.param(GRANIAN_WSGI, "--workers-kill-timeout 95", id="granian"),
    ],
)
def test_server_with_room_is_not_warned_of(server: Server, options: str, tmp_path: Path) -> None:
    """Nothing is said of a limit that is above ours."""
    records, refused = _records(server, options, tmp_path)
    assert ([record for record in records if "or lower the setting" in record], refused) == ([], []), records


@pytest.mark.parametrize(
    ("server", "options", "untrue"),
    [
        pytest.param(UWSGI_NO_MASTER, "", "uWSGI kills its workers", id="no master, no limit"),
        pytest.param(UWSGI_GRACEFUL, "--worker-reload-mercy 95", "hook-master-start", id="the line is there"),
        pytest.param(
            UWSGI,
            f"--hook-master-start print:x --hook-master-start '{GRACEFUL}'",
            "hook-master-start",
            id="the last line",
        ),
        pytest.param(UWSGI_GRACEFUL, "--harakiri 0", "harakiri", id="harakiri off"),
    ],
)
def test_g46_uwsgi_is_not_warned_of_what_is_untrue(server: Server, options: str, untrue: str, tmp_path: Path) -> None:
    """Nobody kills where there is no master; a line that is there is seen."""
    records, refused = _records(server, options, tmp_path)
    assert ([record for record in records if untrue in record], refused) == ([], []), records


def test_uwsgi_has_threads_by_default(tmp_path: Path) -> None:
    """It needs no enable-threads any more; what an older one is told, the unit tests of its host have."""
    records, refused = _records(UWSGI_ONE_THREAD, "", tmp_path)
    assert (refused, sum("status=succeeded" in record for record in records)) == ([], 3), records
