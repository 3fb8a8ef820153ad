"""The receiver of the page notes a failure, and the formatter writes the item."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import json
import logging

from django.test import SimpleTestCase
from shop import receivers
from shop.formatters import JSONFormatter

from django_qbwi import queue_background_work_item
from django_qbwi.testing import drain


def fail(token: object) -> None:
    """Fail."""
    raise ValueError("no")


class ThePageTests(SimpleTestCase):
    """With real threads."""

    def test_a_failure(self) -> None:
        self.assertTrue(receivers.note_failures)
        with self.assertLogs("django_qbwi.scheduler", logging.ERROR) as logs:
            queue_background_work_item(fail)
            self.assertTrue(drain())
        self.assertEqual(receivers.failures, ["shop.test_page.fail: builtins.ValueError: no"])
        line = json.loads(JSONFormatter().format(logs.records[0]))
        self.assertEqual(line["item"]["status"], "failed")
