"""The items and the command of the page queue more than there is room for."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import asyncio

from django.core import mail
from django.core.management import call_command
from django.test import TransactionTestCase, override_settings
from shop import items
from shop.management.commands.remind import Command
from shop.models import Order

from django_qbwi import InvalidWorkItem, QueueFull, WorkItemHandle, WorkItemStatus
from django_qbwi.testing import drain

MANY = 30


class ThePageTests(TransactionTestCase):
    """With real threads, and a queue of three."""

    def setUp(self) -> None:
        Order.objects.bulk_create(Order(email=f"{number}@example.com") for number in range(MANY))

    def assert_all_were_reminded(self) -> None:
        self.assertTrue(drain(30))
        everybody = {f"{number}@example.com" for number in range(MANY)}
        self.assertEqual(({message.to[0] for message in mail.outbox}, len(mail.outbox)), (everybody, MANY))

    @override_settings(QBWI={"MAX_QUEUED": 3})
    def test_command(self) -> None:
        """None is refused."""
        call_command(Command())
        self.assert_all_were_reminded()

    @override_settings(QBWI={"MAX_QUEUED": 3, "MAX_WORKERS": 2})
    def test_item(self) -> None:
        """The other worker makes room."""
        handle = items.remind_all.queue()
        self.assertTrue(handle.wait(30))
        self.assertEqual(handle.status, WorkItemStatus.SUCCEEDED)
        self.assert_all_were_reminded()

    @override_settings(QBWI={"MAX_QUEUED": 3, "MAX_WORKERS": 1})
    def test_async_item(self) -> None:
        """It holds no worker."""
        handle = items.remind_all_async.queue()
        self.assertTrue(handle.wait(30))
        self.assertEqual(handle.status, WorkItemStatus.SUCCEEDED)
        self.assert_all_were_reminded()

    def test_only_worker(self) -> None:
        """It is told at once."""
        logs = self.assertLogs("django_qbwi.scheduler", "WARNING")
        with override_settings(QBWI={"MAX_QUEUED": 3, "MAX_WORKERS": 1}), logs:
            handle = items.remind_all.queue()
            self.assertTrue(handle.wait(30))
            error = handle.exception()
            self.assertTrue(drain(30))
        self.assertIsInstance(error, QueueFull)
        self.assertIn("everything that runs waits for room itself", str(error))
        self.assertEqual(len(mail.outbox), 3)

    def test_loop(self) -> None:
        """It is refused there, with the cure."""

        async def queue() -> WorkItemHandle:
            return items.remind.using(wait_for_room=60).queue(1)

        with self.assertRaisesRegex(InvalidWorkItem, "aqueue"):
            asyncio.run(queue())
