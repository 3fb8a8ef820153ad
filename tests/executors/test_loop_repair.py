"""A loop that fails goes on: with a new selector, without a storm of records, its items ended one way or another."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors.loop_repair import LoopMender
from tests.support.gates import PATIENCE, Gate
from tests.support.runtime import Runtime, running
from tests.support.scripts import run_script


@pytest.fixture
def one() -> Iterator[Runtime]:
    """A runtime."""
    with running() as runtime:
        yield runtime


def close(selector: Any) -> None:
    """Close a selector as its owner would."""
    selector.close()


def close_descriptor(selector: Any) -> None:
    """Close it behind its back, as a library does that closes all files; its number is another file's at once."""
    number = selector.fileno()
    os.close(number)
    assert os.open(os.devnull, os.O_RDONLY) == number
    opened.append(number)


opened: list[int] = []


@pytest.fixture
def closed_again() -> Iterator[None]:
    """Close what the test has opened, which must be open still."""
    yield
    while opened:
        os.close(opened.pop())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the texts of the records at ERROR."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="closes the descriptor of an epoll object")
@pytest.mark.parametrize(
    ("break_selector", "waiting"), [(close, WorkItemStatus.FAILED), (close_descriptor, WorkItemStatus.SUCCEEDED)]
)
def test_g5_closed_selector_is_replaced(
    one: Runtime,
    caplog: pytest.LogCaptureFixture,
    closed_again: None,
    break_selector: Callable[[Any], None],
    waiting: WorkItemStatus,
) -> None:
    """G5: two records; items whose wait may be lost fail, others end as ever; later items run; none stays for ever."""
    entered, go_on = threading.Event(), threading.Event()

    async def other(token: Any) -> None:
        entered.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)

    async def culprit(token: Any) -> None:
        break_selector(asyncio.get_running_loop()._selector)  # type: ignore[attr-defined]

    handle = one.queue(other)
    assert entered.wait(PATIENCE)
    assert one.run(culprit) is WorkItemStatus.SUCCEEDED
    assert one.run(wait_for_thread) is WorkItemStatus.SUCCEEDED
    go_on.set()
    assert handle.wait(PATIENCE)
    assert handle.status is waiting
    if waiting is WorkItemStatus.FAILED:
        assert "selector of the background event loop was closed" in str(handle.exception())
    assert len(errors(caplog)) == 2
    assert "has a new selector" in errors(caplog)[1]


async def wait_for_thread(token: Any) -> None:
    """Be woken by another thread, and by a timer."""
    await asyncio.to_thread(int)
    await asyncio.sleep(0.001)


ALL_FILES = """
import asyncio, logging, os, sys, threading
from tests.support.runtime import Runtime

logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.ERROR)
runtime = Runtime()


async def culprit(token):
    os.closerange(3, 256)


async def later(token):
    await asyncio.to_thread(int)


print(runtime.run(culprit), flush=True)
print(runtime.run(later), runtime.run(later), flush=True)
runtime.retire()
"""


@pytest.mark.slow
def test_g5_all_files_are_closed() -> None:
    """G5: an item that closes every file, as a daemon does at its start: the loop can still be woken by threads."""
    lines = run_script(ALL_FILES)
    statuses = [line for line in lines if line.startswith("succeeded")]
    assert statuses == ["succeeded", "succeeded succeeded"]
    assert sum("has a new selector" in line for line in lines) == 1


@pytest.fixture
def loop() -> Iterator[asyncio.SelectorEventLoop]:
    """A loop that does not run."""
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def test_g5_no_new_selector_can_be_had(
    loop: asyncio.SelectorEventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """G5: without a free file descriptor it is tried again, at a slower pace and with one record, not 54,000."""
    pauses: list[float] = []
    mender = LoopMender(loop, pauses.append)

    def refuse() -> None:
        raise OSError(24, "Too many open files")

    loop._selector.close()  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr("django_qbwi.executors.loop_repair.new_selector", refuse)
        for _ in range(1_000):
            mender.mend(ValueError("I/O operation on closed epoll object"), [])
    assert len(errors(caplog)) == 1
    assert (pauses[0], pauses[-1], len(pauses)) == (0.01, 5.0, 999)
    mender.mend(ValueError("again"), [])
    loop.run_until_complete(asyncio.to_thread(int))
    loop.run_until_complete(loop.shutdown_default_executor())


def test_g5_loop_that_fails_for_another_reason_keeps_its_selector(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """G5: a patched clock, for instance: one record a minute, growing pauses, nobody is cancelled."""
    pauses: list[float] = []
    mender = LoopMender(loop, pauses.append)
    selector = loop._selector  # type: ignore[attr-defined]
    for _ in range(100):
        mender.mend(ValueError("no time"), [None])
    assert loop._selector is selector  # type: ignore[attr-defined]
    assert len(errors(caplog)) == 1
    assert len(pauses) == 99
    assert "LoopMender" in repr(mender)


def test_f6_each_exit_of_a_task_is_told_of_at_once(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """F6: a child task that raises SystemExit is no failure of the loop: no pause."""
    pauses: list[float] = []
    mender = LoopMender(loop, pauses.append)
    for _ in range(3):
        mender.mend(SystemExit(1), [])
    assert len(errors(caplog)) == 3
    assert pauses == []


def test_g5_selector_is_closed_when_the_loop_ends(caplog: pytest.LogCaptureFixture) -> None:
    """G5: with items in it still: they are cancelled, and the thread ends, without a storm."""
    with running() as runtime:
        gate = Gate()
        runtime.queue(gate.hold)
        gate.await_entered()

        async def culprit(token: Any) -> None:
            asyncio.get_running_loop()._selector.close()  # type: ignore[attr-defined]
            runtime.loop.retire()

        runtime.run(culprit)
    assert len(errors(caplog)) <= 3
