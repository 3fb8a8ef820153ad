"""The end of a thread that somebody else has started: in its last moments, or by the net of looks below."""

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from django_qbwi.machine.thread_end import LOOK_AFTER, LOOK_AT_LEAST_EVERY, ThreadEnd
from tests.support.clock import FakeClock
from tests.support.manual import ManualServiceThread

PATIENCE = 30


@pytest.fixture
def keeper(clock: FakeClock) -> ManualServiceThread:
    """One that is moved by hand."""
    return ManualServiceThread(clock)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What the threads wait for."""
    release = threading.Event()
    yield release
    release.set()


class Unchangeable(threading.Thread):
    """A thread whose attributes cannot be set any more."""

    closed = False

    def __setattr__(self, name: str, value: object) -> None:
        if self.closed and name in {"_delete", "_invoke_excepthook"}:
            raise TypeError("nobody changes this")
        super().__setattr__(name, value)


def started(release: threading.Event, kind: type[threading.Thread] = threading.Thread) -> threading.Thread:
    """Return a thread that waits."""
    thread = kind(target=lambda: release.wait(PATIENCE), daemon=True)
    thread.start()
    thread.closed = True  # type: ignore[attr-defined]
    return thread


class Ends(list[BaseException | None]):
    """What was called, and where."""

    where: threading.Thread | None = None

    def __call__(self, error: BaseException | None) -> None:
        self.where = threading.current_thread()
        self.append(error)


def test_end_is_told_of_in_the_thread(release: threading.Event, clock: FakeClock, keeper: ManualServiceThread) -> None:
    """Once, while it is still known as one, and no timer is left."""
    thread, ends = started(release), Ends()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    assert "ThreadEnd" in repr(ThreadEnd(thread, Ends(), keeper=keeper, clock=clock))
    release.set()
    thread.join(PATIENCE)
    assert ends == [None]
    assert ends.where is thread
    clock.advance(60.0)
    keeper.run()
    assert ends == [None]
    assert thread not in threading.enumerate()


def test_nothing_is_left_at_the_thread(release: threading.Event, clock: FakeClock, keeper: ManualServiceThread) -> None:
    """Its own methods are back, also where two have waited for its end."""
    thread, ends = started(release), Ends()
    before = dict(vars(thread))
    followers = [ThreadEnd(thread, ends, keeper=keeper, clock=clock) for _ in range(2)]
    assert vars(thread).keys() - before.keys() == {"_delete"}
    gone = [weakref.ref(thread)]
    release.set()
    thread.join(PATIENCE)
    assert ends == [None, None]
    assert "_delete" not in vars(thread)
    assert vars(thread)["_invoke_excepthook"] is before["_invoke_excepthook"]
    ends.where = None
    del thread, before
    gc.collect()
    assert [reference() for reference in gone] == [None]
    assert len(followers) == 2


def test_looks_become_rare(release: threading.Event, clock: FakeClock, keeper: ManualServiceThread) -> None:
    """The net looks again after twice the time, and at least every few seconds."""
    thread, ends = started(release), Ends()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    waits = []
    for _ in range(10):
        wait = keeper.run_due()
        assert wait is not None
        waits.append(round(wait, 3))
        clock.advance(wait)
        keeper.run()
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert (LOOK_AFTER, LOOK_AT_LEAST_EVERY) == (0.1, 5.0)
    assert ends == []
    release.set()
    thread.join(PATIENCE)
    assert keeper.run_due() is None


def test_thread_that_cannot_be_changed_is_looked_at(
    release: threading.Event, clock: FakeClock, keeper: ManualServiceThread
) -> None:
    """Every 0.1 s, as nothing else tells of its end; what it has raised is not known."""
    thread, ends = started(release, Unchangeable), Ends()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    assert "_delete" not in vars(thread)
    for _ in range(5):
        clock.advance(LOOK_AFTER)
        keeper.run()
        assert ends == []
    release.set()
    thread.join(PATIENCE)
    assert ends == []
    clock.advance(LOOK_AFTER)
    keeper.run()
    assert ends == [None]
    assert keeper.run_due() is None


def test_thread_that_was_past_its_last_moment_is_looked_at(
    release: threading.Event, clock: FakeClock, keeper: ManualServiceThread
) -> None:
    """It had taken its own method before ours was there: the net sees its end, and gives it back what it had."""
    thread, ends = started(release), Ends()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    missed = vars(thread).pop("_delete")
    release.set()
    thread.join(PATIENCE)
    assert ends == []
    vars(thread)["_delete"] = missed
    clock.advance(LOOK_AFTER)
    keeper.run()
    assert ends == [None]
    assert "_delete" not in vars(thread)


def test_hook_of_somebody_else_stays(release: threading.Event, clock: FakeClock, keeper: ManualServiceThread) -> None:
    """Another one that stands before ours is called, and not taken away."""
    thread, ends = started(release), Ends()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    ours, seen = vars(thread)["_delete"], []

    def theirs() -> None:
        seen.append(True)
        ours()

    vars(thread)["_delete"] = theirs
    release.set()
    thread.join(PATIENCE)
    assert (ends, seen) == ([None], [True])
    assert vars(thread).pop("_delete") is theirs


@pytest.mark.parametrize("quiet", [True, False])
def test_what_has_left_the_thread(
    clock: FakeClock, keeper: ManualServiceThread, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    """It is told of with the end, and Python hears of it unless it is to be quiet."""
    printed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    release, error, ends = threading.Event(), ValueError("left"), Ends()

    def fails() -> None:
        release.wait(PATIENCE)
        raise error

    thread = threading.Thread(target=fails, daemon=True)
    thread.start()
    ThreadEnd(thread, ends, keeper=keeper, clock=clock, quiet=lambda found: quiet and found is error)
    release.set()
    thread.join(PATIENCE)
    assert ends == [error]
    assert len(printed) == (not quiet)
    assert sys.exc_info() == (None, None, None)
    printed.clear()
    error.__traceback__ = None


def test_thread_that_has_ended(release: threading.Event, clock: FakeClock, keeper: ManualServiceThread) -> None:
    """It is told of at once, in this thread."""
    release.set()
    thread, ends = started(release), Ends()
    thread.join(PATIENCE)
    ThreadEnd(thread, ends, keeper=keeper, clock=clock)
    assert ends == [None]
    assert ends.where is threading.current_thread()
    assert keeper.run_due() is None
