"""Every view of the page answers, and its item does what the page says."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from threading import Event
from unittest import mock

from django.core import mail
from django.db import transaction
from django.test import RequestFactory, SimpleTestCase, TransactionTestCase, override_settings
from shop import items, views
from shop.models import Order

from django_qbwi import (
    InvalidWorkItem,
    QueueFull,
    WorkItemStatus,
    live_items,
    queue_background_work_item,
    recent_items,
)
from django_qbwi.testing import captured_work_items, drain, immediate_work_items

POST = RequestFactory().post("/", {"email": "ann@example.com"})


class TheViewsTests(TransactionTestCase):
    """With real threads."""

    def order(self) -> Order:
        """Return an order."""
        return Order.objects.create(email="ann@example.com")

    def assert_order(self, order: Order, **fields: object) -> None:
        """Wait for the items, and look at the row."""
        self.assertTrue(drain())
        self.assertTrue(Order.objects.filter(pk=order.pk, **fields).exists())

    def test_buy(self) -> None:
        views.buy(POST)
        self.assertTrue(drain())
        self.assertEqual(mail.outbox[0].subject, "Thank you")

    def test_the_options(self) -> None:
        with captured_work_items() as captured:
            views.buy(POST)
        self.assertRegex(captured[0].name, r"^confirm \d+$")
        self.assertEqual(captured[0].timeout, 30.0)

    def test_a_partial(self) -> None:
        views.buy_politely(POST)
        self.assertTrue(drain())
        self.assertEqual(mail.outbox[0].subject, "Thank you so much")

    def test_the_decorator(self) -> None:
        order = self.order()
        views.ship_now(POST, order.pk)
        self.assert_order(order, shipped=True, express=True)

    def test_on_commit(self) -> None:
        order = self.order()
        views.pay(POST, order.pk)
        self.assert_order(order, paid=True, shipped=True)

    def test_a_rollback(self) -> None:
        order = self.order()
        with captured_work_items() as captured, transaction.atomic():
            views.pay(POST, order.pk)
            transaction.set_rollback(True)
        self.assertEqual(list(captured), [])

    def test_async(self) -> None:
        from asgiref.sync import async_to_sync

        order = self.order()
        async_to_sync(views.archive_order)(POST, order.pk)
        async_to_sync(views.pay_async)(POST, order.pk)
        self.assert_order(order, archived=True, paid=True, shipped=True)

    def test_later(self) -> None:
        order = self.order()
        logging_errors = self.assertLogs("django_qbwi.scheduler", "ERROR")
        with logging_errors as logs, override_settings(QBWI={"SHUTDOWN_TIMEOUT": 0.2}):
            views.remind_later(POST, order.pk)
            self.assertEqual([info.status for info in live_items()], [WorkItemStatus.QUEUED] * 2)
        self.assertEqual([line.count("status=discarded") for line in logs.output], [1, 1])

    def test_a_reminder(self) -> None:
        order = self.order()
        with immediate_work_items():
            views.remind_later(POST, order.pk)
        self.assertEqual([message.subject for message in mail.outbox], ["Your order", "Thank you"])

    def test_what_comes_too_late(self) -> None:
        order, begun, proceed = self.order(), Event(), Event()

        def occupy(token: object) -> None:
            begun.set()
            assert proceed.wait(30)

        with override_settings(QBWI={"MAX_WORKERS": 1}), self.assertLogs("django_qbwi.scheduler", "ERROR") as logs:
            queue_background_work_item(occupy)
            self.assertTrue(begun.wait(30))
            handle = items.say_that_it_is_paid.using(expires=0.01).queue(order.pk)
            self.assertTrue(handle.wait(30))
            proceed.set()
        self.assertEqual((handle.status, handle.info.cancel_reason), (WorkItemStatus.DISCARDED, "expired"))
        self.assertEqual([line.count("status=discarded") for line in logs.output], [1])
        with self.assertRaisesRegex(InvalidWorkItem, "it would expire before it may start"):
            items.say_that_it_is_paid.using(delay=30)
        self.assertTrue(items.say_that_it_is_paid.queue(order.pk).wait(30))
        self.assertEqual(mail.outbox[0].body, "It is paid.")

    def test_in_an_order(self) -> None:
        order, begun, proceed = self.order(), Event(), Event()

        def occupy(token: object) -> None:
            begun.set()
            assert proceed.wait(30)

        with override_settings(QBWI={"MAX_WORKERS": 1}):
            queue_background_work_item(occupy)
            self.assertTrue(begun.wait(30))
            items.remind.queue(order.pk)
            views.buy(POST)
            views.ship_first(POST, order.pk)
            proceed.set()
            self.assertTrue(drain())
            names = [info.name for info in recent_items()[:3]]
        # The last one comes first.
        self.assertEqual([names[0], names[2]], ["shop.items.remind", "shop.items.ship"])

    def test_class_based(self) -> None:
        views.OrderView.as_view()(POST)
        self.assertTrue(drain())
        self.assertEqual(len(mail.outbox), 1)

    def test_language(self) -> None:
        from django.utils import translation

        order = self.order()
        with translation.override("de"):
            views.invoice(POST, order.pk)
        self.assertTrue(drain())
        self.assertEqual(mail.outbox[0].subject, "Ja")

    def test_a_refusal(self) -> None:
        with mock.patch.object(views.ship, "queue", side_effect=QueueFull("full")):
            self.assertEqual(views.ship_or_wait(POST, 1).status_code, 503)

    def test_a_short_wait(self) -> None:
        order = self.order()
        response = views.ship_and_look(POST, order.pk)
        self.assertEqual(response.content, b"Shipping: succeeded.")

    def test_a_callback(self) -> None:
        order = self.order()
        with self.assertNoLogs("shop"):
            views.ship_and_forget(POST, order.pk)
            self.assert_order(order, shipped=True)
        with self.assertLogs("shop", "WARNING") as logs, captured_work_items():
            views.ship_and_forget(POST, order.pk)
        self.assertIn("shop.items.ship has ended: discarded", logs.output[0])


class WhatThePageSaysTests(SimpleTestCase):
    """Sentences that no block shows."""

    # A connection may be asked for its transaction, and none is opened.
    databases = {"default"}

    async def test_on_commit_on_a_running_loop(self) -> None:
        with self.assertRaises(InvalidWorkItem):
            items.ship.queue_on_commit(1)

    async def test_awaiting_the_handle(self) -> None:
        with captured_work_items() as captured:
            handle = items.ship.queue(1)
        self.assertEqual(captured[0].status, WorkItemStatus.DISCARDED)
        self.assertEqual((await handle).status, WorkItemStatus.DISCARDED)
