"""The history of the page is what the page says."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import io
import json

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TransactionTestCase
from shop.items import charge

from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.testing import written_history

FIELDS = ["item_id", "name", "status", "finished_at", "error_type", "message", "traceback", "origin", "request_id"]
FIELDS += ["host", "pid"]


class TheHistoryTests(TransactionTestCase):
    """With real threads."""

    def test_nothing_by_itself(self) -> None:
        """A test finds an empty table."""
        self.assertTrue(charge.queue(1).wait(30))
        self.assertEqual(HistoryEntry.objects.count(), 0)

    def test_command(self) -> None:
        """It lists the item, and shows it by the beginning of its id."""
        with written_history():
            handle = charge.queue(42)
            self.assertTrue(handle.wait(30))
        output = io.StringIO()
        call_command("qbwi", "history", "--since", "7d", stdout=output)
        self.assertIn("ConnectionError: no answer for order 42", output.getvalue())
        call_command("qbwi", "history", handle.id[:6], "--format", "json", stdout=(output := io.StringIO()))
        (found,) = json.loads(output.getvalue())["items"]
        self.assertEqual({name: found[name] for name in handle.info.to_dict()}, handle.info.to_dict())

    def test_model(self) -> None:
        """It has the fields that the page names."""
        with written_history():
            self.assertTrue(charge.queue(42).wait(30))
        row = HistoryEntry.objects.values(*FIELDS).get()
        self.assertEqual((row["name"], row["error_type"]), ("shop.items.charge", "builtins.ConnectionError"))
        self.assertIs(get_user_model().objects.exists(), False)
