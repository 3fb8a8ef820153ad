"""G3, G4: an exception strikes a thread of ours at any line of its way; no item is lost, and the pool runs on."""

import itertools
import linecache
import logging
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import django_qbwi
from django_qbwi.core.ports import NullEnvironment
from django_qbwi.core.records import WorkItemStatus
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]
_PACKAGE = Path(django_qbwi.__file__).parent
_WAY = {
    str(_PACKAGE / path)
    for path in (
        "core/items.py",
        "core/registry.py",
        "core/runs.py",
        "core/scheduler.py",
        "core/waiting.py",
        "executors/async_run.py",
        "executors/item_end.py",
        "executors/loop_slots.py",
        "executors/loop_thread.py",
        "executors/threads.py",
    )
}


class Struck(BaseException):
    """What a library throws that puts a timeout on any code."""


class Striker:
    """Raises `Struck` at the line number `at`, counted along the way of threads with a name, once."""

    def __init__(self, thread: str, at: int) -> None:
        self.thread = thread
        self.left = at
        self.where: str | None = None

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        # `current_thread` would make up a thread for one that is dying.
        thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
        if thread is None or not thread.name.startswith(self.thread):
            return None
        if frame.f_code.co_filename not in _WAY:
            return None
        # A real one does not come between the last call of a `with` block and the giving back of its lock; the line
        # event of that is the `with` statement's own.
        if (
            event == "line"
            and self.where is None
            and " with " not in linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        ):
            self.left -= 1
            if self.left < 0:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise Struck
        return self


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a thread that dies say nothing, and keep no traceback."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    logging.getLogger("django_qbwi").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    yield
    logging.getLogger("django_qbwi").setLevel(logging.NOTSET)
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


def returns_awaitable(token: Any) -> Any:
    """Go on on the loop."""
    return anoop(token)


def strike_in_turn(runtime: Runtime, clock: FakeClock, striker: Striker, item: Callable[..., Any]) -> list[str]:
    """Strike each line of the way in turn; return where an item was lost."""
    lost: list[str] = []
    for at in itertools.count():
        # Ten killed workers a minute are replaced at once.
        clock.advance(60.0)
        striker.left, striker.where = at, None
        handles = [runtime.queue(item), runtime.queue(item)]
        if not all(handle.wait(PATIENCE) for handle in handles):
            return [*lost, f"{striker.where}: {handles}"]
        if not runtime.scheduler.wait_until_empty(PATIENCE):
            return [*lost, f"{striker.where}: not empty"]
        if striker.where is None:
            assert at > 50
            return lost
        if S.SUCCEEDED not in {handle.status for handle in handles}:
            lost.append(f"{striker.where}: {handles}")
    raise AssertionError


@pytest.mark.skip(
    reason="green with `with lock:`; not yet tried to its end with the converted locks, where it may wait long"
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited")
@pytest.mark.parametrize(
    ("thread", "item"),
    [("qbwi-worker", noop), ("qbwi-worker", returns_awaitable)],
)
def test_g3_struck_at_each_line_of_the_way(
    start: Start, clock: FakeClock, thread: str, item: Callable[..., Any]
) -> None:
    """The item ends, who waits is woken, the next one runs, and the exit is held by nothing."""
    striker = Striker(thread, -1)
    striker.where = "not yet"
    threading.settrace(striker)
    try:
        runtime = start(max_workers=1, max_in_flight=1, clock=clock)
        runtime.run(item)
        assert strike_in_turn(runtime, clock, striker, item) == []
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    finished = runtime.observer.statuses()
    assert len(finished) == len({id(about) for event, about, _ in runtime.observer.events if event == "finished"})


class Deadly(NullEnvironment):
    """Kills workers, as often as told."""

    def __init__(self, times: int) -> None:
        self.times = times

    def before(self) -> None:
        if self.times:
            self.times -= 1
            raise Struck


def test_g4_limit_of_restarts_is_a_delay(start: Start, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """What is queued behind eleven killed workers runs a minute after the first of them, though nobody queues again."""
    logging.getLogger("django_qbwi").setLevel(logging.NOTSET)
    deadly = Deadly(0)
    runtime = start(max_workers=1, environment=deadly, clock=clock)
    runtime.run(noop)
    until(lambda: runtime.threads._idle)
    deadly.times = 11
    with runtime.scheduler.lock:
        handles = [runtime.queue(noop) for _ in range(12)]
    assert all(handle.wait(PATIENCE) for handle in handles[:11])
    until(lambda: "More than 10 workers were killed within a minute" in caplog.text)
    assert [handle.status for handle in handles] == [S.FAILED] * 11 + [S.QUEUED]
    clock.advance(60.0)
    runtime.look_at_clock()
    assert handles[-1].wait(PATIENCE)
    assert handles[-1].status is S.SUCCEEDED


def test_g4_pool_without_a_thread_grows_when_the_system_gives_one(
    start: Start, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed worker that could not be replaced for want of a thread is replaced a second later."""
    deadly = Deadly(0)
    runtime = start(max_workers=1, environment=deadly, clock=clock)
    runtime.run(noop)
    until(lambda: runtime.threads._idle)
    deadly.times = 1
    spawn = runtime.threads._spawn
    tries: list[int] = []

    def no_thread() -> None:
        tries.append(1)
        raise RuntimeError("can't start new thread")

    with runtime.scheduler.lock:
        handles = [runtime.queue(noop) for _ in range(2)]
        monkeypatch.setattr(runtime.threads, "_spawn", no_thread)
    assert handles[0].wait(PATIENCE)
    until(lambda: tries)
    monkeypatch.setattr(runtime.threads, "_spawn", spawn)
    until(lambda: runtime.keeper._heap)
    clock.advance(1.0)
    runtime.look_at_clock()
    assert handles[1].wait(PATIENCE)
    assert handles[1].status is S.SUCCEEDED
