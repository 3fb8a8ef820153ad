"""The runs of the page are scheduled, and are triggered by a command and by a request."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import io
import json
from unittest import mock

from django.core.management import call_command
from django.test import TransactionTestCase
from shop.models import Order
from shop.schedules import archive

from django_qbwi import QueueFull
from django_qbwi.testing import drain

KEY = "Bearer a long random text, from the environment"


class TheRunsTests(TransactionTestCase):
    """With real threads."""

    def setUp(self) -> None:
        for _ in range(3):
            Order.objects.create(shipped=True)

    def archived(self) -> int:
        return Order.objects.filter(archived=True).count()

    def test_scheduled(self) -> None:
        """Under the expression of the page."""
        output = io.StringIO()
        call_command("qbwi", "schedules", "--format=json", stdout=output)
        (found,) = json.loads(output.getvalue())["schedules"]
        self.assertEqual((found["name"], found["when"]), ("shop.schedules.archive", "cron 0 0 3 * * * (Europe/Berlin)"))

    def test_triggered_by_the_command(self) -> None:
        """It waits for the end."""
        call_command("qbwi", "run", "shop.schedules.archive", verbosity=0)
        self.assertEqual(self.archived(), 3)

    def test_triggered_by_a_request(self) -> None:
        """With the key, and with nothing else."""
        for key in ("", "Bearer", "Bearer of another"):
            answer = self.client.post("/runs/archive/", headers={"Authorization": key})
            self.assertEqual(answer.status_code, 403)
        self.assertEqual(self.client.get("/runs/archive/", headers={"Authorization": KEY}).status_code, 405)
        answer = self.client.post("/runs/archive/", headers={"Authorization": KEY})
        self.assertEqual((answer.status_code, len(answer.json()["id"])), (202, 24))
        self.assertTrue(drain(30))
        self.assertEqual(self.archived(), 3)

    def test_too_much_to_do(self) -> None:
        """The caller is told to come again."""
        with mock.patch.object(type(archive), "queue", side_effect=QueueFull):
            answer = self.client.post("/runs/archive/", headers={"Authorization": KEY})
        self.assertEqual(answer.status_code, 503)
