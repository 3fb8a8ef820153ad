"""The visitor of the page's site sees the bar, and the address behind it answers."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import re

from django.contrib.staticfiles import finders
from django.test import TransactionTestCase
from shop import items, views
from shop.models import Order

from django_qbwi.testing import captured_work_items, drain

VIEWS = (views.ship, views.shipping)


class TheBarTests(TransactionTestCase):
    """Through the addresses of the page."""

    def test_from_the_button_to_the_end(self) -> None:
        """The state at rendering, then that of the end, and the error of an address that was never made."""
        Order.objects.create(email="ann@example.com")
        with captured_work_items() as captured:
            page = self.client.get("/ship/", follow=True).content.decode()
            self.assertIn('aria-label="Shipping"', page)
            self.assertIn("/static/django_qbwi/progress.js", page)
            (address,) = re.findall(r'data-qbwi-progress="([^"]+)"', page)
            self.assertTrue(address.startswith("/progress/"))
            captured.run_all()
        self.assertEqual(self.client.get("/progress/forged/").status_code, 403)
        self.assertIsNotNone(finders.find("django_qbwi/progress.js"))

    def test_the_answer(self) -> None:
        """Of a real item."""
        Order.objects.create(email="ann@example.com")
        handle = items.ship_orders.queue()
        self.assertTrue(drain())
        answer = self.client.get(f"/progress/{views.signed_id(handle)}/").json()
        self.assertEqual((answer["status"], answer["ended"], answer["progress"]["done"]), ("succeeded", True, 0))
        self.assertEqual(set(answer["progress"]), {"done", "total", "text", "at", "fraction", "percent"})
