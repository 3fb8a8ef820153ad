"""The mails of the page are sent as the page says."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import smtplib
from unittest import mock

import django
from django.core import mail
from django.core.mail import EmailMessage
from django.db import transaction
from django.test import TransactionTestCase, override_settings
from shop.mail import PatientBackend

from django_qbwi import WorkItemStatus, recent_items
from django_qbwi.contrib.mail import MailRetry
from django_qbwi.testing import drain

BACKGROUND = "django_qbwi.contrib.mail.BackgroundEmailBackend"
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
MAILERS = {"default": {"BACKEND": BACKGROUND}}
MAIL = {"MAILERS": MAILERS} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": BACKGROUND}


@override_settings(QBWI={"EMAIL_BACKEND": LOCMEM}, **MAIL)
class TheMailsTests(TransactionTestCase):
    """With real threads, and real commits."""

    def test_view(self) -> None:
        """It answers, and the mail is sent behind its commit."""
        self.client.post("/order/", {"email": "ann@example.com"})
        self.assertTrue(drain(30))
        self.assertEqual([one.to for one in mail.outbox], [["ann@example.com"]])
        self.assertEqual((recent_items()[0].name, recent_items()[0].status), ("mail", WorkItemStatus.SUCCEEDED))

    def test_rollback(self) -> None:
        """No mail tells of what has not happened."""
        with transaction.atomic():
            self.client.post("/order/", {"email": "ann@example.com"})
            transaction.set_rollback(True)
        self.assertTrue(drain(30))
        self.assertEqual(mail.outbox, [])

    def test_what_is_changed_afterwards(self) -> None:
        """It does not change what is sent."""
        message = EmailMessage("Your order", "Thank you.", "shop@example.com", ["ann@example.com"])
        self.assertEqual(message.send(), 1)
        message.subject = "changed"
        self.assertTrue(drain(30))
        self.assertEqual(mail.outbox[0].subject, "Your order")

    def test_refused_for_good(self) -> None:
        """It is not tried again, and the item has failed."""
        refused = smtplib.SMTPDataError(554, b"spam")
        with mock.patch("django.core.mail.backends.locmem.EmailBackend.send_messages", side_effect=refused):
            self.client.post("/order/", {"email": "ann@example.com"})
            self.assertTrue(drain(30))
        self.assertEqual((recent_items()[0].status, recent_items()[0].attempt), (WorkItemStatus.FAILED, 1))


class ThePolicyTests(TransactionTestCase):
    """As the page tells."""

    def test_default(self) -> None:
        """Six attempts within 12 to 24 minutes."""
        retry = MailRetry()
        pauses = [retry.backoff(attempt, OSError()) for attempt in range(1, retry.max_attempts)]
        self.assertEqual(len(pauses), 5)
        self.assertTrue(11.7 * 60 <= sum(pauses) <= 24 * 60, pauses)

    def test_own(self) -> None:
        """That of the class counts."""
        self.assertEqual(PatientBackend.retry.max_attempts, 8)
