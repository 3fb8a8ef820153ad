"""R2, F48: queueing, cancelling and reading inside of finalizers, weakref callbacks and signal handlers."""

import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from django_qbwi.core.calls import Call
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.records import WorkItemStatus
from tests.support.gates import PATIENCE, Gate, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]


class Acts:
    """Does everything that is allowed everywhere, and keeps the handles."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.handles: list[WorkItemHandle] = []

    def __call__(self, *args: Any) -> None:
        for work_item in (noop, anoop):
            self.handles.append(self.runtime.queue(work_item))
        cancelled = self.runtime.queue(noop)
        cancelled.cancel("by whom it was queued")
        self.handles.append(cancelled)
        scheduler = self.runtime.scheduler
        assert scheduler.queued_count + scheduler.running_count >= 0
        assert (scheduler.state, scheduler.is_empty) is not None
        assert all(handle.info.id for handle in self.handles)
        assert scheduler.live_items() is not None

    def all_end(self, times: int = 1) -> None:
        """Wait for all items, and count them."""
        assert len(self.handles) == 3 * times
        assert all(handle.wait(PATIENCE) for handle in self.handles)
        self.runtime.await_empty()
        assert sum(self.runtime.scheduler.totals.values()) == len(self.handles)


class Cycle:
    """Garbage that the collector has to find, with a finalizer."""

    alive: ClassVar[list[int]] = []

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.me = self
        self.alive.append(1)

    def __del__(self) -> None:
        self.act()
        self.alive.pop()

    @classmethod
    def collect(cls) -> None:
        """Collect all of them; one collection may come to nothing, while another thread's is under way."""
        until(lambda: [gc.collect(), cls.alive][1] == [])


@pytest.fixture
def acts(runtime: Runtime) -> Acts:
    """The acts, on a runtime of two workers."""
    return Acts(runtime)


@pytest.fixture
def raise_signal() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Call something in a signal handler, at once."""
    before = signal.getsignal(signal.SIGTERM)

    def raise_signal(act: Callable[..., None]) -> None:
        signal.signal(signal.SIGTERM, act)
        signal.raise_signal(signal.SIGTERM)

    yield raise_signal
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("first", [True, False])
def test_f48_in_a_finalizer_while_the_own_thread_holds_the_lock(acts: Acts, first: bool) -> None:
    """F48: the collector runs a finalizer in the middle of queueing: no deadlock, all items end."""
    if not first:
        assert acts.runtime.run(noop) is S.SUCCEEDED
        acts.runtime.await_empty()
        acts.runtime.scheduler.statistics.totals[S.SUCCEEDED] = 0
    Cycle(acts)
    with acts.runtime.scheduler.lock:
        Cycle.collect()
    acts.all_end()


def test_f48_in_a_weakref_callback(acts: Acts) -> None:
    """F48: the same in the callback of a weak reference."""

    class Watched:
        """Something that ends."""

    watched = Watched()
    reference = weakref.ref(watched, acts)
    with acts.runtime.scheduler.lock:
        del watched
    assert reference() is None
    acts.all_end()


def test_f48_in_a_signal_handler(acts: Acts, raise_signal: Callable[[Callable[..., None]], None]) -> None:
    """F48: the same in the handler of a signal that arrives while the lock is held."""
    with acts.runtime.scheduler.lock:
        raise_signal(acts)
    acts.all_end()


def test_f34_signal_while_another_thread_holds_the_lock(
    acts: Acts, raise_signal: Callable[[Callable[..., None]], None]
) -> None:
    """F34: a handler that queues waits for the other thread's step, which does not depend on the main thread."""
    held = threading.Event()

    def hold() -> None:
        with acts.runtime.scheduler.lock:
            held.set()
            waiting.acquire(timeout=0.05)

    waiting = threading.Lock()
    waiting.acquire()
    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    raise_signal(acts)
    thread.join(PATIENCE)
    acts.all_end()


def test_f48_during_the_first_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F48: a handler that queues in the middle of the very first start: one loop, one keeper, all items end."""
    runtime = start()
    acts = Acts(runtime)
    begin = runtime.scheduler._start
    nested: list[int] = []

    def interrupted() -> None:
        if not nested:
            nested.append(1)
            acts()
        begin()

    monkeypatch.setattr(runtime.scheduler, "_start", interrupted)
    acts.handles.append(runtime.queue(noop))
    assert all(handle.wait(PATIENCE) for handle in acts.handles)
    names = [thread.name for thread in runtime.own_threads()]
    assert (names.count("qbwi-loop"), names.count("qbwi-keeper")) == (1, 1)


def test_f48_collector_in_every_allocation(start: Start) -> None:
    """F48: finalizers that queue and cancel, with the collector running all the time, in all threads at once."""
    runtime = start(max_queued=100_000)
    acts = Acts(runtime)
    threshold = gc.get_threshold()

    def item(token: Any) -> None:
        Cycle(acts)

    gc.set_threshold(5)
    try:
        for _ in range(20):
            Cycle(acts)
            runtime.queue(item)
            runtime.queue(anoop).cancel()
        runtime.await_empty()
    finally:
        gc.set_threshold(*threshold)
    Cycle.collect()
    assert all(handle.wait(PATIENCE) for handle in acts.handles)
    runtime.await_empty()
    assert sum(runtime.scheduler.totals.values()) == len(acts.handles) + 40


def test_f48_item_is_cancelled_by_its_own_argument(start: Start, gate: Gate) -> None:
    """R2: the finalizer of a cancelled item's argument cancels the next one, and so on."""
    runtime = start(max_workers=1)
    runtime.queue(gate)
    gate.await_entered()
    handles: list[WorkItemHandle] = []

    class Argument:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            if self.number + 1 < len(handles):
                handles[self.number + 1].cancel()

    for number in range(20):
        handles.append(runtime.queue(noop, Argument(number)))
    handles[0].cancel()
    assert {handle.status for handle in handles} == {S.CANCELLED}
    assert runtime.scheduler.queued_count == 0


def test_r1_exception_while_waiting_for_the_lock(
    runtime: Runtime, raise_signal: Callable[[Callable[..., None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: a handler that raises while queueing waits for the lock: the exception comes out, the lock is as it was."""
    waiting, held, done = threading.Event(), threading.Event(), threading.Event()
    stopped: list[int] = []
    lock = runtime.scheduler.lock
    main = threading.main_thread().ident
    assert main is not None

    class Stop(Exception):
        """What the handler raises."""

    def stop(*args: Any) -> None:
        if not stopped:
            stopped.append(1)
            raise Stop

    def acquire() -> bool:
        waiting.set()
        return lock.acquire()

    def hold() -> None:
        with lock:
            held.set()
            assert waiting.wait(PATIENCE)
            # Again and again: one that comes just before the main thread falls asleep does not wake it.
            until(lambda: [signal.pthread_kill(main, signal.SIGTERM), done.wait(0.01)][1])

    raise_signal(lambda *args: None)
    signal.signal(signal.SIGTERM, stop)
    monkeypatch.setattr(runtime.scheduler, "_acquire", acquire)
    thread = threading.Thread(target=hold)
    item = runtime.scheduler.make_item(Call(noop))
    runtime.queue(noop).wait(PATIENCE)
    waiting.clear()
    thread.start()
    assert held.wait(PATIENCE)
    with pytest.raises(Stop):
        runtime.scheduler.queue(item)
    done.set()
    thread.join(PATIENCE)
    assert runtime.scheduler.queued_count == 0
    assert runtime.run(noop) is S.SUCCEEDED
