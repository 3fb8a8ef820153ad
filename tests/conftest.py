"""What holds for all tests: nothing of one is left for the next."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from django_qbwi import pytest_plugin

PATIENCE = 30
_FDS = Path("/proc/self/fd")

# How long an example takes depends on the machine, and no unit test measures time.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("unit")

# Fixtures here hold items until their teardown, which comes later.
pytest_plugin._UNDISTURBED_SECONDS = 0.01

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background so, and servers that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that leaves a thread, a signal handler, a socket or another open file behind."""
    threads, handlers, files = _threads(), _handlers(), _open_files()
    yield
    _end_process_wide_scheduler()
    if _threads() - threads:
        # Executors of the standard library end their threads when they are collected, which the frames of an exception
        # in a captured record would prevent.
        caplog.get_records("call").clear()
        gc.collect()
    for thread in _threads() - threads:
        # An end that was asked for takes a moment.
        if thread.daemon or thread.name.startswith(("qbwi-", "ThreadPoolExecutor")):
            thread.join(PATIENCE)
    assert not _threads() - threads, f"threads left behind: {_threads() - threads}"
    changed = {signum: handler for signum, handler in _handlers().items() if handler != handlers[signum]}
    assert not changed, f"signal handlers left behind: {changed}"
    if _open_files() - files:
        gc.collect()
    assert not _open_files() - files, f"files left open: {_open_files() - files}"


@pytest.fixture
def outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process taken for one that runs no tests."""
    from django_qbwi import hosting
    from django_qbwi.hosting import process
    from django_qbwi.lifecycle.servers import ServerHost

    here = hosting.this_process()
    host = here.host
    monkeypatch.setattr(process, "_look_for_tests", lambda: None)
    here._set_host(ServerHost())
    yield
    here._set_host(host)


def _end_process_wide_scheduler() -> None:
    """Let the threads end that the scheduler of this process has started, if it has; it opens a new one."""
    hosting = sys.modules.get("django_qbwi.hosting")
    here = None if hosting is None else hosting._processes.get(os.getpid())
    if here is not None and here.assembly is not None and here.assembly.scheduler.started:
        # What the first item has set off may be opening the channel, where a test was taken for none.
        here.assembly.reporter.flush(PATIENCE)
        here.renew(5.0)
    if here is not None and here.visibility.publisher is not None:
        here.visibility.publisher.close(PATIENCE)
        here.visibility.publisher = None


def _threads() -> set[threading.Thread]:
    sync = sys.modules.get("asgiref.sync")
    # asgiref keeps one thread for all thread-sensitive code outside of a context, for as long as the process lives.
    shared = set() if sync is None else sync.SyncToAsync.single_thread_executor._threads
    return set(threading.enumerate()) - shared


def _handlers() -> dict[int, Any]:
    handlers = {signum: signal.getsignal(signum) for signum in signal.valid_signals()}
    # That of the process-wide scheduler stays, as it does in a server.
    return {
        signum: signal.SIG_DFL if getattr(handler, "is_qbwi_layer", False) else handler
        for signum, handler in handlers.items()
    }


def _open_files() -> set[tuple[str, str]]:
    """Return number and target of each open file, where the system tells."""
    if not _FDS.exists():
        return set()
    files = set()
    for number in os.listdir(_FDS):
        try:
            target = os.readlink(_FDS / number)
        except OSError:
            continue  # the one of listing the folder
        # Random numbers and the null device are opened by the interpreter and by libraries, once for all; the dynamic
        # linker closes a library that another thread loads at this moment.
        if not target.startswith("/dev/") and ".so" not in target:
            files.add((number, target))
    return files


def pytest_collection_finish() -> None:
    """Keep what is there once and for all out of each collection of garbage: thousands of them walk the heap."""

    @settings(database=None, max_examples=1)
    @given(strategies.none())
    def first(example: None) -> None:
        """Let hypothesis look who refers to its generator of random numbers, which it cannot once all is frozen."""

    first()
    gc.collect()
    gc.freeze()
