"""The items of the page run in helper processes."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import tempfile
from pathlib import Path

from django.test import SimpleTestCase
from shop import items

from django_qbwi import InvalidWorkItem, WorkItemStatus, queue_background_work_item


class TheItemsTests(SimpleTestCase):
    """With real processes."""

    def test_primes_are_found(self) -> None:
        """In a process that is not this one, which tells how far it is."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "primes"
            handle = items.find_primes.queue(30, str(path))
            self.assertTrue(handle.wait(60))
            self.assertEqual(path.read_text(encoding="utf-8"), "2 3 5 7 11 13 17 19 23 29")
        progress = handle.progress
        assert progress is not None
        self.assertEqual((progress.done, progress.total), (29, 30))
        self.assertIn("(pid ", str(handle.info.thread))

    def test_what_did_not_die_is_not_tried_again(self) -> None:
        """As the page's policy says."""
        handle = items.read_scan.queue("/no/scan")
        self.assertTrue(handle.wait(60))
        self.assertEqual((handle.status, handle.info.attempt), (WorkItemStatus.FAILED, 1))
        self.assertIsInstance(handle.exception(), FileNotFoundError)

    def test_lambda_is_refused(self) -> None:
        """Where it is queued."""
        with self.assertRaises(InvalidWorkItem):
            queue_background_work_item(lambda token: None, executor="process")
