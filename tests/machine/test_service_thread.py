"""The service threads: chores in order, timers by the clock, no wakeup without a reason."""

import logging
import os
import threading
from collections.abc import Iterator

import pytest

from django_qbwi.machine import service_thread
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until
from tests.support.strikes import kill, strike


@pytest.fixture
def service(clock: FakeClock) -> Iterator[ServiceThread]:
    """A started service thread with a clock that stands still."""
    service = ServiceThread("qbwi-chores", clock)
    service.start()
    yield service
    service.stop()


def look(service: ServiceThread) -> None:
    """Have the thread look at its clock."""
    assert service.flush(PATIENCE)
    assert service.flush(PATIENCE)


def test_posted_calls_run_in_order_in_one_thread(service: ServiceThread) -> None:
    """Chores run one after the other, in a thread of the service's name."""
    seen: list[tuple[int, str]] = []
    for number in range(3):
        service.post(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert service.flush(PATIENCE)
    assert seen == [(0, "qbwi-chores"), (1, "qbwi-chores"), (2, "qbwi-chores")]


def test_start_is_idempotent(service: ServiceThread) -> None:
    """A second start starts no second thread."""
    service.start()
    assert [thread.name for thread in threading.enumerate()].count("qbwi-chores") == 1
    assert "started=True" in repr(service)


def test_r1_second_thread_ends_at_once(service: ServiceThread) -> None:
    """R1: a start that was interrupted, and tried again, leaves one thread that runs the chores."""
    assert service.flush(PATIENCE)
    service._started = False
    service.start()
    until(lambda: [thread.name for thread in threading.enumerate()].count("qbwi-chores") == 1)
    assert service.flush(PATIENCE)


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt()])
def test_chore_that_raises_is_logged(
    service: ServiceThread, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """What a chore raises is logged with the thread's name, and the next chore runs."""
    seen: list[int] = []

    def explode() -> None:
        raise error

    service.post(explode)
    service.post(lambda: seen.append(1))
    assert service.flush(PATIENCE)
    assert seen == [1]
    assert "A chore of the qbwi-chores thread raised" in caplog.text


def test_timers_run_when_due_in_the_order_of_their_moments(service: ServiceThread, clock: FakeClock) -> None:
    """A timer runs at its moment, not before; the earliest first."""
    seen: list[str] = []
    service.call_at(clock() + 2, lambda: seen.append("second"))
    service.call_at(clock() + 1, lambda: seen.append("first"))
    look(service)
    assert seen == []
    clock.advance(5)
    look(service)
    assert seen == ["first", "second"]


def test_timers_of_one_moment_run_in_the_order_of_arming(service: ServiceThread, clock: FakeClock) -> None:
    """Timers of the same moment need no comparison of their calls."""
    seen: list[int] = []
    for number in range(3):
        service.call_at(clock() + 1, lambda number=number: seen.append(number))
    clock.advance(1)
    look(service)
    assert seen == [0, 1, 2]


def test_cancelled_timer_does_not_run(service: ServiceThread, clock: FakeClock) -> None:
    """A timer that was cancelled is passed over."""
    seen: list[int] = []
    timer = service.call_at(clock() + 1, lambda: seen.append(1))
    assert "pending=True" in repr(timer)
    timer.cancel()
    clock.advance(5)
    look(service)
    assert seen == []
    assert "pending=False" in repr(timer)


def test_timer_that_is_cancelled_as_it_is_taken(clock: FakeClock) -> None:
    """A timer that is cancelled while it is on its way does nothing."""
    service = ServiceThread("qbwi-chores", clock)
    timer = service.call_at(clock(), lambda: pytest.fail("called"))
    heappop = service_thread.heapq.heappop

    def cancel_first(heap: list[object]) -> object:
        timer.call = None
        return heappop(heap)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_thread.heapq, "heappop", cancel_first)
        assert service.run_due() is None


def test_chore_may_arm_a_timer(service: ServiceThread, clock: FakeClock) -> None:
    """A timer that is armed in the thread itself, and is due, runs at once."""
    seen: list[int] = []
    service.post(lambda: service.call_at(clock(), lambda: seen.append(1)))
    look(service)
    assert seen == [1]


def test_timer_wakes_a_thread_that_sleeps_without_limit() -> None:
    """A timer that becomes the earliest wakes the thread, which sleeps until that moment of the real clock."""
    service = ServiceThread("qbwi-chores")
    service.start()
    done = threading.Event()
    service.call_at(service._clock() + 0.001, done.set)
    assert done.wait(PATIENCE)
    service.stop()


def test_cancelled_timers_do_not_pile_up(clock: FakeClock) -> None:
    """Many items with long timeouts that end early leave no heap of dead timers; the live ones stay."""
    service = ServiceThread("qbwi-chores", clock)
    live = service.call_at(clock() + 7, lambda: None)
    for _ in range(1_000):
        service.call_at(clock() + 60, lambda: None).cancel()
    service.start()
    assert service.flush(PATIENCE)
    assert len(service._heap) < 100
    assert any(entry[2] is live for entry in service._heap)
    service.stop()


def test_few_cancelled_timers_are_left_to_their_moment(clock: FakeClock) -> None:
    """The heap is only turned over when most of it is dead."""
    service = ServiceThread("qbwi-chores", clock)
    timers = [service.call_at(clock() + 60, lambda: None) for _ in range(100)]
    timers[0].cancel()
    assert len(service._heap) == 100
    assert "timers=100" in repr(service)


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_far_timer_does_not_kill_the_thread(service: ServiceThread, clock: FakeClock, seconds: float) -> None:
    """A timeout longer than the system's clock can wait is cut into shorter waits."""
    service.call_at(clock() + seconds, lambda: None)
    look(service)
    assert service.run_due() == 86_400.0


def test_flush_without_a_thread_does_not_wait(clock: FakeClock) -> None:
    """Before the start there is nobody to wait for."""
    assert ServiceThread("qbwi-chores", clock).flush(PATIENCE) is False


def test_flush_behind_a_stuck_chore_gives_up(service: ServiceThread) -> None:
    """F49: a chore that hangs costs who flushes its timeout, and no more."""
    release = threading.Event()
    service.post(lambda: release.wait(PATIENCE))
    assert service.flush(0.001) is False
    release.set()
    assert service.flush(PATIENCE)


def test_posted_calls_run_before_the_stop(service: ServiceThread) -> None:
    """`stop` ends the thread behind what is posted already."""
    seen: list[int] = []
    service.post(lambda: seen.append(1))
    service.stop()
    until(lambda: "qbwi-chores" not in [thread.name for thread in threading.enumerate()])
    assert seen == [1]


def test_thread_that_cannot_be_started_may_be_tried_again(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: a failed start is an error of the caller, and leaves the service as it was."""
    service = ServiceThread("qbwi-chores", clock)

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(service._thread, "_spawn", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            service.start()
    service.start()
    assert service.flush(PATIENCE)
    service.stop()


def test_r13_loop_ends_in_another_process(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: in a child that a chore has forked and let return, the thread takes no further chore."""
    service = ServiceThread("qbwi-chores", clock)
    seen: list[int] = []
    service.post(lambda: monkeypatch.setattr(os, "getpid", lambda: -1))
    service.post(lambda: seen.append(1))
    service._serve()
    monkeypatch.undo()
    assert seen == []


class Killed(BaseException):
    """What a library that limits the time of any code throws into a thread."""


def thread_of(service: ServiceThread) -> threading.Thread:
    """Return the thread that runs the chores now."""
    seen: list[threading.Thread] = []
    service.post(lambda: seen.append(threading.current_thread()))
    assert service.flush(PATIENCE)
    return seen[0]


@pytest.mark.parametrize("error", [Killed, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_g5_struck_service_loses_no_chore(
    service: ServiceThread, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """G5: an exception that strikes a service while it waits costs one record; the chore that wakes it runs."""
    strike(thread_of(service), error)
    seen: list[int] = []
    service.post(lambda: seen.append(1))
    assert service.flush(PATIENCE)
    assert seen == [1]
    [record] = caplog.records
    assert record.getMessage() == f"The qbwi-chores thread was struck by {error()!r}; it goes on"


def test_g5_struck_service_keeps_its_timers(service: ServiceThread, clock: FakeClock) -> None:
    """G5: what was due after the strike runs, once."""
    seen: list[int] = []
    service.call_at(clock() + 1, lambda: seen.append(1))
    strike(thread_of(service), Killed)
    clock.advance(2)
    look(service)
    assert seen == [1]


def test_g5_clock_that_raises_is_survived(clock: FakeClock) -> None:
    """G5, G6: a clock that fails is a failure of one turn; the timer runs when it tells the time again."""
    broken = [True]
    done = threading.Event()

    def tell() -> float:
        if broken[0]:
            raise SystemExit("no time")
        return clock()

    service = ServiceThread("qbwi-chores", tell)
    service.call_at(clock() - 1, done.set)
    service.start()
    service.post(lambda: None)
    broken[0] = False
    service.post(lambda: None)
    assert done.wait(PATIENCE)
    service.stop()


@pytest.mark.parametrize("need", ["call_at", "flush", "revive"])
def test_g5_dead_service_is_started_again_by_whoever_needs_it(
    service: ServiceThread, clock: FakeClock, quiet_threads: None, need: str
) -> None:
    """G5: a thread that died without a successor is found dead; its chores and timers are those of the next one."""
    first = thread_of(service)
    kill(service._thread, first, service._mailbox.put, None)
    seen: list[threading.Thread] = []
    service.post(lambda: seen.append(threading.current_thread()))
    match need:
        case "call_at":
            service.call_at(clock(), lambda: None)
        case "flush":
            assert service.flush(PATIENCE)
        case _:
            assert service.revive()
    assert service.flush(PATIENCE)
    assert len(seen) == 1
    assert seen[0] is not first


def test_g6_log_handler_that_exits_does_not_kill_the_thread(
    service: ServiceThread, capsys: pytest.CaptureFixture[str]
) -> None:
    """G6: a handler that raises SystemExit at the record of a chore is printed; the next chore runs in that thread."""
    first = thread_of(service)

    class Exiting(logging.Handler):
        """One that takes the process for its own."""

        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit(1)

    handler, logger = Exiting(), logging.getLogger("django_qbwi.scheduler")
    logger.addHandler(handler)
    try:
        service.post(lambda: 1 / 0)
        assert thread_of(service) is first
    finally:
        logger.removeHandler(handler)
    assert "SystemExit: 1" in capsys.readouterr().err
