"""The items of the page have the labels that it tells."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import io
import logging.config

from django.core.management import call_command
from django.test import RequestFactory, TransactionTestCase
from mysite.logs import LOGGING
from shop import items, views

from django_qbwi import recent_items
from django_qbwi.testing import drain


class ThePageTests(TransactionTestCase):
    """With real threads."""

    def test_labels_of_the_views(self) -> None:
        """Those of the call come to those of the decorator."""
        views.ship_order(RequestFactory().post("/"), 42)
        views.tidy(RequestFactory().post("/"))
        self.assertTrue(drain())
        found = io.StringIO()
        handle = items.ship.using(labels={"order": 42}).queue(42)
        self.assertEqual(handle.info.labels, {"kind": "shipping", "order": 42})
        self.assertTrue(handle.wait(30))
        call_command("qbwi", "--label", "order=42", "--status", "succeeded", stdout=found, no_color=True)
        self.assertIn(recent_items()[0].id, found.getvalue())

    def test_line_of_the_log(self) -> None:
        """It is that of the page."""
        written = io.StringIO()
        logging.config.dictConfig(LOGGING)
        (handler,) = logging.root.handlers
        try:
            handler.setStream(written)
            self.assertTrue(items.ship.using(labels={"order": 42, "shop": "east"}).queue(42).wait(30))
        finally:
            logging.root.removeHandler(handler)
        line = "WARNING shop.items.ship kind=shipping order=42 shop=east [-] To the post office\n"
        self.assertEqual(written.getvalue(), line)
