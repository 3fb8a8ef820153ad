"""What a call leaves in its thread is renewed, and told of once (G9)."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.machine.thread_state import ThreadState

Look = Callable[[], Any]


def trace(*args: object) -> None:
    """Trace nothing."""


LEFT: list[tuple[str, Callable[[], object], Look, str]] = [
    (
        "running loop",
        lambda: asyncio._set_running_loop(object()),  # type: ignore[arg-type]
        asyncio._get_running_loop,
        "a running event loop",
    ),
    ("signal mask", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}), lambda: mask(), "signals"),
    ("unblocked", lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2}), lambda: mask(), "signals"),
    ("trace", lambda: sys.settrace(trace), sys.gettrace, "a trace function"),
    ("profile", lambda: sys.setprofile(trace), sys.getprofile, "a profile function"),
    ("name", lambda: setattr(threading.current_thread(), "name", "mine"), lambda: name(), "the name 'mine'"),
    ("hooks", lambda: sys.set_asyncgen_hooks(firstiter=trace), sys.get_asyncgen_hooks, "hooks for asynchronous"),
]
CASES = pytest.mark.parametrize(("leave", "look", "told"), [case[1:] for case in LEFT], ids=[case[0] for case in LEFT])


def mask() -> set[int]:
    """Return what is blocked in this thread."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def name() -> str:
    """Return the name of this thread."""
    return threading.current_thread().name


def in_thread(call: Callable[[], Any]) -> Any:
    """Call it in a thread of its own, with one signal blocked and without coverage's own functions."""
    results: list[Any] = []

    def run() -> None:
        sys.settrace(None)
        sys.setprofile(None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        results.append(call())

    thread = threading.Thread(target=run, name="a worker")
    thread.start()
    thread.join()
    return results[0]


@CASES
def test_g9_state_is_renewed(leave: Callable[[], object], look: Look, told: str, caplog: Any) -> None:
    """Whatever a call leaves behind is as it was before, and one record names the call and what it left."""

    def call() -> tuple[Any, Any]:
        state = ThreadState()
        before = look()
        for _ in range(2):
            state.begin()
            state.renew("an innocent")
        state.begin()
        leave()
        state.renew("Item x")
        state.begin()
        state.renew("an innocent")
        return before, look()

    before, after = in_thread(call)
    assert before == after
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("Item x left ")
    assert told in record.getMessage()
    assert "thread a worker;" in record.getMessage()


def test_g9_one_record_for_all(caplog: Any) -> None:
    """A call that leaves several things behind has one record."""

    def call() -> list[Any]:
        state = ThreadState()
        before = [look() for _, _, look, _ in LEFT]
        state.begin()
        for _, leave, _, _ in LEFT:
            leave()
        state.renew("Item x")
        return [before, [look() for _, _, look, _ in LEFT]]

    before, after = in_thread(call)
    assert before == after
    [record] = caplog.records
    assert all(told in record.getMessage() for *_, told in LEFT[:-1])


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_g9_debugger_that_was_attached_meanwhile(kind: str, caplog: Any, monkeypatch: Any) -> None:
    """A function that was set for all threads of the process while a call ran stays, and nobody is blamed."""
    monkeypatch.setattr(threading, f"get{kind}", lambda: trace)

    def call() -> Any:
        state = ThreadState()
        state.begin()
        getattr(sys, f"set{kind}")(trace)
        state.renew("Item x")
        found = getattr(sys, f"get{kind}")()
        getattr(sys, f"set{kind}")(None)
        return found

    assert in_thread(call) is trace
    assert caplog.records == []


def test_g9_function_that_was_set_before(caplog: Any) -> None:
    """A trace function that a call takes away, as profilers do at their end, comes back."""

    def call() -> Any:
        state = ThreadState()
        sys.settrace(trace)
        state.begin()
        sys.settrace(None)
        state.renew("Item x")
        found = sys.gettrace()
        sys.settrace(None)
        return found

    # Another one is set for all threads; else none at all would pass for it.
    before = threading.gettrace()
    threading.settrace(lambda *args: None)
    try:
        assert in_thread(call) is trace
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
    assert len(caplog.records) == 1
