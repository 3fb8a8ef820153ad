"""Under load, with workers that are stopped and reloaded again and again: what was accepted has one end, no more.

`QBWI_SOAK_SECONDS` says for how long. Time is what this is made of: it waits, as visitors do.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.processes.harness import Site

pytestmark = pytest.mark.processes

SECONDS = float(os.environ.get("QBWI_SOAK_SECONDS", "60"))
VISITORS = 4
PAUSE = 0.5
"""Seconds between two requests of a visitor."""
COMMAND = (
    "gunicorn tests.soak.site.wsgi --bind 127.0.0.1:{port} --worker-class gthread --workers 2 --threads 4 "
    "--graceful-timeout 20 --timeout 60 --no-control-socket"
)
ENDS = {"succeeded", "failed", "cancelled", "discarded", "abandoned", "handed_off"}
SETTINGS = "tests.soak.site.settings"


class Ledger:
    """What the processes of the site have written down."""

    def __init__(self, path: Path) -> None:
        self.accepted: Counter[str] = Counter()
        self.ended: dict[str, list[str]] = defaultdict(list)
        self.handles: Counter[str] = Counter()
        self.called_back: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self.statuses: Counter[tuple[str, str]] = Counter()
        self.pids: set[int] = set()
        with path.open() as lines:
            for line in lines:
                self._note(json.loads(line))

    def _note(self, line: dict[str, object]) -> None:
        event, known = str(line["event"]), str(line.get("id", ""))
        self.events[event] += 1
        self.pids.add(int(str(line["pid"])))
        if event == "accepted":
            self.accepted[known] += 1
            self.names[known] = str(line["name"])
        elif event == "ended":
            self.ended[known].append(str(line["status"]))
            reason = f" ({line['reason']})" if line["reason"] else ""
            self.statuses[str(line["name"]), f"{line['status']}{reason}"] += 1
        elif event == "handle":
            self.handles[known] += 1
        elif event == "called back":
            self.called_back[known] += 1

    def __str__(self) -> str:
        told = [f"{len(self.accepted)} accepted, in {len(self.pids)} processes; events: {dict(self.events)}"]
        told += [f"{name:24} {end:24} {count:8}" for (name, end), count in sorted(self.statuses.items())]
        return "\n".join(told)


class Visitors:
    """Send requests until they are told to stop; a worker that is stopped may refuse some."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stopped = threading.Event()
        self.answered = self.refused = 0
        self.threads = [threading.Thread(target=self._visit) for _ in range(VISITORS)]

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _visit(self) -> None:
        while not self.stopped.wait(PAUSE):
            try:
                self.site._get("load")
            except OSError:
                self.refused += 1
            else:
                self.answered += 1


def disturb(site: Site, until: float) -> Counter[str]:
    """Stop one of the workers, or reload all of them, every few seconds; return how often which was done."""
    done: Counter[str] = Counter()
    rest = threading.Event()
    while time.monotonic() < until:
        rest.wait(min(random.uniform(1.0, 8.0), max(0.0, until - time.monotonic())))
        if random.random() < 0.5:
            site.process.send_signal(signal.SIGHUP)
            done["HUP"] += 1
        else:
            os.kill(site.serving(), signal.SIGTERM)
            done["TERM"] += 1
    return done


def make_tables(directory: Path) -> None:
    """Make the database of the engine, which keeps what moves."""
    directory.mkdir(parents=True)
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "QBWI_SITE_DIR": str(directory)}
    command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(command, env=environ, check=True, timeout=60)


def stored(directory: Path) -> list[str]:
    """Return the ids of what the engine has."""
    with contextlib.closing(sqlite3.connect(directory / "engine.sqlite3", timeout=20)) as connection:
        return sorted(known for (known,) in connection.execute("SELECT id FROM django_tasks_database_dbtaskresult"))


def test_every_accepted_item_has_one_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One terminal status for each, also where its process ends; callbacks, keys and counts are as exact."""
    pytest.importorskip("django_tasks_db", reason="django-tasks-db is there in `tox run -e soak`")
    site = Site(tmp_path / "site", COMMAND, environ={"DJANGO_SETTINGS_MODULE": SETTINGS})
    make_tables(site.directory)
    with site:
        site.serving()
        with Visitors(site) as visitors:
            done = disturb(site, time.monotonic() + SECONDS)
            # The last one while they are still at it.
            site.kill("server", signal.SIGTERM, 0)
        site.wait_for_end(site.process.pid)
        stderr = site.stderr()
    ledger = Ledger(site.directory / "lines")
    with capfd.disabled():
        print(
            f"\n{SECONDS:.0f} s, {dict(done)}, {visitors.answered} requests answered, {visitors.refused} not\n{ledger}"
        )
    assert site.process.returncode == 0
    # As gunicorn says it, of a worker; helpers are killed by an item.
    assert "was sent SIGKILL" not in stderr, stderr[-4000:]
    assert set(ledger.accepted.values()) == {1}
    lost = [(known, ledger.names[known]) for known in ledger.accepted if known not in ledger.ended]
    assert not lost, f"{len(lost)} have no end: {lost[:20]}"
    twice = [(known, ends) for known, ends in ledger.ended.items() if len(ends) != 1]
    assert not twice, f"{len(twice)} have more than one end: {twice[:20]}"
    strange = [known for known in ledger.ended if known not in ledger.accepted]
    assert not strange, f"{len(strange)} were never accepted: {strange[:20]}"
    assert {end for ends in ledger.ended.values() for end in ends} <= ENDS
    # What moved is in the engine, by its id, once; and nothing else is.
    moved = sorted(known for known, (end,) in ledger.ended.items() if end == "handed_off")
    assert stored(site.directory) == moved
    assert moved
    assert "never" not in ledger.names.values()
    # A handle may be given more than once, to those whose item waits already.
    assert set(ledger.handles) <= set(ledger.accepted)
    silent = ledger.handles - ledger.called_back
    assert not silent, (
        f"{silent.total()} were not called back: {[(known, ledger.names[known]) for known in silent][:20]}"
    )
    assert not ledger.called_back - ledger.handles
    assert not ledger.events["too many of a key"]
    assert ledger.events["retried"]
