"""G3, G5: the thread of the loop is struck or killed outside of any item: its items and the next ones go on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors.loop_repair import LoopMender
from tests.support.gates import PATIENCE, until
from tests.support.manual import anoop
from tests.support.runtime import Runtime

Start = Callable[..., Runtime]


class Storm(BaseException):
    """Stands for `PyThreadState_SetAsyncExc`."""


def raising(*errors: type[BaseException]) -> Callable[..., None]:
    """Return a function that raises each of the errors, and then nothing."""
    left = list(errors)

    def strike(*args: object) -> None:
        if left:
            raise left.pop(0)

    return strike


class Waiting:
    """An async item that is in flight until it is let go, and tells its threads."""

    def __init__(self) -> None:
        self.idents: list[int] = []
        self.entered = threading.Event()
        self.go = asyncio.Event()

    async def __call__(self, token: Any) -> None:
        """Wait."""
        self.idents.append(threading.get_ident())
        self.entered.set()
        await self.go.wait()
        self.idents.append(threading.get_ident())


def leave_the_loop(runtime: Runtime, item: Waiting) -> None:
    """Have an exception leave `run_forever`, and the item go on in the next turn."""
    loop = runtime.loop.loop
    assert loop is not None
    loop.call_soon_threadsafe(raising(SystemExit))
    loop.call_soon_threadsafe(item.go.set)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("error", [Storm, SystemExit, RuntimeError])
def test_g3_items_outlive_the_thread_of_the_loop(
    start: Start, monkeypatch: pytest.MonkeyPatch, killed: bool, error: type[BaseException]
) -> None:
    """G3, G5: struck outside of `run_forever` it goes on; killed, it has a successor, and the items do not notice."""
    runtime, item = start(), Waiting()
    handle = runtime.queue(item)
    assert item.entered.wait(PATIENCE)
    monkeypatch.setattr(runtime.loop._mender, "mend", raising(error))
    if killed:
        monkeypatch.setattr(runtime.loop._thread, "_struck", raising(error))
        monkeypatch.setattr(threading, "excepthook", lambda args: None)
    leave_the_loop(runtime, item)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED
    assert len(set(item.idents)) == (2 if killed else 1)
    assert runtime.run(anoop) is WorkItemStatus.SUCCEEDED
    assert not runtime.loop.is_stuck


def test_g5_loop_without_a_thread_is_not_ready_until_it_has_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: where no successor can be started the readiness says so, and the keeper starts one later."""
    runtime, item = start(), Waiting()
    handle = runtime.queue(item)
    assert item.entered.wait(PATIENCE)
    thread = runtime.loop._thread
    with monkeypatch.context() as patch:
        patch.setattr(runtime.loop._mender, "mend", raising(Storm))
        patch.setattr(thread, "_struck", raising(Storm))
        patch.setattr(thread, "_spawn", raising(RuntimeError, RuntimeError))
        patch.setattr(threading, "excepthook", lambda args: None)
        leave_the_loop(runtime, item)
        until(lambda: thread.is_lost)
        assert runtime.loop.is_stuck
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_g3_loop_that_still_looks_running_is_started_again() -> None:
    """G3: a strike within the last lines of `run_forever` leaves a mark, with which it would never start again."""
    loop: Any = asyncio.SelectorEventLoop()
    loop._thread_id = threading.get_ident()
    assert loop.is_running()
    LoopMender(loop).mend(SystemExit(), [])
    assert loop.run_until_complete(asyncio.sleep(0, "went on")) == "went on"
    loop.close()
