"""The items of the page take turns, and wait once, as the page says."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import threading
from unittest import mock

from django.test import TransactionTestCase
from shop import items
from shop.models import Order

from django_qbwi import InvalidWorkItem, WorkItemStatus


class TheItemsTests(TransactionTestCase):
    """With real threads."""

    def test_two_imports_of_a_tenant(self) -> None:
        """They run, and the third one waits; that of another tenant does not."""
        opened, entered, original = threading.Event(), threading.Semaphore(0), Order.objects.get

        def get(**which: object) -> Order:
            entered.release()
            opened.wait(30)
            return original(**which)

        order = Order.objects.create(email="ann@example.com", paid=True, shipped=True)
        key = {"concurrency": 2, "concurrency_key": lambda order_id: "tenant", "unique_key": lambda order_id: None}
        with mock.patch("shop.items.Order.objects.get", get):
            handles = []
            for _ in range(2):
                handles.append(items.refresh.using(**key).queue(order.pk))
                entered.acquire(timeout=30)
            handles.append(items.refresh.using(**key).queue(order.pk))
            self.assertTrue(items.import_orders.queue("other", None).wait(30))
            self.assertEqual([handle.status for handle in handles], [*["running"] * 2, "queued"])
            opened.set()
            self.assertTrue(all(handle.wait(30) for handle in handles))

    def test_last_change_is_not_lost(self) -> None:
        """One that waits stands for the next, and the one that runs does not."""
        order = Order.objects.create(email="ann@example.com")
        handle = items.refresh.using(delay=3600).queue(order.pk)
        self.assertEqual(items.refresh.queue(order.pk), handle)
        handle.cancel()
        Order.objects.update(paid=True, shipped=True)
        again = items.refresh.queue(order.pk)
        self.assertTrue(again.wait(30))
        self.assertEqual(again.status, WorkItemStatus.SUCCEEDED)
        self.assertTrue(Order.objects.get().archived)

    def test_key_that_is_no_plain_value(self) -> None:
        """It is refused where the item is queued."""
        with self.assertRaises(InvalidWorkItem):
            items.refresh.using(unique_key=lambda order_id: [order_id]).queue(1)
