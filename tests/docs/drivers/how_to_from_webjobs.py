"""The function of the page runs by a request and by the command."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import subprocess
import sys

from django.conf import settings
from django.test import RequestFactory, TransactionTestCase
from shop import views
from shop.models import Order

from django_qbwi.testing import drain


class TheFunctionTests(TransactionTestCase):
    """With a real thread, and with a process of its own."""

    def test_by_a_request(self) -> None:
        """The view answers at once, and the orders are archived."""
        Order.objects.create(shipped=True)
        self.assertEqual(views.trigger(RequestFactory().post("/")).status_code, 202)
        self.assertTrue(drain(30))
        self.assertTrue(Order.objects.get().archived)
        self.assertEqual(views.trigger(RequestFactory().get("/")).status_code, 405)

    def test_by_the_command(self) -> None:
        """It says how it went, and so does its status; its database is that of the site, which has no tables here."""
        command = [sys.executable, "manage.py", "qbwi", "run", "shop.items.archive", "100"]
        migrate = [sys.executable, "manage.py", "migrate", "--run-syncdb", "--verbosity", "0"]
        subprocess.run(migrate, cwd=settings.BASE_DIR, check=True, timeout=60)
        result = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("shop.items.archive succeeded after", result.stdout + result.stderr)
