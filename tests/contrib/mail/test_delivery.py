"""One attempt at a batch, called by hand."""

from __future__ import annotations

import logging
import smtplib
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends import smtp

from django_qbwi import CancellationToken, CancellationTokenSource, CancelReason, OperationCancelled
from django_qbwi.contrib.mail import MailNotSent, MailRetry
from django_qbwi.contrib.mail.delivery import Batch, Letter, deliver
from django_qbwi.contrib.mail.wrapped import fix_headers
from tests.contrib.mail import sending

NO = smtplib.SMTPRecipientsRefused({"a@example.com": (550, b"no such user")})
LATER = smtplib.SMTPDataError(451, b"greylisted")
SILENT = "tests.contrib.mail.sending.SilentBackend"
GONE = smtplib.SMTPServerDisconnected("gone")

pytestmark = pytest.mark.usefixtures("site")


def batch(*subjects: str) -> Batch:
    """Return a batch of mails that differ by their subjects."""
    letters = [Letter(subject, "", EmailMessage(subject, "text", to=["a@example.com"])) for subject in subjects]
    return Batch(letters=tuple(letters))


def at_once(*subjects: str, pause: float = 0.0) -> Batch:
    """Return a batch that is tried again twice."""
    return Batch(letters=batch(*subjects).letters, retry=MailRetry(max_attempts=3, backoff=lambda *failed: pause))


class NotingToken(CancellationToken):
    """Keeps the arguments of its checkpoints."""

    __slots__ = ("notes",)

    def checkpoint(self, **state: Any) -> None:
        self.notes.append(state)


def noting() -> NotingToken:
    """Return such a token, never cancelled."""
    token = NotingToken(CancellationToken.none()._stop)
    token.notes = []
    return token


def test_one_connection_for_all() -> None:
    """It is opened once, and closed behind the last mail."""
    token = noting()
    deliver(token, batch("a", "b", "c"))
    assert sending.events == ["open", "a", "b", "c", "close"]
    assert [note["left"] for note in token.notes] == [[0, 1, 2], [1, 2], [2]]
    assert token.progress is not None
    assert (token.progress.done, token.progress.total) == (2, 3)


def test_goes_on_with_what_is_left() -> None:
    """What an attempt before has brought is not sent again."""
    deliver(CancellationToken.none(), batch("a", "b", "c"), left=[2])
    assert sending.events == ["open", "c", "close"]


def test_one_mail_refused_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """The item fails with what the server said."""
    sending.fails["a"] = [NO]
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        deliver(CancellationToken.none(), batch("a"))
    assert sending.events == ["open", "close"]
    assert caplog.records == []


def test_one_of_three_refused_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """The others are sent; a record names it at once, and the item fails at its end."""
    sending.fails["b"] = [NO]
    with pytest.raises(MailNotSent, match=r"1 of 3 mails were refused; the first one: .*no such user") as raised:
        deliver(CancellationToken.none(), batch("a", "b", "c"))
    assert sending.events == ["open", "a", "c", "close"]
    assert raised.value.__cause__ is NO
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "django_qbwi.mail")
    assert record.getMessage().startswith("Mail b was refused: ")


def test_one_of_three_refused_for_now() -> None:
    """The others are sent, and the next attempt has that one alone."""
    token = noting()
    sending.fails["a"] = [LATER]
    with pytest.raises(smtplib.SMTPDataError):
        deliver(token, batch("a", "b", "c"))
    assert sending.events == ["open", "b", "c", "close"]
    assert token.notes[-1] == {"left": [0], "refused": []}


def test_refused_in_different_attempts() -> None:
    """What one attempt was told for good is not forgotten by the next."""
    token = noting()
    sending.fails.update(a=[LATER], b=[NO])
    with pytest.raises(smtplib.SMTPDataError):
        deliver(token, batch("a", "b", "c"))
    with pytest.raises(MailNotSent, match="1 of 3"):
        deliver(token, batch("a", "b", "c"), **token.notes[-1])
    assert sending.events == ["open", "c", "close", "open", "a", "close"]


def test_lost_connection_that_has_brought_something() -> None:
    """Another one is opened at once: some servers take only so many mails over one."""
    sending.fails["b"] = [GONE, None]
    deliver(CancellationToken.none(), batch("a", "b", "c"))
    assert sending.events == ["open", "a", "close", "open", "b", "c", "close"]


def test_lost_connection_that_has_brought_nothing() -> None:
    """The attempt has failed, and knows what it leaves."""
    token = noting()
    sending.fails["b"] = [GONE, GONE]
    with pytest.raises(smtplib.SMTPServerDisconnected):
        deliver(token, batch("a", "b", "c"))
    assert sending.events == ["open", "a", "close", "open", "close"]
    assert token.notes[-1]["left"] == [1, 2]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), smtplib.SMTPAuthenticationError(535, b"wrong")])
def test_server_that_lets_nobody_in(error: Exception) -> None:
    """That is no refusal of one mail: the attempt fails, whatever the reason."""
    token = noting()
    sending.fails["open"] = [error]
    with pytest.raises(type(error)):
        deliver(token, batch("a", "b"))
    assert sending.events == ["open", "close"]
    assert token.notes[-1]["left"] == [0, 1]


def test_bad_good_bye() -> None:
    """What was accepted is accepted, however the connection ends."""
    sending.fails["close"] = [ConnectionResetError()]
    deliver(CancellationToken.none(), batch("a"))
    assert sending.events == ["open", "a", "close"]


def test_backend_that_says_it_by_a_number(caplog: pytest.LogCaptureFixture) -> None:
    """A record tells of a mail that was not sent without an error."""
    one = batch("a")
    deliver(CancellationToken.none(), Batch(letters=one.letters, options={"backend": SILENT}))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("Mail a was not sent")


def test_cancelled_between_two_mails(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is not sent, and each of it is told of."""
    source = CancellationTokenSource()
    sending.called["a"] = source.cancel
    with pytest.raises(OperationCancelled):
        deliver(source.token, batch("a", "b", "c"))
    assert sending.events == ["open", "a", "close"]
    assert [record.getMessage().split(" was not sent")[0] for record in caplog.records] == ["Mail b", "Mail c"]


def test_shutdown_that_leaves_time() -> None:
    """A mail is short: what was begun is finished while there is time."""
    source = CancellationTokenSource()
    sending.called["a"] = lambda: source.cancel(CancelReason.SHUTDOWN)
    deliver(source.token, batch("a", "b"))
    assert sending.events == ["open", "a", "b", "close"]


@pytest.mark.parametrize("error", [LATER, ConnectionResetError()])
def test_refused_for_now_at_a_shutdown(error: Exception) -> None:
    """A cancelled token has no next attempt: it is tried again in this one, within the pauses of its policy."""
    source = CancellationTokenSource()
    sending.called["a"] = lambda: source.cancel(CancelReason.SHUTDOWN)
    sending.fails["a"] = [error, error]
    deliver(source.token, at_once("a", "b"))
    assert sorted(one.subject for one in sending.accepted) == ["a", "b"]
    assert sending.events.count("open") == 3


def test_refused_for_long_at_a_shutdown() -> None:
    """As often as the policy says."""
    source = CancellationTokenSource()
    source.cancel(CancelReason.SHUTDOWN)
    sending.fails["a"] = [LATER] * 9
    with pytest.raises(smtplib.SMTPDataError):
        deliver(source.token, at_once("a"))
    assert sending.events.count("open") == 3


def test_pause_that_is_too_long_for_the_shutdown() -> None:
    """The exit is not held for what cannot come in time."""
    source = CancellationTokenSource()
    source.cancel_after(30.0, CancelReason.SHUTDOWN)
    source.cancel(CancelReason.SHUTDOWN)
    sending.fails["a"] = [LATER]
    with pytest.raises(smtplib.SMTPDataError):
        deliver(source.token, at_once("a", pause=29.0))
    assert sending.events == ["open", "close"]


def test_bad_backoff_at_a_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is recorded; the item fails with the error of its mail."""

    def backoff(attempt: int, error: BaseException) -> float:
        raise ZeroDivisionError

    source = CancellationTokenSource()
    source.cancel(CancelReason.SHUTDOWN)
    sending.fails["a"] = [LATER]
    with pytest.raises(smtplib.SMTPDataError):
        deliver(source.token, Batch(letters=batch("a").letters, retry=MailRetry(backoff=backoff)))
    assert "The pause before the next attempt could not be told" in caplog.text


def test_id_and_date_by_smtp() -> None:
    """They are those of the call, unless the mail has its own."""
    connection = smtp.EmailBackend.__new__(smtp.EmailBackend)
    plain = EmailMessage("a", "text", to=["a@example.com"])
    fix_headers(connection, plain, "key", "Thu, 01 Jan 2026 00:00:00 +0000")
    assert plain.extra_headers["Message-ID"].startswith("<key@")
    assert plain.message()["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    own = EmailMessage("a", "text", to=["a@example.com"], headers={"message-id": "<own@example.com>", "DATE": "then"})
    fix_headers(connection, own, "key", "now")
    assert own.extra_headers == {"message-id": "<own@example.com>", "DATE": "then"}


def test_no_headers_for_other_backends() -> None:
    """Services with an API of their own may refuse them."""
    deliver(CancellationToken.none(), batch("a"))
    assert sending.accepted[0].extra_headers == {}


def test_repr_has_no_password() -> None:
    """Options stand in no record."""
    assert "secret" not in repr(Batch(letters=(), options={"password": "secret"}))
