"""The backend: takes the mails of a call, and queues them as one item."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar

from django.conf import settings as django_settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.utils.timezone import get_current_timezone

from django_qbwi import conf, hosting
from django_qbwi.contrib.mail.copies import copy_of
from django_qbwi.contrib.mail.delivery import Batch, Letter, about, deliver, deliver_plain, depth, logger
from django_qbwi.contrib.mail.transience import MailRetry
from django_qbwi.contrib.mail.wrapped import fix_headers, make_connection, options_of_alias, wrapped_class
from django_qbwi.core.exceptions import NotHosted, WorkItemRejected
from django_qbwi.database.connections import open_transaction
from django_qbwi.intake.options import Start
from django_qbwi.intake.retries import Retry
from django_qbwi.machine.running_loop import on_running_loop

NAME = "mail"
"""That of the items: a subject would tell too much."""
_MAX_DEPTH = 2


class BackgroundEmailBackend(BaseEmailBackend):
    """Queues mails instead of sending them: `EMAIL_BACKEND = "django_qbwi.contrib.mail.BackgroundEmailBackend"`.

    - QBWI["EMAIL_BACKEND"] sends them, in the background. One call of `send_messages` is one item and one connection.
    - Inside a transaction they are queued on its commit: what is rolled back sends nothing.
    - They are copied at the call. What cannot be copied is refused there, and so is a header with a line break.
    - Where the queue is full, or the process ends, they are sent at the call, as without this backend; on a running
      event loop, which that would stop, WorkItemRejected is raised.
    - With `fail_silently` neither raises. What fails in the background is FAILED, with its record, in both cases.
    """

    queues_mail: ClassVar[bool] = True
    """By which the checks know that it sends nothing itself."""
    retry: ClassVar[Retry] = MailRetry()
    """What follows a failed attempt; derive a class to have another policy."""

    def __init__(self, fail_silently: bool = False, *, alias: str | None = None, **options: Any) -> None:
        """Make it as Django does; `options` are for the backend that sends.

        Raises:
            ImproperlyConfigured: QBWI["EMAIL_BACKEND"] cannot be used.
        """
        # Without `fail_silently`, which is ours: Django 6.1 would warn of it.
        super().__init__(alias=alias)
        self.alias = alias
        self.fail_silently = fail_silently
        # Django 6.1 says by a keyword of its own which options it has added itself.
        self.options = {name: value for name, value in options.items() if not name.startswith("_")}
        wrapped_class(options)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Queue these messages, those without a recipient left out; return how many. Never blocks but as said above.

        Raises:
            InvalidWorkItem: One of them cannot be copied, or cannot be handed off where that is wanted.
            ValueError: A header of one holds a line break, as Django has it.
            WorkItemRejected: None was queued, and this is a running event loop.
        """
        messages = [message for message in email_messages or () if message.recipients()]
        if not messages:
            return 0
        if depth.get() >= _MAX_DEPTH:
            # Not above INFO: the handler that has sent it may hear of this as well.
            logger.info("A mail that tells that a mail about a mail has failed was left out")
            return 0
        batch = self._batch(messages)
        queue = functools.partial(hosting.queue, *self._call(batch))
        alias = _awaited_transaction()
        if alias is not None:
            transaction.on_commit(self._after_commit(batch, queue), using=alias, robust=True)
            return len(messages)
        with about(batch):
            try:
                queue()
            except WorkItemRejected as refusal:
                return self._when_refused(batch, refusal)
        return len(messages)

    def _batch(self, messages: list[EmailMessage]) -> Batch:
        zone = get_current_timezone() if django_settings.EMAIL_USE_LOCALTIME else UTC
        date = format_datetime(datetime.now(zone))
        letters = tuple(Letter(uuid.uuid4().hex, date, copy_of(message)) for message in messages)
        return Batch(letters=letters, alias=self.alias, options=self.options, depth=depth.get(), retry=self.retry)

    def _call(self, batch: Batch) -> tuple[Any, ...]:
        """Return what `hosting.queue` is called with."""
        settings = conf.load()
        hand_off = settings.email_hand_off
        # Options that were given at the call stay here: a password has no business in the table of an engine.
        may_leave = self.options == options_of_alias(self.alias)
        if not may_leave or (hand_off is None and settings.engine is None):
            return deliver, (batch,), NAME, None, None, Start(retry=self.retry)
        start = Start(retry=self.retry, hand_off=hand_off)
        return deliver_plain.function, (batch.to_plain(),), NAME, None, None, start

    def _after_commit(self, batch: Batch, queue: Callable[[], object]) -> Callable[[], None]:
        # A function with a name: before version 6.0, Django asks a robust hook that raises for it.
        def queue_after_commit() -> None:
            with about(batch):
                try:
                    queue()
                except WorkItemRejected:
                    self._send_after_commit(batch)
                except Exception:
                    logger.exception("After the commit, %d mail(s) could not be queued", len(batch.letters))

        return queue_after_commit

    def _send_after_commit(self, batch: Batch) -> None:
        try:
            self._send_now(batch)
        except Exception:
            # Whoever called has done their part, and the other hooks still have to run.
            logger.exception("After the commit, %d mail(s) could not be sent", len(batch.letters))

    def _when_refused(self, batch: Batch, refusal: WorkItemRejected) -> int:
        if not on_running_loop():
            return self._send_now(batch)
        if not self.fail_silently:
            raise refusal
        logger.error("%d mail(s) were not sent: %s", len(batch.letters), refusal)
        return 0

    def _send_now(self, batch: Batch) -> int:
        """Send in this thread, as without us; blocks."""
        try:
            connection = make_connection(batch.alias, batch.options)
            for letter in batch.letters:
                fix_headers(connection, letter.message, letter.key, letter.date)
            return connection.send_messages([letter.message for letter in batch.letters]) or 0
        except OSError:
            if not self.fail_silently:
                raise
            logger.warning("%d mail(s) were not sent", len(batch.letters), exc_info=True)
            return 0


def _awaited_transaction() -> str | None:
    """Return the alias of the database whose commit is waited for, None if nothing is."""
    alias = None if on_running_loop() else open_transaction()
    try:
        return None if alias is None or hosting.runs_before_commit(alias) else alias
    except NotHosted:
        return alias
