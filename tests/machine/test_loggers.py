"""Records that are written whatever a logging handler does."""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import start_thread
from tests.support.gates import PATIENCE


class Exploding(logging.Handler):
    """A handler without the safety net of the standard library's."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("disk full")


@pytest.fixture
def exploding() -> Iterator[None]:
    """A logger one of whose handlers raises."""
    logger, handler = logging.getLogger("django_qbwi.test"), Exploding()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_record_is_that_of_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    """Message, arguments, level, `extra` and the caller's line arrive as with any logger."""
    SafeLogger("django_qbwi.test").warning("%d item(s)", 3, extra={"qbwi": {"id": "x"}})
    [record] = caplog.records
    assert (record.getMessage(), record.levelname, record.filename) == ("3 item(s)", "WARNING", "test_loggers.py")
    assert record.qbwi == {"id": "x"}  # type: ignore[attr-defined]
    assert record.funcName == "test_record_is_that_of_the_caller"


def test_f45_raising_handler_is_printed_and_forgotten(exploding: None, capsys: pytest.CaptureFixture[str]) -> None:
    """F45: a handler that raises is printed, as the standard library prints it, and the caller goes on."""
    SafeLogger("django_qbwi.test").error("one record")
    assert "ValueError: disk full" in capsys.readouterr().err


def test_f45_raising_handler_may_be_silenced(
    exploding: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F45: with `logging.raiseExceptions` off nothing is printed."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    SafeLogger("django_qbwi.test").error("one record")
    assert capsys.readouterr().err == ""


def test_try_log_says_whether_it_worked(exploding: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has a second way to tell learns that the first one failed."""
    assert SafeLogger("django_qbwi.test").try_log(logging.ERROR, "one record") is False
    assert SafeLogger("django_qbwi.other").try_log(logging.ERROR, "one record") is True
    capsys.readouterr()


class Raising(logging.Handler):
    """A handler that raises what it is given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


class RaisingFilter(logging.Filter):
    """A filter that does."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self.error


BASE_EXCEPTIONS = [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), BaseException("bare")]


@contextlib.contextmanager
def logger_that_raises(error: BaseException, where: str) -> Iterator[SafeLogger]:
    """A logger whose handler, or filter, raises."""
    logger = logging.getLogger("django_qbwi.test")
    handler, condition = Raising(error), RaisingFilter(error)
    if where == "handler":
        logger.addHandler(handler)
    else:
        logger.addFilter(condition)
    try:
        yield SafeLogger("django_qbwi.test")
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(condition)


def in_thread_of_ours(call: Callable[[], object]) -> list[object]:
    """Run a call in a thread of the package, and return what it returned or raised."""
    results: list[object] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)
        done.set()

    start_thread(run, "qbwi-test")
    assert done.wait(PATIENCE)
    return results


@pytest.mark.parametrize("where", ["handler", "filter"])
@pytest.mark.parametrize("error", BASE_EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_g6_handler_that_exits_ends_no_thread_of_ours(
    capsys: pytest.CaptureFixture[str], error: BaseException, where: str
) -> None:
    """G6: whatever a handler or a filter raises is printed and forgotten in the threads that the package starts."""
    with logger_that_raises(error, where) as logger:
        assert in_thread_of_ours(lambda: logger.try_log(logging.ERROR, "one record")) == [False]
        assert in_thread_of_ours(lambda: logger.error("another")) == [None]
    assert capsys.readouterr().err.count(type(error).__name__) >= 2


@pytest.mark.parametrize("error", BASE_EXCEPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("thread", ["main", "of a server"])
def test_g6_exit_out_of_a_signal_handler_goes_on(error: BaseException, thread: str) -> None:
    """G6: in the main thread, and in one that is not ours, it may be meant for our caller: it is not swallowed."""
    caught: list[BaseException] = []

    def log() -> None:
        with pytest.raises(type(error)) as raised:
            logger.error("one record")
        caught.append(raised.value)

    with logger_that_raises(error, "handler") as logger:
        if thread == "main":
            log()
        else:
            other = threading.Thread(target=log)
            other.start()
            other.join(PATIENCE)
    assert caught == [error]


def test_g6_stderr_that_raises_as_well(monkeypatch: pytest.MonkeyPatch, exploding: None) -> None:
    """G6: where nothing can be printed either, the caller still goes on."""

    class Closed:
        """A stream that is gone."""

        def write(self, text: str) -> int:
            raise OSError("gone")

    monkeypatch.setattr(sys, "stderr", Closed())
    assert SafeLogger("django_qbwi.test").try_log(logging.ERROR, "one record") is False
