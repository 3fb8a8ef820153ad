"""Threads that go on: caught, succeeded, revived; and how long they wait in between."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from django_qbwi.machine.supervised import Backoff, Life, SupervisedThread, sleep
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until


class Service:
    """A service that does what the test tells it, turn by turn."""

    def __init__(self, clock: FakeClock) -> None:
        self.pauses: list[float] = []
        self.errors: list[BaseException] = []
        self.turns: list[threading.Thread] = []
        self.served = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.thread = SupervisedThread("qbwi-served", self.serve, clock=clock, pause=self.pauses.append)

    def serve(self) -> None:
        """Raise the next error, or stay until the test lets it go."""
        self.turns.append(threading.current_thread())
        if self.errors:
            raise self.errors.pop(0)
        self.served.release()
        assert self.leave.acquire(timeout=PATIENCE)

    def await_served(self) -> None:
        """Wait until it serves."""
        assert self.served.acquire(timeout=PATIENCE)


@pytest.fixture
def service(clock: FakeClock) -> Iterator[Service]:
    """A service that is not started."""
    service = Service(clock)
    yield service
    service.leave.release(100)
    for thread in service.turns:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_g5_what_leaves_a_service_is_caught(service: Service, error: BaseException) -> None:
    """G5: it serves again in the same thread, at once after a first failure."""
    service.errors = [error]
    service.thread.start()
    service.await_served()
    assert len(set(service.turns)) == 1
    assert service.pauses == []
    assert service.thread.is_alive


def test_g5_failing_service_is_backed_off_and_told_of_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """G5: one record a minute and growing pauses, never a storm."""
    service.errors = [ValueError("boom")] * 50
    service.thread.start()
    service.await_served()
    assert len(caplog.records) == 1
    assert service.pauses[:4] == [0.01, 0.02, 0.04, 0.08]
    assert service.pauses[-1] == 5.0
    assert len(service.pauses) == 49


def test_g5_thread_that_is_struck_twice_has_a_successor(
    service: Service, monkeypatch: pytest.MonkeyPatch, quiet_threads: None
) -> None:
    """G5: struck in the lines that catch, the thread ends, and starts another one as its last act."""
    service.errors = [ValueError("boom")]

    def struck(error: BaseException) -> None:
        raise SystemExit

    monkeypatch.setattr(service.thread, "_struck", struck)
    service.thread.start()
    service.await_served()
    assert len(set(service.turns)) == 2
    assert service.thread.is_alive
    assert not service.thread.is_lost


def spawning(spawn: Callable[..., None], *refused: bool) -> Callable[..., None]:
    """Return a starter of threads that fails where `refused` says so, and later starts all."""
    answers = [*refused]

    def start(*args: object) -> None:
        if answers and answers.pop(0):
            raise RuntimeError("can't start new thread")
        spawn(*args)

    return start


def test_g5_thread_without_a_successor_is_revived(
    service: Service,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quiet_threads: None,
) -> None:
    """G5: where no thread can be had it is lost, which can be seen; the tries are backed off, and one succeeds."""
    service.errors = [ValueError("boom")]
    monkeypatch.setattr(service.thread, "_struck", lambda error: (_ for _ in ()).throw(SystemExit))
    monkeypatch.setattr(service.thread, "_spawn", spawning(service.thread._spawn, False, True, True, True))
    service.thread.start()
    until(lambda: service.turns)
    service.turns[0].join(PATIENCE)
    assert service.thread.is_lost
    assert "no other one could be started yet" in caplog.text
    assert not service.thread.revive()
    assert not service.thread.revive()
    assert not service.thread.revive(), "the third try came before its time"
    clock.advance(0.01)
    assert service.thread.revive()
    service.await_served()
    assert not service.thread.is_lost


def test_service_that_returns_is_over(service: Service) -> None:
    """It is neither lost nor revived."""
    service.thread.start()
    service.await_served()
    service.leave.release()
    service.turns[0].join(PATIENCE)
    assert not service.thread.is_alive
    assert not service.thread.is_lost
    assert service.thread.revive()
    assert "over=True" in repr(service.thread)
    assert len(service.turns) == 1


def test_service_that_never_started_is_not_lost(service: Service) -> None:
    """There is nothing to revive before the start, nor after one that failed."""
    service.thread._spawn = spawning(service.thread._spawn, True)
    with pytest.raises(RuntimeError):
        service.thread.start()
    assert not service.thread.is_lost
    assert service.thread.revive()
    assert service.turns == []


@pytest.mark.parametrize("error", [None, ValueError("boom")])
def test_r13_thread_ends_in_another_process(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: ValueError | None
) -> None:
    """R13: in a child that the service has forked, the thread touches nothing, and has no successor."""
    real, forked = os.getpid, []
    monkeypatch.setattr(os, "getpid", lambda: -1 if forked else real())

    def serve() -> None:
        service.turns.append(threading.current_thread())
        forked.append(True)
        if error is not None:
            raise error

    monkeypatch.setattr(service.thread, "_serve", serve)
    service.thread._run([Life()])
    monkeypatch.undo()
    assert len(service.turns) == 1
    assert caplog.records == []
    service.turns.clear()


def test_backoff_forgets_after_a_good_minute(clock: FakeClock) -> None:
    """A service that went well for a minute fails for the first time again, and is told of again."""
    backoff = Backoff(clock)
    assert [backoff.failed() for _ in range(3)] == [(0.0, True), (0.01, False), (0.02, False)]
    clock.advance(59)
    assert backoff.failed() == (0.04, False)
    clock.advance(1)
    assert backoff.failed() == (0.08, True), "it fails for more than a minute now"
    clock.advance(60)
    assert backoff.failed() == (0.0, True)
    assert repr(backoff) == "<Backoff failures=1>"


def test_sleep_ends() -> None:
    """It blocks on a lock that nobody gives back."""
    sleep(0.001)
