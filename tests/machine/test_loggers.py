"""Records that are written whatever a logging handler does."""

import logging
from collections.abc import Iterator

import pytest

from django_qbwi.machine.loggers import SafeLogger


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
