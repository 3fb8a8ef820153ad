"""`manage.py qbwi run` as cron calls it: a process of its own, its exit status, and the stop signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripts import CHECKOUT, unexpected

PATIENCE = 30

SETTINGS = """
SECRET_KEY = "for the tests only"
USE_TZ = True
INSTALLED_APPS = ["django_qbwi"]
QBWI = {"SHUTDOWN_TIMEOUT": 30.0}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "records.txt"}},
    "loggers": {"django_qbwi": {"handlers": ["file"], "level": "INFO", "propagate": False}},
}
"""
ITEMS = """
import asyncio
import concurrent.futures
import sys
import threading

from django_qbwi import queue_background_work_item


def tell(text):
    print(text, flush=True)


def succeed(token, *args):
    tell(args)


def fail(token):
    raise ValueError("no stock")


def stop(token):
    tell("begun")
    token.wait()
    tell(f"{token.reason} {token.remaining() > 0}")
    token.raise_if_cancellation_requested()


def save(token):
    tell("begun")
    token.wait()
    tell("saved")


def fail_late(token):
    save(token)
    raise ValueError("not saved")


def get_stuck(token):
    tell("begun")
    threading.Event().wait()


def hold_the_exit(token):
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.submit(threading.Event().wait)
    get_stuck(token)


async def sleep(token):
    tell("begun")
    await asyncio.Event().wait()


def with_child(token):
    queue_background_work_item(succeed, "child")


def stop_with_child(token):
    queue_background_work_item(succeed, "child")
    stop(token)


def linger(token):
    tell("begun")
    token.wait()
    tell("waiting")
    sys.stdin.readline()
"""


class Site:
    """A site of two modules, and the command in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "site_settings.py").write_text(SETTINGS, encoding="utf-8")
        (directory / "items.py").write_text(ITEMS, encoding="utf-8")
        self.started: list[subprocess.Popen[str]] = []

    def set(self, **settings: Any) -> None:
        """Set QBWI."""
        with (self.directory / "site_settings.py").open("a", encoding="utf-8") as file:
            file.write(f"QBWI = {settings!r}\n")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django", "qbwi", "run", *words],
            cwd=self.directory,
            env={
                **kept,
                "DJANGO_SETTINGS_MODULE": "site_settings",
                "PYTHONPATH": os.pathsep.join([str(self.directory), str(CHECKOUT)]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def ends(self, process: subprocess.Popen[str], words: str = "") -> tuple[int, str, str]:
        """Say `words` to its stdin and wait for the end; return exit status, stderr and the rest of stdout."""
        output, errors = process.communicate(words, timeout=PATIENCE)
        return process.returncode, unexpected(errors).strip(), output.strip()

    @property
    def records(self) -> str:
        """What was logged."""
        return (self.directory / "records.txt").read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose processes end with the test."""
    made = Site(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("words", "code", "error", "output"),
    [
        (["items.succeed", "--", "-1e3", '"two"'], 0, "", "(-1000.0, 'two')\nitems.succeed succeeded after "),
        (["items.fail"], 1, "Failed: items.fail failed after ", ""),
        (["items.nothing"], 1, "CommandError: items.nothing cannot be imported: builtins.ImportError", ""),
        (["items.succeed", "two"], 1, "CommandError: the argument 'two' is no JSON", ""),
        ([], 1, "usage: ", ""),
    ],
)
def test_exit_status(site: Site, words: list[str], code: int, error: str, output: str) -> None:
    """That of the item, and 1 for everything that is wrong with the command line."""
    found = site.ends(site.start(*words))
    assert (found[0], found[1].startswith(error), found[1] == "") == (code, True, error == "")
    assert [line for line in output.splitlines() if line not in found[2]] == []


def test_item_is_recorded(site: Site) -> None:
    """As one of a server is: the traceback of a failure is in the log."""
    assert site.ends(site.start("items.fail"))[0] == 1
    assert "name=items.fail status=failed" in site.records
    assert 'raise ValueError("no stock")' in site.records


def test_items_of_an_item_are_waited_for(site: Site) -> None:
    """The exit is held for what the item has queued."""
    code, _, output = site.ends(site.start("items.with_child"))
    assert (code, "('child',)" in output) == (0, True)
    assert "name=items.succeed status=succeeded" in site.records


SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(params=SIGNALS, ids=["SIGTERM", "SIGINT"])
def stopped(request: pytest.FixtureRequest, site: Site) -> Callable[[str], tuple[int, str, str]]:
    """Return a function that runs an item, stops the process when it has begun, and returns how that ends."""

    def run(name: str) -> tuple[int, str, str]:
        process = site.start(f"items.{name}")
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(request.param)
        return site.ends(process)

    return run


def test_stop_signal_cancels_the_token(stopped: Callable[[str], tuple[int, str, str]], site: Site) -> None:
    """The item sees SHUTDOWN and the time that is left; exit status 2; the drain is recorded."""
    code, error, output = stopped("stop")
    assert (code, output) == (2, "shutdown True")
    assert error.splitlines()[-1].startswith("CutOff: items.stop cancelled after ")
    assert error.endswith(", by SHUTDOWN")
    assert "name=items.stop status=cancelled" in site.records
    assert site.records.count("Drained") == 1


def test_item_that_saves_its_work_succeeds(stopped: Callable[[str], tuple[int, str, str]]) -> None:
    """Exit status 0, since the item has ended well."""
    code, error, output = stopped("save")
    assert (code, error) == (0, "")
    assert output.startswith("saved\nitems.save succeeded after ")


def test_item_that_fails_at_the_end_fails(stopped: Callable[[str], tuple[int, str, str]]) -> None:
    """Exit status 1."""
    code, error, output = stopped("fail_late")
    assert (code, output) == (1, "saved")
    assert error.splitlines()[-1].endswith("builtins.ValueError: not saved")


@pytest.mark.parametrize(("name", "status"), [("get_stuck", "abandoned"), ("sleep", "cancelled")])
def test_item_that_does_not_end_is_cut_off(
    stopped: Callable[[str], tuple[int, str, str]], site: Site, name: str, status: str
) -> None:
    """At the limit; exit status 2. An async one is interrupted where it stands."""
    site.set(SHUTDOWN_TIMEOUT=0.5)
    code, error, _ = stopped(name)
    assert (code, f"CutOff: items.{name} {status} after " in error) == (2, True)
    assert f"name=items.{name} status={status}" in site.records


def test_exit_that_is_stuck_has_the_status_of_the_item(
    stopped: Callable[[str], tuple[int, str, str]], site: Site
) -> None:
    """An executor's thread that never ends holds up the interpreter: the last resort leaves with 2 as well."""
    site.set(SHUTDOWN_TIMEOUT=0.5)
    code, error, _ = stopped("hold_the_exit")
    assert (code, "CutOff: items.hold_the_exit abandoned after " in error) == (2, True)


def test_item_and_what_it_queued_are_drained(stopped: Callable[[str], tuple[int, str, str]], site: Site) -> None:
    """All items of the process have the same time; the exit status is that of the one that was named."""
    site.set(SHUTDOWN_TIMEOUT=30.0, MAX_WORKERS=1)
    code, _, output = stopped("stop_with_child")
    assert (code, output.splitlines()) == (2, ["shutdown True", "('child',)"])
    assert "name=items.succeed status=succeeded" in site.records


def test_second_sigterm_changes_nothing(site: Site) -> None:
    """A control group, or a master, repeats itself: the item goes on, and the exit status is still its own."""
    process = site.start("items.linger")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    code, error, output = site.ends(process, "go on\n")
    assert (code, error) == (0, "")
    assert output.startswith("items.linger succeeded after ")


def test_without_handlers_the_signal_kills(site: Site) -> None:
    """HANDLE_SIGNALS = False: SIGTERM does what it does without us."""
    site.set(HANDLE_SIGNALS=False)
    process = site.start("items.stop")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert site.ends(process)[0] == -signal.SIGTERM
