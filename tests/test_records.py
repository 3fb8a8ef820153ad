"""The log records of items: one for each end, at the level that its meaning asks for, with `extra={"qbwi": ...}`."""

import asyncio
import contextlib
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_qbwi import CancelReason, OperationCancelled, QueueFull, queue_background_work_item
from django_qbwi.core.records import DrainStart
from django_qbwi.drain_records import DrainRecords
from django_qbwi.signals import SignalsAndRecords, work_item_finished
from django_qbwi.testing import drain, immediate_work_items
from tests.support import hostile
from tests.support.manual import ManualRuntime

PATIENCE = 30

LINE = re.compile(r"Work item id=[0-9a-f]{24} name=(\S+) status=(\w+) elapsed=\d+\.\d{3}s")


@pytest.fixture(autouse=True)
def own_scheduler(caplog) -> Iterator[None]:
    """Give each test a scheduler that ends with it, one worker and one place, and all records."""
    caplog.set_level(logging.DEBUG, "django_qbwi")
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1, "SHUTDOWN_TIMEOUT": 1.0, "OVERDUE_AFTER": 0.0}):
        yield


def records_of(caplog, name: str) -> list[logging.LogRecord]:
    """The records whose extra names an item."""
    return [record for record in caplog.records if getattr(record, "qbwi", {}).get("name") == name]


def levels_of(caplog, name: str) -> list[tuple[str, str]]:
    """Status and level of each record of an item."""
    return [(record.qbwi["status"], record.levelname) for record in records_of(caplog, name)]


class Gate:
    """An item that reports its start and ignores its token."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def item(self, token) -> None:
        self.entered.set()
        assert self.release.wait(PATIENCE)


def succeed(token) -> None:
    """Do nothing."""


async def succeed_async(token) -> None:
    """Do nothing."""


def fail(token) -> None:
    raise ValueError("no such album")


async def fail_async(token) -> None:
    raise ValueError("no such album")


def stop(token) -> None:
    token.wait(PATIENCE)
    token.raise_if_cancellation_requested()


async def stop_async(token) -> None:
    await token.cancelled()
    token.raise_if_cancellation_requested()


@pytest.mark.parametrize("work_item", [succeed, succeed_async])
def test_levels_of_a_success(caplog, work_item) -> None:
    """Queued and started are DEBUG, the end is INFO."""
    assert queue_background_work_item(work_item, name="it").wait(PATIENCE)
    assert levels_of(caplog, "it") == [("queued", "DEBUG"), ("running", "DEBUG"), ("succeeded", "INFO")]


@pytest.mark.parametrize("work_item", [succeed, succeed_async, fail, fail_async])
def test_line_of_a_record(caplog, work_item) -> None:
    """Each line has id, name, status and elapsed, and comes from the logger of the scheduler."""
    assert queue_background_work_item(work_item, name="it").wait(PATIENCE)
    for record in records_of(caplog, "it"):
        match = LINE.fullmatch(record.getMessage())
        assert match.groups() == ("it", record.qbwi["status"])
        assert record.name == "django_qbwi.scheduler"


@pytest.mark.parametrize("work_item", [succeed, fail])
def test_extra_is_the_info(caplog, work_item) -> None:
    """`extra={"qbwi": ...}` is the info of that moment, fit for JSON."""
    handle = queue_background_work_item(work_item, name="it", timeout=60)
    assert handle.wait(PATIENCE)
    extra = records_of(caplog, "it")[-1].qbwi
    assert extra == handle.info.to_dict()
    assert json.loads(json.dumps(extra)) == extra


def test_record_names_its_place(caplog) -> None:
    """A record comes from the module that writes it, not from the logger around it."""
    assert queue_background_work_item(succeed, name="it").wait(PATIENCE)
    assert {record.filename for record in records_of(caplog, "it")} == {"signals.py"}


@pytest.mark.parametrize("work_item", [fail, fail_async])
def test_failure_is_one_error_with_traceback(caplog, work_item) -> None:
    """A failure is one ERROR record with exc_info whose traceback leads into the item (F1)."""
    assert queue_background_work_item(work_item, name="it").wait(PATIENCE)
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.levelname, record.qbwi["status"]) == ("ERROR", "failed")
    assert record.exc_info[0] is ValueError
    assert "no such album" in caplog.text
    assert f"in {work_item.__name__}" in caplog.text


@pytest.mark.parametrize("work_item", [stop, stop_async])
def test_cancellation_is_information(caplog, work_item) -> None:
    """An item that ends by its own cancellation is no error: INFO."""
    handle = queue_background_work_item(work_item, name="it")
    handle.cancel()
    assert handle.wait(PATIENCE)
    assert levels_of(caplog, "it")[-1] == ("cancelled", "INFO")


def test_cancelled_before_its_start(caplog) -> None:
    """An item that is cancelled on request before it starts has one INFO record at its end."""
    gate = Gate()
    queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    queue_background_work_item(succeed, name="it").cancel()
    gate.release.set()
    assert levels_of(caplog, "it") == [("queued", "DEBUG"), ("cancelled", "INFO")]


@pytest.mark.parametrize("work_item", [stop, stop_async])
def test_end_by_timeout_is_a_warning(caplog, work_item) -> None:
    """An item that its timeout ended is a WARNING."""
    with override_settings(QBWI={}):
        assert queue_background_work_item(work_item, name="it", timeout=0.01).wait(PATIENCE)
    assert levels_of(caplog, "it")[-1] == ("cancelled", "WARNING")


def test_success_after_the_timeout_is_a_warning(caplog) -> None:
    """So is one that returned, but only after its timeout."""
    with override_settings(QBWI={}):
        work_item = lambda token: token.wait(PATIENCE)  # noqa: E731
        assert queue_background_work_item(work_item, name="it", timeout=0.01).wait(PATIENCE)
    assert levels_of(caplog, "it")[-1] == ("succeeded", "WARNING")


@pytest.mark.parametrize("is_async", [False, True])
def test_overdue_item_is_reported_once_with_its_stack(caplog, is_async: bool) -> None:
    """An item that ignores its timeout has one WARNING with its stack, and one record at its end."""
    overdue = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record) -> None:
            if "is overdue" in record.getMessage():
                overdue.set()

    def sync_item(token) -> None:
        assert overdue.wait(PATIENCE)

    async def async_item(token) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(overdue.wait, PATIENCE)

    logger, listener = logging.getLogger(), Listener()  # called after the handler of caplog
    logger.addHandler(listener)
    try:
        handle = queue_background_work_item(async_item if is_async else sync_item, name="it", timeout=0.01)
        assert handle.wait(PATIENCE)
    finally:
        logger.removeHandler(listener)
    [record] = [record for record in records_of(caplog, "it") if "is overdue" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert "in async_item" in record.getMessage() if is_async else "in sync_item" in record.getMessage()
    assert (record.qbwi["overdue"], handle.info.overdue, handle.info.cancel_reason) == (True, True, "timeout")


def test_rejection_is_a_warning_with_extra(caplog) -> None:
    """A refused item has one WARNING record, which says why."""
    gate = Gate()
    queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    waiting = queue_background_work_item(succeed)
    with pytest.raises(QueueFull):
        queue_background_work_item(succeed, name="it")
    gate.release.set()
    assert waiting.wait(PATIENCE)
    [record] = records_of(caplog, "it")
    assert record.levelname == "WARNING"
    assert "name=it rejected: it was not queued: 1 items are waiting" in record.getMessage()


def test_given_up_items_are_errors(caplog) -> None:
    """ABANDONED has one ERROR record with the stack, DISCARDED one without; the late end is one DEBUG record."""
    gate, ended = Gate(), threading.Event()

    def stuck(token) -> None:
        gate.item(token)

    handle = queue_background_work_item(stuck, name="stuck")
    assert gate.entered.wait(PATIENCE)
    queue_background_work_item(succeed, name="waiting")
    assert drain(0.01) is False

    class Listener(logging.Handler):
        def emit(self, record) -> None:
            if "ended after it was" in record.getMessage():
                ended.set()

    logger, listener = logging.getLogger(), Listener()  # called after the handler of caplog
    logger.addHandler(listener)
    try:
        gate.release.set()
        assert ended.wait(PATIENCE)
    finally:
        logger.removeHandler(listener)
    assert levels_of(caplog, "waiting") == [("queued", "DEBUG"), ("discarded", "ERROR")]
    *_, abandoned, late = records_of(caplog, "stuck")
    assert (abandoned.levelname, late.levelname) == ("ERROR", "DEBUG")
    assert "in stuck" in abandoned.getMessage()
    assert "ended after it was abandoned" in late.getMessage()
    assert handle.status == "abandoned"


@pytest.mark.parametrize(
    ("reason", "raises", "level"),
    [
        (CancelReason.SHUTDOWN, True, "WARNING"),
        (CancelReason.SHUTDOWN, False, "INFO"),
        (CancelReason.REQUESTED, True, "INFO"),
        (CancelReason.TIMEOUT, True, "WARNING"),
    ],
)
def test_g45_item_that_the_shutdown_ended_is_a_warning(caplog, reason: CancelReason, raises: bool, level: str) -> None:
    """G45: who ends by SHUTDOWN is named at WARNING; one that used its time to finish is not."""
    manual = ManualRuntime()
    manual.scheduler.observer = SignalsAndRecords()
    item = manual.queue(name="it")
    manual.sync.start()
    if reason is CancelReason.SHUTDOWN:
        manual.scheduler.stop.request()
    else:
        item.token._cancel(reason)
    manual.sync.finish(item, OperationCancelled(item.token) if raises else None)
    assert levels_of(caplog, "it")[-1] == ("cancelled" if raises else "succeeded", level)


def test_records_of_a_drain(caplog) -> None:
    """Start and end of a drain are INFO records of the lifecycle's logger."""
    gate = Gate()
    stuck = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    drain(0.01)
    gate.release.set()
    assert stuck.wait(PATIENCE)
    records = [record for record in caplog.records if record.name == "django_qbwi.lifecycle"]
    assert [record.levelname for record in records] == ["INFO", "INFO"]
    assert records[0].getMessage().startswith("Draining after the end of its settings: 1 running, 0 queued")
    end = r"Drained in \d\.\ds: 0 finished, 0 cancelled, 1 abandoned, 0 discarded"
    assert re.fullmatch(end, records[1].getMessage())


class Terminal(io.StringIO):
    """A standard error stream that a person may look at."""

    def __init__(self, is_terminal: bool = True) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def _wait_begins(hint: str | None) -> None:
    items = [ManualRuntime().queue(name=name) for name in ("ship", "mail")]
    start = DrainStart(sign="SIGINT", limit=90.0, running=0, queued=2)
    DrainRecords().wait_begins(start, items, 88.0, hint)


def test_g39_person_in_front_of_a_terminal_is_told(caplog, monkeypatch) -> None:
    """G39: at once, whatever LOGGING says: what is waited for, for how long, and how to end it."""
    caplog.set_level(logging.CRITICAL, "django_qbwi")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    _wait_begins("Press Ctrl-C again to end it now.")
    items = r"ship \(id=\w+, queued 0.0s\), mail \(id=\w+, queued 0.0s\)"
    expected = rf"Waiting up to 88s for: {items}\. Press Ctrl-C again to end it now\.\n"
    assert re.fullmatch(expected, terminal.getvalue())


@pytest.mark.parametrize(
    ("stream", "hint"),
    [(Terminal(False), "Press Ctrl-C."), (Terminal(), None), (None, "Press Ctrl-C."), (object(), "Press Ctrl-C.")],
    ids=["no terminal", "no audience", "no stream", "a foreign stream"],
)
def test_g39_nobody_is_there_to_be_told(caplog, monkeypatch, stream, hint: str | None) -> None:
    """G39: a log file gets its record, and nothing else."""
    monkeypatch.setattr(sys, "stderr", stream)
    _wait_begins(hint)
    assert not isinstance(stream, Terminal) or stream.getvalue() == ""
    assert caplog.messages[-1] == "Draining after SIGINT: 0 running, 2 queued, limit 90s"


def test_g40_drain_without_items_writes_no_record(caplog) -> None:
    """G40: nothing is said of a drain that has nothing to wait for, as at the exit of a test run."""
    assert queue_background_work_item(succeed).wait(PATIENCE)
    drain(PATIENCE)
    assert [record for record in caplog.records if record.name == "django_qbwi.lifecycle"] == []


def test_name_cannot_forge_a_line(caplog) -> None:
    """A name with a line break stays on its line (S14)."""
    assert queue_background_work_item(succeed, name="it\nERROR forged").wait(PATIENCE)
    assert "\nERROR forged" not in caplog.text


# What a record must not be able to do (F7, F45).


class BrokenHandler(logging.Handler):
    """A handler without the safety net of those in the standard library."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[str] = []

    def handle(self, record) -> bool:
        self.levels.append(record.levelname)
        raise RuntimeError("the disk is full")


@pytest.fixture
def broken_handler(capfd) -> Iterator[BrokenHandler]:
    """A handler that raises, on our loggers."""
    handler, logger = BrokenHandler(), logging.getLogger("django_qbwi")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    assert "the disk is full" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("work_item", "status"),
    [(succeed, "succeeded"), (succeed_async, "succeeded"), (fail, "failed"), (fail_async, "failed")],
)
def test_logging_handler_cannot_change_the_outcome(broken_handler, work_item, status: str) -> None:
    """A logging handler that raises reaches neither the caller nor the item, nor the one signal of its end."""
    ended = []

    def receiver(info, **kwargs) -> None:
        ended.append(info.status)

    work_item_finished.connect(receiver)
    try:
        handle = queue_background_work_item(work_item)
        assert handle.wait(PATIENCE)
        assert queue_background_work_item(work_item).wait(PATIENCE)
    finally:
        work_item_finished.disconnect(receiver)
    assert (handle.status, ended) == (status, [status] * 2)
    assert "DEBUG" in broken_handler.levels


def test_logging_handler_cannot_hide_a_refusal(broken_handler) -> None:
    """With a broken handler the caller still gets QueueFull."""
    gate = Gate()
    queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    waiting = queue_background_work_item(succeed)
    with pytest.raises(QueueFull):
        queue_background_work_item(succeed)
    gate.release.set()
    assert waiting.wait(PATIENCE)


def test_logging_handler_cannot_stop_a_drain(broken_handler) -> None:
    """With a broken handler a drain comes to its end, and the next item runs."""
    gate = Gate()
    stuck = queue_background_work_item(gate.item)
    assert gate.entered.wait(PATIENCE)
    assert drain(0.01) is False
    gate.release.set()
    assert stuck.status == "abandoned"
    assert queue_background_work_item(stop, timeout=0.01).wait(PATIENCE)


class Unprintable(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("is_async", [False, True])
def test_unprintable_exception_is_recorded(caplog, is_async: bool) -> None:
    """A failure whose `__str__` and `__repr__` raise is recorded all the same (F7)."""

    def sync_item(token) -> None:
        raise Unprintable

    async def async_item(token) -> None:
        raise Unprintable

    handle = queue_background_work_item(async_item if is_async else sync_item, name="it")
    assert handle.wait(PATIENCE)
    assert levels_of(caplog, "it")[-1] == ("failed", "ERROR")
    assert handle.info.error.message == "<unprintable: RuntimeError>"


@pytest.mark.parametrize("name", hostile.NAMES)
@pytest.mark.parametrize("how", ["sync", "async", "immediate"])
def test_g1_hostile_exception_is_recorded(caplog, capsys, how: str, name: str) -> None:
    """A failure that refuses attributes, or answers for them, is recorded once; who waits is woken (G1)."""

    def sync_item(token) -> None:
        raise hostile.make(name)

    async def async_item(token) -> None:
        raise hostile.make(name)

    with immediate_work_items() if how == "immediate" else contextlib.nullcontext():
        handle = queue_background_work_item(async_item if how == "async" else sync_item, name="it")
        assert handle.wait(PATIENCE)
    assert ("failed", "ERROR") in levels_of(caplog, "it")
    assert handle.info.error.type.endswith(name)
    assert "raise hostile.make(name)" in handle.info.error.traceback
