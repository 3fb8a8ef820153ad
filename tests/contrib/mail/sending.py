"""A backend that does what a test says, where a real one would talk to a server; and settings with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import django
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.test import override_settings

from django_qbwi.contrib.mail import BackgroundEmailBackend, MailRetry

OURS = "tests.contrib.mail.sending.QuickBackend"
SCRIPTED = "tests.contrib.mail.sending.ScriptedBackend"
BY_MAILERS = django.VERSION >= (6, 1)

events: list[str] = []
"""What the connections were asked for: open, close, and the subject of each mail that was accepted."""
accepted: list[EmailMessage] = []
made_with: list[dict[str, Any]] = []
fails: dict[str, list[BaseException | None]] = {}
"""By subject, or `open` and `close`: what is raised, one after the other."""
called: dict[str, Callable[[], object]] = {}
"""By subject: what is called ahead of a mail."""


def start_afresh() -> None:
    """Forget what tests before this one have left."""
    for one in (events, accepted, made_with, fails, called):
        one.clear()


class ScriptedBackend(BaseEmailBackend):
    """Accepts mails, or fails as it is told."""

    def __init__(self, *, alias: str | None = None, **options: Any) -> None:
        super().__init__(alias=alias)
        made_with.append(options)

    def open(self) -> bool:
        events.append("open")
        self._fail("open")
        return True

    def close(self) -> None:
        events.append("close")
        self._fail("close")

    def send_messages(self, email_messages: Any) -> int:
        for message in email_messages:
            called.get(message.subject, lambda: None)()
            self._fail(message.subject)
            events.append(message.subject)
            accepted.append(message)
        return len(email_messages)

    def _fail(self, where: str) -> None:
        planned = fails.get(where)
        error = planned.pop(0) if planned else None
        if error is not None:
            raise error


class SilentBackend(ScriptedBackend):
    """Says by a number only that it has not sent something."""

    def send_messages(self, email_messages: Any) -> int:
        return 0


class QuickBackend(BackgroundEmailBackend):
    """Tries again at once."""

    retry = MailRetry(max_attempts=3, backoff=lambda attempt, error: 0)


class PatientBackend(BackgroundEmailBackend):
    """Tries again when every test is over."""

    retry = MailRetry(backoff=lambda attempt, error: 1000)


def site(backend: str = OURS, options: dict[str, Any] | None = None, **qbwi: Any) -> AbstractContextManager[Any]:
    """Return settings of a site whose mail goes to `backend`, which is ours unless it is said otherwise."""
    found: dict[str, Any] = {"QBWI": {"EMAIL_BACKEND": SCRIPTED, **qbwi}}
    if BY_MAILERS:
        found["MAILERS"] = {"default": {"BACKEND": backend, "OPTIONS": options or {}}}
    else:
        assert not options
        found["EMAIL_BACKEND"] = backend
    return override_settings(**found)
