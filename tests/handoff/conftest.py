"""A process whose queue is full, with an engine behind it."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import hosting, queue_background_work_item
from tests.handoff import functions
from tests.handoff.listed import ListedBackend, tasks
from tests.support.gates import PATIENCE, until


@pytest.fixture
def rows() -> Iterator[list[SimpleNamespace]]:
    """The rows of the engine."""
    functions.start_afresh()
    ListedBackend.start_afresh()
    yield ListedBackend.rows
    functions.gate.open()
    ListedBackend.start_afresh()


@pytest.fixture
def configure(rows: list[SimpleNamespace]) -> Iterator[Callable[..., None]]:
    """Have settings hold until the end of the test."""
    with ExitStack() as stack:

        def enter(durable: dict[str, Any] | None = None, **options: Any) -> None:
            stack.enter_context(override_settings(TASKS=tasks(**durable or {})))
            stack.enter_context(override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1, **options}))

        yield enter
        functions.gate.open()


@contextmanager
def full_queue(**options: Any) -> Iterator[None]:
    """Hold the one worker, and have one item wait: nothing more can be queued in the block."""
    with override_settings(TASKS=tasks(**options)), override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        queue_background_work_item(functions.gate)
        functions.gate.await_entered()
        queue_background_work_item(functions.gate)
        try:
            yield
        finally:
            # Before the settings are left, whose items are waited for then.
            functions.gate.open()


def at_full_queue(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test where nothing more can be queued."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        with full_queue():
            test(**fixtures)

    return run


def end() -> None:
    """Come to the end of the process, as far as its items can tell."""
    hosting.this_process().renew(10)


def end_and_open() -> None:
    """Come to the end of the process, and let the items go on that the gate holds, once they are told of it."""
    scheduler = hosting.scheduler()

    def let_go() -> None:
        until(lambda: scheduler.stop.requested)
        functions.gate.open()

    opener = threading.Thread(target=let_go)
    opener.start()
    # Here and not there: the handlers of signals are opened anew by the main thread alone.
    end()
    opener.join(PATIENCE)
