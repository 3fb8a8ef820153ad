"""The items of the page stop as the page says."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import asyncio

from django.test import TransactionTestCase
from shop import items
from shop.models import Order

from django_qbwi import CancellationToken, CancellationTokenSource, CancelReason, OperationCancelled, WorkItemStatus
from django_qbwi.testing import immediate_work_items


class TheItemsTests(TransactionTestCase):
    """With real threads where it matters."""

    def test_what_is_committed_stays(self) -> None:
        """An order that was shipped before the cancellation is shipped."""
        for name in ("ann", "ben"):
            Order.objects.create(email=f"{name}@example.com")
        source = CancellationTokenSource()
        original = Order.save

        def save(order: Order, *args: object, **kwargs: object) -> None:
            original(order, *args, **kwargs)
            source.cancel()

        Order.save = save
        try:
            with self.assertRaises(OperationCancelled):
                items.ship_all(source.token)
        finally:
            Order.save = original
        self.assertEqual(Order.objects.filter(shipped=True).count(), 1)
        items.ship_all(CancellationToken.none())
        self.assertEqual(Order.objects.filter(shipped=True).count(), 2)

    def test_a_callback_ends_a_program(self) -> None:
        """The program would go on for a minute."""
        handle = items.run_report.queue("import time; time.sleep(60)")
        while handle.status is WorkItemStatus.QUEUED:
            pass
        self.assertTrue(handle.cancel())
        self.assertTrue(handle.wait(10))
        self.assertEqual(handle.status, WorkItemStatus.CANCELLED)

    def test_a_query_ends_with_its_token(self) -> None:
        """It changes nothing once the token is cancelled."""
        Order.objects.create(email="ann@example.com", shipped=True)
        source = CancellationTokenSource()
        source.cancel()
        with self.assertRaises(OperationCancelled):
            items.archive_all(source.token)
        self.assertFalse(Order.objects.get().archived)
        items.archive_all(CancellationToken.none())
        self.assertTrue(Order.objects.get().archived)

    def test_a_cancelled_group(self) -> None:
        """The children end silently, the parent says that it was cancelled."""
        fetched = []

        async def fetch(address: str) -> None:
            fetched.append(address)

        source = CancellationTokenSource()
        source.cancel()
        with self.assertRaises(OperationCancelled):
            asyncio.run(items.fetch_all(source.token, fetch, ["one", "two"]))
        self.assertEqual(fetched, [])
        asyncio.run(items.fetch_all(CancellationToken.none(), fetch, ["one", "two"]))
        self.assertEqual(fetched, ["one", "two"])

    def test_a_child_of_a_group_ends_silently(self) -> None:
        """An item that does not look at its token in the parent has succeeded."""

        async def parent(token: CancellationToken) -> None:
            async def child() -> None:
                raise OperationCancelled(token)

            async with asyncio.TaskGroup() as group:
                group.create_task(child())

        from django_qbwi import queue_background_work_item

        with immediate_work_items():
            handle = queue_background_work_item(parent)
        self.assertEqual(handle.status, WorkItemStatus.SUCCEEDED)

    def test_awaiting_the_token(self) -> None:
        """The item ends as soon as its token is cancelled, and has succeeded, since it returned."""
        handle = items.sleep_until_cancelled.queue()
        while handle.status is WorkItemStatus.QUEUED:
            pass
        handle.cancel("enough")
        self.assertTrue(handle.wait(10))
        self.assertEqual(handle.status, WorkItemStatus.SUCCEEDED)
        self.assertEqual(handle.info.cancel_reason, CancelReason.REQUESTED)
