"""Which failures of a mail server pass by themselves, so that another attempt is worth it. Nothing here waits."""

from __future__ import annotations

import dataclasses
import errno
import smtplib
import socket
import ssl
from collections.abc import Callable

from django_qbwi.intake.retries import Retry, exponential

_UNREACHABLE = {
    getattr(errno, name)
    for name in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EHOSTDOWN", "ENETRESET", "EPIPE", "EAGAIN")
    if hasattr(errno, name)
}
_LOSSES = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, smtplib.SMTPServerDisconnected)
_CLOSES = 421
"""The code with which a server says that it hangs up."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same mail may be accepted later: a code of 4xx, or a connection that failed or was lost.

    Of several recipients that were all refused, one that may be accepted later is enough.
    """
    codes = _codes_of(error)
    if codes:
        return any(400 <= code < 500 for code in codes)
    return _is_connection_loss(error)


def ends_the_connection(error: BaseException) -> bool:
    """Return whether nothing more can be sent over the connection that has failed so."""
    codes = _codes_of(error)
    return _CLOSES in codes if codes else _is_connection_loss(error)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MailRetry(Retry):
    """As `Retry`, but of what `on` names only what passes by itself: see `is_transient`.

    By default six attempts within 12 to 24 minutes, which outlast the usual five minutes of a greylist.
    """

    max_attempts: int = 6
    """All of them, the first one included; 1 or more."""
    backoff: Callable[[int, BaseException], float] = dataclasses.field(
        default_factory=lambda: exponential(first=10.0, factor=4.0, longest=600.0)
    )
    """As that of `Retry`."""

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds until the next attempt, None if there is none; raises what `backoff` does."""
        # Not by `super()`, which a dataclass with slots does not have: it is another class than this text is of.
        return Retry.seconds_until_next(self, attempt, error) if is_transient(error) else None


def is_tried_again(retry: Retry, error: BaseException) -> bool:
    """Return whether a policy has another attempt follow this failure, however many there were."""
    return isinstance(error, retry.on) and (is_transient(error) if isinstance(retry, MailRetry) else True)


def _codes_of(error: BaseException) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [reply[0] for reply in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _is_connection_loss(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    if isinstance(error, _LOSSES):
        return True
    # The exceptions of smtplib are OSErrors, too.
    return isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException) and error.errno in _UNREACHABLE
