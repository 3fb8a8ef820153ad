"""The items of the page are tried again as the page says."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import threading
from unittest import mock

from django.core import mail
from django.test import TransactionTestCase
from shop import items
from shop.models import Order

from django_qbwi import Retry, WorkItemStatus, exponential


class TheItemsTests(TransactionTestCase):
    """With real threads."""

    def test_server_that_cannot_be_reached(self) -> None:
        """It is asked again, until it answers."""
        order = Order.objects.create(email="ann@example.com")
        answers = iter([ConnectionRefusedError(), OSError(), None])

        def send(*args: object) -> None:
            error = next(answers)
            if error is not None:
                raise error

        retry = Retry(max_attempts=4, on=(OSError,), backoff=exponential(first=0.001))
        with mock.patch("shop.items.send_mail", send):
            handle = items.confirm.using(retry=retry).queue(order.pk)
            self.assertTrue(handle.wait(30))
        self.assertEqual((handle.status, handle.info.attempt), (WorkItemStatus.SUCCEEDED, 3))

    def test_pauses(self) -> None:
        """They are those that the page tells."""
        backoff = exponential(first=2.0, longest=60.0)
        for attempt, (least, most) in enumerate([(1, 2), (2, 4), (4, 8)], start=1):
            self.assertTrue(least <= backoff(attempt, OSError()) <= most)

    def test_server_that_says_when(self) -> None:
        """Its word counts."""
        handle = items.announce.queue(1)
        self.assertTrue(handle.wait(30))
        self.assertEqual((handle.status, handle.info.attempt), (WorkItemStatus.FAILED, 3))

    def test_one_call_without_retries(self) -> None:
        """As the page writes it."""
        with mock.patch("shop.items.send_mail", side_effect=OSError):
            handle = items.confirm.using(retry=Retry(max_attempts=1)).queue(
                Order.objects.create(email="ann@example.com").pk
            )
            self.assertTrue(handle.wait(30))
        self.assertEqual((handle.status, handle.info.attempt), (WorkItemStatus.FAILED, 1))

    def test_goes_on_from_the_checkpoint(self) -> None:
        """Nobody gets the letter twice whose order was noted."""
        for name in ("ann", "ben", "eve"):
            Order.objects.create(email=f"{name}@example.com", paid=True)
        original, failed = mail.send_mail, threading.Event()

        def send(*args: object) -> None:
            if args[3] == ["ben@example.com"] and not failed.is_set():
                failed.set()
                raise ConnectionResetError
            original(*args)

        with mock.patch("shop.items.send_mail", send):
            self.assertTrue(items.confirm_all.queue().wait(30))
        self.assertEqual([one.to[0][:3] for one in mail.outbox], ["ann", "ben", "eve"])
