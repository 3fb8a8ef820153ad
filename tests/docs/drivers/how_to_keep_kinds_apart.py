"""The items of the page do not wait for one another."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import threading
from unittest import mock

import django
from django.core.checks import run_checks
from django.test import TransactionTestCase
from shop import items
from shop.models import Order

from django_qbwi import InvalidWorkItem, background_work_item, recent_items
from django_qbwi.testing import drain

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task(queue_name="letters")
def write() -> None:
    """Do nothing, in the queue for letters."""


class ThePoolsTests(TransactionTestCase):
    """With real threads."""

    def test_receipts_leave_workers_to_others(self) -> None:
        """With the workers for mail taken, a further receipt waits, and everything else begins."""
        opened, entered = threading.Event(), threading.Semaphore(0)

        def hold(token: object, order_id: int) -> None:
            entered.release()
            opened.wait(30)

        order = Order.objects.create(email="ann@example.com")
        slow = background_work_item(pool="mail")(hold)
        for _ in range(2):
            slow.queue(order.pk)
            entered.acquire(timeout=30)
        receipt = items.send_receipt.queue(order.pk)
        others = [items.archive.queue(order.pk), items.make_report.queue(2026)]
        others.append(items.make_report.using(pool="default").queue(2026))
        self.assertTrue(all(handle.wait(30) for handle in others))
        self.assertEqual([handle.info.pool for handle in others], ["default", "reports", "default"])
        self.assertEqual((receipt.info.status, receipt.info.pool), ("queued", "mail"))
        opened.set()
        self.assertTrue(receipt.wait(30))
        self.assertTrue(Order.objects.get().archived)

    def test_pool_that_there_is_not(self) -> None:
        """It is refused, with the nearest name."""
        with self.assertRaisesRegex(InvalidWorkItem, "did you mean 'mail'"):
            items.send_receipt.using(pool="mial").queue(1)

    def test_checks(self) -> None:
        """They say nothing of the settings of the page, and name a pool that is missing."""
        self.assertEqual(run_checks(), [])
        with mock.patch("shop.items.archive", items.archive.using(pool="mial")):
            self.assertEqual([error.id for error in run_checks()], ["qbwi.E015"])

    def test_task(self) -> None:
        """It has the pool of its queue."""
        write.enqueue()
        self.assertTrue(drain(30))
        self.assertEqual(recent_items()[0].pool, "mail")
