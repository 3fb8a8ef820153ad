"""Tokens and their sources: one reason for ever, each callback once, at no cost for those that nobody looks at."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

import pytest

from django_qbwi.core import cancellation
from django_qbwi.core.cancellation import (
    CancellationRegistration,
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    OperationCancelled,
    StopFlag,
)
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until


@pytest.fixture
def source() -> CancellationTokenSource:
    """A source that was not cancelled."""
    return CancellationTokenSource()


def flagged_token(clock: Callable[[], float] | None = None) -> tuple[StopFlag, CancellationToken]:
    """Return a stop flag and a token of it."""
    stop = StopFlag() if clock is None else StopFlag(clock)
    return stop, CancellationToken(stop)


async def turns_until(ready: Callable[[], object]) -> None:
    """Let other tasks run until `ready()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not ready():
            await asyncio.sleep(0)


# The reason.


def test_new_token_is_not_cancelled(source: CancellationTokenSource) -> None:
    """A new token has no reason, no message, no deadline, and nothing to raise."""
    token = source.token
    token.raise_if_cancellation_requested()
    assert not token.is_cancellation_requested
    assert (token.reason, token.message, token.deadline, token.remaining()) == (None, None, None, None)


@pytest.mark.parametrize("reason", list(CancelReason))
def test_cancel_stores_reason_and_message(source: CancellationTokenSource, reason: CancelReason) -> None:
    """The one who cancels says why, and the token repeats it."""
    assert source.cancel(reason, "disk full") is True
    assert source.token.is_cancellation_requested
    assert (source.token.reason, source.token.message) == (reason, "disk full")


def test_second_cancel_changes_nothing(source: CancellationTokenSource) -> None:
    """The first reason and message stand, and the second caller is told that it came too late."""
    source.cancel(CancelReason.TIMEOUT, "first")
    assert source.cancel(CancelReason.REQUESTED, "second") is False
    assert (source.token.reason, source.token.message) == (CancelReason.TIMEOUT, "first")


def test_unknown_reason_is_refused(source: CancellationTokenSource) -> None:
    """A reason outside of CancelReason is an error at the call, and cancels nothing."""
    with pytest.raises(ValueError, match="bored"):
        source.cancel("bored")  # type: ignore[arg-type]
    assert not source.token.is_cancellation_requested


def test_request_stands_against_a_later_shutdown() -> None:
    """A token that was cancelled for itself keeps its reason when the whole scheduler stops."""
    stop, token = flagged_token()
    token._cancel(CancelReason.REQUESTED)
    stop.request()
    assert token.reason is CancelReason.REQUESTED


def test_shutdown_stands_against_a_later_request() -> None:
    """A token that nobody has looked at since the stop is cancelled by the stop, not by the one who cancels later."""
    stop, token = flagged_token()
    stop.requested = True
    assert token._cancel(CancelReason.REQUESTED, "too late") is False
    assert (token.reason, token.message) == (CancelReason.SHUTDOWN, None)


def test_only_one_of_many_threads_cancels_first(source: CancellationTokenSource) -> None:
    """Of eight threads that cancel at once exactly one is told that it was the first."""
    barrier = threading.Barrier(8)
    answers: list[bool] = []

    def cancel() -> None:
        barrier.wait(PATIENCE)
        answers.append(source.cancel())

    threads = [threading.Thread(target=cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(answers) == [False] * 7 + [True]


def test_threads_agree_on_the_reason() -> None:
    """While a stop and a request race, all readers see one and the same reason."""
    for _ in range(50):
        stop, token = flagged_token()
        barrier = threading.Barrier(4)
        seen: list[CancelReason | None] = []

        def read(token=token, barrier=barrier, seen=seen) -> None:
            barrier.wait(PATIENCE)
            until(lambda: token.reason)
            seen.append(token.reason)

        def act(call: Callable[[], object], barrier=barrier) -> None:
            barrier.wait(PATIENCE)
            call()

        threads = [threading.Thread(target=read) for _ in range(2)]
        threads.append(threading.Thread(target=act, args=[stop.request]))
        threads.append(threading.Thread(target=act, args=[lambda token=token: token._cancel(CancelReason.REQUESTED)]))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert set(seen) == {token.reason}


def test_message_is_bounded(source: CancellationTokenSource) -> None:
    """A message of a megabyte is cut."""
    source.cancel(message="x" * 1_000_000)
    assert len(source.token.message or "") == 500


def test_none_is_never_cancelled() -> None:
    """`none()` gives a new token each time that nobody can cancel."""
    token = CancellationToken.none()
    assert token is not CancellationToken.none()
    assert token.wait(0) is False
    assert token.remaining() is None


def test_reprs_show_the_state(source: CancellationTokenSource) -> None:
    """Each object of the module shows in its repr whether it is cancelled."""
    registration = source.token.register(print)
    assert "not cancelled" in repr(source)
    assert "pending=True" in repr(registration)
    registration.close()
    source.cancel()
    assert "reason=requested" in repr(source.token)
    assert "pending=False" in repr(registration)
    assert "requested=False" in repr(StopFlag())


# The deadline.


def test_deadline_is_the_earlier_of_timeout_and_drain(clock: FakeClock) -> None:
    """A token's deadline is its own or that of the drain, whichever comes first."""
    stop, token = flagged_token(clock)
    token._deadline = 1_020.0
    assert token.deadline == 1_020.0
    stop.deadline = 1_010.0
    assert token.deadline == 1_010.0
    token._deadline = None
    assert token.deadline == 1_010.0


def test_remaining_counts_down_to_zero(clock: FakeClock) -> None:
    """`remaining()` follows the clock and never gets negative."""
    stop, token = flagged_token(clock)
    stop.deadline = clock() + 10
    clock.advance(4)
    assert token.remaining() == 6.0
    clock.advance(60)
    assert token.remaining() == 0.0


def test_cancel_after_sets_the_deadline_and_cancels(source: CancellationTokenSource) -> None:
    """`cancel_after` cancels from a timer thread, for TIMEOUT, and the deadline says the moment."""
    source.cancel_after(0.001)
    assert source.token.deadline is not None
    assert source.token.wait(PATIENCE)
    assert source.token.reason is CancelReason.TIMEOUT


def test_second_cancel_after_replaces_the_first(source: CancellationTokenSource) -> None:
    """Only the last `cancel_after` counts, with its own reason."""
    source.cancel_after(10_000)
    source.cancel_after(0, CancelReason.SHUTDOWN)
    assert source.token.wait(PATIENCE)
    assert source.token.reason is CancelReason.SHUTDOWN


def test_cancel_stops_the_timer(source: CancellationTokenSource) -> None:
    """After `cancel()` no timer thread is left that waits for `cancel_after`."""
    source.cancel_after(10_000)
    timer = source._timer
    source.cancel()
    assert timer is not None
    timer.join(PATIENCE)
    assert not timer.is_alive()
    assert source.token.reason is CancelReason.REQUESTED


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_cancel_after_refuses_impossible_spans(source: CancellationTokenSource, seconds: float) -> None:
    """Negative seconds, and what is no number, are refused at the call."""
    with pytest.raises(ValueError, match="seconds >= 0"):
        source.cancel_after(seconds)


# OperationCancelled.


def test_operation_cancelled_carries_token_and_reason(source: CancellationTokenSource) -> None:
    """The exception has the token, and its text says reason and message."""
    source.cancel(message="the album is gone")
    with pytest.raises(OperationCancelled, match=r"^cancelled \(requested\): the album is gone$") as caught:
        source.token.raise_if_cancellation_requested()
    assert caught.value.token is source.token


def test_operation_cancelled_of_a_stop() -> None:
    """After a stop the token raises too, without a message."""
    stop, token = flagged_token()
    stop.request()
    with pytest.raises(OperationCancelled, match=r"^cancelled \(shutdown\)$"):
        token.raise_if_cancellation_requested()


def test_operation_cancelled_passes_except_exception(source: CancellationTokenSource) -> None:
    """Code that catches `Exception` does not swallow a cancellation by mistake."""
    source.cancel()
    with pytest.raises(asyncio.CancelledError), contextlib.suppress(Exception):
        source.token.raise_if_cancellation_requested()


def test_operation_cancelled_cancels_a_task(source: CancellationTokenSource) -> None:
    """A task that raises it is cancelled, as asyncio understands it."""
    source.cancel()

    async def item() -> None:
        source.token.raise_if_cancellation_requested()

    async def main() -> bool:
        task = asyncio.create_task(item())
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_task_group_child_ends_silently(source: CancellationTokenSource) -> None:
    """A child of a TaskGroup that raises it ends alone: the group and the parent go on, and have to look themselves."""
    source.cancel()

    async def child() -> None:
        source.token.raise_if_cancellation_requested()

    async def main() -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        return "went on"

    assert asyncio.run(main()) == "went on"


# Callbacks.


def test_callback_runs_once_in_the_cancelling_thread(source: CancellationTokenSource) -> None:
    """A registered callback runs in the thread that cancels, once, however often it cancels."""
    threads: list[threading.Thread] = []
    source.token.register(lambda: threads.append(threading.current_thread()))
    source.cancel()
    source.cancel()
    assert threads == [threading.current_thread()]


def test_callback_of_a_cancelled_token_runs_at_once(source: CancellationTokenSource) -> None:
    """A callback that is registered too late runs in `register`."""
    source.cancel()
    called: list[int] = []
    registration = source.token.register(lambda: called.append(1))
    assert called == [1]
    registration.close()


def test_callback_of_a_stopped_token_runs_at_once() -> None:
    """The same after the stop of the whole scheduler, also if the flag was set without delivery."""
    stop, token = flagged_token()
    stop.requested = True
    called: list[int] = []
    token.register(lambda: called.append(1))
    stop.deliver()
    assert called == [1]


def test_callbacks_run_in_the_order_of_registration(source: CancellationTokenSource) -> None:
    """First registered, first called."""
    called: list[int] = []
    for number in range(5):
        source.token.register(lambda number=number: called.append(number))
    source.cancel()
    assert called == [0, 1, 2, 3, 4]


def test_closed_registration_is_not_called(source: CancellationTokenSource) -> None:
    """`close()` takes a callback back; a second one does nothing."""
    called: list[int] = []
    registration = source.token.register(lambda: called.append(1))
    registration.close()
    registration.close()
    source.cancel()
    assert called == []


def test_registration_is_a_context_manager(source: CancellationTokenSource) -> None:
    """Leaving the block takes the callback back, and the token forgets it."""
    called: list[int] = []
    with source.token.register(lambda: called.append(1)) as registration:
        assert "pending=True" in repr(registration)
    source.cancel()
    assert called == []


def test_stop_calls_the_callbacks_of_all_its_tokens() -> None:
    """A stop reaches each waiting token of the scheduler, and leaves no registration behind."""
    stop = StopFlag()
    called: list[int] = []
    for number in range(3):
        CancellationToken(stop).register(lambda number=number: called.append(number))
    stop.request()
    assert called == [0, 1, 2]
    assert not stop.registrations


def test_cancelling_one_token_leaves_the_others_alone() -> None:
    """Tokens of one scheduler share the flag, not their own cancellation."""
    stop = StopFlag()
    one, other = CancellationToken(stop), CancellationToken(stop)
    called: list[int] = []
    one.register(lambda: called.append(1))
    other.register(lambda: called.append(2))
    one._cancel(CancelReason.REQUESTED)
    assert called == [1]
    assert not other.is_cancellation_requested


def test_deliver_without_a_stop_does_nothing() -> None:
    """Callbacks stay registered as long as nobody has asked to stop."""
    stop, token = flagged_token()
    called: list[int] = []
    token.register(lambda: called.append(1))
    stop.deliver()
    assert called == []


def test_raising_callback_is_logged(source: CancellationTokenSource, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is named in the log; the ones after it run, and who cancels notices nothing."""
    called: list[int] = []

    def explode() -> None:
        raise ValueError("boom")

    source.token.register(explode)
    source.token.register(lambda: called.append(1))
    with caplog.at_level(logging.ERROR, "django_qbwi.scheduler"):
        assert source.cancel()
    assert called == [1]
    assert "explode" in caplog.text


def test_cancelled_callback_does_not_stop_the_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that reaches the check of its own token is named in the log; a stop reaches all others."""
    stop, token = flagged_token()
    other = CancellationToken(stop)
    called: list[int] = []
    token.register(token.raise_if_cancellation_requested)
    other.register(lambda: called.append(1))
    with caplog.at_level(logging.ERROR, "django_qbwi.scheduler"):
        stop.request()
    assert called == [1]
    assert "raise_if_cancellation_requested" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), BaseException("neither")])
def test_exit_in_a_callback_comes_out_behind_the_last(source: CancellationTokenSource, error: BaseException) -> None:
    """SystemExit, or a Ctrl-C in the middle of a callback, reaches the one who cancels, and all others are called."""
    called: list[int] = []

    def leave() -> None:
        raise error

    source.token.register(leave)
    source.token.register(lambda: called.append(1))
    with pytest.raises(type(error)) as caught:
        source.cancel()
    assert (caught.value, called) == (error, [1])


def test_delivery_that_cannot_go_on_ends(source: CancellationTokenSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too deep on the stack to call anything, whoever cancels gets the error, and does not try for ever."""

    def claim(registration: CancellationRegistration) -> bool:
        raise RecursionError

    registration = source.token.register(list)
    with monkeypatch.context() as patch:
        patch.setattr(CancellationRegistration, "claim", claim)
        with pytest.raises(RecursionError):
            source.cancel()
    registration.close()


@pytest.mark.parametrize("late", [None, 7, "print"])
def test_register_refuses_what_is_not_callable(source: CancellationTokenSource, late: object) -> None:
    """A callback that cannot be called is refused at the call."""
    with pytest.raises(TypeError, match="callable without arguments"):
        source.token.register(late)  # type: ignore[arg-type]


def test_callback_may_register_and_close(source: CancellationTokenSource) -> None:
    """A callback may use the token: what it registers runs at once, what it closes does not run."""
    called: list[str] = []

    def first() -> None:
        second.close()
        source.token.register(lambda: called.append("third"))

    source.token.register(first)
    second = source.token.register(lambda: called.append("second"))
    source.cancel()
    assert called == ["third"]


def test_each_callback_runs_once_when_stop_and_cancel_race() -> None:
    """A stop and a cancellation at the same moment call each callback exactly once between them."""
    for _ in range(100):
        stop, token = flagged_token()
        called: list[int] = []
        for number in range(5):
            token.register(lambda number=number, called=called: called.append(number))
        barrier = threading.Barrier(2)

        def act(call: Callable[[], object], barrier=barrier) -> None:
            barrier.wait(PATIENCE)
            call()

        other = threading.Thread(target=act, args=[stop.request])
        other.start()
        act(lambda token=token: token._cancel(CancelReason.REQUESTED))
        other.join(PATIENCE)
        assert sorted(called) == [0, 1, 2, 3, 4]


def test_callback_runs_once_when_register_and_cancel_race() -> None:
    """A callback that is registered in the moment of cancellation runs exactly once."""
    for _ in range(200):
        source = CancellationTokenSource()
        called: list[int] = []
        barrier = threading.Barrier(2)

        def cancel(source=source, barrier=barrier) -> None:
            barrier.wait(PATIENCE)
            source.cancel()

        other = threading.Thread(target=cancel)
        other.start()
        barrier.wait(PATIENCE)
        source.token.register(lambda called=called: called.append(1))
        other.join(PATIENCE)
        assert called == [1]


def test_late_registration_whose_callback_was_delivered_meanwhile() -> None:
    """A registration that the canceller has taken between publishing and looking again is not called twice."""
    called: list[int] = []

    class Racing(CancellationToken):
        @property
        def is_cancellation_requested(self) -> bool:
            # The moment between the two steps of `register`: the canceller is faster.
            self._cancel(CancelReason.REQUESTED)
            return super().is_cancellation_requested

    Racing(StopFlag()).register(lambda: called.append(1))
    assert called == [1]


def test_delivery_skips_what_another_thread_has_claimed() -> None:
    """Where a claim fails, since the registration is closed at that moment, nothing is called."""
    stop, token = flagged_token()

    class Closed(cancellation.CancellationRegistration):
        __slots__ = ()

        def claim(self) -> bool:
            stop.registrations.clear()
            return False

    stop.registrations[Closed(token, stop, {}, lambda: pytest.fail("called"))] = None
    stop.request()
    assert not stop.registrations


# Going on while there is time (G45).


@pytest.mark.parametrize(
    ("reason", "remaining", "unless", "raises"),
    [
        (CancelReason.SHUTDOWN, 30.0, 10.0, False),
        (CancelReason.SHUTDOWN, 10.0, 10.0, False),
        (CancelReason.SHUTDOWN, 9.9, 10.0, True),
        (CancelReason.SHUTDOWN, 0.0, 0.0, False),
        (CancelReason.SHUTDOWN, 30.0, None, True),
        (CancelReason.SHUTDOWN, None, 10.0, False),
        (CancelReason.REQUESTED, 30.0, 10.0, True),
        (CancelReason.TIMEOUT, 30.0, 10.0, True),
        (None, 1.0, 10.0, False),
    ],
)
def test_g45_unless_remaining(
    reason: CancelReason | None, remaining: float | None, unless: float | None, raises: bool
) -> None:
    """G45: only a shutdown that leaves less than that ends the item; nobody wants the rest in the other cases."""
    stop, token = flagged_token(FakeClock())
    if remaining is not None:
        stop.deadline = stop.clock() + remaining
    if reason is not None:
        token._cancel(reason)
    with pytest.raises(OperationCancelled) if raises else contextlib.nullcontext():
        token.raise_if_cancellation_requested(unless_remaining=unless)


def test_g45_unless_remaining_looks_at_the_earlier_end() -> None:
    """G45: the time that is left is what `remaining()` says, which knows the item's own timeout too."""
    stop, token = flagged_token(FakeClock())
    stop.deadline, token._deadline = stop.clock() + 30.0, stop.clock() + 3.0
    stop.request()
    with pytest.raises(OperationCancelled):
        token.raise_if_cancellation_requested(unless_remaining=10.0)


# Waiting.


def test_wait_returns_when_cancelled(source: CancellationTokenSource) -> None:
    """A thread that waits for the token goes on as soon as it is cancelled."""
    waiting = threading.Event()
    answers: list[bool] = []

    def wait() -> None:
        waiting.set()
        answers.append(source.token.wait(PATIENCE))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(PATIENCE)
    source.cancel()
    thread.join(PATIENCE)
    assert answers == [True]


def test_wait_that_times_out_leaves_no_registration(source: CancellationTokenSource) -> None:
    """`wait` says False when the time is over, and the token forgets the waiter."""
    assert source.token.wait(0.001) is False
    assert source.token.wait(-1) is False
    assert not source.token._registrations


def test_wait_on_a_running_loop_is_refused(source: CancellationTokenSource) -> None:
    """`wait` would stop the loop: the error names the cure."""

    async def main() -> None:
        source.token.wait(1)

    with pytest.raises(RuntimeError, match=r"await token.cancelled\(\)"):
        asyncio.run(main())


def test_wait_of_a_cancelled_token_is_allowed_everywhere(source: CancellationTokenSource) -> None:
    """Where there is nothing to wait for, `wait` answers, also on a loop."""
    source.cancel()

    async def main() -> bool:
        return source.token.wait()

    assert asyncio.run(main()) is True


def test_awaiting_on_two_loops(source: CancellationTokenSource) -> None:
    """`cancelled()` works on any loop: tasks of two loops in two threads wait for one token."""
    ended: list[str] = []

    async def item(name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await source.token.cancelled()
        ended.append(name)

    threads = [threading.Thread(target=asyncio.run, args=[item(name)]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    until(lambda: len(source.token._registrations or ()) == 2)
    source.cancel()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(ended) == ["one", "two"]


def test_awaiting_a_cancelled_token_returns_at_once(source: CancellationTokenSource) -> None:
    """`cancelled()` of a cancelled token needs no turn of the loop."""
    source.cancel()
    coroutine = source.token.cancelled()
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_awaiter_that_is_cancelled_is_forgotten(source: CancellationTokenSource) -> None:
    """A task that gives up waiting leaves no callback in the token."""

    async def main() -> None:
        task = asyncio.create_task(source.token.cancelled())
        await turns_until(lambda: source.token._registrations)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert not source.token._registrations


def test_awaiter_of_a_closed_loop_is_ignored(source: CancellationTokenSource) -> None:
    """Cancelling does not fail because the loop of a waiter has been closed meanwhile."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(source.token.cancelled())
    loop.call_soon(loop.stop)
    loop.run_forever()
    [registration] = source.token._registrations or ()
    task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    registration.call()


def test_awaiter_that_is_woken_twice(source: CancellationTokenSource) -> None:
    """A second wake-up of a waiter, between its first and its turn, does nothing."""

    async def main() -> None:
        task = asyncio.create_task(source.token.cancelled())
        await turns_until(lambda: source.token._registrations)
        [registration] = source.token._registrations or ()
        registration.call()
        source.cancel()
        await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())


# The cost of a stop.


def test_stop_costs_nothing_for_each_token() -> None:
    """R4: 100,000 tokens that nobody waits for take no call of their own when all are cancelled."""
    stop = StopFlag()
    tokens = [CancellationToken(stop) for _ in range(100_000)]
    calls: list[str] = []

    class Counting(dict):
        def __bool__(self) -> bool:
            calls.append("look")
            return super().__len__() > 0

        __len__ = __bool__  # type: ignore[assignment]

    stop.registrations = Counting()
    stop.request()
    assert len(calls) == 1
    assert all(token.is_cancellation_requested for token in tokens)


def test_stop_reaches_30_000_waiters() -> None:
    """R4: the cost of a stop grows with the waiters, not with their square; all are called, in order."""
    stop = StopFlag()
    called: list[int] = []
    for number in range(30_000):
        CancellationToken(stop).register(lambda number=number: called.append(number))
    stop.request()
    assert called == list(range(30_000))


def test_flag_may_be_set_without_a_call() -> None:
    """R16: a signal handler stores the flag and nothing else, and every token shows it."""
    stop, token = flagged_token()
    stop.requested = True
    assert token.is_cancellation_requested
    assert token.reason is CancelReason.SHUTDOWN
