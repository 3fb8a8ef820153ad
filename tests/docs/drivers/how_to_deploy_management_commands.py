"""The command of the page ships every order, and says so."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from io import StringIO

from django.core.management import call_command
from django.test import TransactionTestCase
from shop.management.commands.ship_orders import Command
from shop.models import Order


class TheCommandTests(TransactionTestCase):
    """With real threads."""

    def test_all_orders_are_shipped(self) -> None:
        for number in range(10):
            Order.objects.create(email=f"{number}@example.com")
        output = StringIO()
        call_command(Command(), stdout=output)
        self.assertEqual(output.getvalue().splitlines(), ["shop.items.ship: succeeded"] * 10)
        self.assertFalse(Order.objects.filter(shipped=False).exists())
