"""The fixtures of the tests of threads, locks and stacks."""

import threading

import pytest

from tests.support.fixtures import clock, gate, manual, runtime, start

__all__ = ["clock", "gate", "manual", "quiet_threads", "runtime", "start"]


@pytest.fixture
def quiet_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads be killed on purpose: what kills them is kept, as error trackers keep it, and is no failure."""
    kept: list[object] = []
    monkeypatch.setattr(threading, "excepthook", kept.append)
