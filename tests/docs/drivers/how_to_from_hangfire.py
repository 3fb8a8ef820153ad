"""The items of the page do what those of the other framework do."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from django.core import mail
from django.test import RequestFactory, TransactionTestCase
from shop import views
from shop.models import Order

from django_qbwi import WorkItemStatus
from django_qbwi.testing import captured_work_items, drain


class TheItemsTests(TransactionTestCase):
    """With real threads."""

    def test_both_calls_of_the_view(self) -> None:
        """One is queued for now, and one for later."""
        order = Order.objects.create(email="ann@example.com")
        with captured_work_items() as captured:
            views.buy(RequestFactory().post("/"), order.pk)
        self.assertEqual([item.name for item in captured], ["shop.items.confirm"] * 2)

    def test_continuation(self) -> None:
        """The mail is sent, and the continuation has run."""
        from shop.items import confirm

        order = Order.objects.create(email="ann@example.com")
        handle = confirm.queue(order.pk)
        self.assertTrue(handle.wait(30))
        self.assertTrue(drain(30))
        self.assertEqual(handle.status, WorkItemStatus.SUCCEEDED)
        self.assertEqual([message.to for message in mail.outbox], [["ann@example.com"]])
        self.assertTrue(Order.objects.get().archived)
