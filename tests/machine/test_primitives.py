"""Locks and threads of the operating system, with gevent's patches and without."""

import _thread
import contextvars
import queue
import selectors
import signal
import sys
import threading
import types
from typing import Any

import pytest

from django_qbwi.machine import primitives
from tests.support.gates import PATIENCE, until


class Monkey(types.ModuleType):
    """Stands for `gevent.monkey`: says what it has patched, and gives out the originals."""

    def __init__(self, patched: bool) -> None:
        super().__init__("gevent.monkey")
        self.patched = patched
        self.asked: list[str] = []
        self.missing: set[str] = set()

    def is_module_patched(self, name: str) -> bool:
        return self.patched

    def get_original(self, module: str, name: str) -> Any:
        self.asked.append(f"{module}.{name}")
        if name in self.missing:
            raise AttributeError(name)
        return getattr(sys.modules[module], name)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Monkey:
    """A process in which gevent has patched threading."""
    monkey = Monkey(patched=True)
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    return monkey


def test_locks_and_mailboxes_of_the_standard_library() -> None:
    """Without gevent they are the real ones."""
    assert type(primitives.new_lock()) is type(_thread.allocate_lock())
    assert type(primitives.new_rlock()) is type(threading.RLock())
    assert type(primitives.new_mailbox()) is queue.SimpleQueue
    assert primitives.new_selector() is None
    assert primitives.thread_ident_getter()() == threading.get_ident()


def test_r14_originals_are_asked_for_where_gevent_has_patched(patched: Monkey) -> None:
    """R14: where gevent has patched threading, its originals are used."""
    primitives.new_lock()
    primitives.new_rlock()
    primitives.new_mailbox()
    primitives.thread_ident_getter()
    assert patched.asked == ["_thread.allocate_lock", "_thread.RLock", "queue.SimpleQueue", "_thread.get_ident"]


def test_r14_selector_is_an_original_one(patched: Monkey) -> None:
    """R14: the loop waits in a real thread, with the first kind of selector that this system has."""
    patched.missing = {"EpollSelector", "KqueueSelector"}
    with primitives.new_selector() as selector:  # type: ignore[union-attr]
        assert isinstance(selector, selectors.PollSelector | selectors.SelectSelector)


def test_r14_no_selector_of_any_kind(patched: Monkey) -> None:
    """R14: a system without any is left to asyncio."""
    patched.missing = {"EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector"}
    assert primitives.new_selector() is None


def test_gevent_that_has_not_patched_threading_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent may be loaded without having patched anything."""
    monkey = Monkey(patched=False)
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    primitives.new_lock()
    assert monkey.asked == []


def test_r14_thread_is_started_past_gevent(patched: Monkey) -> None:
    """R14: a real thread is started, in an empty context."""
    variable = contextvars.ContextVar("variable", default="untouched")
    variable.set("by the caller")
    seen: list[Any] = []
    primitives.start_thread(lambda: seen.extend([threading.get_ident(), variable.get()]), "qbwi-test")
    until(lambda: len(seen) == 2)
    assert seen[0] != threading.get_ident()
    assert seen[1] == "untouched"
    assert patched.asked == ["_thread.start_new_thread"]
    until(lambda: seen[0] not in sys._current_frames())


def test_thread_is_a_daemon_in_an_empty_context() -> None:
    """A thread has its name, is a daemon, and sees nothing of who started it, which may be a request."""
    variable = contextvars.ContextVar("variable", default="untouched")
    variable.set("by the caller")
    seen: list[Any] = []
    done = threading.Event()

    def target() -> None:
        seen.extend([threading.current_thread().name, threading.current_thread().daemon, variable.get()])
        done.set()

    primitives.start_thread(target, "qbwi-test")
    assert done.wait(PATIENCE)
    assert seen == ["qbwi-test", True, "untouched"]


def test_r20_stop_signal_is_unblocked_in_our_threads() -> None:
    """R20: masks are inherited; a subprocess started by an item has to obey terminate()."""
    assert _blocked_in_our_threads().isdisjoint({signal.SIGTERM, signal.SIGINT})


def test_interrupt_is_left_to_uwsgis_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one would end the process in a thread of ours, while the first one ends it in good order."""
    monkeypatch.setitem(sys.modules, "uwsgi", types.ModuleType("uwsgi"))
    assert _blocked_in_our_threads() & {signal.SIGTERM, signal.SIGINT} == {signal.SIGINT}


def _blocked_in_our_threads() -> set[Any]:
    if not hasattr(signal, "pthread_sigmask"):
        pytest.skip("this system has no signal masks")
    masks: list[set[Any]] = []
    done = threading.Event()

    def target() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        done.set()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        primitives.start_thread(target, "qbwi-test")
        assert done.wait(PATIENCE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return masks[0]


def test_thread_without_signal_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none (Windows), there is nothing to unblock."""
    monkeypatch.delattr(signal, "pthread_sigmask", raising=False)
    done = threading.Event()
    primitives.start_thread(done.set, "qbwi-test")
    assert done.wait(PATIENCE)


def test_failed_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: no thread from the operating system is a RuntimeError of the caller."""

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        primitives.start_thread(lambda: None, "qbwi-test")


def test_r14_wait_without_limit_has_a_timer_where_gevent_has_patched(patched: Monkey) -> None:
    """R14: gevent's hub in a thread of an item wants something to wait for; a limit that is given stands."""
    assert (primitives.patience(None) or 0) > 1e6
    assert primitives.patience(0.5) == 0.5


def test_wait_without_limit_has_none_elsewhere() -> None:
    """Without gevent the wait is what was asked for."""
    assert primitives.patience(None) is None
    assert primitives.patience(0.5) == 0.5


@pytest.mark.parametrize("timeout", [None, 0.0, -1.0, 30.0])
def test_alarm_that_is_set_ends_the_wait(timeout: float | None) -> None:
    """An alarm may be set more than once, and whoever waits then does not wait."""
    alarm = primitives.Alarm()
    assert repr(alarm) == "<Alarm set=False>"
    alarm.set()
    alarm.set()
    assert repr(alarm) == "<Alarm set=True>"
    alarm.wait(timeout)


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001])
def test_alarm_that_is_not_set_is_waited_for_in_vain(timeout: float) -> None:
    """A wait for an alarm ends with its limit, which may be over already."""
    alarm = primitives.Alarm()
    alarm.wait(timeout)
    assert repr(alarm) == "<Alarm set=False>"


# Waits.


class Sleeper:
    """Stands for the lock of an alarm: notes how long somebody would wait for it, and is set at the end of `turns`."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.limits: list[float] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.limits.append(timeout)
        return len(self.limits) >= self.turns


@pytest.mark.parametrize(
    ("timeout", "turns", "limits"),
    [
        pytest.param(None, 4, [0.5] * 4, id="without-limit"),
        pytest.param(2.0, 3, [0.5] * 3, id="set-before-the-limit"),
        pytest.param(1.25, 9, [0.5, 0.5, 0.25], id="up-to-the-limit"),
        pytest.param(0.25, 9, [0.25], id="short"),
        pytest.param(0.0, 9, [], id="not-at-all"),
    ],
)
def test_main_thread_waits_in_turns(timeout: float | None, turns: int, limits: list[float]) -> None:
    """A signal that does not end the wait for a lock is heard half a second later; the limit is kept."""
    alarm = primitives.Alarm()
    alarm._lock = sleeper = Sleeper(turns)  # type: ignore[assignment]
    alarm.wait(timeout)
    assert sleeper.limits == limits


@pytest.mark.parametrize(("timeout", "limits"), [(None, [-1]), (30.0, [30.0])])
def test_other_threads_sleep_through(timeout: float | None, limits: list[float]) -> None:
    """No other thread wakes up for a look at nothing."""
    alarm = primitives.Alarm()
    alarm._lock = sleeper = Sleeper(1)  # type: ignore[assignment]
    thread = threading.Thread(target=alarm.wait, args=[timeout])
    thread.start()
    thread.join(PATIENCE)
    assert sleeper.limits == limits
