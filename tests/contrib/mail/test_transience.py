"""Which failures are tried again."""

from __future__ import annotations

import errno
import smtplib
import socket
import ssl

import pytest

from django_qbwi import InvalidWorkItem, Retry
from django_qbwi.contrib.mail import MailRetry, is_transient
from django_qbwi.contrib.mail.transience import ends_the_connection, is_tried_again

PASSES = {
    "greylisted": smtplib.SMTPRecipientsRefused({"a@example.com": (451, b"later")}),
    "one_of_two": smtplib.SMTPRecipientsRefused({"a@example.com": (550, b"no"), "b@example.com": (452, b"full")}),
    "data": smtplib.SMTPDataError(452, b"no space"),
    "sender": smtplib.SMTPSenderRefused(421, b"hanging up", "a@example.com"),
    "login": smtplib.SMTPAuthenticationError(454, b"temporary"),
    "greeting": smtplib.SMTPConnectError(421, b"busy"),
    "hung_up": smtplib.SMTPServerDisconnected("gone"),
    "refused": ConnectionRefusedError(),
    "reset": ConnectionResetError(),
    "timeout": TimeoutError(),
    "no_name": socket.gaierror(socket.EAI_AGAIN, "try again"),
    "tls": ssl.SSLEOFError(8, "EOF"),
    "no_route": OSError(errno.EHOSTUNREACH, "no route"),
}
STAYS = {
    "unknown": smtplib.SMTPRecipientsRefused({"a@example.com": (550, b"no such user")}),
    "content": smtplib.SMTPDataError(554, b"spam"),
    "login": smtplib.SMTPAuthenticationError(535, b"wrong password"),
    "not_supported": smtplib.SMTPNotSupportedError("no SMTPUTF8"),
    "nobody": smtplib.SMTPRecipientsRefused({}),
    "certificate": ssl.SSLCertVerificationError(1, "self-signed"),
    "no_file": FileNotFoundError(errno.ENOENT, "no such file"),
    "header": ValueError("line break"),
}


@pytest.mark.parametrize("error", PASSES.values(), ids=PASSES)
def test_it_passes(error: Exception) -> None:
    """A code of 4xx, or a connection that was not there or was lost: another attempt follows."""
    assert is_transient(error)
    assert MailRetry().seconds_until_next(1, error) is not None


@pytest.mark.parametrize("error", STAYS.values(), ids=STAYS)
def test_it_stays(error: Exception) -> None:
    """A code of 5xx, or what is no matter of the server: no other attempt."""
    assert not is_transient(error)
    assert MailRetry().seconds_until_next(1, error) is None


def test_attempts_end() -> None:
    """There are as many as it says, and a class of exceptions can be asked for."""
    assert MailRetry(max_attempts=2).seconds_until_next(2, TimeoutError()) is None
    assert MailRetry(on=(ConnectionError,)).seconds_until_next(1, TimeoutError()) is None
    assert MailRetry(backoff=lambda attempt, error: 7).seconds_until_next(1, TimeoutError()) == 7
    with pytest.raises(InvalidWorkItem, match="max_attempts is 0"):
        MailRetry(max_attempts=0)


def test_default_outlasts_a_greylist() -> None:
    """Its attempts go on for more than five minutes, whatever the jitter leaves out."""
    retry = MailRetry()
    pauses = [retry.seconds_until_next(attempt, TimeoutError()) for attempt in range(1, retry.max_attempts)]
    assert sum(pause for pause in pauses if pause is not None) > 300


def test_policy_of_others() -> None:
    """That of a user says what is worth another attempt; ours looks at the failure, too."""
    refused = STAYS["unknown"]
    assert is_tried_again(Retry(on=smtplib.SMTPException), refused)
    assert not is_tried_again(MailRetry(), refused)
    assert not is_tried_again(Retry(on=KeyError), PASSES["timeout"])


@pytest.mark.parametrize("name", ["sender", "greeting", "hung_up", "reset", "timeout"])
def test_connection_is_over(name: str) -> None:
    """Nothing more can be sent over it."""
    assert ends_the_connection(PASSES[name])


@pytest.mark.parametrize("error", [PASSES["greylisted"], PASSES["data"], STAYS["content"], STAYS["header"]])
def test_connection_goes_on(error: Exception) -> None:
    """It was a matter of the one mail."""
    assert not ends_the_connection(error)
