"""The executor for asyncio and asgiref: daemon threads that nobody joins, one after the other as needed."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from django_qbwi.machine import daemon_executor
from django_qbwi.machine.daemon_executor import DaemonExecutor
from tests.support.gates import PATIENCE, until
from tests.support.strikes import kill, strike


@pytest.fixture
def make() -> Iterator[Callable[..., DaemonExecutor]]:
    """Make executors whose threads end with the test."""
    made: list[DaemonExecutor] = []

    def make(limit: int = 1, **options: Any) -> DaemonExecutor:
        made.append(DaemonExecutor(limit, "qbwi-test", **options))
        return made[-1]

    yield make
    for executor in made:
        executor.retire()


def threads() -> list[threading.Thread]:
    """Return the executors' threads."""
    return [thread for thread in threading.enumerate() if thread.name == "qbwi-test"]


def refuse(*args: object) -> None:
    """Stand in for `start_thread` where the operating system gives no thread."""
    raise RuntimeError("can't start new thread")


def test_it_is_an_executor_by_type(make: Callable[..., DaemonExecutor]) -> None:
    """R9: asyncio takes no other type as the default executor of a loop."""
    assert isinstance(make(), ThreadPoolExecutor)


def test_call_runs_in_a_daemon_thread(make: Callable[..., DaemonExecutor]) -> None:
    """A call runs with its arguments, in a daemon thread that is started for it."""
    executor = make()
    assert threads() == []
    future = executor.submit(lambda *args, **kwargs: (args, kwargs, threading.current_thread()), 1, key=2)
    args, kwargs, thread = future.result(PATIENCE)
    assert (args, kwargs, thread.daemon, thread.ident) == ((1,), {"key": 2}, True, executor.ident)
    assert repr(executor) == "<DaemonExecutor qbwi-test threads=1>"


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt()])
def test_error_goes_into_the_future(make: Callable[..., DaemonExecutor], error: BaseException) -> None:
    """What a call raises, of any kind, is its future's; the thread goes on."""
    executor = make()

    def explode() -> None:
        raise error

    assert executor.submit(explode).exception(PATIENCE) is error
    assert executor.submit(lambda: "next").result(PATIENCE) == "next"
    assert len(threads()) == 1


def test_cancelled_call_does_not_run(make: Callable[..., DaemonExecutor]) -> None:
    """A call that is cancelled while it waits is passed over."""
    executor = make()
    release = threading.Event()
    first = executor.submit(release.wait, PATIENCE)
    second = executor.submit(pytest.fail, "called")
    assert second.cancel()
    release.set()
    assert first.result(PATIENCE)
    assert executor.submit(lambda: "next").result(PATIENCE) == "next"


def test_threads_grow_up_to_the_limit_and_are_used_again(make: Callable[..., DaemonExecutor]) -> None:
    """Calls that wait for each other get a thread each, up to the limit; further ones wait for a thread."""
    executor = make(2)
    barrier = threading.Barrier(2)
    for _ in range(3):
        futures = [executor.submit(barrier.wait, PATIENCE) for _ in range(4)]
        assert sorted(future.result(PATIENCE) for future in futures) == [0, 0, 1, 1]
        until(lambda: executor._idle == 2)
    assert len(threads()) == 2


def test_touched_says_whether_anything_was_submitted(make: Callable[..., DaemonExecutor]) -> None:
    """Whoever lends the executor to an item can see whether the item has used it."""
    executor = make()
    assert not executor.touched
    executor.submit(int).result(PATIENCE)
    assert executor.touched


def test_shutdown_does_nothing(make: Callable[..., DaemonExecutor]) -> None:
    """R9: asgiref calls it on the event loop, which must not wait: neither for threads nor for calls."""
    executor = make()
    release = threading.Event()
    future = executor.submit(release.wait, PATIENCE)
    executor.shutdown(wait=True, cancel_futures=True)
    release.set()
    assert future.result(PATIENCE)


def test_retired_threads_end_behind_their_calls(make: Callable[..., DaemonExecutor]) -> None:
    """`retire` lets the threads end after what is submitted already, and each says goodbye."""
    goodbyes: list[threading.Thread] = []
    executor = make(thread_ended=lambda: goodbyes.append(threading.current_thread()))
    future = executor.submit(int)
    [thread] = threads()
    executor.retire()
    assert future.result(PATIENCE) == 0
    thread.join(PATIENCE)
    assert goodbyes == [thread]


def test_prestart_stays_within_the_limit(make: Callable[..., DaemonExecutor]) -> None:
    """R12: threads are started ahead of the first call, and used by it."""
    executor = make(2)
    executor.prestart(5)
    assert len(threads()) == 2
    executor.submit(int).result(PATIENCE)
    assert len(threads()) == 2


@pytest.mark.parametrize("how", ["submit", "prestart"])
def test_f24_thread_that_cannot_be_started(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """F24: the caller gets the error, nothing is left in the queue, and the next call tries again."""
    executor = make()
    with monkeypatch.context() as patch:
        patch.setattr(daemon_executor, "start_thread", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(pytest.fail, "called") if how == "submit" else executor.prestart()
    assert executor.submit(lambda: "next").result(PATIENCE) == "next"
    assert len(threads()) == 1


def test_f24_call_waits_for_a_busy_thread_if_no_further_one_can_be_started(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24, R12: a call waits for a thread that is there; the counts stay right, and a later call gets a new one."""
    executor = make(3)
    release = threading.Event()
    executor.prestart(2)
    held = [executor.submit(release.wait, PATIENCE) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(daemon_executor, "start_thread", refuse)
        waiting = [executor.submit(threading.get_ident) for _ in range(2)]
    release.set()
    assert all(future.result(PATIENCE) for future in (*held, *waiting))
    until(lambda: executor._idle == 2)
    barrier = threading.Barrier(3)
    together = [executor.submit(barrier.wait, PATIENCE) for _ in range(3)]
    assert sorted(future.result(PATIENCE) for future in together) == [0, 1, 2]
    assert len(threads()) == 3


def test_f24_two_calls_of_which_none_gets_a_thread(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24: a thread that another call is just starting, in vain, is none to wait for: both callers get the error."""
    executor = make(2)
    errors: list[str] = []

    def submit() -> None:
        with pytest.raises(RuntimeError) as caught:
            executor.submit(pytest.fail, "called")
        errors.append(str(caught.value))

    def refuse_both(*args: object) -> None:
        if not errors and len(executor._supervised) == 1:
            # A second call, from beginning to end, while this one tries to start its thread.
            submit()
        refuse()

    with monkeypatch.context() as patch:
        patch.setattr(daemon_executor, "start_thread", refuse_both)
        submit()
    assert errors == ["can't start new thread"] * 2
    assert executor.submit(lambda: "next").result(PATIENCE) == "next"


def test_r1_call_that_is_struck_ahead_of_its_thread_leaves_it_to_the_next(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: a signal handler's exception between the count of a thread and its start costs no thread for ever."""
    executor = make(1)

    def struck(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(daemon_executor.SupervisedThread, "start", struck)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(pytest.fail, "called")
    assert executor.submit(lambda: "next").result(PATIENCE) == "next"
    assert len(threads()) == 1


def test_r1_call_that_is_struck_while_its_thread_is_started_leaves_it_to_the_next(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: the same where the operating system was asked already, once for each thread."""
    executor = make(2)
    spawn = daemon_executor.start_thread
    strikes = iter([KeyboardInterrupt, KeyboardInterrupt])

    def struck(*args: Any) -> None:
        for error in strikes:
            raise error
        spawn(*args)

    monkeypatch.setattr(daemon_executor, "start_thread", struck)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            executor.submit(pytest.fail, "called")
    barrier = threading.Barrier(2)
    together = [executor.submit(barrier.wait, PATIENCE) for _ in range(2)]
    assert sorted(future.result(PATIENCE) for future in together) == [0, 1]


def test_parked_thread_keeps_no_object_alive(make: Callable[..., DaemonExecutor]) -> None:
    """F11, F12: neither the argument nor the error of the last call lives on in the thread."""
    executor = make()

    class Large:
        """Stands for a gigabyte."""

    large = Large()
    reference = weakref.ref(large)

    def explode(argument: Large) -> None:
        raise ValueError

    future: Future[None] | None = executor.submit(explode, large)
    assert future is not None
    assert isinstance(future.exception(PATIENCE), ValueError)
    del large, future
    until(lambda: executor._idle == 1)
    assert reference() is None


def test_each_call_is_surrounded(make: Callable[..., DaemonExecutor]) -> None:
    """With `before` and `after` each call is surrounded in its thread, also one that raises."""
    seen: list[str] = []
    executor = make(before=lambda: seen.append("before"), after=lambda: seen.append("after"))
    executor.submit(seen.append, "call").result(PATIENCE)
    assert isinstance(executor.submit(int, "x").exception(PATIENCE), ValueError)
    assert seen == ["before", "call", "after", "before", "after"]


def test_first_call_of_an_owner_is_preceded(make: Callable[..., DaemonExecutor]) -> None:
    """With `before` alone it runs ahead of the first call since the executor was lent."""
    seen: list[str] = []
    executor = make(before=lambda: seen.append("before"))
    for _ in range(2):
        executor.submit(seen.append, "call").result(PATIENCE)
    executor.touched = False
    executor.submit(seen.append, "next").result(PATIENCE)
    assert seen == ["before", "call", "call", "before", "next"]


def test_r13_thread_ends_in_another_process(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R13: in a child that a call has forked and let return, nothing more is done, and nothing cleaned up."""
    seen: list[str] = []
    executor = make(thread_ended=lambda: seen.append("ended"), before=list, after=lambda: seen.append("after"))
    executor.prestart()
    [thread] = threads()
    real = os.getpid
    monkeypatch.setattr(os, "getpid", lambda: -1 if threading.current_thread() is thread else real())
    executor.submit(int)
    thread.join(PATIENCE)
    assert seen == []


def test_join_waits_for_the_last_act_of_each_thread(make: Callable[..., DaemonExecutor]) -> None:
    """After `retire`, `join` returns True only behind the last act of all threads, a connection's closing."""
    ended: list[int] = []
    executor = make(3, thread_ended=lambda: ended.append(threading.get_ident()))
    executor.prestart(3)
    executor.retire()
    assert executor.join(PATIENCE)
    assert len(ended) == 3


def test_join_gives_up_on_a_stuck_thread(make: Callable[..., DaemonExecutor]) -> None:
    """A thread that a call still holds is not waited for longer than asked."""
    executor = make()
    hold = threading.Event()
    future = executor.submit(hold.wait, PATIENCE)
    executor.retire()
    assert not executor.join(0.0)
    hold.set()
    assert future.result(PATIENCE)


def test_join_without_threads_returns_at_once(make: Callable[..., DaemonExecutor]) -> None:
    """An executor that was never used has nobody to wait for."""
    executor = make()
    executor.retire()
    assert executor.join(0.0)


class Killed(BaseException):
    """What a library that limits the time of any code throws into a thread."""


@pytest.mark.parametrize("error", [Killed, SystemExit, KeyboardInterrupt])
def test_g5_struck_thread_loses_no_call(
    make: Callable[..., DaemonExecutor], caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """G5: an exception that strikes a thread while it waits costs one record; the call that wakes it runs there."""
    executor = make()
    executor.submit(int).result(PATIENCE)
    [thread] = threads()
    strike(thread, error)
    assert executor.submit(threading.current_thread).result(PATIENCE) is thread
    assert len(caplog.records) == 1


def test_g5_exception_that_strikes_a_call_is_its_futures(make: Callable[..., DaemonExecutor]) -> None:
    """G5: within the call it is the call's; the thread goes on."""
    executor = make()

    def struck() -> None:
        strike(threading.current_thread(), Killed)

    assert isinstance(executor.submit(struck).exception(PATIENCE), Killed)
    assert executor.submit(int).result(PATIENCE) == 0


@pytest.mark.parametrize("when", ["before", "running", "ended"])
def test_g5_call_that_is_struck_on_its_way_ends(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """G5: outside of the call's own code: one that had not begun begins, one that had fails, an ended one stays."""
    executor = make()
    real = executor._run_one

    def run_one(state: Any, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        monkeypatch.undo()
        if when == "running":
            future.set_running_or_notify_cancel()
        elif when == "ended":
            real(state, future, fn, args, kwargs)
        raise Killed

    monkeypatch.setattr(executor, "_run_one", run_one)
    future = executor.submit(lambda: "done")
    if when == "running":
        with pytest.raises(RuntimeError, match="struck by an asynchronous exception"):
            future.result(PATIENCE)
    else:
        assert future.result(PATIENCE) == "done"
    assert executor.submit(int).result(PATIENCE) == 0


def test_g5_struck_thread_still_says_goodbye(
    make: Callable[..., DaemonExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: struck in its last act, a thread takes it again, so that `join` does not wait in vain."""
    goodbyes: list[int] = []

    def thread_ended() -> None:
        goodbyes.append(1)
        if len(goodbyes) == 1:
            raise Killed

    executor = make(thread_ended=thread_ended)
    executor.submit(int).result(PATIENCE)
    executor.retire()
    assert executor.join(PATIENCE)
    until(lambda: threads() == [])
    assert len(goodbyes) == 2


def test_g5_dead_thread_is_started_again_by_the_next_call(
    make: Callable[..., DaemonExecutor], quiet_threads: None
) -> None:
    """G5: killed without a successor, it has one as soon as there is something to do."""
    executor = make()
    executor.submit(int).result(PATIENCE)
    [thread] = threads()
    [supervised] = executor._supervised
    kill(supervised, thread, executor.submit, int)
    assert executor.submit(int).result(PATIENCE) == 0
