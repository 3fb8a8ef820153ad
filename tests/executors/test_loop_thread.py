"""The background loop: it contains whatever an async item does, keeps its slots, and closes without a trace."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from django_qbwi.core.calls import Call
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItemHandle, current_work_item, handle_of
from django_qbwi.core.ports import NullEnvironment
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors import loop_slots as item_executors
from django_qbwi.executors import loop_thread as loop_executor
from django_qbwi.executors.loop_end import cancel_natively
from django_qbwi.machine import stacks
from django_qbwi.machine.daemon_executor import DaemonExecutor
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, Gate, until
from tests.support.manual import anoop, noop
from tests.support.runtime import Runtime

S = WorkItemStatus
Start = Callable[..., Runtime]


# Containment.


def test_item_runs_on_the_background_loop(runtime: Runtime) -> None:
    """An async item is called as `work_item(token, *args)`, on our loop, in its thread."""
    seen: list[Any] = []

    async def item(token: Any, *args: Any) -> None:
        seen.extend([token, *args, asyncio.get_running_loop(), threading.current_thread().name])

    handle = runtime.queue(item, 1, 2)
    assert handle.wait(PATIENCE)
    assert seen == [handle.token, 1, 2, runtime.loop.loop, "qbwi-loop"]
    assert (handle.status, handle.info.thread) == (S.SUCCEEDED, "qbwi-loop")
    assert isinstance(runtime.loop.loop, asyncio.SelectorEventLoop)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("no such album"), id="f1"),
        pytest.param(SystemExit(3), id="f5-exit"),
        pytest.param(KeyboardInterrupt(), id="f5-interrupt"),
        pytest.param(GeneratorExit(), id="f4"),
        pytest.param(BaseException("neither"), id="f4-base"),
        pytest.param(asyncio.CancelledError(), id="f20"),
        pytest.param(RecursionError(), id="f9"),
    ],
)
def test_whatever_an_item_raises_is_contained(runtime: Runtime, gate: Gate, error: BaseException, before: int) -> None:
    """F4, F5, F20: raised in its first step or later, the item is FAILED; the others on the loop go on."""

    async def item(token: Any) -> None:
        for _ in range(before):
            await asyncio.sleep(0)
        raise error

    other = runtime.queue(gate.hold)
    gate.await_entered()
    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.exception()) == (S.FAILED, error)
    gate.open()
    assert other.wait(PATIENCE)
    assert other.status is S.SUCCEEDED


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_f6_child_task_that_exits_does_not_end_the_loop(
    runtime: Runtime, gate: Gate, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """F6: SystemExit in a child task leaves `run_forever`: the loop goes on, and so do its parent and the others."""

    async def child() -> None:
        raise kind

    async def item(token: Any) -> None:
        task = asyncio.create_task(child())
        await asyncio.wait([task])
        task.exception()

    other = runtime.queue(gate.hold)
    gate.await_entered()
    assert runtime.run(item) is S.SUCCEEDED
    gate.open()
    assert other.wait(PATIENCE)
    assert runtime.run(anoop) is S.SUCCEEDED
    assert f"raised {kind.__name__}" in caplog.text


def test_item_may_stop_the_loop(runtime: Runtime) -> None:
    """An item that stops the loop it runs on stops nothing: the loop is resumed."""

    async def item(token: Any) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)

    assert runtime.run(item) is S.SUCCEEDED
    assert runtime.run(anoop) is S.SUCCEEDED


def test_item_that_returns_no_awaitable_fails(runtime: Runtime) -> None:
    """What is marked as async, and is not, is FAILED."""
    handle = runtime.scheduler.make_item(Call(noop, (), True))
    runtime.scheduler.queue(handle)
    assert handle_of(handle).wait(PATIENCE)
    assert handle.status is S.FAILED


@pytest.mark.parametrize("follows", [False, True])
def test_f45_raising_observer_does_not_change_the_outcome(start: Start, follows: bool) -> None:
    """F45: an observer that raises at the end of an async item breaks neither the item nor the loop."""
    runtime = start()
    runtime.observer.follows = follows

    def finished(item: Any) -> None:
        raise SystemExit

    runtime.observer.finished = runtime.observer.afinished = finished  # type: ignore[assignment,method-assign]
    assert runtime.run(anoop) is S.SUCCEEDED
    assert runtime.run(anoop) is S.SUCCEEDED


def test_events_are_told_in_the_item(start: Start) -> None:
    """Where somebody follows, start and end are awaited on the loop, in the item's own context."""
    runtime = start()
    runtime.observer.follows = True
    current: list[WorkItemHandle | None] = []
    afinished = runtime.observer.afinished

    async def note(item: Any) -> None:
        current.append(current_work_item())
        await afinished(item)

    runtime.observer.afinished = note  # type: ignore[method-assign]
    handle = runtime.queue(anoop)
    assert handle.wait(PATIENCE)
    assert runtime.observer.names() == ["astarted", "afinished"]
    assert current == [handle]


# What is left of an item.


def test_f12_failure_keeps_no_frame_alive(runtime: Runtime) -> None:
    """F11, F12: the locals and the result of an ended async item die with it, though the handle keeps the exception."""

    class Large:
        """Stands for a gigabyte."""

    references: list[weakref.ref[Large]] = []

    async def fail(token: Any) -> None:
        large = Large()
        references.append(weakref.ref(large))
        await asyncio.sleep(0)
        raise ValueError

    async def succeed(token: Any) -> Large:
        large = Large()
        references.append(weakref.ref(large))
        return large

    handle = runtime.queue(fail)
    assert handle.wait(PATIENCE)
    assert runtime.run(succeed) is S.SUCCEEDED
    until(lambda: not runtime.loop._in_flight)
    gc.collect()
    assert isinstance(handle.exception(), ValueError)
    assert [reference() for reference in references] == [None, None]


def test_f46_each_item_has_a_fresh_context(runtime: Runtime) -> None:
    """F46: what one item, or the caller, sets in a context variable is not seen by the next."""
    variable = contextvars.ContextVar("variable", default="untouched")
    seen: list[str] = []

    async def item(token: Any) -> None:
        seen.append(variable.get())
        variable.set("by an item")
        await asyncio.sleep(0)
        seen.append(variable.get())

    variable.set("by the caller")
    runtime.run(item)
    runtime.run(item)
    assert seen == ["untouched", "by an item"] * 2


# Slots and order.


def test_items_run_beside_each_other_up_to_the_limit(start: Start, gate: Gate) -> None:
    """At most MAX_ASYNC_IN_FLIGHT items are in flight; the next starts when one ends, in order."""
    runtime = start(max_in_flight=2)
    handles = [runtime.queue(gate.hold) for _ in range(4)]
    gate.await_entered(2)
    assert (runtime.scheduler.running_count, runtime.scheduler.queued_count) == (2, 2)
    assert "in_flight=2" in repr(runtime.loop)
    gate.open()
    assert all(handle.wait(PATIENCE) for handle in handles)
    started = [item for event, item, _ in runtime.observer.events if event == "started"]
    assert started == [handle._item for handle in handles]


@pytest.mark.parametrize("slow", [False, True])
def test_r8_batches_give_others_their_turn(start: Start, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """R8: a long queue is started in batches of 32, or of a millisecond: other tasks run in between."""
    monkeypatch.setattr(loop_executor, "_BATCH_SECONDS", -1.0 if slow else 10.0)
    runtime = start(max_in_flight=1_000)
    seen: list[int] = []
    hold, held = threading.Event(), threading.Event()

    async def block(token: Any) -> None:
        held.set()
        assert hold.wait(PATIENCE)
        asyncio.get_running_loop().call_soon(lambda: seen.append(runtime.scheduler.lanes["async"].waiting))

    runtime.queue(block)
    assert held.wait(PATIENCE)
    for _ in range(100):
        runtime.queue(anoop)
    hold.set()
    runtime.await_empty()
    assert seen[0] > 0


def test_r8_wakeups_are_batched(start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """R8: many items queued while the loop is busy wake it once."""
    runtime = start(max_in_flight=1_000)
    held, hold = threading.Event(), threading.Event()

    async def block(token: Any) -> None:
        held.set()
        assert hold.wait(PATIENCE)

    runtime.queue(block)
    assert held.wait(PATIENCE)
    loop = runtime.loop.loop
    assert loop is not None
    calls: list[Any] = []
    call_soon = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *args, **options: (calls.append(args), call_soon(*args, **options))
    )
    for _ in range(100):
        runtime.queue(anoop)
    assert len(calls) <= 1
    hold.set()
    runtime.await_empty()


# Cancellation.


def test_token_is_awaited_on_the_loop(runtime: Runtime) -> None:
    """An item that waits for its token is woken by `cancel()`, and CANCELLED by what the token raises."""
    entered = threading.Event()

    async def item(token: Any) -> None:
        entered.set()
        await token.cancelled()
        token.raise_if_cancellation_requested()

    handle = runtime.queue(item)
    assert entered.wait(PATIENCE)
    handle.cancel()
    assert handle.wait(PATIENCE)
    assert handle.status is S.CANCELLED


def test_task_group_child_ends_alone(runtime: Runtime) -> None:
    """R7: OperationCancelled in a child ends that child; the item, which returns, SUCCEEDED."""

    async def child(token: Any) -> None:
        token.raise_if_cancellation_requested()

    async def item(token: Any) -> None:
        current_work_item().cancel()  # type: ignore[union-attr]
        async with asyncio.TaskGroup() as group:
            group.create_task(child(token))

    assert runtime.run(item) is S.SUCCEEDED


def test_native_cancel_ends_an_item_that_waits(runtime: Runtime, gate: Gate) -> None:
    """An item whose token is cancelled, and which waits for something else, is interrupted there."""
    handle = runtime.queue(gate.hold)
    gate.await_entered()
    handle.cancel()
    runtime.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert handle.status is S.CANCELLED


def test_native_cancel_without_a_cancelled_token_is_a_failure(runtime: Runtime, gate: Gate) -> None:
    """R7: the status goes by the token, which nobody has cancelled."""
    handle = runtime.queue(gate.hold)
    gate.await_entered()
    runtime.loop.cancel_natively([handle._item])
    assert handle.wait(PATIENCE)
    assert handle.status is S.FAILED


def test_r10_native_cancel_is_repeated(runtime: Runtime) -> None:
    """R10: one cancellation may be absorbed, as asgiref does: the next one comes a moment later."""
    entered = threading.Event()
    absorbed: list[int] = []

    async def item(token: Any) -> None:
        entered.set()
        while True:
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                absorbed.append(1)
                if len(absorbed) == 2:
                    raise

    handle = runtime.queue(item)
    assert entered.wait(PATIENCE)
    handle.cancel()
    runtime.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert (handle.status, len(absorbed)) == (S.CANCELLED, 2)


def test_f17_item_that_swallows_its_cancellation_runs_on(start: Start, gate: Gate) -> None:
    """F17: an item that swallows every CancelledError stays RUNNING, and is abandoned at the limit."""
    runtime = start()
    swallowed = threading.Event()

    async def item(token: Any) -> None:
        gate.entered.release()
        while not gate.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                swallowed.set()

    handle = runtime.queue(item)
    gate.await_entered()
    runtime.scheduler.interrupt()
    assert swallowed.wait(PATIENCE)
    assert handle.status is S.RUNNING
    assert runtime.scheduler.give_up() == [handle._item]
    runtime.scheduler.report_unstarted(handle._item)
    gate.open()
    until(lambda: not runtime.loop._in_flight)
    assert handle.status is S.ABANDONED
    assert runtime.observer.names() == ["started", "finished", "late"]


def test_native_cancel_of_nothing_does_nothing(start: Start) -> None:
    """Before the loop, after it, and without items there is nothing to interrupt."""
    runtime = start()
    item = runtime.scheduler.make_item(Call(anoop, (), True))
    runtime.loop.cancel_natively([item])
    runtime.run(anoop)
    runtime.loop.cancel_natively([])
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    runtime.loop.cancel_natively([item])


def test_native_cancel_before_the_first_step(start: Start, gate: Gate) -> None:
    """An item that is taken, and has no task yet, is found by a later turn."""
    runtime = start()
    handle = runtime.queue(gate.hold)
    gate.await_entered()
    task, runtime.loop._in_flight[handle._item] = runtime.loop._in_flight[handle._item], None
    loop = runtime.loop.loop
    assert loop is not None
    loop.call_soon_threadsafe(cancel_natively, runtime.loop._in_flight, [handle._item], contextvars.Context(), 2)
    loop.call_soon_threadsafe(runtime.loop._in_flight.__setitem__, handle._item, task)
    assert handle.wait(PATIENCE)
    assert handle.status is S.FAILED


# Overdue items.


def overdue(runtime: Runtime, clock: FakeClock, gate: Gate) -> WorkItemHandle:
    """Have an item run, deaf to its cancellation, until it is overdue."""

    async def deaf(token: Any) -> None:
        gate.entered.release()
        while not gate.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue

    handle = runtime.queue(deaf, timeout=1.0)
    gate.await_entered()
    for seconds in (1.0, 5.0):
        clock.advance(seconds)
        runtime.look_at_clock()
    assert handle.info.overdue
    return handle


def test_overdue_item_is_interrupted(start: Start, gate: Gate, clock: FakeClock) -> None:
    """An async item that is overdue is cancelled natively, and CANCELLED for its timeout."""
    runtime = start(clock=clock)
    handle = runtime.queue(gate.hold, timeout=1.0)
    gate.await_entered()
    for seconds in (1.0, 5.0):
        clock.advance(seconds)
        runtime.look_at_clock()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, "timeout")
    [(_, stack, replaced)] = runtime.observer.overdue_items
    assert ", in hold\n" in stack
    assert replaced


def test_overdue_item_gives_up_its_slot(start: Start, gate: Gate, clock: FakeClock) -> None:
    """Beside an overdue item that goes on another one may run."""
    runtime = start(max_in_flight=1, clock=clock)
    overdue(runtime, clock, gate)
    assert runtime.run(anoop) is S.SUCCEEDED


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_f56_recovery_when_one_ends(start: Start, clock: FakeClock, first_to_end: int) -> None:
    """F56: with as many overdue items as slots, queued ones wait; as soon as any of those ends, they run again."""
    runtime = start(max_in_flight=1, clock=clock)
    gates = [Gate(), Gate()]
    for gate in gates:
        overdue(runtime, clock, gate)
    assert [replaced for _, _, replaced in runtime.observer.overdue_items] == [True, False]
    handle = runtime.queue(anoop)
    try:
        assert handle.status is S.QUEUED
        gates[first_to_end].open()
        assert handle.wait(PATIENCE)
        assert runtime.run(anoop) is S.SUCCEEDED
    finally:
        for gate in gates:
            gate.open()


def test_slot_of_an_ended_item_cannot_be_given_up(runtime: Runtime) -> None:
    """An item that is no longer in flight has no slot to give."""
    handle = runtime.queue(anoop)
    assert handle.wait(PATIENCE)
    until(lambda: not runtime.loop._in_flight)
    assert runtime.loop.give_up_slot(handle._item) is False


# The threads of an item.


class Sensitive(NullEnvironment):
    """Gives each item its executor, as Django's environment does, and counts what is called."""

    def __init__(self) -> None:
        self.executors: list[Any] = []
        self.calls: list[str] = []
        self.cleaned: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def scope(self, executor: Any) -> Any:
        self.executors.append(executor)
        yield

    def before(self) -> None:
        self.calls.append("before")

    def after(self) -> None:
        self.calls.append("after")
        self.cleaned()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the thread of the item that has started last."""
        return await asyncio.get_running_loop().run_in_executor(self.executors[-1], function)


def test_r9_item_without_threads_costs_none(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """R9: an item that runs nothing in its thread starts none, and its environment is not touched."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", False)
    environment = Sensitive()
    runtime = start(environment=environment)
    runtime.run(anoop)
    assert environment.calls == []
    assert "qbwi-item-executor" not in [thread.name for thread in runtime.own_threads()]


@pytest.mark.parametrize("late", [True, False])
def test_thread_of_an_item_is_cleaned_and_used_again(start: Start, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """Its thread is got ready once, cleaned up before the item's end is told, and lent to the next item."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", not late)
    environment = Sensitive()
    runtime = start(environment=environment)
    idents: list[int] = []

    async def item(token: Any) -> None:
        idents.append(await environment.call(threading.get_ident))
        idents.append(await environment.call(threading.get_ident))

    runtime.run(item)
    assert environment.calls == ["before", "after"]
    until(lambda: not runtime.loop._in_flight)
    runtime.run(item)
    assert len(set(idents)) == 1
    assert environment.calls == ["before", "after"] * 2


def test_thread_is_cleaned_behind_receivers(start: Start) -> None:
    """Where somebody is told of the end on the loop, it is cleaned up after them as well."""
    environment = Sensitive()
    runtime = start(environment=environment)
    runtime.observer.follows = True

    async def item(token: Any) -> None:
        await environment.call(noop_call)

    runtime.run(item)
    assert environment.calls == ["before", "after", "after"]


def noop_call() -> None:
    """Do nothing, in a thread."""


def refuse_thread(*args: Any) -> None:
    """Stand in for `start_thread` where the operating system gives no thread."""
    raise RuntimeError("can't start new thread")


def test_f50_stuck_thread_is_lost_and_not_waited_for(start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10, F50: an item that is interrupted while its thread is stuck ends soon, and the thread is never used again."""
    monkeypatch.setattr(item_executors, "_CLEANUP_SECONDS", 0.01)
    environment = Sensitive()
    runtime = start(environment=environment)

    async def item(token: Any) -> None:
        await environment.call(lambda: gate(token))

    handle = runtime.queue(item)
    gate.await_entered()
    handle.cancel()
    runtime.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert handle.status is S.CANCELLED
    until(lambda: not runtime.loop._in_flight)
    assert environment.executors[0] not in runtime.loop._executors.spare
    runtime.run(anoop)
    assert environment.executors[0] is not environment.executors[1]


def test_cleaning_up_survives_a_native_cancel(start: Start) -> None:
    """R10: a cancellation that arrives while the item's thread is cleaned up does not keep the item from its end."""
    environment = Sensitive()
    runtime = start(environment=environment)
    cleaning, cleaned = threading.Event(), threading.Event()

    def clean() -> None:
        cleaning.set()
        assert cleaned.wait(PATIENCE)

    environment.cleaned = clean

    async def item(token: Any) -> None:
        await environment.call(noop_call)

    handle = runtime.queue(item)
    assert cleaning.wait(PATIENCE)
    [task] = runtime.loop._in_flight.values()
    assert task is not None
    loop = runtime.loop.loop
    assert loop is not None
    loop.call_soon_threadsafe(task.cancel)
    cancelled = threading.Event()
    loop.call_soon_threadsafe(cancelled.set)
    assert cancelled.wait(PATIENCE)
    cleaned.set()
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED


def test_cleaning_up_ends_with_the_process(start: Start, gate: Gate) -> None:
    """Once the scheduler is closed, a clean-up that hangs is not waited for: the record has to come out."""
    environment = Sensitive()
    runtime = start(environment=environment)
    environment.cleaned = lambda: gate(None)  # type: ignore[arg-type]

    async def item(token: Any) -> None:
        await environment.call(noop_call)

    handle = runtime.queue(item)
    gate.await_entered()
    runtime.scheduler.close()
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED


def test_f24_item_whose_thread_cannot_be_started_fails(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: an item that gets no thread for its sync code is FAILED, reported once, and leaves nothing behind."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", False)
    environment = Sensitive()
    runtime = start(environment=environment, max_in_flight=1)
    runtime.run(anoop)

    async def item(token: Any) -> None:
        await environment.call(noop_call)

    with monkeypatch.context() as patch:
        patch.setattr("django_qbwi.machine.daemon_executor.start_thread", refuse_thread)
        handle = runtime.queue(item)
        assert handle.wait(PATIENCE)
    assert (handle.status, str(handle.exception())) == (S.FAILED, "can't start new thread")
    runtime.await_empty()
    assert runtime.observer.statuses() == [S.SUCCEEDED, S.FAILED]
    until(lambda: not runtime.loop._in_flight)
    assert (runtime.run(item), environment.calls) == (S.SUCCEEDED, ["before", "after"])


def test_f24_second_call_of_an_item_gets_the_thread(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: an item that tries again once there are threads goes on, its thread got ready and cleaned up as ever."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", False)
    environment = Sensitive()
    runtime = start(environment=environment)

    async def item(token: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("django_qbwi.machine.daemon_executor.start_thread", refuse_thread)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await environment.call(noop_call)
        await environment.call(noop_call)

    assert runtime.run(item) is S.SUCCEEDED
    assert environment.calls == ["before", "after"]


def test_few_spare_threads_are_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more idle executors are kept than a small number; the others end."""
    monkeypatch.setattr(item_executors, "_MAX_SPARE", 1)
    environment = Sensitive()
    runtime = start(environment=environment)
    barrier: list[int] = []

    async def item(token: Any) -> None:
        await environment.call(noop_call)
        barrier.append(1)
        while len(barrier) < 2:
            await asyncio.sleep(0)

    handles = [runtime.queue(item) for _ in range(2)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    until(lambda: not runtime.loop._in_flight)
    assert repr(runtime.loop._executors) == "<ItemExecutors lent=0 spare=1>"


def test_default_executor_surrounds_each_call(start: Start) -> None:
    """`asyncio.to_thread` runs on daemon threads of ours, and each call is surrounded by the environment."""
    environment = Sensitive()
    runtime = start(environment=environment)
    names: list[str] = []

    async def item(token: Any) -> None:
        for _ in range(2):
            names.append(await asyncio.to_thread(lambda: threading.current_thread().name))

    runtime.run(item)
    assert names == ["qbwi-executor"] * 2
    assert environment.calls == ["before", "after"] * 2


def test_r12_python_that_starts_no_thread_late_starts_them_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: on Python 3.12.0-3.12.2 the threads that an item may need are there before the first item."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", True)
    runtime = start()
    runtime.run(anoop)
    names = [thread.name for thread in runtime.own_threads()]
    assert (names.count("qbwi-executor"), names.count("qbwi-item-executor")) == (2, 2)


def test_r12_interrupted_start_of_the_threads_is_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1, R12: threads that were started before an exception came in between are not started once more."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", True)
    runtime = start()
    prestart = DaemonExecutor.prestart
    interruptions = [KeyboardInterrupt()]

    def interrupted(self: DaemonExecutor, threads: int = 1) -> None:
        prestart(self, threads)
        if self is runtime.loop._executors.shared and interruptions:
            raise interruptions.pop()

    monkeypatch.setattr(DaemonExecutor, "prestart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtime.queue(anoop)
    assert runtime.run(anoop) is S.SUCCEEDED
    names = [thread.name for thread in runtime.own_threads()]
    assert (names.count("qbwi-loop"), names.count("qbwi-item-executor")) == (1, 2)


def test_r12_items_share_a_thread_when_none_can_be_started(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """R12: an item whose thread cannot be started any more takes turns in one that is there."""
    monkeypatch.setattr(loop_executor, "STARTS_NO_THREADS_LATE", True)
    environment = Sensitive()
    runtime = start(environment=environment, max_in_flight=10)
    barrier: list[int] = []

    async def item(token: Any) -> None:
        executor = environment.executors[-1]
        await asyncio.get_running_loop().run_in_executor(executor, noop_call)
        barrier.append(1)
        while len(barrier) < 4:
            await asyncio.sleep(0)

    handles = [runtime.queue(item) for _ in range(2)]
    until(lambda: len(barrier) == 2)

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("django_qbwi.machine.daemon_executor.start_thread", refuse)
    handles += [runtime.queue(item) for _ in range(2)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert {handle.status for handle in handles} == {S.SUCCEEDED}
    assert environment.executors[2] is environment.executors[3] is runtime.loop._executors.shared


# Stacks.


def test_stack_of_a_waiting_item_is_its_await_chain(runtime: Runtime, gate: Gate) -> None:
    """The stack of an item that waits shows what it waits in."""

    async def item(token: Any) -> None:
        gate.entered.release()
        await token.cancelled()

    handle = runtime.queue(item)
    gate.await_entered()
    _behind_its_step(runtime)
    stack = runtime.scheduler.stack(handle._item)
    assert "await token.cancelled()" in stack
    assert "on the loop's thread:" not in stack
    handle.cancel()


def _behind_its_step(runtime: Runtime) -> None:
    """Wait until the loop has ended the step in which it is."""
    went_on = threading.Event()
    runtime.loop.loop.call_soon_threadsafe(went_on.set)
    assert went_on.wait(PATIENCE)


def test_stack_of_an_item_that_goes_on_meanwhile(runtime: Runtime, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that ran at the first look, and waits at the second, is shown where it waits."""

    async def item(token: Any) -> None:
        gate(token)
        await token.cancelled()

    def look(task: Any) -> str:
        text = real(task)
        gate.open()
        _behind_its_step(runtime)
        return text

    handle = runtime.queue(item)
    gate.await_entered()
    real = stacks.stack_of_task
    monkeypatch.setattr(stacks, "stack_of_task", look)
    stack = runtime.scheduler.stack(handle._item)
    assert "await token.cancelled()" in stack
    assert "on the loop's thread:" not in stack
    handle.cancel()


def test_stack_of_a_blocking_item_is_that_of_the_loop(runtime: Runtime, gate: Gate) -> None:
    """The stack of an item that blocks the loop shows where the loop's thread is."""

    async def item(token: Any) -> None:
        gate(token)

    handle = runtime.queue(item)
    gate.await_entered()
    stack = runtime.scheduler.stack(handle._item)
    assert "on the loop's thread:" in stack
    assert "self.opened.wait" in stack


def test_stack_of_an_item_in_its_thread(start: Start, gate: Gate) -> None:
    """The stack of an item that waits for its thread shows where that thread is."""
    environment = Sensitive()
    runtime = start(environment=environment)

    async def item(token: Any) -> None:
        await environment.call(lambda: gate(token))

    handle = runtime.queue(item)
    gate.await_entered()
    stack = runtime.scheduler.stack(handle._item)
    assert "in its executor thread:" in stack
    assert "self.opened.wait" in stack


def test_stack_of_an_item_without_a_task(runtime: Runtime) -> None:
    """An item that waits for its slot has no stack."""
    item = runtime.scheduler.make_item(Call(anoop, (), True))
    assert "waiting for a slot" in runtime.scheduler.stack(item)


# The end.


def test_f18_leftover_tasks_are_cancelled_and_named(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """F18: tasks that items left behind are cancelled and named when the loop closes; none is destroyed pending."""
    runtime = start()
    ended = threading.Event()

    async def child() -> None:
        try:
            await asyncio.sleep(PATIENCE * 10)
        finally:
            ended.set()

    async def item(token: Any) -> None:
        item.child = asyncio.create_task(child(), name="left-behind")  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    assert runtime.run(item) is S.SUCCEEDED
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert ended.is_set()
    assert "1 asyncio task(s) that items left behind are cancelled: left-behind" in caplog.text
    assert "destroyed" not in caplog.text


def test_leftover_that_cannot_be_cancelled_keeps_its_loop(start: Start, gate: Gate) -> None:
    """The loop stays with a task that swallows its cancellation, and is closed when that has ended after all."""
    runtime = start()
    swallowed = threading.Event()

    async def child() -> None:
        while not gate.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                swallowed.set()

    async def item(token: Any) -> None:
        item.child = asyncio.create_task(child())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    runtime.run(item)
    runtime.loop.retire()
    assert swallowed.wait(PATIENCE)
    assert not runtime.loop.join(0)
    gate.open()
    assert runtime.loop.join(PATIENCE)
    assert runtime.loop.loop is not None
    assert runtime.loop.loop.is_closed()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_leftover_that_exits_does_not_keep_the_others(
    start: Start, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """A leftover that answers its cancellation with SystemExit leaves the other leftovers their end."""
    runtime = start()
    ended = threading.Event()
    tasks: list[Any] = []

    async def exiting() -> None:
        try:
            await asyncio.sleep(PATIENCE * 10)
        finally:
            raise kind

    async def other() -> None:
        try:
            await asyncio.sleep(PATIENCE * 10)
        finally:
            await asyncio.sleep(0.001)
            ended.set()

    async def item(token: Any) -> None:
        tasks.extend([asyncio.create_task(exiting()), asyncio.create_task(other())])
        await asyncio.sleep(0)

    runtime.run(item)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert ended.is_set()
    assert isinstance(tasks[0].exception(), kind)
    assert f"left behind raised {kind.__name__}" in caplog.text


def test_abandoned_item_is_not_called_a_leftover(start: Start, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """The task of an item that was given up has a record of its own, and is cancelled without another."""
    runtime = start()
    runtime.queue(gate.hold)
    gate.await_entered()
    for item in runtime.scheduler.give_up():
        runtime.scheduler.report_unstarted(item)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert "left behind" not in caplog.text
    assert runtime.observer.names() == ["started", "finished", "late"]


def test_async_generators_are_closed(start: Start) -> None:
    """Async generators that items left open are closed with the loop."""
    runtime = start()
    closed = threading.Event()
    kept: list[Any] = []

    async def generate() -> Any:
        try:
            yield 1
        finally:
            closed.set()

    async def item(token: Any) -> None:
        kept.append(generate())
        await anext(kept[0])

    runtime.run(item)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert closed.is_set()


def test_retire_closes_everything(start: Start) -> None:
    """After the end the loop is closed, and all its threads are gone; a second `retire` does nothing."""
    environment = Sensitive()
    runtime = start(environment=environment)

    async def item(token: Any) -> None:
        await environment.call(noop_call)
        await asyncio.to_thread(noop_call)

    runtime.run(item)
    runtime.loop.retire()
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    assert runtime.loop.loop is not None
    assert runtime.loop.loop.is_closed()
    for thread in runtime.own_threads():
        if "executor" in thread.name or "loop" in thread.name:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_r2_first_item_within_the_first_item(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: a finalizer that queues while the loop is being made: one loop is used, the other one is closed."""
    runtime = start()
    handles: list[WorkItemHandle] = []

    def new_selector() -> None:
        if not handles:
            handles.append(handle_of(runtime.scheduler.make_item(Call(anoop, (), True))))
            runtime.scheduler.queue(handles[0]._item)

    monkeypatch.setattr(loop_executor, "new_selector", new_selector)
    assert runtime.run(anoop) is S.SUCCEEDED
    assert handles[0].wait(PATIENCE)
    assert [thread.name for thread in runtime.own_threads()].count("qbwi-loop") == 1


def test_loop_that_is_not_there_is_not_asked(start: Start) -> None:
    """Before the first item, and after the end, nobody asks the loop for a sign of life."""
    runtime = start()
    runtime.loop._ask_loop(lambda: pytest.fail("called"))
    runtime.run(anoop)
    runtime.loop.retire()
    assert runtime.loop.join(PATIENCE)
    runtime.loop._ask_loop(lambda: pytest.fail("called"))


def test_retire_without_a_loop(start: Start) -> None:
    """A loop that was never needed has nothing to close, and is never made afterwards."""
    runtime = start()
    runtime.loop.retire()
    assert runtime.loop.join(0)
    runtime.loop.prepare()
    assert runtime.loop.loop is None
    assert runtime.loop.wake() is True


def test_f24_loop_whose_thread_cannot_be_started(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: without the loop's thread nothing is queued; the next call tries again, and the loop is not lost."""
    runtime = start()

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(runtime.loop._thread, "_spawn", refuse)
        with pytest.raises(WorkItemRejected, match="can't start new thread"):
            runtime.queue(anoop)
    loop = runtime.loop.loop
    assert runtime.run(anoop) is S.SUCCEEDED
    assert runtime.loop.loop is loop


def test_f24_loop_without_a_thread_is_closed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: a loop whose thread never came is closed when it is retired."""
    runtime = start()

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(runtime.loop._thread, "_spawn", refuse)
    with pytest.raises(WorkItemRejected):
        runtime.queue(anoop)
    runtime.loop.retire()
    loop = runtime.loop.loop
    assert loop is not None
    assert loop.is_closed()


def test_second_thread_for_the_loop_ends_at_once(runtime: Runtime) -> None:
    """R2: a signal handler that queues in the middle of the first start cannot put two threads on one loop."""
    runtime.run(anoop)
    runtime.loop._thread.start()
    until(lambda: [thread.name for thread in runtime.own_threads()].count("qbwi-loop") == 1)
    assert runtime.run(anoop) is S.SUCCEEDED


def test_ended_loop_is_logged_by_the_scheduler() -> None:
    """What goes wrong on the loop is logged under the scheduler's name."""
    assert loop_executor.logger.logger is logging.getLogger("django_qbwi.scheduler")
