"""A loop that stands still is noticed once, and named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from django_qbwi import queue_background_work_item
from django_qbwi.executors.loop_monitor import LAG_SECONDS, LOOK_EVERY, LoopMonitor
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.gates import until


class Watched:
    """A monitor with a hand-moved clock, over a loop that answers only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = True
        self.pending: list[Callable[[], None]] = []
        self.keeper = ServiceThread("unused", lambda: self.now)
        self.monitor = LoopMonitor(
            self.keeper,
            lambda: self.now,
            ask=self.pending.append,
            is_busy=lambda: self.busy,
            describe=lambda: "the culprit",
        )

    def pass_time(self, seconds: float) -> None:
        """Move the clock and run what is due."""
        self.now += seconds
        self.keeper.run_due()

    def answer(self) -> None:
        """Let the loop take a turn."""
        while self.pending:
            self.pending.pop()()


@pytest.fixture
def watched() -> Watched:
    """A monitor that watches a busy loop."""
    watched = Watched()
    watched.monitor.watch()
    return watched


def test_f16_a_loop_that_stands_still_is_named_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each time that the loop stands still, however long."""
    for _ in range(5):
        watched.pass_time(LOOK_EVERY + LAG_SECONDS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the culprit" in caplog.text


def test_a_loop_that_answers_is_not_named(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """A loop that takes turns is left in peace."""
    for _ in range(5):
        watched.pass_time(LOOK_EVERY)
        watched.answer()
    assert not caplog.records


def test_a_second_standstill_is_named_again(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """After an answer the next standstill has a warning of its own."""
    for _ in range(2):
        watched.pass_time(LOOK_EVERY)
        watched.pass_time(LOOK_EVERY + LAG_SECONDS)
        watched.answer()
        watched.pass_time(LOOK_EVERY)
        watched.answer()
    assert len(caplog.records) == 2


def test_nothing_is_asked_without_async_items(watched: Watched) -> None:
    """The keeper sleeps without a timer when no async item is in flight."""
    watched.busy = False
    watched.pass_time(LOOK_EVERY)
    assert watched.keeper.run_due() is None
    assert not watched.pending


def test_g5_a_loop_that_stands_still_can_be_seen_until_it_answers(watched: Watched) -> None:
    """G5: also by a probe that comes while the keeper itself is away; an answer ends it."""
    watched.pass_time(LOOK_EVERY)
    assert not watched.monitor.stands_still
    watched.now += LAG_SECONDS
    assert watched.monitor.stands_still
    watched.answer()
    assert not watched.monitor.stands_still


def test_watching_twice_asks_once(watched: Watched) -> None:
    """Each start of an item calls watch(); there is still one timer."""
    watched.monitor.watch()
    watched.pass_time(LOOK_EVERY)
    assert len(watched.pending) == 1


@pytest.mark.slow
def test_f16_a_blocking_async_item_is_named_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """A real item that blocks the real loop is named in the record, with the line at which it stands."""
    seen = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "stood still" in record.getMessage():
                seen.set()

    async def blocks_the_loop(token: object) -> None:
        assert seen.wait(30)

    logger = logging.getLogger("django_qbwi.scheduler")
    handler = Handler()
    logger.addHandler(handler)
    try:
        assert queue_background_work_item(blocks_the_loop).wait(60)
    finally:
        logger.removeHandler(handler)
    assert seen.is_set()
    # The handler above comes first.
    until(lambda: "blocks_the_loop" in caplog.text)
    assert "assert seen.wait(30)" in caplog.text


def test_an_item_that_starts_as_the_watch_ends_is_watched(watched: Watched) -> None:
    """An item that starts between the last look and the end of the watch saw it watching: it goes on."""
    answers = iter([False, True])
    watched.monitor._is_busy = lambda: next(answers)
    watched.pass_time(LOOK_EVERY)
    assert repr(watched.monitor) == "<LoopMonitor watching=True asked_at=None>"
