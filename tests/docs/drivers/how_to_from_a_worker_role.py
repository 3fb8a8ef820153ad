"""What the site queues is a row, which the worker of the engine runs."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import signal

from django.core.management import call_command
from django.test import TransactionTestCase
from django_tasks_db.models import DBTaskResult
from shop import items
from shop.models import Order


class TheItemTests(TransactionTestCase):
    """With the real engine."""

    def test_worker(self) -> None:
        """Nothing runs in the site; the worker archives the order."""
        order = Order.objects.create(email="ann@example.com")
        items.archive.queue(order.pk)
        self.assertFalse(Order.objects.get().archived)
        self.assertEqual(DBTaskResult.objects.count(), 1)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)}
        try:
            quickly = ["--no-startup-delay", "--interval", "0", "--verbosity", "0"]
            call_command("db_worker", "--backend", "durable", "--no-reload", "--batch", *quickly)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.assertTrue(Order.objects.get().archived)
