"""The schedules of the page are declared, run, and are listed."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import io
import json

from django.core.management import call_command
from django.test import TransactionTestCase
from shop import schedules
from shop.models import Order

from django_qbwi import CancellationToken, CancellationTokenSource, WorkItemStatus


class TheSchedulesTests(TransactionTestCase):
    """With real threads."""

    def test_run_stops_in_between(self) -> None:
        """And the next one does the rest."""
        for _ in range(3):
            Order.objects.create(paid=True)
        source = CancellationTokenSource()
        source.cancel()
        schedules.ship(source.token)
        self.assertEqual(Order.objects.filter(shipped=True).count(), 0)
        schedules.ship(CancellationToken.none())
        self.assertEqual(Order.objects.filter(shipped=True).count(), 3)

    def test_run_at_once(self) -> None:
        """The function is queued as any other."""
        Order.objects.create(shipped=True)
        handle = schedules.archive.queue()
        self.assertTrue(handle.wait(30))
        self.assertEqual((handle.status, handle.info.timeout), (WorkItemStatus.SUCCEEDED, 3600))
        self.assertTrue(Order.objects.get().archived)

    def test_they_are_listed(self) -> None:
        """By the command, under the names of their functions."""
        output = io.StringIO()
        call_command("qbwi", "schedules", "--format=json", stdout=output)
        listed = {one["name"]: one["when"] for one in json.loads(output.getvalue())["schedules"]}
        expected = {
            "shop.schedules.archive": "cron 0 3 * * * (Europe/Berlin)",
            "shop.schedules.ship": "every 600 s",
        }
        self.assertEqual(listed, expected)
