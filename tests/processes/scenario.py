"""Plays one row of the matrix: start, ask for work, let the event happen, wait for the end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.processes.harness import PROGRAMS, Failed, Outcome, Site
from tests.processes.matrix import GUNICORN_GTHREAD_PRELOAD, REQUESTS, Row

SECONDS = float(os.environ.get("QBWI_ITEM_SECONDS", "2"))
"""How long the items work."""
SLOW_SECONDS = 1.0
"""How long the request in flight takes; it starts just before the event."""
TOGETHER = int(os.environ.get("QBWI_TOGETHER", "3"))
"""Rows that are played at the same time: they mostly wait."""
_MAX_LOST = 3
_HANGS_AFTER = 20.0
"""Seconds without an end after which it is looked at; gunicorn kills a worker after 30."""
_LOST_INTERRUPT = re.compile(
    r"^Exception ignored .*<function WeakSet\b.*\nTraceback .*\n(?: .*\n)*KeyboardInterrupt\b", re.MULTILINE
)
lost: list[str] = []
"""The plays whose signal was lost in Python's own code, or in gunicorn's; they were played again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """How a row is played."""

    items: tuple[str, ...] = ()
    hosted: bool = True
    """Whether django_qbwi is installed in the site."""
    rested: bool = False
    """Whether the items have ended before the event."""
    slow: str = ""
    """The query of a request in flight; none without it."""
    settings: tuple[tuple[str, Any], ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    options: str = ""
    again: tuple[tuple[float, int], ...] = ()
    """Further signals: seconds after the event, and which."""
    again_target: str = "server"
    seconds: float | None = None
    """How long the items work, where it matters."""


BUSY = Play(items=("sync_item", "async_item"), slow=f"seconds={SLOW_SECONDS}")
BUSY_CONTROL = dataclasses.replace(BUSY, hosted=False)
IDLE = Play()
IDLE_CONTROL = Play(hosted=False)
RESTED = Play(items=("quick_item", "quick_async_item"), rested=True)
ENDLESS_ITEMS = ("endless_item", "stuck_item", "stuck_executor_item", "stubborn_item")


def is_installed(row: Row) -> bool:
    """Tell whether this Python has the server."""
    return all(
        (Path(sys.executable).parent / module).exists()
        if module in PROGRAMS
        else importlib.util.find_spec(module) is not None
        for module in row.server.requires
    )


class _Lost(Exception):
    """The signal was lost in code that is not ours: nothing can be told of what it does."""


def play(row: Row, how: Play, directory: Path) -> Outcome:
    """Play `row` once; blocks until all of its processes are gone."""
    for number in range(_MAX_LOST):
        try:
            return _play(row, how, directory / str(number))
        except _Lost:
            lost.append(f"{row.id}{'' if how.hosted else ', without us'}")
    raise Failed(f"{row.id}: the signal was lost {_MAX_LOST} times")


def _play(row: Row, how: Play, directory: Path) -> Outcome:
    items = f" {' '.join(how.items)}" if row.server.is_command else ""
    site = Site(
        directory,
        f"{row.command} {how.options}".strip() + items,
        hosted=how.hosted,
        seconds=_seconds(row, how),
        settings=dict(how.settings),
        environ=dict(how.environ),
        prefix="async/" if row.server.is_async else "",
    )
    with site:
        try:
            return _play_command(row, how, site) if row.server.is_command else _play_server(row, how, site)
        except Failed:
            if interrupt_was_lost(site.stderr()):
                raise _Lost from None
            raise


def interrupt_was_lost(stderr: str) -> bool:
    """Tell whether Python's KeyboardInterrupt was raised in a weakref callback, which nothing can leave by raising."""
    return _LOST_INTERRUPT.search(stderr) is not None


def _seconds(row: Row, how: Play) -> float:
    seconds = SECONDS if how.seconds is None else max(how.seconds, SECONDS)
    if row.event.action == "touch":
        # They have to be at work still when the reloader sees the change, which takes it two looks, a second apart.
        seconds = max(seconds, 6.0)
    longest = row.server.longest_item
    return seconds if longest is None else min(seconds, longest)


def _play_command(row: Row, how: Play, site: Site) -> Outcome:
    if how.hosted:
        _wait_for_items(how, site)
    site.wait_for("ready")
    signed_at = site.wait_for("command ends") if row.event.action == "none" else time.monotonic()
    if row.event.signum is not None:
        site.kill("server", row.event.signum, site.process.pid)
    _send_again(how, site, site.process.pid, signed_at)
    ended_at = site.wait_for_end(site.process.pid)
    return site.outcome(signed_at, ended_at, "")


def _play_server(row: Row, how: Play, site: Site) -> Outcome:
    worker = site.serving()
    if row.server.name.startswith("uWSGI"):
        # It takes a worker for a busy one for a moment after the answer, until it has logged the request.
        site.wait_until(lambda: "GET /pid" in site.stderr(), "the first request in uWSGI's log")
    if row.server.name == "hypercorn -w 2":
        # The end of one ends the other by SIGTERM: of that it dies, with a status of its own, while it is starting.
        site.wait_until(lambda: site.stderr().count("Running on") == 2, "both workers")
    if how.items:
        worker = int(site.get(f"queue?{'&'.join(f'item={name}' for name in how.items)}"))
        if row.server.name.startswith("uWSGI"):
            site.wait_until(lambda: "GET /queue" in site.stderr(), "the request in uWSGI's log")
        if how.hosted:
            _wait_for_items(how, site)
            if how.rested:
                site.get("rest")
                if row.server.name.startswith("uWSGI"):
                    site.wait_until(lambda: "GET /rest" in site.stderr(), "the request in uWSGI's log")
    slow: Callable[[], str] = lambda: ""  # noqa: E731 - a request that is not made
    if how.slow and row.in_flight:
        slow = site.get_in_background(f"slow?{how.slow}")
        site.wait_for("request started")
        if row.server.parallel:
            # gunicorn's gthread worker hangs for ever if SIGQUIT finds it handing a request to a new thread: with two
            # more answers it is past that.
            site.get("pid")
            site.get("pid")
    signed_at = _happen(row, site, worker)
    _send_again(how, site, worker, signed_at)
    if row.server.name == "runserver" and row.event.signum in (signal.SIGTERM, signal.SIGINT):
        signed_at = _insist(row, site, worker, signed_at)
    if row.event.ends == "server":
        ended_at = _wait_for_end(row, site, worker)
        return site.outcome(signed_at, ended_at, slow())
    ended_at = site.wait_for_end(worker)
    answer = slow()
    site.wait_until(lambda: site.serving() != worker, "another worker")
    outcome = site.outcome(signed_at, ended_at, answer)
    return dataclasses.replace(outcome, status=None)


def _wait_for_end(row: Row, site: Site, worker: int) -> float:
    if row.server is not GUNICORN_GTHREAD_PRELOAD or row.event.target != "group":
        return site.wait_for_end(site.process.pid)
    try:
        return site.wait_for_end(site.process.pid, _HANGS_AFTER)
    except Failed:
        # Ctrl-C is SIGINT, and SIGQUIT from the master. Both have one handler, which waits for its own lock if the
        # second finds it at work (without --preload ours stands before it, and keeps them apart).
        if site.stack(worker).count("in handle_quit") == 2:
            raise _Lost from None
        return site.wait_for_end(site.process.pid)


def _insist(row: Row, site: Site, worker: int, signed_at: float) -> float:
    # The SystemExit of Django's own handler, or Python's KeyboardInterrupt, is lost when the signal finds the reloader
    # in a weakref callback.
    while "Exception ignored in" not in site.stderr():
        if time.monotonic() > signed_at + 1.0 or site.process.poll() is not None:
            return signed_at
        time.sleep(0.05)
    if row.event.signum == signal.SIGINT and "KeyboardInterrupt" in site.stderr():
        # A second Ctrl-C has another meaning than the first.
        raise _Lost
    return _happen(row, site, worker)


def _wait_for_items(how: Play, site: Site) -> None:
    for name in how.items:
        site.wait_for("finished" if how.rested else "started", name)
    if how.rested:
        # Not by what an item says of itself: its end comes behind that.
        site.wait_until(lambda: site.records().count("status=succeeded") == len(how.items), "their records")


def _happen(row: Row, site: Site, worker: int) -> float:
    event = row.event
    if event.action == "touch":
        return _change_a_file(row, site)
    if event.action == "requests":
        # The request in flight counts as well, though it has no answer yet.
        in_flight = len([line for line in site.lines() if line["event"] == "request started"])
        for _ in range(REQUESTS - site.requests - in_flight):
            site.get("pid")
        return time.monotonic()
    signed_at = time.monotonic()
    assert event.signum is not None
    site.kill(event.target, event.signum, worker)
    return signed_at


def _change_a_file(row: Row, site: Site) -> float:
    # A reloader that has not looked at the file before takes it for unchanged: change it until it is seen.
    while True:
        site.touch()
        try:
            if row.server.name.startswith("runserver"):
                return site.wait_for("file changed", patience=1.5)
            site.wait_until(site.tells_of_change, "the reloader", 1.5)
            return time.monotonic()
        except Failed:
            if site.process.poll() is not None:
                raise


def _send_again(how: Play, site: Site, worker: int, signed_at: float) -> None:
    for after, signum in how.again:
        # The one place where time itself is the input: a signal counts as a second one when it comes a second later.
        time.sleep(max(0.0, signed_at + after - time.monotonic()))
        if site.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                site.kill(how.again_target, signum, worker)


class Theatre:
    """Plays rows ahead of the tests that ask for them, a few at a time; each way of playing one only once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(TOGETHER, "play")
        self._numbers = itertools.count(1)
        self._played: dict[tuple[Row, Play], Future[Outcome]] = {}
        self._stage = threading.Condition()
        self._playing = 0
        self._is_reserved = False
        self.alone_for: list[str] = []
        """For which rows the others had to wait."""

    def __enter__(self) -> Theatre:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def announce(self, plays: Iterable[tuple[Row, Play]]) -> None:
        """Have these played soon, in this order."""
        for row, how in plays:
            if (row, how) not in self._played:
                self._played[row, how] = self._pool.submit(self._play_among_others, row, how)

    def outcome(self, row: Row, how: Play) -> Outcome:
        """Return what came of it, or raise what went wrong; what is not being played yet is played here and now."""
        found = self._played.get((row, how))
        return self.once_more(row, how) if found is None or found.cancel() else found.result()

    @contextlib.contextmanager
    def alone(self, row: Row) -> Iterator[None]:
        """Have the others wait, while `row` is played `once_more` because it was late: they may have been the cause."""
        self.alone_for.append(row.id)
        with self._stage:
            self._is_reserved = True
            self._stage.wait_for(lambda: not self._playing)
        try:
            yield
        finally:
            with self._stage:
                self._is_reserved = False
                self._stage.notify_all()

    def once_more(self, row: Row, how: Play) -> Outcome:
        """Play it again, for a measurement that something else on the machine may have disturbed."""
        future: Future[Outcome] = Future()
        self._played[row, how] = future
        try:
            future.set_result(play(row, how, self._new_directory()))
        except BaseException as error:
            future.set_exception(error)
        return future.result()

    def _play_among_others(self, row: Row, how: Play) -> Outcome:
        with self._stage:
            self._stage.wait_for(lambda: not self._is_reserved)
            self._playing += 1
        try:
            return play(row, how, self._new_directory())
        finally:
            with self._stage:
                self._playing -= 1
                self._stage.notify_all()

    def _new_directory(self) -> Path:
        return self._directory / f"play{next(self._numbers)}"
