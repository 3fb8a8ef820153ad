"""The first item of a process: what is known by then, what may be missing, and what is assembled for it."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import WorkItemRejected, hosting, queue_background_work_item
from django_qbwi.executors import loop_thread, threads
from django_qbwi.machine import service_thread
from django_qbwi.signals import work_item_rejected
from tests.support.scripts import run_script

PATIENCE = 30

# Where it is queued from.

APP = """
import sys, types
import django
from django.apps import AppConfig
from django.conf import settings

def queue():
    from django_qbwi import NotHosted, queue_background_work_item
    try:
        print(queue_background_work_item(lambda token: None).wait(30))
    except NotHosted as error:
        print(error)

class ShopConfig(AppConfig):
    name = "shop"
    path = "."
    def ready(self):
        if {in_ready}:
            queue()

class LazyConfig(AppConfig):
    name = "django_qbwi"
    path = "."
    def ready(self):
        pass

shop = sys.modules["shop"] = types.ModuleType("shop")
shop.ShopConfig, shop.LazyConfig = ShopConfig, LazyConfig
settings.configure(INSTALLED_APPS={apps})
{setup}
"""
SHOP, OURS, LAZY = "shop.ShopConfig", "django_qbwi", "shop.LazyConfig"
SETUP, QUEUE = "django.setup()", "queue()"


@pytest.mark.parametrize(
    ("apps", "in_ready", "steps", "told"),
    [
        ([SHOP, OURS], True, [SETUP], "Move 'django_qbwi' above it"),
        ([SHOP], True, [SETUP], 'add "django_qbwi" to INSTALLED_APPS'),
        ([SHOP], False, [SETUP, QUEUE], 'add "django_qbwi" to INSTALLED_APPS'),
        ([SHOP, OURS], False, [QUEUE], "django.setup() has not run"),
        ([SHOP, LAZY], False, [SETUP, QUEUE], "call super().ready()"),
        ([OURS, SHOP], True, [SETUP], "True"),
    ],
)
def test_g23_real_reason_is_told(apps: list[str], in_ready: bool, steps: list[str], told: str) -> None:
    """The order of the apps, an app that is not there, a setup that has not run, a ready() that was left out."""
    [line] = run_script(APP.format(apps=apps, in_ready=in_ready, setup="\n".join(steps)))
    assert told in line
    assert ("shop" in line) is ("above" in told)


# Settings are read when they are first needed.


LATE = """
import os, threading, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_qbwi"], QBWI={{"MAX_WORKERS": 4}})
django.setup()
settings.QBWI = {{"MAX_WORKERS": 1, "HISTORY_SIZE": 3}}
from django_qbwi import background_work_item, hosting, queue_background_work_item

def show():
    handles = [queue_background_work_item(lambda token: print(threading.current_thread().name)) for _ in range(2)]
    for handle in handles:
        handle.wait(30)
    print(hosting.this_process().current.settings.history_size)

{steps}
"""
FORKED = """
child = os.fork()
if not child:
    show()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("steps", ["show()", FORKED, "hosting.scheduler()\nshow()", f"show()\n{FORKED}"])
def test_g51_settings_assigned_after_setup_count(steps: str) -> None:
    """Up to the first item, in this process and in one that a parallel test run has forked."""
    lines = run_script(LATE.format(steps=steps))
    runs = 2 if "show()\n\n" in steps else 1
    assert lines == ["qbwi-worker-1", "qbwi-worker-1", "3"] * runs


def test_g51_settings_assigned_after_the_first_item_do_not_count() -> None:
    """What runs goes on as it began; `override_settings` is for another one."""
    lines = run_script(LATE.format(steps="show()\nsettings.QBWI = {'HISTORY_SIZE': 9}\nshow()"))
    assert lines[2::3] == ["3", "3"]


def test_g51_signal_reaches_the_scheduler_of_the_first_item() -> None:
    """The handlers that were set while the site was loaded tell the one that came later."""
    steps = """
import os, signal
def item(token):
    os.kill(os.getpid(), signal.SIGTERM)
    token.wait(30)
    print(token.reason)
handle = queue_background_work_item(item)
try:
    handle.wait(30)
except SystemExit:
    handle.wait(30)
    raise
"""
    assert run_script(LATE.format(steps=steps), status=143) == ["shutdown"]


# What was assembled is always retired.


def _ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("qbwi")}


class Gate:
    """Stops a call in the middle, and lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        original = getattr(owner, name)

        def stop(*args: Any, **kwargs: Any) -> Any:
            if after:
                result = original(*args, **kwargs)
            self.reached.set()
            assert self.opened.wait(PATIENCE)
            return result if after else original(*args, **kwargs)

        monkeypatch.setattr(owner, name, stop)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"), [(threads.ThreadExecutor, "prepare"), (loop_thread.LoopExecutor, "prepare")]
)
def test_g7_block_that_is_left_while_threads_start_leaves_none(
    owner: Any, name: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leaves the block sees no thread to end: who starts them ends them, and the item is refused."""
    before, outcome = _ours(), []
    gate = Gate(monkeypatch, owner, name, after=after)

    def first_item() -> None:
        try:
            outcome.append(queue_background_work_item(lambda token: None))
        except WorkItemRejected as error:
            outcome.append(type(error).__name__)

    queueing = threading.Thread(target=first_item)
    with override_settings(QBWI={}):
        queueing.start()
        assert gate.reached.wait(PATIENCE)
    gate.opened.set()
    queueing.join(PATIENCE)
    assert outcome == ["SchedulerClosed"]
    for thread in _ours() - before:
        thread.join(PATIENCE)
    assert _ours() == before


@override_settings(QBWI={"MAX_WORKERS": 1})
def test_g7_first_items_at_the_end_of_a_hundred_blocks_leak_nothing() -> None:
    """Neither a thread nor a file descriptor, whichever of the two comes first."""
    queue_background_work_item(lambda token: None).wait(PATIENCE)
    before, files = _ours(), len(os.listdir("/proc/self/fd"))
    during: set[threading.Thread] = set()
    for _ in range(100):
        start = threading.Barrier(2)

        def first_item(start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            try:
                queue_background_work_item(lambda token: None)
            except WorkItemRejected:
                return

        queueing = threading.Thread(target=first_item)
        with override_settings(QBWI={}):
            queueing.start()
            start.wait(PATIENCE)
        during |= _ours()
        queueing.join(PATIENCE)
    for thread in (during | _ours()) - before:
        thread.join(PATIENCE)
    assert (_ours(), len(os.listdir("/proc/self/fd"))) == (before, files)


# No room for the first item.


@pytest.fixture
def rejected() -> Iterator[list[str]]:
    """Return the names of items that were refused, by the signal."""
    names: list[str] = []

    def note(*, info: Any, **kwargs: Any) -> None:
        names.append(info.name)

    work_item_rejected.connect(note)
    yield names
    work_item_rejected.disconnect(note)


class Descriptors:
    """Takes all file descriptors but a few."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._taken: list[int] = []

    def __enter__(self) -> None:
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(256, highest + 8), self._limits[1]))
        while True:
            try:
                self._taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(self._left):
            os.close(self._taken.pop())

    def __exit__(self, *exc_info: object) -> None:
        for file in self._taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_g8_no_file_descriptor_for_the_first_item(
    left: int, rejected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Refused with a record and a signal, and not queued; the next one runs when there is room again."""
    with override_settings(QBWI={}):
        with Descriptors(left):
            with pytest.raises(WorkItemRejected, match=r"no thread could be started .*Too many open files") as caught:
                queue_background_work_item(lambda token: None, name="first")
            queued = hosting.scheduler().queued_count
        assert (rejected, queued, isinstance(caught.value.__cause__, OSError)) == (["first"], 0, True)
        assert [record.levelname for record in caplog.records if "first" in record.getMessage()] == ["WARNING"]
        assert queue_background_work_item(lambda token: None).wait(PATIENCE)


@pytest.mark.parametrize("module", [threads, loop_thread, service_thread], ids=lambda module: module.__name__)
def test_g8_no_thread_for_the_first_item(
    module: Any, rejected: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the threads it is."""

    full, start_thread = [True], module.start_thread

    def start(*args: Any) -> None:
        if full:
            raise RuntimeError("can't start new thread")
        start_thread(*args)

    monkeypatch.setattr(module, "start_thread", start)
    with override_settings(QBWI={}):
        with pytest.raises(WorkItemRejected, match="can't start new thread"):
            queue_background_work_item(lambda token: None, name="first")
        assert (rejected, hosting.scheduler().queued_count) == (["first"], 0)
        full.clear()
        assert queue_background_work_item(lambda token: None).wait(PATIENCE)
