"""Worker threads: they contain whatever an item does, start when needed, and end when told."""

import contextvars
import ctypes
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItemHandle, current_work_item
from django_qbwi.core.ports import NullEnvironment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors import threads as thread_executor
from django_qbwi.executors.worker import Worker
from django_qbwi.machine.supervised import Life
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, Gate, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]


def await_parked(runtime: Runtime, workers: int = 1) -> None:
    """Wait until so many workers are parked."""
    until(lambda: len(runtime.threads._idle) >= workers)


# Containment.


def test_item_gets_token_and_arguments(runtime: Runtime) -> None:
    """An item is called as `work_item(token, *args)`, in a worker's thread."""
    seen: list[Any] = []
    handle = runtime.queue(lambda token, *args: seen.extend([token, *args, threading.current_thread().name]), 1, 2)
    assert handle.wait(PATIENCE)
    assert seen == [handle.token, 1, 2, handle.info.thread]
    assert handle.status is S.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("no such album"), id="f1"),
        pytest.param(SystemExit(3), id="f2"),
        pytest.param(KeyboardInterrupt(), id="f3"),
        pytest.param(GeneratorExit(), id="f4"),
        pytest.param(BaseException("neither"), id="f4-base"),
        pytest.param(RecursionError(), id="f9"),
        pytest.param(MemoryError(), id="f10"),
        pytest.param(BaseExceptionGroup("several", [SystemExit(), ValueError()]), id="group"),
    ],
)
def test_whatever_an_item_raises_is_contained(start: Start, error: BaseException) -> None:
    """F1-F4, F9, F10: the item is FAILED with its exception, and the same thread runs the next one."""
    runtime = start(max_workers=1)

    def item(token: Any) -> None:
        raise error

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.exception()) == (S.FAILED, error)
    assert runtime.run(noop) is S.SUCCEEDED
    assert {item.run.thread for item in runtime.scheduler.finished_items()} == {"qbwi-worker-1"}


def test_f9_real_recursion_is_contained(runtime: Runtime) -> None:
    """F9: an item that recurses for ever is FAILED, and later items run."""

    def item(token: Any) -> None:
        item(token)

    assert runtime.run(item) is S.FAILED
    assert runtime.run(noop) is S.SUCCEEDED


def test_f45_raising_observer_does_not_keep_the_worker(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """F45: an observer that breaks its promise costs a worker, which is replaced; the item keeps its status."""
    runtime = start(max_workers=1)

    def finished(item: Any) -> None:
        del runtime.observer.finished
        raise ValueError("boom")

    runtime.observer.finished = finished  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL):
        assert runtime.run(noop) is S.SUCCEEDED
        assert runtime.run(noop) is S.SUCCEEDED
    runtime.await_empty()


# What is left of an item.


def test_f11_result_is_dropped_at_once(start: Start) -> None:
    """F11: a large result is gone before the item's end is told."""
    runtime = start()

    class Large:
        """Stands for a gigabyte."""

    references: list[weakref.ref[Large]] = []
    alive: list[bool] = []
    finished = runtime.observer.finished

    def item(token: Any) -> Large:
        large = Large()
        references.append(weakref.ref(large))
        return large

    def look(item: Any) -> None:
        alive.append(references[0]() is not None)
        finished(item)

    runtime.observer.finished = look  # type: ignore[method-assign]
    runtime.run(item)
    assert alive == [False]


def test_f12_failure_keeps_no_frame_alive(start: Start) -> None:
    """F12: the locals of a failed item die with it, though the handle keeps the exception and its cause."""
    runtime = start(max_workers=1)

    class Large:
        """Stands for a gigabyte."""

    references: list[weakref.ref[Large]] = []

    def item(token: Any) -> None:
        large = Large()
        references.append(weakref.ref(large))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    await_parked(runtime)
    gc.collect()
    assert isinstance(handle.exception(), ValueError)
    assert references[0]() is None


def test_arguments_are_dropped_at_the_end(start: Start) -> None:
    """The handle of an ended item, and the parked worker, keep neither arguments nor closures alive."""
    runtime = start(max_workers=1)

    class Large:
        """Stands for a gigabyte."""

    references: list[weakref.ref[Large]] = []

    def queue() -> WorkItemHandle:
        argument, cell = Large(), Large()
        references.extend([weakref.ref(argument), weakref.ref(cell)])

        def item(token: Any, argument: Large) -> None:
            assert cell

        return runtime.queue(item, argument)

    handle = queue()
    assert handle.wait(PATIENCE)
    await_parked(runtime)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_f46_each_item_has_a_fresh_context(start: Start) -> None:
    """F46: what one item, or the caller, sets in a context variable is not seen by the next on the same thread."""
    runtime = start(max_workers=1)
    variable = contextvars.ContextVar("variable", default="untouched")
    seen: list[str] = []

    def item(token: Any) -> None:
        seen.append(variable.get())
        variable.set("by an item")

    variable.set("by the caller")
    runtime.run(item)
    runtime.run(item)
    assert seen == ["untouched", "untouched"]


def test_current_work_item_is_the_own_one(runtime: Runtime) -> None:
    """Inside an item `current_work_item()` is its handle; after it there is none in the thread."""
    seen: list[WorkItemHandle | None] = []
    handle = runtime.queue(lambda token: seen.append(current_work_item()))
    assert handle.wait(PATIENCE)
    assert seen == [handle]
    assert current_work_item() is None


def test_environment_surrounds_each_item(start: Start) -> None:
    """The environment is called in the item's thread: before it, after it and before its record, and at the end."""
    calls: list[str] = []

    class Environment(NullEnvironment):
        def before(self) -> None:
            calls.append("before")

        def after(self) -> None:
            calls.append("after")

        def thread_ended(self) -> None:
            calls.append(threading.current_thread().name)

    runtime = start(max_workers=1, environment=Environment())
    runtime.observer.finished = lambda item: calls.append("finished")  # type: ignore[method-assign]
    runtime.run(lambda token: calls.append("item"))
    runtime.await_empty()
    assert calls == ["before", "item", "after", "finished"]
    runtime.threads.retire()
    for thread in runtime.own_threads():
        if thread.name == "qbwi-worker-1":
            thread.join(PATIENCE)
    assert calls[4:] == ["qbwi-worker-1"]


def test_environment_cleans_up_behind_receivers(start: Start) -> None:
    """Where somebody is told of the end in the worker's thread, it is cleaned up after them as well."""
    calls: list[str] = []

    class Environment(NullEnvironment):
        def after(self) -> None:
            calls.append("after")

    runtime = start(max_workers=1, environment=Environment())
    runtime.observer.follows = True
    runtime.run(noop)
    assert calls == ["after", "after"]


# The number of threads.


def test_threads_come_with_the_first_item(start: Start) -> None:
    """Before the first item there is no thread of ours."""
    runtime = start()
    assert not runtime.own_threads()
    runtime.run(noop)
    assert {"qbwi-worker-1", "qbwi-loop", "qbwi-keeper"} <= {thread.name for thread in runtime.own_threads()}
    assert all(thread.daemon for thread in runtime.own_threads())


def test_workers_grow_up_to_the_limit(start: Start, gate: Gate) -> None:
    """As many workers as needed are started, and no more than allowed; the rest waits."""
    runtime = start(max_workers=3)
    handles = [runtime.queue(gate) for _ in range(5)]
    gate.await_entered(3)
    assert (runtime.scheduler.running_count, runtime.scheduler.queued_count) == (3, 2)
    assert len(runtime.threads._workers) == 3
    gate.open()
    for handle in handles:
        assert handle.wait(PATIENCE)
    assert "workers=3" in repr(runtime.threads)


def test_parked_worker_is_used_again(start: Start) -> None:
    """An item that finds a parked worker starts no other thread."""
    runtime = start(max_workers=3)
    for _ in range(20):
        runtime.run(noop)
        await_parked(runtime)
    assert [thread.name for thread in runtime.own_threads() if "worker" in thread.name] == ["qbwi-worker-1"]


def test_last_parked_worker_is_woken_first(start: Start, gate: Gate) -> None:
    """The worker that has just been busy is woken, so that the others stay asleep."""
    runtime = start(max_workers=2)
    handles = [runtime.queue(gate) for _ in range(2)]
    gate.await_entered(2)
    gate.open()
    for handle in handles:
        assert handle.wait(PATIENCE)
    await_parked(runtime, 2)
    last = runtime.threads._idle[-1]
    [expected] = [worker.name for worker in runtime.threads._workers if worker.park is last]
    handle = runtime.queue(noop)
    assert handle.wait(PATIENCE)
    assert handle.info.thread == expected


def test_f26_many_threads_queue_the_very_first_items_at_once(start: Start) -> None:
    """F26: the first items come from 30 threads at once: one loop, one keeper, all run, in the order of each caller."""
    runtime = start(max_workers=1, max_queued=10_000)
    barrier = threading.Barrier(30)
    ran: list[tuple[int, int]] = []

    def call(caller: int) -> None:
        barrier.wait(PATIENCE)
        for number in range(20):
            runtime.queue(lambda token, *key: ran.append(key), caller, number)
            runtime.queue(anoop)

    callers = [threading.Thread(target=call, args=[caller]) for caller in range(30)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(PATIENCE)
    runtime.await_empty()
    names = [thread.name for thread in runtime.own_threads()]
    assert (names.count("qbwi-loop"), names.count("qbwi-keeper")) == (1, 1)
    assert runtime.scheduler.totals[S.SUCCEEDED] == 1_200
    assert all([n for c, n in ran if c == caller] == list(range(20)) for caller in range(30))


def test_enlisting_beyond_the_limit_ends_the_thread(start: Start) -> None:
    """A thread that was started in vain, since others were faster, ends at once."""
    runtime = start(max_workers=1)
    runtime.run(noop)
    worker = Worker(runtime.threads)
    worker.run([Life()])
    assert len(runtime.threads._workers) == 1


# Threads that cannot be started.


def _refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Callable[[], None], name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_executor, "start_thread", refuse)


def test_f24_no_thread_and_no_worker_is_an_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: with no worker yet the caller gets the error, nothing is queued, and the next call tries again."""
    runtime = start()
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        with pytest.raises(WorkItemRejected, match="can't start new thread") as caught:
            runtime.queue(noop)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert runtime.scheduler.is_empty
    assert runtime.run(noop) is S.SUCCEEDED


def test_f24_no_further_thread_is_a_warning(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: with a worker at work the item is queued and waits for it; one WARNING a minute says so."""
    clock = FakeClock()
    runtime = start(max_workers=3, clock=clock)
    runtime.queue(gate)
    gate.await_entered()
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        handles = [runtime.queue(noop), runtime.queue(noop)]
        assert caplog.text.count("No further worker thread could be started") == 1
        clock.advance(61)
        handles.append(runtime.queue(noop))
    assert caplog.text.count("No further worker thread could be started") == 2
    gate.open()
    assert all(handle.wait(PATIENCE) for handle in handles)


def test_r15_failed_start_is_tried_again_with_the_next_item(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R15: a thread start that failed is tried again when the next item comes."""
    runtime = start(max_workers=2)
    runtime.queue(gate)
    gate.await_entered()
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        runtime.queue(gate)
    runtime.queue(gate)
    gate.await_entered()
    assert runtime.scheduler.running_count == 2


# Killed workers.


def kill(ident: int, kind: type[BaseException]) -> None:
    """Raise an asynchronous exception in a thread."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind)) == 1


def test_f28_worker_killed_while_parked_is_replaced(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """F28: an asynchronous exception kills a parked worker as it is woken: another one runs the item."""
    runtime = start(max_workers=1)
    runtime.run(noop)
    await_parked(runtime)
    if sys.version_info < (3, 12) and sys.gettrace() is not None:
        pytest.skip("a traced thread of Python 3.11 spins while another has an asynchronous exception to come")
    [worker] = runtime.threads._workers
    assert worker.ident is not None
    kill(worker.ident, SystemExit)
    handle = runtime.queue(noop)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.thread) == (S.SUCCEEDED, "qbwi-worker-2")
    assert "was killed by SystemExit" in caplog.text
    assert "workers=1" in repr(runtime.threads)


def test_f28_asynchronous_exception_inside_an_item_ends_the_item(start: Start) -> None:
    """F28: hit in its user code, the item is FAILED and the worker lives."""
    runtime = start(max_workers=1)

    def item(token: Any) -> None:
        kill(threading.get_ident(), ZeroDivisionError)
        while True:
            pass

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert isinstance(handle.exception(), ZeroDivisionError)
    assert runtime.run(noop) is S.SUCCEEDED
    assert [thread.name for thread in runtime.own_threads() if "worker" in thread.name] == ["qbwi-worker-1"]


def test_f28_worker_that_dies_on_its_way_to_sleep_is_not_woken(start: Start) -> None:
    """F28: a worker that is hit right after it was put on the stack of parked ones leaves it."""
    runtime = start(max_workers=2)
    runtime.run(noop)
    await_parked(runtime)
    worker = Worker(runtime.threads)
    assert runtime.threads.enlist(worker)
    assert runtime.threads.next_item(worker)
    runtime.threads.dismiss(worker, None)
    assert worker.park not in runtime.threads._idle
    assert runtime.run(noop) is S.SUCCEEDED


class Deadly(NullEnvironment):
    """Raises in our own code, around an item, as often as told."""

    def __init__(self, times: int) -> None:
        self.times = times

    def before(self) -> None:
        if self.times:
            self.times -= 1
            raise SystemExit


def test_f28_item_of_a_killed_worker_fails(start: Start) -> None:
    """F28: a worker that dies in our own code fails its item, reports it once, and is replaced."""
    runtime = start(max_workers=1, environment=Deadly(1))
    assert runtime.run(noop) is S.FAILED
    assert runtime.run(noop) is S.SUCCEEDED
    runtime.await_empty()
    assert runtime.observer.statuses() == [S.FAILED, S.SUCCEEDED]


def test_f28_worker_killed_between_status_and_last_step(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F28: an item that has its status when its worker dies leaves the registry all the same."""
    runtime = start(max_workers=1)
    settle = runtime.scheduler.settle
    deaths = [SystemExit()]

    def die_once(item: Any) -> None:
        if deaths:
            raise deaths.pop()
        settle(item)

    monkeypatch.setattr(runtime.scheduler, "settle", die_once)
    assert runtime.run(noop) is S.SUCCEEDED
    runtime.await_empty()
    assert runtime.observer.statuses() == [S.SUCCEEDED]


def test_f28_restarts_are_limited(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """F28: more than ten deaths in a minute and no worker is started by itself; the next item starts one."""
    clock = FakeClock()
    runtime = start(max_workers=1, environment=Deadly(11), clock=clock)
    for _ in range(11):
        assert runtime.run(noop) is S.FAILED
    until(lambda: "More than 10 workers were killed within a minute" in caplog.text)
    assert runtime.run(noop) is S.SUCCEEDED


# Overdue items.


def overdue(runtime: Runtime, clock: FakeClock, gate: Gate) -> WorkItemHandle:
    """Have an item run until it is overdue."""
    handle = runtime.queue(gate, timeout=1.0)
    gate.await_entered()
    for seconds in (1.0, 5.0):
        clock.advance(seconds)
        runtime.look_at_clock()
    assert handle.info.overdue
    return handle


def test_r15_overdue_item_is_replaced_and_its_thread_ends(start: Start, gate: Gate, clock: FakeClock) -> None:
    """R15: an overdue item leaves the count of workers; when it ends, its own thread exits, not the replacement."""
    runtime = start(max_workers=1, clock=clock)
    handle = overdue(runtime, clock, gate)
    assert runtime.run(noop) is S.SUCCEEDED
    assert runtime.observer.overdue_items[0][2] is True
    assert "opened.wait" in runtime.observer.overdue_items[0][1]
    [thread] = [thread for thread in runtime.own_threads() if thread.name == "qbwi-worker-1"]
    gate.open()
    assert handle.wait(PATIENCE)
    thread.join(PATIENCE)
    assert handle.status is S.SUCCEEDED
    assert repr(runtime.threads) == "<ThreadExecutor workers=1 idle=1 overdue=0>"


def test_f56_at_the_cap_nothing_more_is_started(start: Start, gate: Gate, clock: FakeClock) -> None:
    """F56: with as many overdue items as workers, the next overdue one keeps its slot, and items stay queued."""
    runtime = start(max_workers=1, clock=clock)
    overdue(runtime, clock, gate)
    overdue(runtime, clock, gate)
    handle = runtime.queue(noop)
    assert [replaced for _, _, replaced in runtime.observer.overdue_items] == [True, False]
    assert (runtime.scheduler.running_count, handle.status) == (2, S.QUEUED)


def test_f56_executor_says_that_it_is_stuck(start: Start, gate: Gate, clock: FakeClock) -> None:
    """F56: not by one overdue item, which has a replacement, but by the one that can have none; until either ends."""
    runtime = start(max_workers=1, clock=clock)
    assert not runtime.threads.is_stuck
    first = overdue(runtime, clock, gate)
    assert runtime.run(noop) is S.SUCCEEDED
    assert not runtime.threads.is_stuck
    second = overdue(runtime, clock, gate)
    assert runtime.threads.is_stuck
    gate.open()
    assert first.wait(PATIENCE)
    assert second.wait(PATIENCE)
    assert runtime.run(noop) is S.SUCCEEDED
    assert not runtime.threads.is_stuck


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_f56_recovery_when_one_ends(start: Start, clock: FakeClock, first_to_end: int) -> None:
    """F56: as soon as any of the overdue items ends, queued ones run again."""
    runtime = start(max_workers=1, clock=clock)
    gates = [Gate(), Gate()]
    for gate in gates:
        overdue(runtime, clock, gate)
    handle = runtime.queue(noop)
    try:
        gates[first_to_end].open()
        assert handle.wait(PATIENCE)
        assert runtime.run(noop) is S.SUCCEEDED
    finally:
        for gate in gates:
            gate.open()


def test_f24_worker_without_a_replacement_goes_on(
    start: Start, gate: Gate, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24, R15: no thread could be started in place of an overdue worker: as its item ends, it takes the next ones."""
    runtime = start(max_workers=1, clock=clock)
    assert runtime.run(noop) is S.SUCCEEDED
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        handle = overdue(runtime, clock, gate)
        waiting = [runtime.queue(noop) for _ in range(2)]
        gate.open()
        assert all(each.wait(PATIENCE) for each in (handle, *waiting))
    assert {each.info.thread for each in (handle, *waiting)} == {"qbwi-worker-1"}
    await_parked(runtime)
    assert repr(runtime.threads) == "<ThreadExecutor workers=1 idle=1 overdue=0>"


def test_r15_late_replacement_ends(start: Start, gate: Gate, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """R15: a replacement that comes to run only when the overdue worker has its slot again is one too many."""
    runtime = start(max_workers=1, clock=clock)
    late: list[Callable[[], None]] = []
    assert runtime.run(noop) is S.SUCCEEDED
    with monkeypatch.context() as patch:
        patch.setattr(thread_executor, "start_thread", lambda target, name: late.append(target))
        handle = overdue(runtime, clock, gate)
    gate.open()
    assert handle.wait(PATIENCE)
    assert runtime.run(noop) is S.SUCCEEDED
    [run] = late
    run()
    assert len(runtime.threads._workers) == 1
    assert runtime.run(noop) is S.SUCCEEDED


def test_slot_of_an_ended_item_cannot_be_given_up(start: Start) -> None:
    """An item that no worker runs any more has no slot to give."""
    runtime = start(max_workers=1)
    handle = runtime.queue(noop)
    assert handle.wait(PATIENCE)
    assert runtime.threads.give_up_slot(handle._item) is False


# The end.


def test_retired_workers_end(start: Start, gate: Gate) -> None:
    """Parked workers end at once, a busy one after its item; none is started any more."""
    runtime = start(max_workers=2)
    handle = runtime.queue(gate)
    gate.await_entered()
    runtime.run(noop)
    runtime.threads.retire()
    gate.open()
    assert handle.wait(PATIENCE)
    for thread in runtime.own_threads():
        if "worker" in thread.name:
            thread.join(PATIENCE)
    runtime.threads.grow()
    assert not [thread for thread in runtime.own_threads() if "worker" in thread.name]


def test_abandoned_item_ends_late(start: Start, gate: Gate) -> None:
    """R3: an item that ends after it was given up is noted, changes nothing, and its thread goes on."""
    runtime = start(max_workers=1)
    handle = runtime.queue(gate)
    gate.await_entered()
    for item in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(item)
    gate.open()
    await_parked(runtime)
    assert handle.status is S.ABANDONED
    assert runtime.observer.names(handle._item) == ["started", "finished", "late"]


def test_stack_of_a_running_item(start: Start, gate: Gate) -> None:
    """The stack of a running item ends where it is now."""
    runtime = start()
    handle = runtime.queue(gate)
    gate.await_entered()
    assert "gates.py" in runtime.scheduler.stack(handle._item)


def test_f13_native_cancel_does_nothing_to_threads(start: Start, gate: Gate) -> None:
    """F13: a thread cannot be interrupted: the item runs on."""
    runtime = start()
    handle = runtime.queue(gate)
    gate.await_entered()
    runtime.threads.cancel_natively([handle._item])
    gate.open()
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED


class Farewell(NullEnvironment):
    """An environment whose threads take leave only when they are let."""

    def __init__(self) -> None:
        self.arrived, self.allowed = threading.Semaphore(0), threading.Event()
        self.gone = 0

    def thread_ended(self) -> None:
        """Wait for the permission."""
        self.arrived.release()
        assert self.allowed.wait(PATIENCE)
        self.gone += 1


def test_join_waits_until_connections_are_closed(start: Start) -> None:
    """After `retire`, `join` returns True only behind the last act of parked workers."""
    environment = Farewell()
    runtime = start(max_workers=1, environment=environment)
    assert runtime.run(noop) is S.SUCCEEDED
    await_parked(runtime)
    runtime.threads.retire()
    assert environment.arrived.acquire(timeout=PATIENCE)
    assert not runtime.threads.join(0.0)
    environment.allowed.set()
    assert runtime.threads.join(PATIENCE)
    assert environment.gone == 1


def test_join_does_not_wait_for_an_abandoned_item(start: Start, gate: Gate) -> None:
    """A worker that an abandoned item holds is not waited for: the time is over for it."""
    runtime = start(max_workers=1)
    runtime.queue(gate)
    gate.await_entered()
    for item in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(item)
    runtime.threads.retire()
    assert runtime.threads.join(PATIENCE)
    assert not gate.opened.is_set()
    gate.open()
