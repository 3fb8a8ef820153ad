"""The audit trail of the page names whom the page says."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import TransactionTestCase, override_settings
from shop.carriers import ActingUserCarrier, acting_user
from shop.items import raise_prices
from shop.models import Price
from shop.views import raise_all

from django_qbwi import queue_on_commit
from django_qbwi.testing import drain


class TheTrailTests(TransactionTestCase):
    """With real threads."""

    def setUp(self) -> None:
        """Have a price, and somebody who may change it."""
        self.ada = User.objects.create_user("ada")
        self.ada.user_permissions.add(Permission.objects.get(codename="change_price"))
        self.price = Price.objects.create(amount=100)

    def who(self) -> object:
        """Return who made the last change, once all items have ended."""
        self.assertTrue(drain(30))
        return self.price.history.latest().history_user

    def test_view(self) -> None:
        """The user who sent the form; nobody, for what nobody has queued."""
        self.client.force_login(self.ada)
        self.client.post("/raise/", {"percent": 5})
        self.assertEqual(self.who(), self.ada)
        raise_prices.queue(5)
        self.assertIsNone(self.who())
        self.assertEqual(Price.objects.get().amount, 110)
        self.assertTrue(callable(raise_all))

    def test_user_who_is_gone(self) -> None:
        """The change has nobody's name."""
        token = acting_user.set(User(pk=self.ada.pk + 1))
        with override_settings(QBWI={"CONTEXT": ["shop.carriers.ActingUserCarrier"]}):
            raise_prices.queue(5)
            self.assertIsNone(self.who())
        acting_user.reset(token)

    def test_user_that_is_kept_elsewhere(self) -> None:
        """The class of the page finds it, and falls back to the libraries."""
        token = acting_user.set(self.ada)
        with override_settings(QBWI={"CONTEXT": ["shop.carriers.ActingUserCarrier"]}):
            queue_on_commit(raise_prices, 5)
            self.assertEqual(self.who(), self.ada)
        acting_user.reset(token)
        self.assertIsNone(ActingUserCarrier().user())

    def test_without_the_carrier(self) -> None:
        """Nobody is named."""
        self.client.force_login(self.ada)
        with override_settings(QBWI={}):
            self.client.post("/raise/", {"percent": 5})
            self.assertIsNone(self.who())
