"""The item of the page ships a part of the orders, and stops when it is told to."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from django.core.management import call_command
from django.test import TransactionTestCase
from shop.items import ship_orders
from shop.models import Order

from django_qbwi import CancellationTokenSource


class TheItemTests(TransactionTestCase):
    """With real threads."""

    def setUp(self) -> None:
        for number in range(5):
            Order.objects.create(email=f"{number}@example.com")

    def test_the_command_ships_as_many_as_it_says(self) -> None:
        call_command("qbwi", "run", "shop.items.ship_orders", "3", verbosity=0)
        self.assertEqual(Order.objects.filter(shipped=True).count(), 3)

    def test_the_rest_is_for_the_next_run(self) -> None:
        source = CancellationTokenSource()
        source.cancel()
        ship_orders(source.token, 3)
        self.assertFalse(Order.objects.filter(shipped=True).exists())
